//! Where the touched pages lie: all of storage, or sixteen stretches spread evenly over it.
//!
//! ```text
//!   touched < storage:   ██......██......██......██......   stretch k starts at k/16 of storage
//!   index of a page:     01      23      45      67
//! ```

use super::WorkloadOptions;
use crate::page::{PageCount, PageNumber};
use crate::runs::{Run, Runs};

const STRETCHES: u64 = 16;
/// Stretches start at 2 MiB boundaries where there is room, so that huge pages are not shared by two.
const STRIDE_ALIGN_PAGES: u64 = 512;

/// Maps the index of a touched page to its number and back to runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    touched: u64,
    /// Pages per stretch.
    stretch: u64,
    /// Pages from the start of a stretch to the next.
    stride: u64,
}

impl Layout {
    pub(crate) fn new(storage: PageCount, options: &WorkloadOptions) -> Self {
        let touched = options.touched_pages().0;
        let stretch = touched.div_ceil(STRETCHES).max(1);
        let mut stride = storage.0 / STRETCHES;
        if stride >= stretch.next_multiple_of(STRIDE_ALIGN_PAGES) {
            stride -= stride % STRIDE_ALIGN_PAGES;
        }
        if stride <= stretch {
            return Self { touched, stretch: touched.max(1), stride: touched.max(1) };
        }
        Self { touched, stretch, stride }
    }

    /// The page with `index` among the touched ones (taken modulo their number).
    pub(crate) fn page(&self, index: u64) -> PageNumber {
        let index = index % self.touched.max(1);
        PageNumber(index / self.stretch * self.stride + index % self.stretch)
    }

    /// The touched pages with indexes from `first` to `end` (excluded), as runs.
    pub(crate) fn runs(&self, first: u64, end: u64) -> Runs {
        let end = end.min(self.touched);
        let mut runs = Runs::new();
        let mut at = first;
        while at < end {
            let pages = (self.stretch - at % self.stretch).min(end - at);
            runs.push(Run { start: self.page(at), pages: PageCount(pages) });
            at += pages;
        }
        runs
    }

    /// Every touched page.
    pub(crate) fn touched(&self) -> Runs {
        self.runs(0, self.touched)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::{ContentMix, Pattern};
    use proptest::prelude::*;

    fn layout(storage_pages: u64, touched_pages: u64) -> Layout {
        let options = WorkloadOptions {
            pattern: Pattern::Idle,
            dirty_rate_bytes_per_s: 0,
            working_set_bytes: None,
            touched_bytes: touched_pages * 4096,
            content: ContentMix::Zero,
            seed: 0,
            vcpus: 1,
        };
        Layout::new(PageCount(storage_pages), &options)
    }

    proptest! {
        #[test]
        fn every_touched_index_is_another_page_inside_storage(storage in 256u64..20_000, share in 0u64..=1000) {
            let touched = storage * share / 1000;
            let layout = layout(storage, touched);
            let runs = layout.touched();
            prop_assert_eq!(runs.pages().0, touched);
            prop_assert!(runs.as_slice().last().is_none_or(|run| run.end().0 <= storage));
            let by_index: Runs = (0..touched).map(|index| Run::new(layout.page(index).0, 1)).collect();
            prop_assert_eq!(by_index, runs);
        }
    }

    #[test]
    fn a_sparse_guest_is_touched_from_end_to_end() {
        let runs = layout(1 << 28, 1 << 18).touched();
        assert_eq!(runs.as_slice().len(), 16);
        assert!(runs.as_slice()[15].start.0 > (1 << 28) / 16 * 14);
        assert_eq!(layout(4096, 4096).touched().as_slice(), [Run::new(0, 4096)]);
    }
}
