//! What each page held when it was last sent, by hash, so that a page rewritten with the same bytes is not sent again.
//!
//! A dirty page is not always a changed one: a guest writes what is there already, and where changes are found by 2 MiB
//! the pages beside a written one are found with it. If the destination has the bytes, saying so is enough.
//!
//! **When a hash may be trusted.** It is of the private copy that was sent, so it is what the destination placed, once
//! the pass is over. It is compared only for a chunk that is given out for the first time in the first attempt of its
//! pass, hence with what an earlier pass sent, which has arrived by that pass's barrier. A chunk that is sent again
//! may have been placed before with older bytes, and nobody knows which copy stays: its pages are forgotten. So are
//! pages sent straight from guest memory, whose bytes nobody saw.
//!
//! The hash is xxh3-64 with a seed of the relocation's own that leaves this process never. That two contents of one page
//! have the same is a chance of one in 2^64 for each comparison.
//!
//! Memory: 8 bytes per page that was packed or tried, in blocks of 256 KiB for 128 MiB of guest memory: 2 MiB per GiB,
//! and none while pages go out raw.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use guest_mem::{PageNumber, Run};

const BLOCK_PAGES: usize = 1 << 15;
/// No hash: not sent, or nobody knows with which bytes.
const UNKNOWN: u64 = 0;

/// May a page's hash be compared and kept?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Compared, and kept: the chunk goes out for the first time.
    Compare,
    /// Neither: the chunk goes out again.
    Forget,
}

/// The hashes of a guest's pages.
#[derive(Debug)]
pub struct LastSent(Box<[OnceLock<Box<[AtomicU64]>>]>);

impl LastSent {
    /// Nothing has been sent of a guest of `pages` pages.
    pub fn new(pages: u64) -> Self {
        let blocks = (pages as usize).div_ceil(BLOCK_PAGES);
        Self((0..blocks).map(|_| OnceLock::new()).collect())
    }

    /// `page` is about to be sent with content of this hash. True if the destination has it already; then it need not
    /// be. One page is with one device at a time.
    pub fn is_same(&self, page: PageNumber, hash: u64, trust: Trust) -> bool {
        let block = self.0[page.get() as usize / BLOCK_PAGES]
            .get_or_init(|| (0..BLOCK_PAGES).map(|_| AtomicU64::new(UNKNOWN)).collect());
        let entry = &block[page.get() as usize % BLOCK_PAGES];
        match trust {
            // Relaxed is enough: between two passes lies the barrier, with locks of its own.
            Trust::Compare => entry.swap(hash, Ordering::Relaxed) == hash && hash != UNKNOWN,
            Trust::Forget => {
                entry.store(UNKNOWN, Ordering::Relaxed);
                false
            }
        }
    }

    /// The pages of `run` are about to be sent, and nobody sees with which bytes.
    pub fn forget(&self, run: &Run) {
        for page in run.page_numbers() {
            let Some(block) = self.0[page.get() as usize / BLOCK_PAGES].get() else { continue };
            block[page.get() as usize % BLOCK_PAGES].store(UNKNOWN, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_an_earlier_pass_surely_sent_is_the_same() {
        let sent = LastSent::new(100_000);
        let page = PageNumber(70_000);
        assert!(!sent.is_same(page, 7, Trust::Compare), "never sent");
        assert!(sent.is_same(page, 7, Trust::Compare));
        assert!(!sent.is_same(page, 8, Trust::Compare), "changed");
        assert!(!sent.is_same(page, 8, Trust::Forget), "sent again: which copy stayed?");
        assert!(!sent.is_same(page, 8, Trust::Compare));
        sent.forget(&Run::new(69_999, 3));
        assert!(!sent.is_same(page, 8, Trust::Compare), "sent unseen");
        assert!(!sent.is_same(page, UNKNOWN, Trust::Compare) && !sent.is_same(page, UNKNOWN, Trust::Compare));
    }

    #[test]
    fn what_was_never_hashed_takes_no_memory() {
        let sent = LastSent::new(1 << 28);
        sent.forget(&Run::new(0, 1 << 16));
        assert!(sent.0.iter().all(|block| block.get().is_none()));
        sent.is_same(PageNumber(5), 1, Trust::Compare);
        assert_eq!(sent.0.iter().filter(|block| block.get().is_some()).count(), 1);
    }
}
