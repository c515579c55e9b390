//! Sorted, disjoint, coalesced runs of pages: the only way this workspace speaks of many pages.
//!
//! ```text
//!   pages   0 1 2 3 4 5 6 7 8 9        Runs  [0+3] [5+1] [7+3]
//!           ■ ■ ■ . . ■ . ■ ■ ■        chunks of ≤ 4 pages: {0+3, 5+1} {7+3}
//! ```
//!
//! A chunk is a cursor into the vector of runs ([`ChunkPlan`]), so that a pass over 256 Ki pages is
//! planned once, without an allocation per page, and several threads pull chunks by index.

use crate::page::{PageCount, PageNumber};
use serde::{Deserialize, Serialize};

/// A stretch of neighbouring pages; never empty inside [`Runs`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Run {
    /// First page.
    pub start: PageNumber,
    /// How many pages.
    pub pages: PageCount,
}

impl Run {
    /// The run of `pages` pages from `start`.
    #[must_use]
    pub const fn new(start: u64, pages: u64) -> Self {
        Self { start: PageNumber(start), pages: PageCount(pages) }
    }

    /// The run from `start` (included) to `end` (excluded); empty if `end` is not later.
    #[must_use]
    pub const fn between(start: PageNumber, end: PageNumber) -> Self {
        Self { start, pages: end.since(start) }
    }

    /// The first page after this run.
    #[must_use]
    pub const fn end(&self) -> PageNumber {
        self.start.plus(self.pages)
    }

    /// Length in bytes.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.pages.bytes()
    }

    /// Offset in bytes of the first page.
    #[must_use]
    pub const fn offset_bytes(&self) -> u64 {
        self.start.offset_bytes()
    }

    /// Every page of the run, in order.
    pub fn page_numbers(&self) -> impl Iterator<Item = PageNumber> + use<> {
        (self.start.0..self.end().0).map(PageNumber)
    }
}

/// One chunk of a pass: a cursor into a [`Runs`] and a number of pages from there on.
///
/// Made by [`Runs::plan_chunks`], read by [`Runs::chunk`]. It means nothing once the runs change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkPlan {
    /// Index of the run in which the chunk begins.
    pub first_run: u32,
    /// Pages of that run which belong to earlier chunks.
    pub skip_pages: u64,
    /// Pages in the chunk, over one run or several.
    pub pages: u32,
}

/// A set of pages, held as sorted, disjoint runs with a gap between any two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    runs: Vec<Run>,
}

impl Runs {
    /// The empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self { runs: Vec::new() }
    }

    /// The set of a single run (empty if the run is).
    #[must_use]
    pub fn from_run(run: Run) -> Self {
        let mut runs = Self::new();
        runs.push(run);
        runs
    }

    /// The set of all pages in `runs`, which may be in any order and may overlap.
    #[must_use]
    pub fn from_unsorted(mut runs: Vec<Run>) -> Self {
        runs.retain(|run| !run.pages.is_zero());
        runs.sort_unstable_by_key(|run| run.start);
        let mut sorted = Self { runs: Vec::with_capacity(runs.len()) };
        for run in runs {
            sorted.push_merging(run);
        }
        sorted
    }

    /// Appends a run that starts at or after the end of the last one; neighbours are joined, empty runs ignored.
    ///
    /// [`Runs::from_unsorted`] takes any order.
    ///
    /// # Panics
    /// If the run starts earlier: a set out of order would silently lose pages in the next union.
    pub fn push(&mut self, run: Run) {
        if run.pages.is_zero() {
            return;
        }
        match self.runs.last_mut() {
            Some(last) => {
                assert!(last.end() <= run.start, "runs are pushed in order: {last:?} then {run:?}");
                if last.end() == run.start {
                    last.pages += run.pages;
                } else {
                    self.runs.push(run);
                }
            }
            None => self.runs.push(run),
        }
    }

    /// As [`Runs::push`], for a run that may overlap the last one (but does not start before it).
    fn push_merging(&mut self, run: Run) {
        match self.runs.last_mut() {
            Some(last) if run.start <= last.end() => {
                *last = Run::between(last.start, last.end().max(run.end()));
            }
            _ => self.push(run),
        }
    }

    /// Every page that is in either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut all = Self { runs: Vec::with_capacity(self.runs.len() + other.runs.len()) };
        let (mut left, mut right) = (self.runs.iter().peekable(), other.runs.iter().peekable());
        loop {
            let next = match (left.peek(), right.peek()) {
                (Some(l), Some(r)) if l.start <= r.start => left.next(),
                (_, Some(_)) => right.next(),
                (Some(_), None) => left.next(),
                (None, None) => return all,
            };
            if let Some(run) = next {
                all.push_merging(*run);
            }
        }
    }

    /// Every page of this set that is not in `other`.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let mut rest = Self::new();
        let mut holes = other.runs.iter().peekable();
        for run in &self.runs {
            let mut from = run.start;
            while let Some(hole) = holes.peek() {
                if hole.end() <= from {
                    holes.next();
                    continue;
                }
                if hole.start >= run.end() {
                    break;
                }
                rest.push(Run::between(from, hole.start));
                from = hole.end();
                if from >= run.end() {
                    break;
                }
            }
            rest.push(Run::between(from, run.end()));
        }
        rest
    }

    /// Every page that is in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let mut both = Self::new();
        let (mut left, mut right) = (0, 0);
        while let (Some(l), Some(r)) = (self.runs.get(left), other.runs.get(right)) {
            both.push(Run::between(l.start.max(r.start), l.end().min(r.end())));
            if l.end() <= r.end() {
                left += 1;
            } else {
                right += 1;
            }
        }
        both
    }

    /// Every page of the set that is in `window` (binary search, so that a small window of a large set is cheap).
    #[must_use]
    pub fn intersection_with(&self, window: Run) -> Self {
        let first = self.runs.partition_point(|run| run.end() <= window.start);
        let mut inside = Self::new();
        for run in self.runs[first..].iter().take_while(|run| run.start < window.end()) {
            inside.push(Run::between(run.start.max(window.start), run.end().min(window.end())));
        }
        inside
    }

    /// Number of pages in the set.
    #[must_use]
    pub fn pages(&self) -> PageCount {
        self.runs.iter().map(|run| run.pages).sum()
    }

    /// Size of the set in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.pages().bytes()
    }

    /// The runs in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Run> {
        self.runs.iter()
    }

    /// The runs in order, as a slice.
    #[must_use]
    pub fn as_slice(&self) -> &[Run] {
        &self.runs
    }

    /// True if no page is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Empties the set and keeps its memory for the next use.
    pub fn clear(&mut self) {
        self.runs.clear();
    }

    /// True if `page` is in the set (binary search).
    #[must_use]
    pub fn contains(&self, page: PageNumber) -> bool {
        let after = self.runs.partition_point(|run| run.start <= page);
        after > 0 && page < self.runs[after - 1].end()
    }

    /// The set cut into runs of at most `max_pages` pages each.
    ///
    /// # Panics
    /// If `max_pages` is zero.
    pub fn split_at_chunk(&self, max_pages: PageCount) -> impl Iterator<Item = Run> + '_ {
        assert!(!max_pages.is_zero(), "a chunk has at least one page");
        self.runs.iter().flat_map(move |run| {
            let (start, pages) = (run.start.0, run.pages.0);
            (0..pages.div_ceil(max_pages.0)).map(move |piece| {
                let done = piece * max_pages.0;
                Run::new(start + done, max_pages.0.min(pages - done))
            })
        })
    }

    /// Plans the whole set as chunks of at most `max_pages` pages in at most `max_extents` runs each.
    ///
    /// # Panics
    /// If a limit is zero, or the set has 2³² runs or more (16 TiB of alternating pages).
    #[must_use]
    pub fn plan_chunks(&self, max_pages: u32, max_extents: usize) -> Vec<ChunkPlan> {
        assert!(max_pages > 0 && max_extents > 0, "a chunk holds at least one page in one run");
        assert!(u32::try_from(self.runs.len()).is_ok(), "fewer than 2^32 runs");
        let mut plans = Vec::new();
        let (mut open, mut extents) = (None::<ChunkPlan>, 0);
        for (index, run) in self.runs.iter().enumerate() {
            let mut skip_pages = 0;
            while skip_pages < run.pages.0 {
                let chunk = open.get_or_insert(ChunkPlan { first_run: index as u32, skip_pages, pages: 0 });
                let taken = u64::from(max_pages - chunk.pages).min(run.pages.0 - skip_pages);
                chunk.pages += taken as u32; // at most max_pages, a u32
                skip_pages += taken;
                extents += 1;
                if chunk.pages == max_pages || extents == max_extents {
                    plans.extend(open.take());
                    extents = 0;
                }
            }
        }
        plans.extend(open);
        plans
    }

    /// The part of a chunk that begins `skip_pages` after it does and has at most `pages` pages.
    ///
    /// # Panics
    /// The part lies behind the chunk's end.
    pub fn part(&self, plan: &ChunkPlan, skip_pages: u32, pages: u32) -> ChunkPlan {
        assert!(skip_pages < plan.pages, "a part begins inside its chunk");
        let mut part = ChunkPlan { pages: pages.min(plan.pages - skip_pages), ..*plan };
        part.skip_pages += u64::from(skip_pages);
        for run in &self.runs[plan.first_run as usize..] {
            if part.skip_pages < run.pages.0 {
                break;
            }
            part.skip_pages -= run.pages.0;
            part.first_run += 1;
        }
        part
    }

    /// The (parts of) runs in one chunk planned by [`Runs::plan_chunks`] on this very set.
    pub fn chunk(&self, plan: &ChunkPlan) -> impl Iterator<Item = Run> + '_ {
        let first = (plan.first_run as usize).min(self.runs.len());
        let mut skip_pages = plan.skip_pages;
        let mut left_pages = u64::from(plan.pages);
        self.runs[first..].iter().map_while(move |run| {
            if left_pages == 0 {
                return None;
            }
            let pages = run.pages.0.saturating_sub(skip_pages).min(left_pages);
            let part = Run::new(run.start.0 + skip_pages, pages);
            left_pages -= pages;
            skip_pages = 0;
            Some(part)
        })
    }
}

impl FromIterator<Run> for Runs {
    fn from_iter<I: IntoIterator<Item = Run>>(runs: I) -> Self {
        Self::from_unsorted(runs.into_iter().collect())
    }
}

impl<'a> IntoIterator for &'a Runs {
    type Item = &'a Run;
    type IntoIter = std::slice::Iter<'a, Run>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    type Model = BTreeSet<u64>;

    fn model(runs: &Runs) -> Model {
        runs.iter().flat_map(Run::page_numbers).map(PageNumber::get).collect()
    }

    fn any_runs() -> impl Strategy<Value = Vec<Run>> {
        prop::collection::vec((0u64..200, 0u64..20).prop_map(|(start, pages)| Run::new(start, pages)), 0..24)
    }

    fn assert_canonical(runs: &Runs) {
        assert!(runs.iter().all(|run| !run.pages.is_zero()));
        assert!(runs.as_slice().windows(2).all(|pair| pair[0].end() < pair[1].start), "{runs:?}");
    }

    proptest! {
        #[test]
        fn set_algebra_agrees_with_a_set_of_page_numbers(a in any_runs(), b in any_runs()) {
            let (a, b) = (Runs::from_unsorted(a), Runs::from_unsorted(b));
            let (model_a, model_b) = (model(&a), model(&b));
            for (runs, expected) in [
                (a.union(&b), &model_a | &model_b),
                (a.difference(&b), &model_a - &model_b),
                (a.intersection(&b), &model_a & &model_b),
            ] {
                assert_canonical(&runs);
                prop_assert_eq!(model(&runs), expected);
            }
            prop_assert_eq!(a.pages().0, model_a.len() as u64);
            for page in 0..230 {
                prop_assert_eq!(a.contains(PageNumber(page)), model_a.contains(&page));
            }
        }

        #[test]
        fn a_window_sees_what_the_intersection_does(a in any_runs(), start in 0u64..220, pages in 0u64..60) {
            let (a, window) = (Runs::from_unsorted(a), Run::new(start, pages));
            prop_assert_eq!(a.intersection_with(window), a.intersection(&Runs::from_run(window)));
        }

        #[test]
        fn any_order_gives_the_same_canonical_runs(raw in any_runs()) {
            let expected: Model = raw.iter().flat_map(Run::page_numbers).map(PageNumber::get).collect();
            let runs = Runs::from_unsorted(raw);
            assert_canonical(&runs);
            prop_assert_eq!(model(&runs), expected);
        }

        #[test]
        fn chunks_cover_every_page_once_and_keep_both_limits(
            raw in any_runs(), max_pages in 1u32..40, max_extents in 1usize..6,
        ) {
            let runs = Runs::from_unsorted(raw);
            let mut covered = Vec::new();
            for plan in runs.plan_chunks(max_pages, max_extents) {
                let parts: Vec<Run> = runs.chunk(&plan).collect();
                let pages: u64 = parts.iter().map(|run| run.pages.0).sum();
                prop_assert_eq!(pages, u64::from(plan.pages));
                prop_assert!(pages > 0 && pages <= u64::from(max_pages) && parts.len() <= max_extents);
                covered.extend(parts.iter().flat_map(Run::page_numbers).map(PageNumber::get));
            }
            let expected: Vec<u64> = model(&runs).into_iter().collect();
            prop_assert_eq!(covered, expected);
        }

        #[test]
        fn splitting_keeps_every_page_in_pieces_of_the_limit(raw in any_runs(), max_pages in 1u64..9) {
            let runs = Runs::from_unsorted(raw);
            let pieces: Vec<Run> = runs.split_at_chunk(PageCount(max_pages)).collect();
            prop_assert!(pieces.iter().all(|run| run.pages.0 > 0 && run.pages.0 <= max_pages));
            prop_assert_eq!(Runs::from_unsorted(pieces), runs);
        }
    }

    #[test]
    fn pushing_a_neighbour_extends_the_last_run() {
        let mut runs = Runs::new();
        runs.push(Run::new(0, 2));
        runs.push(Run::new(2, 3));
        runs.push(Run::new(9, 0));
        runs.push(Run::new(9, 1));
        assert_eq!(runs.as_slice(), [Run::new(0, 5), Run::new(9, 1)]);
        assert_eq!(runs.bytes(), 6 * 4096);
    }
}
