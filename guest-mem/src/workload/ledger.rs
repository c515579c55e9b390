//! What the guest itself remembers of its writes since it was started or resumed here: one word per page.
//!
//! ```text
//!   31 written │ 30 freed │ 29 found zero │ 28 found bad │ 27…0 writes since the resume, or since the page was last freed
//! ```
//!
//! The verification compares pages with it, so that a page which the engine lost stays noticed even after the guest
//! wrote it again: the *found* bits keep what the page was at its first write here.

use crate::page::{PageCount, PageNumber};
use crate::sparse::SparseAtomics;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

const WRITTEN: u32 = 1 << 31;
const FREED: u32 = 1 << 30;
const FOUND_ZERO: u32 = 1 << 29;
const FOUND_BAD: u32 = 1 << 28;

/// Versions are compared in so many low bits; more writes than that to one page wrap around.
pub(crate) const VERSION_MASK: u32 = FOUND_BAD - 1;

/// What a page was when it was first written here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Sound,
    Zero,
    Bad,
}

/// The word of one page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry(u32);

impl Entry {
    pub(crate) fn is_written(self) -> bool {
        self.0 & WRITTEN != 0
    }

    /// The page was freed to zero here: its version counts from then, not from the source's.
    pub(crate) fn is_freed(self) -> bool {
        self.0 & FREED != 0
    }

    pub(crate) fn found_zero(self) -> bool {
        self.0 & FOUND_ZERO != 0
    }

    pub(crate) fn found_bad(self) -> bool {
        self.0 & FOUND_BAD != 0
    }

    pub(crate) fn writes(self) -> u32 {
        self.0 & VERSION_MASK
    }
}

/// One word per page of storage; takes memory only where pages were written.
#[derive(Debug)]
pub(crate) struct Ledger {
    words: SparseAtomics<AtomicU32>,
}

impl Ledger {
    pub(crate) fn new(pages: PageCount) -> io::Result<Self> {
        Ok(Self { words: SparseAtomics::new(pages.0 as usize)? })
    }

    pub(crate) fn entry(&self, page: PageNumber) -> Entry {
        Entry(self.words[page.0 as usize].load(Ordering::Relaxed))
    }

    /// The first write to a page here: what was found before it. Each page has one writer, so plain loads and stores
    /// are enough; whoever else reads has stopped the guest first.
    pub(crate) fn open(&self, page: PageNumber, found: Found) {
        let found = match found {
            Found::Sound => 0,
            Found::Zero => FOUND_ZERO,
            Found::Bad => FOUND_BAD,
        };
        self.words[page.0 as usize].store(WRITTEN | found, Ordering::Relaxed);
    }

    pub(crate) fn count_write(&self, page: PageNumber) {
        let entry = self.entry(page).0;
        let writes = (entry + 1) & VERSION_MASK;
        self.words[page.0 as usize].store((entry & !VERSION_MASK) | WRITTEN | writes, Ordering::Relaxed);
    }

    pub(crate) fn count_free(&self, page: PageNumber) {
        let entry = self.entry(page).0;
        self.words[page.0 as usize].store((entry & !VERSION_MASK) | WRITTEN | FREED, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_counted_and_a_free_starts_the_count_again() {
        let ledger = Ledger::new(PageCount(4)).unwrap();
        let page = PageNumber(2);
        assert!(!ledger.entry(page).is_written());
        ledger.open(page, Found::Zero);
        ledger.count_write(page);
        ledger.count_write(page);
        assert_eq!(ledger.entry(page).writes(), 2);
        assert!(!ledger.entry(page).is_freed());
        ledger.count_free(page);
        ledger.count_write(page);
        let entry = ledger.entry(page);
        assert_eq!(entry.writes(), 1);
        assert!(entry.is_written() && entry.is_freed() && entry.found_zero() && !entry.found_bad());
    }

    #[test]
    fn a_count_that_wraps_still_counts_as_written() {
        let ledger = Ledger::new(PageCount(1)).unwrap();
        ledger.words[0].store(WRITTEN | FOUND_BAD | VERSION_MASK, Ordering::Relaxed);
        ledger.count_write(PageNumber(0));
        let entry = ledger.entry(PageNumber(0));
        assert_eq!((entry.writes(), entry.is_written(), entry.found_bad()), (0, true, true));
    }
}
