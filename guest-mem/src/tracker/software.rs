//! Dirty tracking by cooperation: each writer marks a page in a bitmap after it wrote it.
//!
//! ```text
//!   summary   1 bit per word     ■ . . ■          harvest reads 1 summary word per 16 MiB … and only the words
//!   words     1 bit per page     ■.■. …  ..■.     behind a summary bit
//! ```
//!
//! A writer sets the page's bit, then the summary bit; the harvest clears the summary bit, then the page's bit. So
//! a page bit that the harvest does not see has its summary bit still to come, and the next harvest sees both.

use super::{DirtyTracker, HarvestStats, TrackerError, TrackerKind};
use crate::page::{PAGE_SIZE, PageCount, PageNumber};
use crate::runs::{Run, Runs};
use crate::sparse::SparseAtomics;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const WORD_PAGES: u64 = u64::BITS as u64;

#[derive(Debug)]
struct Bits {
    words: SparseAtomics<AtomicU64>,
    summary: SparseAtomics<AtomicU64>,
    pages: PageCount,
}

/// The writers' handle to the bitmap: clone it into each.
#[derive(Clone, Debug)]
pub struct SoftwareBitmap {
    bits: Arc<Bits>,
}

impl SoftwareBitmap {
    /// A clear bitmap for `pages` pages of storage; takes memory only where pages are marked.
    ///
    /// # Errors
    /// [`TrackerError::Bitmap`] if the address space is used up.
    pub fn new(pages: PageCount) -> Result<Self, TrackerError> {
        let words = pages.0.div_ceil(WORD_PAGES) as usize;
        let reserve = |len| SparseAtomics::new(len).map_err(|source| TrackerError::Bitmap { source });
        let bits =
            Bits { words: reserve(words)?, summary: reserve(words.div_ceil(WORD_PAGES as usize))?, pages };
        Ok(Self { bits: Arc::new(bits) })
    }

    /// Says that `page` was written. To be called **after** the write: a mark that comes first may be harvested,
    /// and the page read, before the bytes arrive. Lock-free; from any thread.
    ///
    /// # Panics
    /// If the page is outside the storage the bitmap was made for.
    pub fn mark(&self, page: PageNumber) {
        assert!(page.0 < self.bits.pages.0, "{page} is inside the bitmap of {}", self.bits.pages);
        let word = (page.0 / WORD_PAGES) as usize;
        // Always a read-modify-write, even if the bit looks set: it orders the page's bytes before the mark. A plain
        // look could be satisfied early, while the harvest clears the bit and reads the page without them.
        self.bits.words[word].fetch_or(1 << (page.0 % WORD_PAGES), Ordering::SeqCst);
        let (index, bit) = (word / WORD_PAGES as usize, 1u64 << (word as u64 % WORD_PAGES));
        // For the summary a look is enough: if its bit is still set after ours, the harvest that clears it has yet to
        // read our word.
        if self.bits.summary[index].load(Ordering::SeqCst) & bit == 0 {
            self.bits.summary[index].fetch_or(bit, Ordering::SeqCst);
        }
    }

    /// Clears all marks and tells each marked stretch of pages in order.
    fn take(&self, mut found: impl FnMut(Run)) -> u64 {
        for (index, summary) in self.bits.summary.iter().enumerate() {
            if summary.load(Ordering::SeqCst) == 0 {
                continue;
            }
            let mut words = summary.swap(0, Ordering::SeqCst);
            while words != 0 {
                let word = index as u64 * WORD_PAGES + u64::from(words.trailing_zeros());
                words &= words - 1;
                let bits = self.bits.words[word as usize].swap(0, Ordering::SeqCst);
                runs_of_bits(word * WORD_PAGES, bits, &mut found);
            }
        }
        self.bits.summary.len() as u64
    }
}

fn runs_of_bits(first_page: u64, mut bits: u64, found: &mut impl FnMut(Run)) {
    while bits != 0 {
        let start = bits.trailing_zeros();
        let len = (bits >> start).trailing_ones();
        found(Run::new(first_page + u64::from(start), u64::from(len)));
        // Adding the lowest bit carries through its stretch of ones and clears it.
        bits &= bits.wrapping_add(1 << start);
    }
}

/// Tracks what is marked in a [`SoftwareBitmap`], and nothing else.
#[derive(Debug)]
pub struct SoftwareTracker {
    bitmap: SoftwareBitmap,
    started: bool,
}

impl SoftwareTracker {
    /// A tracker of `bitmap`.
    #[must_use]
    pub fn new(bitmap: SoftwareBitmap) -> Self {
        Self { bitmap, started: false }
    }
}

impl DirtyTracker for SoftwareTracker {
    fn kind(&self) -> TrackerKind {
        TrackerKind::Software
    }

    fn granule_bytes(&self) -> u64 {
        PAGE_SIZE as u64
    }

    fn start(&mut self) -> Result<(), TrackerError> {
        // Writers mark always, so there is nothing to switch on; only old marks are dropped.
        self.bitmap.take(|_| {});
        self.started = true;
        Ok(())
    }

    fn harvest(&mut self, out: &mut Runs) -> Result<HarvestStats, TrackerError> {
        if !self.started {
            return Err(TrackerError::NotStarted);
        }
        out.clear();
        let slices = self.bitmap.take(|run| out.push(run));
        Ok(HarvestStats { pages: out.pages(), runs: out.as_slice().len() as u64, slices })
    }

    fn stop(&mut self) {
        self.started = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_harvest_tells_exactly_the_marked_pages_once(
            marks in prop::collection::btree_set(0u64..9000, 0..200)
        ) {
            let bitmap = SoftwareBitmap::new(PageCount(9000)).unwrap();
            let mut tracker = SoftwareTracker::new(bitmap.clone());
            tracker.start().unwrap();
            marks.iter().for_each(|page| bitmap.mark(PageNumber(*page)));
            let mut runs = Runs::new();
            let stats = tracker.harvest(&mut runs).unwrap();
            let told: Vec<u64> = runs.iter().flat_map(Run::page_numbers).map(PageNumber::get).collect();
            prop_assert_eq!(told, marks.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(stats.pages.0, marks.len() as u64);
            tracker.harvest(&mut runs).unwrap();
            prop_assert!(runs.is_empty());
        }
    }

    #[test]
    fn marks_made_while_harvesting_are_never_lost() {
        const PAGES: u64 = 4096;
        let bitmap = SoftwareBitmap::new(PageCount(PAGES)).unwrap();
        let mut tracker = SoftwareTracker::new(bitmap.clone());
        tracker.start().unwrap();
        let (mut all, mut runs) = (Runs::new(), Runs::new());
        std::thread::scope(|scope| {
            for writer in 0..2 {
                let bitmap = bitmap.clone();
                scope
                    .spawn(move || (writer..PAGES).step_by(2).for_each(|page| bitmap.mark(PageNumber(page))));
            }
            for _ in 0..50 {
                tracker.harvest(&mut runs).unwrap();
                all = all.union(&runs);
            }
        });
        tracker.harvest(&mut runs).unwrap();
        assert_eq!(all.union(&runs).as_slice(), [Run::new(0, PAGES)]);
    }
}
