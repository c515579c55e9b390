//! Memory that nobody has touched yet, made ready when the first page of it is about to arrive.
//!
//! Where memory was not made ready before the first pass, the kernel would clear and map it page by page under the
//! receive. Pieces of 2 MiB are filled at once instead, each by the device whose transfer comes first; others with a
//! transfer into the same piece wait for it. Only pieces that the source has touched throughout are filled so: the others
//! must not cost more than what is in them.

use std::sync::{Arc, Mutex};

use guest_mem::{HUGE_PAGE_SIZE, PAGE_SIZE, Run, Runs, Storage, StorageError};
use isfc::{Extent, ExtentClass};

use super::{Bits, pages_of};

/// Pages in a piece.
const PIECE_PAGES: u64 = HUGE_PAGE_SIZE / PAGE_SIZE as u64;
/// Pieces next to each other have locks of their own.
const LOCKS: usize = 32;

#[derive(Debug)]
pub(super) struct Fresh {
    storage: Arc<Storage>,
    /// The pieces that are still to be filled.
    left: Bits,
    filling: [Mutex<()>; LOCKS],
}

impl Fresh {
    /// The pieces inside `coming` of which nothing is in `storage` yet; `None` if there is not even one.
    pub(super) fn new(storage: &Arc<Storage>, coming: &Runs) -> Result<Option<Self>, StorageError> {
        let all_there = storage.resident_bytes()? >= coming.bytes();
        let missing = if all_there { Runs::new() } else { coming.difference(&storage.touched()?) };
        let left = Bits::new(storage.pages().get().div_ceil(PIECE_PAGES));
        let mut pieces = 0;
        for run in missing.iter() {
            let first = run.start.get().div_ceil(PIECE_PAGES);
            let count = (run.end().get() / PIECE_PAGES).saturating_sub(first);
            left.set_range(first, count);
            pieces += count;
        }
        let filling = [const { Mutex::new(()) }; LOCKS];
        Ok((pieces > 0).then(|| Self { storage: storage.clone(), left, filling }))
    }

    /// Fills what `extents` are about to be written to.
    pub(super) fn make_ready(&self, extents: &[Extent]) {
        let data = |extent: &&Extent| matches!(extent.class, ExtentClass::Raw | ExtentClass::Packed);
        for pages in extents.iter().filter(data).map(pages_of).filter(|pages| !pages.is_empty()) {
            for piece in pages.start / PIECE_PAGES..=(pages.end - 1) / PIECE_PAGES {
                if self.left.get(piece) {
                    self.fill(piece);
                }
            }
        }
    }

    fn fill(&self, piece: u64) {
        let lock = &self.filling[piece as usize % LOCKS];
        let _filling = lock.lock().expect("no thread panics while it fills a piece");
        if self.left.get(piece) {
            // Memory that has run out is told by what cannot be received into it.
            let _ = self.storage.make_ready(&Run::new(piece * PIECE_PAGES, PIECE_PAGES));
            self.left.clear(piece);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guest_mem::{PageNumber, StorageOptions};

    fn extent(first: u64, pages: u64, class: ExtentClass) -> Extent {
        let page = PAGE_SIZE as u64;
        Extent { offset_bytes: first * page, len_bytes: (pages * page) as u32, class }
    }

    #[test]
    fn only_whole_pieces_that_are_coming_and_not_there_are_filled_and_only_when_data_arrives() {
        let storage = Arc::new(Storage::create(&StorageOptions::small(8 << 20)).unwrap());
        storage.write_bytes(PageNumber(1536), 0, b"there");
        let coming: Runs = [Run::new(100, 1000), Run::new(1536, 512)].into_iter().collect();
        let fresh = Fresh::new(&storage, &coming).unwrap().unwrap();
        fresh.make_ready(&[extent(512, 64, ExtentClass::Zero), extent(0, 64, ExtentClass::Raw)]);
        assert_eq!(storage.touched().unwrap().as_slice(), [Run::new(1536, 1)]);
        fresh.make_ready(&[extent(500, 30, ExtentClass::Raw), extent(1537, 1, ExtentClass::Raw)]);
        assert_eq!(storage.touched().unwrap().as_slice(), [Run::new(512, 512), Run::new(1536, 1)]);
        storage.release(&Runs::from_run(Run::new(512, 512))).unwrap();
        fresh.make_ready(&[extent(512, 1, ExtentClass::Packed)]);
        assert_eq!(storage.touched().unwrap().as_slice(), [Run::new(1536, 1)], "once is enough");
    }

    #[test]
    fn memory_that_is_ready_needs_nothing() {
        let storage = Arc::new(Storage::create(&StorageOptions::small(8 << 20)).unwrap());
        let coming = Runs::from_run(Run::new(0, 1024));
        storage.prefault(&coming, 1, &|_| ()).unwrap();
        assert!(Fresh::new(&storage, &coming).unwrap().is_none());
        assert!(
            Fresh::new(&storage, &Runs::from_run(Run::new(1030, 1000))).unwrap().is_none(),
            "no whole piece"
        );
    }
}
