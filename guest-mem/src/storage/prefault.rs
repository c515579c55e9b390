//! Filling storage with pages ahead of time, on several threads, in bounded slices.

use super::{Storage, StorageError};
use crate::page::PAGE_SIZE;
use crate::parallel;
use crate::runs::{ChunkPlan, Run, Runs};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use rustix::mm::Advice;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// One call of madvise fills at most 16 MiB, so that the address space lock is never held long.
const SLICE_PAGES: u32 = 4096;
const SLICE_EXTENTS: usize = 64;

impl Storage {
    /// Gives every page of `runs` its memory now, so that later writes do not fault.
    ///
    /// `threads` (1 to 64; others are clamped) work side by side; `progress` is told by each the bytes it has just
    /// filled. Content is not changed: pages that were there keep theirs.
    ///
    /// # Errors
    /// [`StorageError::OutOfMemory`] when memory runs out, [`StorageError::OutOfRange`] for a run outside
    /// storage, [`StorageError::Prefault`] otherwise. What was filled until then stays filled.
    pub fn prefault(
        &self,
        runs: &Runs,
        threads: usize,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<(), StorageError> {
        runs.iter().try_for_each(|run| self.check_run(run))?;
        let plans = runs.plan_chunks(SLICE_PAGES, SLICE_EXTENTS);
        let first_error = OnceLock::new();
        parallel::for_each(threads, plans.len(), "prefault", |index| {
            if first_error.get().is_some() {
                return;
            }
            match self.prefault_chunk(runs, &plans[index]) {
                Ok(bytes) => progress(bytes),
                Err(error) => {
                    let _ = first_error.set(error); // a later error adds nothing to the first
                }
            }
        });
        first_error.into_inner().map_or(Ok(()), Err)
    }

    /// As [`Self::prefault`] for one run, by the calling thread alone.
    ///
    /// # Errors
    /// As for [`Self::prefault`].
    pub fn make_ready(&self, run: &Run) -> Result<(), StorageError> {
        self.check_run(run)?;
        self.populate(run)
    }

    fn prefault_chunk(&self, runs: &Runs, plan: &ChunkPlan) -> Result<u64, StorageError> {
        let mut bytes = 0;
        for run in runs.chunk(plan) {
            self.populate(&run)?;
            bytes += run.bytes();
        }
        Ok(bytes)
    }

    /// Fills one run, which the caller has checked to lie inside storage. Not under a dirty tracker.
    pub(crate) fn populate(&self, run: &Run) -> Result<(), StorageError> {
        self.join(run);
        self.populate_pages(run)
    }

    /// As [`Self::populate`], with whatever pages the kernel gives.
    pub(super) fn populate_pages(&self, run: &Run) -> Result<(), StorageError> {
        static POPULATE_MISSING: AtomicBool = AtomicBool::new(false);
        if !POPULATE_MISSING.load(Ordering::Relaxed) {
            loop {
                // SAFETY: the run lies inside our mapping, and populating changes no content.
                let filled = unsafe {
                    rustix::mm::madvise(
                        self.page_ptr(run.start).cast(),
                        run.bytes() as usize,
                        Advice::LinuxPopulateWrite,
                    )
                };
                match filled {
                    Ok(()) => return Ok(()),
                    Err(Errno::INTR | Errno::AGAIN) => {}
                    Err(Errno::INVAL) => break,
                    Err(errno) => return Err(fill_error("madvise(MADV_POPULATE_WRITE)", run, errno)),
                }
            }
            // MADV_POPULATE_WRITE came with Linux 5.14.
            POPULATE_MISSING.store(true, Ordering::Relaxed);
        }
        self.populate_by_touch(run)
    }

    /// The way of old kernels: allocate first, because then a full machine is an error and not a SIGBUS, and touch
    /// each page after that to have it mapped.
    fn populate_by_touch(&self, run: &Run) -> Result<(), StorageError> {
        rustix::fs::fallocate(self.fd(), FallocateFlags::KEEP_SIZE, run.offset_bytes(), run.bytes())
            .map_err(|errno| fill_error("fallocate", run, errno))?;
        for page in run.page_numbers() {
            // SAFETY: inside the mapping; a volatile read cannot be dropped, and it is enough, because in a shared
            // mapping the page it brings in is the very one that writes go to.
            unsafe { self.page_ptr(page).read_volatile() };
        }
        Ok(())
    }
}

fn fill_error(step: &'static str, run: &Run, errno: Errno) -> StorageError {
    let (offset_bytes, source) = (run.offset_bytes(), errno.into());
    match errno {
        // EFAULT is what MADV_POPULATE_WRITE gives where a plain access would have raised SIGBUS.
        Errno::NOMEM | Errno::NOSPC | Errno::FAULT => StorageError::OutOfMemory { offset_bytes, source },
        _ => StorageError::Prefault { step, offset_bytes, source },
    }
}

const _: () = assert!(SLICE_PAGES as usize * PAGE_SIZE == 16 << 20);

#[cfg(test)]
mod tests {
    use super::super::StorageOptions;
    use super::*;
    use crate::page::PageNumber;

    #[test]
    fn the_way_of_old_kernels_fills_the_same_pages_and_keeps_their_content() {
        let storage = Storage::create(&StorageOptions::small(1 << 20)).unwrap();
        storage.write_bytes(PageNumber(5), 0, b"kept");
        storage.populate_by_touch(&Run::new(4, 8)).unwrap();
        assert_eq!(storage.touched().unwrap().as_slice(), [Run::new(4, 8)]);
        let mut page = [0; PAGE_SIZE];
        storage.read_page(PageNumber(5), &mut page);
        assert_eq!(&page[..4], b"kept");
    }
}
