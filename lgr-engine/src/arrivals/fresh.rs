//! Memory that nobody has touched yet, made ready when the first page of it is about to arrive.
//!
//! Where memory was not made ready before the first pass, the kernel would clear and map it page by page under the
//! receive. Blocks of 16 MiB are filled at once instead, in pieces of 2 MiB:
//!
//! ```text
//!   block     n - 1        n            n + 1                       pass 1 goes upwards
//!           ├─ full ─┼─ arriving ─┼─ being filled ─┼─ fresh ─┤
//!                        ▲ ▲ ▲           ▲
//!                        └─┴─┴─ devices ─┘ the first of them to come to n fills what follows it
//! ```
//!
//! A device that comes to a block which is not full yet waits until it is. Only what the source has touched throughout is
//! filled so: the rest must not cost more than what is in it.

use std::sync::{Arc, Mutex};

use guest_mem::{HUGE_PAGE_SIZE, PAGE_SIZE, Run, Runs, Storage, StorageError};
use isfc::{Extent, ExtentClass};

use super::{Bits, pages_of};

/// Pages in a piece.
const PIECE_PAGES: u64 = HUGE_PAGE_SIZE / PAGE_SIZE as u64;
/// Pieces in a block. The kernel joins pages only after it has waited for all processors, so a call should be worth it.
const BLOCK_PIECES: u64 = 8;
/// Blocks next to each other have locks of their own.
const LOCKS: usize = 32;

#[derive(Debug)]
pub(super) struct Fresh {
    storage: Arc<Storage>,
    /// The pieces that are still to be filled.
    left: Bits,
    blocks: u64,
    filling: [Mutex<()>; LOCKS],
}

impl Fresh {
    /// The pieces inside `coming` of which nothing is in `storage` yet; `None` if there is not even one.
    pub(super) fn new(storage: &Arc<Storage>, coming: &Runs) -> Result<Option<Self>, StorageError> {
        let all_there = storage.resident_bytes()? >= coming.bytes();
        let missing = if all_there { Runs::new() } else { coming.difference(&storage.touched()?) };
        let all = storage.pages().get().div_ceil(PIECE_PAGES);
        let left = Bits::new(all);
        let mut pieces = 0;
        for run in missing.iter() {
            let first = run.start.get().div_ceil(PIECE_PAGES);
            let count = (run.end().get() / PIECE_PAGES).saturating_sub(first);
            left.set_range(first, count);
            pieces += count;
        }
        let filling = [const { Mutex::new(()) }; LOCKS];
        let blocks = all.div_ceil(BLOCK_PIECES);
        Ok((pieces > 0).then(|| Self { storage: storage.clone(), left, blocks, filling }))
    }

    /// Fills what `extents` are about to be written to, and begins with what follows.
    pub(super) fn make_ready(&self, extents: &[Extent]) {
        let data = |extent: &&Extent| matches!(extent.class, ExtentClass::Raw | ExtentClass::Packed);
        for pages in extents.iter().filter(data).map(pages_of).filter(|pages| !pages.is_empty()) {
            let block = |page: u64| page / PIECE_PAGES / BLOCK_PIECES;
            let (first, last) = (block(pages.start), block(pages.end - 1));
            for block in (first..=last).filter(|block| self.is_left(*block)) {
                let _filling = self.lock(block).lock().expect("no thread panics while it fills a block");
                self.fill(block);
            }
            let next = last + 1;
            if next < self.blocks
                && self.is_left(next)
                && let Ok(_filling) = self.lock(next).try_lock()
            {
                self.fill(next);
            }
        }
    }

    fn lock(&self, block: u64) -> &Mutex<()> {
        &self.filling[block as usize % LOCKS]
    }

    fn pieces(block: u64) -> std::ops::Range<u64> {
        block * BLOCK_PIECES..(block + 1) * BLOCK_PIECES
    }

    fn is_left(&self, block: u64) -> bool {
        Self::pieces(block).any(|piece| self.left.has(piece))
    }

    /// Under the block's lock.
    fn fill(&self, block: u64) {
        let mut pieces = Self::pieces(block).filter(|piece| self.left.has(*piece)).peekable();
        while let Some(first) = pieces.next() {
            let mut end = first + 1;
            while pieces.next_if_eq(&end).is_some() {
                end += 1;
            }
            // Memory that has run out is told by what cannot be received into it.
            let run = Run::new(first * PIECE_PAGES, (end - first) * PIECE_PAGES);
            let _ = self.storage.make_ready(&run);
        }
        Self::pieces(block).filter(|piece| self.left.has(*piece)).for_each(|piece| self.left.clear(piece));
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
        let storage = Arc::new(Storage::create(&StorageOptions::small(64 << 20)).unwrap());
        storage.write_bytes(PageNumber(1536), 0, b"there");
        let coming: Runs =
            [Run::new(100, 1000), Run::new(1536, 512), Run::new(8192, 512)].into_iter().collect();
        let fresh = Fresh::new(&storage, &coming).unwrap().unwrap();
        fresh.make_ready(&[extent(512, 64, ExtentClass::Zero)]);
        assert_eq!(storage.touched().unwrap().pages().get(), 1, "zeros need no memory");
        fresh.make_ready(&[extent(0, 64, ExtentClass::Raw)]);
        // A block holds the pages from 0 to 4095, and the one after the next begins with 8192.
        let there = Run::new(1536, 1);
        assert_eq!(storage.touched().unwrap().as_slice(), [Run::new(512, 512), there]);
        fresh.make_ready(&[extent(500, 30, ExtentClass::Raw), extent(1537, 1, ExtentClass::Raw)]);
        assert_eq!(storage.touched().unwrap().as_slice(), [Run::new(512, 512), there]);
        fresh.make_ready(&[extent(5000, 1, ExtentClass::Raw)]);
        assert_eq!(
            storage.touched().unwrap().as_slice(),
            [Run::new(512, 512), there, Run::new(8192, 512)],
            "what follows"
        );
        storage.release(&Runs::from_run(Run::new(512, 512))).unwrap();
        fresh.make_ready(&[extent(512, 1, ExtentClass::Packed)]);
        assert_eq!(storage.touched().unwrap().as_slice(), [there, Run::new(8192, 512)], "once is enough");
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
