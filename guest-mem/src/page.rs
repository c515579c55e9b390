//! Pages are counted, never addressed: a [`PageNumber`] says which page, a [`PageCount`] how many.
//!
//! Both are `u64` inside and do not mix with byte offsets except through the conversions here.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Bytes in one page of guest storage. z/Architecture and x86-64 agree on 4 KiB.
pub const PAGE_SIZE: usize = 4096;

const PAGE_SHIFT: u32 = PAGE_SIZE.trailing_zeros();

/// The number of one page, counted from the start of guest storage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PageNumber(pub u64);

/// A number of pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PageCount(pub u64);

impl PageNumber {
    /// The page that holds the byte at `offset_bytes` of guest storage.
    #[must_use]
    pub const fn containing(offset_bytes: u64) -> Self {
        Self(offset_bytes >> PAGE_SHIFT)
    }

    /// The plain number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Offset in bytes of the first byte of this page in guest storage.
    #[must_use]
    pub const fn offset_bytes(self) -> u64 {
        self.0 << PAGE_SHIFT
    }

    /// The page `count` pages further on.
    #[must_use]
    pub const fn plus(self, count: PageCount) -> Self {
        Self(self.0 + count.0)
    }

    /// How many pages lie from `earlier` (included) to `self` (excluded); zero if `earlier` is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> PageCount {
        PageCount(self.0.saturating_sub(earlier.0))
    }
}

impl PageCount {
    /// No pages.
    pub const ZERO: Self = Self(0);

    /// How many pages it takes to hold `len_bytes` bytes; a part of a page counts as a page.
    #[must_use]
    pub const fn holding(len_bytes: u64) -> Self {
        Self(len_bytes.div_ceil(PAGE_SIZE as u64))
    }

    /// The plain number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The size of this many pages in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0 << PAGE_SHIFT
    }

    /// True for no pages.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for PageNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "page {:#x}", self.0)
    }
}

impl fmt::Display for PageCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} pages", self.0)
    }
}

impl std::ops::AddAssign for PageCount {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

impl std::iter::Sum for PageCount {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        Self(counts.map(|count| count.0).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_page_counts_as_a_page() {
        assert_eq!(PageCount::holding(0), PageCount(0));
        assert_eq!(PageCount::holding(1), PageCount(1));
        assert_eq!(PageCount::holding(4096), PageCount(1));
        assert_eq!(PageCount::holding(4097), PageCount(2));
    }

    #[test]
    fn bytes_and_pages_convert_both_ways() {
        assert_eq!(PageNumber::containing(8191), PageNumber(1));
        assert_eq!(PageNumber(3).offset_bytes(), 12288);
        assert_eq!(PageCount(2).bytes(), 8192);
        assert_eq!(PageNumber(7).since(PageNumber(3)), PageCount(4));
        assert_eq!(PageNumber(3).since(PageNumber(7)), PageCount(0));
    }
}
