//! The mapping of memory that is still to arrive: by 2 MiB, until its pages are tracked.
//!
//! Exact tracking needs page tables of 4 KiB. A destination does not track before its guest moves on, and until then
//! the processor looks up one translation for 2 MiB in place of 512, and its prefetching does not end every 4 KiB:
//!
//! ```text
//!   create_for_arrival ──▶ by pieces ──(pages arrive, the guest runs)──▶ map_by_pages ──▶ tracked
//! ```
//!
//! A kernel that would give whole pieces of 2 MiB to single written pages is asked for 4 KiB from the beginning: what
//! was touched must stay exact.

use super::join::PIECE_PAGES;
use super::{Backing, Storage, StorageError, StorageOptions};
use crate::page::PageNumber;
use crate::parallel;
use crate::runs::Run;
use crate::tracker::{TrackerError, huge_runs, present_runs};
use rustix::mm::Advice;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Pages that are mapped anew at one go: a guest that wants one of them meanwhile waits that long.
const SLICE_PAGES: u32 = 2048;

impl Storage {
    /// As [`Storage::create`], for memory that a relocation is about to fill: what then comes in whole pieces of 2 MiB is
    /// mapped so where the kernel can. [`UffdTracker`](crate::UffdTracker) changes to page tables of 4 KiB when it
    /// starts; whoever tracks by other means of the kernel calls [`Storage::map_by_pages`] before.
    ///
    /// # Errors
    /// As for [`Storage::create`].
    pub fn create_for_arrival(options: &StorageOptions) -> Result<Self, StorageError> {
        static WORKS: OnceLock<bool> = OnceLock::new();
        if options.backing == Backing::Small && *WORKS.get_or_init(by_pieces_works) {
            return Self::create_by_pieces(options);
        }
        Self::create(options)
    }

    fn create_by_pieces(options: &StorageOptions) -> Result<Self, StorageError> {
        Ok(Self { by_pieces: Mutex::new(true), ..Self::create_unadvised(options)? })
    }

    /// Maps by 4 KiB what was mapped by 2 MiB, at some 100 GB/s; content does not change, and a guest may run. Does
    /// nothing for storage that was not made by [`Storage::create_for_arrival`], or the second time.
    ///
    /// # Errors
    /// [`TrackerError`] if the kernel refuses; it can be called again.
    pub fn map_by_pages(&self) -> Result<(), TrackerError> {
        let mut by_pieces = self.by_pieces.lock().unwrap_or_else(PoisonError::into_inner);
        if !*by_pieces {
            return Ok(());
        }
        // From here on, what is mapped anew is mapped by 4 KiB.
        self.advise_huge(false).map_err(refused("madvise(MADV_NOHUGEPAGE)"))?;
        let pieces = huge_runs(self)?;
        let slices = pieces.plan_chunks(SLICE_PAGES, 1);
        let mapped = parallel::map(parallel::processors(), slices.len(), "map", |index| {
            pieces.chunk(&slices[index]).try_for_each(|run| self.map_anew(&run))
        });
        mapped.into_iter().collect::<Result<(), _>>()?;
        *by_pieces = false;
        Ok(())
    }

    /// For `run` of whole pieces inside storage.
    fn map_anew(&self, run: &Run) -> Result<(), TrackerError> {
        // SAFETY: `run` lies inside our mapping. That is shared, so what its page tables forget is still in the memfd, and
        // whoever touches it has it mapped again.
        let forgotten = unsafe {
            let start = self.page_ptr(run.start).cast();
            rustix::mm::madvise(start, run.bytes() as usize, Advice::LinuxDontNeed)
        };
        forgotten.map_err(refused("madvise(MADV_DONTNEED)"))?;
        // With its first page the kernel maps the whole piece, in a tenth of the time that all pages would take.
        let first_pages = (run.start.get()..run.end().get()).step_by(PIECE_PAGES as usize);
        first_pages.map(|page| Run::new(page, 1)).try_for_each(|page| self.populate_pages(&page))?;
        Ok(())
    }
}

fn refused(step: &'static str) -> impl Fn(rustix::io::Errno) -> TrackerError {
    move |errno| TrackerError::Register { step, source: errno.into() }
}

/// Whether all of this works here: a joined piece is mapped at one go, a page that was written alone stays alone, and
/// the piece's pages are all mapped one by one afterwards.
fn by_pieces_works() -> bool {
    let probe = || -> Result<bool, TrackerError> {
        let storage = Storage::create_by_pieces(&StorageOptions::small(4 << 20))?;
        storage.write_bytes(PageNumber(700), 0, &[1]);
        let alone = storage.touched()?.pages().get() == 1;
        let piece = Run::new(0, PIECE_PAGES);
        storage.populate(&piece)?;
        let at_one_go = huge_runs(&storage)?.as_slice() == [piece];
        storage.map_by_pages()?;
        let one_by_one = huge_runs(&storage)?.is_empty()
            && present_runs(&storage)?.as_slice() == [piece, Run::new(700, 1)];
        Ok(alone && at_one_go && one_by_one)
    };
    probe().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::PAGE_SIZE;
    use crate::runs::Runs;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn what_arrives_by_pieces_is_mapped_by_pages_when_that_is_asked_for() {
        if !by_pieces_works() {
            return println!("skipped: pieces of 2 MiB");
        }
        let storage = Storage::create_for_arrival(&StorageOptions::small(64 << 20)).unwrap();
        let runs = Runs::from_unsorted(vec![Run::new(512, 4096), Run::new(9000, 3)]);
        storage.prefault(&runs, 2, &|_| ()).unwrap();
        assert_eq!(huge_runs(&storage).unwrap().as_slice(), [Run::new(512, 4096)]);
        for page in runs.iter().flat_map(Run::page_numbers) {
            storage.write_bytes(page, 100, &page.get().to_le_bytes());
        }
        // Somebody writes all the time, as a guest does that runs.
        let done = AtomicBool::new(false);
        let written = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut count = 0u64;
                while !done.load(Ordering::SeqCst) || count == 0 {
                    count += 1;
                    storage.write_bytes(PageNumber(600 + count % 2000), 200, &count.to_le_bytes());
                }
                count
            });
            storage.map_by_pages().unwrap();
            done.store(true, Ordering::SeqCst);
            writer.join().unwrap()
        });
        assert!(huge_runs(&storage).unwrap().is_empty());
        assert_eq!(present_runs(&storage).unwrap(), runs);
        assert_eq!(storage.touched().unwrap(), runs);
        let mut page = [0; PAGE_SIZE];
        for number in runs.iter().flat_map(Run::page_numbers) {
            storage.read_page(number, &mut page);
            assert_eq!(page[100..108], number.get().to_le_bytes(), "{number}");
        }
        storage.read_page(PageNumber(600 + written % 2000), &mut page);
        assert_eq!(page[200..208], written.to_le_bytes());
    }
}
