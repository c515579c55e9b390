//! Writing guest storage through a second mapping, so that the tracker sees it.
//!
//! The kernel notes writes in page tables, and each mapping has its own: what is written through another mapping of the
//! same memory is seen by nobody, and is lost when the guest moves. So whoever maps storage once more says what it wrote:
//!
//! ```text
//!   guest ──▶ first mapping  ──▶ page tables ─▶ uffd ────┐
//!                                                        ├─▶ one tracker: a page is told if either knows of it
//!   device ─▶ SecondMapping ───▶ write, then mark ───────┘
//! ```

use std::fmt;
use std::sync::Arc;

use memmap2::MmapRaw;

use super::{
    DirtyTracker, HarvestStats, PickedTracker, SoftwareBitmap, SoftwareTracker, TrackerError, TrackerKind,
};
use crate::page::{PAGE_SIZE, PageNumber};
use crate::runs::{Run, Runs};
use crate::storage::{Storage, StorageError};

/// Guest storage mapped once more, with writes that its tracker is told of. The rule for racy memory holds here, too.
pub struct SecondMapping {
    storage: Arc<Storage>,
    map: MmapRaw,
    /// Where storage begins in the mapping.
    start: usize,
    bitmap: SoftwareBitmap,
}

impl fmt::Debug for SecondMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecondMapping").field("storage", &self.storage).finish_non_exhaustive()
    }
}

impl SecondMapping {
    /// Address of the first byte, for raw pointers only. Who writes through it calls [`Self::mark`] **afterwards**: what was
    /// never marked is lost when the guest moves.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.map.as_mut_ptr().wrapping_add(self.start)
    }

    /// Says that `run` was written. To be called after the write: a mark that comes first may be harvested, and the page
    /// read, before the bytes arrive.
    ///
    /// # Errors
    /// [`StorageError::OutOfRange`] if any of it lies outside storage.
    pub fn mark(&self, run: &Run) -> Result<(), StorageError> {
        self.storage.check_run(run)?;
        run.page_numbers().for_each(|page| self.bitmap.mark(page));
        Ok(())
    }

    /// Writes `bytes` at `offset_bytes` of `page`, and marks it.
    ///
    /// # Errors
    /// [`StorageError::OutOfRange`] if the page lies outside storage.
    ///
    /// # Panics
    /// If the bytes cross the page's end.
    pub fn write(&self, page: PageNumber, offset_bytes: usize, bytes: &[u8]) -> Result<(), StorageError> {
        let run = Run::new(page.get(), 1);
        self.storage.check_run(&run)?;
        assert!(
            bytes.len() <= PAGE_SIZE && offset_bytes <= PAGE_SIZE - bytes.len(),
            "a write stays inside its page"
        );
        // SAFETY: the page is inside storage, all of which is mapped from `start`, and the bytes stay inside the page;
        // `bytes` is a Rust slice, which never is guest storage.
        unsafe {
            let to = self.as_ptr().add(page.offset_bytes() as usize + offset_bytes);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        }
        self.mark(&run)
    }
}

impl PickedTracker {
    /// Maps `storage`, for which this tracker was picked, once more; the tracker tells what either mapping has written. To be
    /// called before it is started.
    ///
    /// # Errors
    /// [`TrackerError`] if the mapping or its bitmap cannot be made.
    pub fn with_second_mapping(
        mut self,
        storage: &Arc<Storage>,
    ) -> Result<(Self, SecondMapping), TrackerError> {
        let (map, start) = storage
            .map_once_more()
            .map_err(|source| TrackerError::Register { step: "mmap of a second mapping", source })?;
        let bitmap = match &self.bitmap {
            // All writers mark already.
            Some(bitmap) => bitmap.clone(),
            None => {
                let bitmap = SoftwareBitmap::new(storage.pages())?;
                let marked = SoftwareTracker::new(bitmap.clone());
                self.tracker = Box::new(Either { seen: self.tracker, marked });
                bitmap
            }
        };
        Ok((self, SecondMapping { storage: Arc::clone(storage), map, start, bitmap }))
    }
}

/// Tells what one of two trackers knows of.
struct Either {
    seen: Box<dyn DirtyTracker>,
    marked: SoftwareTracker,
}

impl Either {
    fn both(
        &mut self,
        out: &mut Runs,
        harvest: impl Fn(&mut dyn DirtyTracker, &mut Runs) -> Result<HarvestStats, TrackerError>,
    ) -> Result<HarvestStats, TrackerError> {
        let mut marked = Runs::new();
        let by_mark = harvest(&mut self.marked, &mut marked)?;
        let by_kernel = harvest(&mut *self.seen, out)?;
        if !marked.is_empty() {
            *out = out.union(&marked);
        }
        let slices = by_mark.slices + by_kernel.slices;
        Ok(HarvestStats { pages: out.pages(), runs: out.iter().count() as u64, slices })
    }
}

impl DirtyTracker for Either {
    fn kind(&self) -> TrackerKind {
        self.seen.kind()
    }

    fn granule_bytes(&self) -> u64 {
        self.seen.granule_bytes()
    }

    fn start(&mut self) -> Result<(), TrackerError> {
        self.marked.start()?;
        self.seen.start()
    }

    fn harvest(&mut self, out: &mut Runs) -> Result<HarvestStats, TrackerError> {
        self.both(out, |tracker, out| tracker.harvest(out))
    }

    fn harvest_last(&mut self, out: &mut Runs) -> Result<HarvestStats, TrackerError> {
        self.both(out, |tracker, out| tracker.harvest_last(out))
    }

    fn stop(&mut self) {
        self.seen.stop();
        self.marked.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::StorageOptions;
    use crate::tracker::{TrackerChoice, pick_tracker};

    fn harvested(tracker: &mut dyn DirtyTracker) -> Vec<u64> {
        let mut found = Runs::new();
        let stats = tracker.harvest(&mut found).unwrap();
        assert_eq!(stats.pages, found.pages());
        found.iter().flat_map(Run::page_numbers).map(PageNumber::get).collect()
    }

    #[test]
    fn what_a_second_mapping_writes_is_told_and_what_a_mapping_nobody_knows_of_writes_is_not() {
        for choice in [TrackerChoice::Auto, TrackerChoice::Software] {
            let storage = Arc::new(Storage::create(&StorageOptions::small(4 << 20)).unwrap());
            storage.prefault(&Runs::from_run(storage.whole()), 1, &|_| ()).unwrap();
            let picked = pick_tracker(&storage, choice).unwrap();
            let (mut picked, second) = picked.with_second_mapping(&storage).unwrap();
            let first = picked.writer(&storage);
            picked.tracker.start().unwrap();
            harvested(&mut *picked.tracker);
            // The fault: a mapping of the caller's own.
            let unknown = memmap2::MmapOptions::new().len(4 << 20).map_raw(&storage.fd()).unwrap();
            // SAFETY: inside the mapping.
            unsafe { unknown.as_mut_ptr().add(5 * PAGE_SIZE).write(7) };
            assert_eq!(harvested(&mut *picked.tracker), [0; 0], "nobody has seen it");
            // The right way: nothing is lost, whoever writes.
            first.write(PageNumber(1), 0, b"first");
            second.write(PageNumber(900), 8, b"second").unwrap();
            // SAFETY: inside the mapping.
            unsafe { second.as_ptr().add(9 * PAGE_SIZE).write(9) };
            second.mark(&Run::new(9, 1)).unwrap();
            assert_eq!(harvested(&mut *picked.tracker), [1, 9, 900]);
            assert_eq!(harvested(&mut *picked.tracker), [0; 0], "told once");
            let mut bytes = [0; 6];
            storage.read_bytes(PageNumber(900), 8, &mut bytes);
            assert_eq!(&bytes, b"second");
            assert!(
                second.mark(&Run::new(1023, 2)).is_err() && second.write(PageNumber(1024), 0, b"x").is_err()
            );
        }
    }
}
