//! Walking the page tables of guest storage in bounded slices.
//!
//! Two queries find written pages, and each is wrong where the other is right:
//!
//! - *written and (present or swapped)* skips what has no page table entry: 1 TiB of holes costs a millisecond. But
//!   a page of a memfd that is written and then swapped out, or whose huge mapping was split, has **no entry** any
//!   more, and would be missed. So this query is for small or hugetlb pages on a machine without swap.
//! - *written* alone counts a missing entry as written and puts a marker there. It misses nothing, but over
//!   holes it would allocate page tables (10 s for 1 TiB). So it is asked of touched pages only.
//!
//! The second is the quicker one where there is data (0.6 against 1 ms per GiB), so it also stands in for the
//! first as long as nothing was touched since the start.
//!
//! To protect pages again costs a flush of translations for each 2 MiB with a written page, and each other processor
//! that runs a thread of this process is interrupted for it: threads that do so together hold each other up. So several
//! threads only look where something was written, and one walks those places again and protects.

use super::TrackerError;
use super::uffd_sys::{
    PAGE_IS_HUGE, PAGE_IS_PRESENT, PAGE_IS_SWAPPED, PAGE_IS_WRITTEN, PM_SCAN_CHECK_WPASYNC,
    PM_SCAN_WP_MATCHING, PageRegion, Pagemap, Query,
};
use crate::page::{PAGE_SIZE, PageNumber};
use crate::parallel;
use crate::runs::{Run, Runs};
use crate::storage::{Backing, HUGE_PAGE_SIZE, Storage};
use rayon::ThreadPool;
use rayon::prelude::*;
use std::cell::RefCell;

/// Addresses walked by one system call at most: a full gigabyte takes the kernel about half a millisecond.
const SLICE_BYTES: u64 = 256 << 20;
/// From so many slices on the walk is shared among threads: to wake them takes about as long as one slice.
const SHARED_SLICES_MIN: usize = 3;
/// Where one thread protects what several have found, it walks by so many bytes: a walk of that and a system call take
/// about the same time.
const PROTECT_BYTES: u64 = 4 * HUGE_PAGE_SIZE;
/// Threads beyond these find the page tables' locks and the memory busy.
const WALKERS_MAX: usize = 8;
/// The same for storage so sparse that no slice can hold more than this many bytes ([`SPARSE_BYTES`]). An absent
/// gigabyte is one missing entry for the kernel, so the calls would cost more than the walk.
const SPARSE_SLICE_BYTES: u64 = 64 << 30;
const SPARSE_BYTES: u64 = 2 << 30;
/// Runs shorter than this on average cost more in system calls than the quicker query saves.
const EXACT_PAGES_PER_RUN: u64 = 1024;
/// Regions taken from one system call at most: 1.5 MiB of answers for each thread, used again and again.
const REGIONS: usize = 1 << 16;

/// Which of the two queries finds the written pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanMode {
    /// Written and (present or swapped), over all of storage.
    PresentOrSwapped,
    /// Written, over touched pages only.
    WrittenInTouched,
}

impl ScanMode {
    /// The mode that is right for this storage on this machine now.
    #[must_use]
    pub fn for_storage(storage: &Storage) -> Self {
        let swap = std::fs::read_to_string("/proc/swaps").is_ok_and(|table| swap_active(&table));
        match storage.backing() {
            Backing::HugeTlb => Self::PresentOrSwapped, // never swapped, never split
            Backing::Thp => Self::WrittenInTouched,
            Backing::Small if swap => Self::WrittenInTouched,
            Backing::Small => Self::PresentOrSwapped,
        }
    }
}

/// `/proc/swaps` is a heading and a line per swap device.
fn swap_active(table: &str) -> bool {
    table.lines().skip(1).any(|line| !line.trim().is_empty())
}

thread_local! {
    /// Answers of one system call, kept by each thread that walks.
    static REGIONS_OF_THREAD: RefCell<Vec<PageRegion>> = const { RefCell::new(Vec::new()) };
}

/// What becomes of the pages that were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// They are protected again, in the same step.
    Protect,
    /// They stay as they are, and are found again the next time.
    Leave,
}

/// Reads page tables into runs, with threads that live as long as the tracker.
#[derive(Debug)]
pub(super) struct Scanner {
    pagemap: Pagemap,
    walkers: Option<ThreadPool>,
    touched: TouchedCache,
    /// Slices since the last reset.
    pub(super) slices: u64,
}

impl Scanner {
    pub(super) fn open() -> Result<Self, TrackerError> {
        let pagemap = Pagemap::open()
            .map_err(|source| TrackerError::KernelTooOld { what: "readable /proc/self/pagemap", source })?;
        Ok(Self { pagemap, walkers: None, touched: TouchedCache::default(), slices: 0 })
    }

    /// Takes note of the touched pages, so that scans can be quick as long as there are no more of them.
    pub(super) fn learn_touched(&mut self, storage: &Storage) -> Result<(), TrackerError> {
        self.touched.read(storage).map(drop)
    }

    /// Finds the pages written since they were last protected.
    pub(super) fn written(
        &mut self,
        storage: &Storage,
        mode: ScanMode,
        after: After,
        out: &mut Runs,
    ) -> Result<(), TrackerError> {
        let flags = PM_SCAN_CHECK_WPASYNC
            | match after {
                After::Protect => PM_SCAN_WP_MATCHING,
                After::Leave => 0,
            };
        out.clear();
        match mode {
            ScanMode::PresentOrSwapped if self.touched.allows_exact(storage)? => {
                let query = Query { flags, all_of: PAGE_IS_WRITTEN, any_of: 0 };
                let touched = std::mem::take(&mut self.touched.runs);
                let scanned = self.walk(storage, query, &touched, SLICE_BYTES, out);
                self.touched.runs = touched;
                scanned
            }
            ScanMode::PresentOrSwapped => {
                let any_of = PAGE_IS_PRESENT | PAGE_IS_SWAPPED;
                let query = Query { flags, all_of: PAGE_IS_WRITTEN, any_of };
                self.walk_all(storage, query, out)
            }
            ScanMode::WrittenInTouched => {
                let query = Query { flags, all_of: PAGE_IS_WRITTEN, any_of: 0 };
                let wide = whole_blocks(storage, self.touched.read(storage)?, HUGE_PAGE_SIZE);
                self.walk(storage, query, &wide, SLICE_BYTES, out)?;
                // The rounding took in holes. Read again and not kept from before the scan: a page first touched
                // in between has just lost its mark and must stay in.
                *out = out.intersection(self.touched.read(storage)?);
                Ok(())
            }
        }
    }

    fn walk_all(&mut self, storage: &Storage, query: Query, out: &mut Runs) -> Result<(), TrackerError> {
        let sparse = storage.resident_bytes()? <= SPARSE_BYTES;
        let slice_bytes = if sparse { SPARSE_SLICE_BYTES } else { SLICE_BYTES };
        self.walk(storage, query, &Runs::from_run(storage.whole()), slice_bytes, out)
    }

    /// Puts what matches in the addresses of `runs` into `out`, in order, with one thread or several.
    fn walk(
        &mut self,
        storage: &Storage,
        query: Query,
        runs: &Runs,
        slice_bytes: u64,
        out: &mut Runs,
    ) -> Result<(), TrackerError> {
        let base = storage.as_ptr() as u64;
        let slices = slices_of(storage, runs, slice_bytes);
        self.slices += slices.len() as u64;
        if slices.len() < SHARED_SLICES_MIN {
            return walk_slices(&self.pagemap, None, query, base, &slices, out);
        }
        let threads = parallel::processors().min(WALKERS_MAX);
        self.walkers = self.walkers.take().or_else(|| parallel::pool(threads, threads, "harvest"));
        let looking = Query { flags: query.flags & !PM_SCAN_WP_MATCHING, ..query };
        walk_slices(&self.pagemap, self.walkers.as_ref(), looking, base, &slices, out)?;
        if looking.flags == query.flags {
            return Ok(());
        }
        let places = whole_blocks(storage, out, PROTECT_BYTES).intersection(runs);
        let slices = slices_of(storage, &places, slice_bytes);
        self.slices += slices.len() as u64;
        out.clear();
        walk_slices(&self.pagemap, None, query, base, &slices, out)
    }
}

/// Walks `slices` in order, or all at once with `walkers`; what is found is in order either way.
fn walk_slices(
    pagemap: &Pagemap,
    walkers: Option<&ThreadPool>,
    query: Query,
    base: u64,
    slices: &[Slice],
    out: &mut Runs,
) -> Result<(), TrackerError> {
    let Some(walkers) = walkers else {
        return slices.iter().try_for_each(|slice| walk_slice(pagemap, query, base, *slice, out));
    };
    let walk = |slice: &Slice| {
        let mut found = Runs::new();
        walk_slice(pagemap, query, base, *slice, &mut found).map(|()| found)
    };
    let found: Vec<_> = walkers.install(|| slices.par_iter().with_max_len(1).map(walk).collect());
    for runs in found {
        runs?.iter().for_each(|run| out.push(*run));
    }
    Ok(())
}

/// Addresses that one thread walks, end excluded.
type Slice = (u64, u64);

/// `runs` as addresses, cut at multiples of `slice_bytes`, so that no cut splits a huge page.
fn slices_of(storage: &Storage, runs: &Runs, slice_bytes: u64) -> Vec<Slice> {
    let base = storage.as_ptr() as u64;
    let mut slices = Vec::new();
    for run in runs {
        let (mut at, end) = (base + run.offset_bytes(), base + run.end().offset_bytes());
        while at < end {
            let slice_end = end.min((at / slice_bytes + 1) * slice_bytes);
            slices.push((at, slice_end));
            at = slice_end;
        }
    }
    slices
}

fn walk_slice(
    pagemap: &Pagemap,
    query: Query,
    base: u64,
    (mut at, end): Slice,
    out: &mut Runs,
) -> Result<(), TrackerError> {
    REGIONS_OF_THREAD.with_borrow_mut(|regions| {
        regions.resize(REGIONS, PageRegion::default());
        while at < end {
            let (found, walk_end) = pagemap
                .scan(query, at, end, regions)
                .map_err(|source| TrackerError::Scan { offset_bytes: at - base, source })?;
            for region in &regions[..found] {
                out.push(Run::between(
                    PageNumber::containing(region.start - base),
                    PageNumber::containing(region.end - base),
                ));
            }
            if found < regions.len() {
                // The walk went to the end. What the kernel calls its end may lie before: the last place at which its
                // own small buffer was full. Going on from there would scan the tail twice, and pages written
                // in between would come out of order.
                break;
            }
            // No room for more. The last answer may lie after the kernel's idea of the end (see above), never before.
            let told = regions.last().map_or(at, |region| region.end);
            if told <= at {
                let source = std::io::Error::other("the walk did not move");
                return Err(TrackerError::Scan { offset_bytes: at - base, source });
            }
            at = walk_end.max(told);
        }
        Ok(())
    })
}

/// The touched pages, read again only when storage has grown or given something back.
///
/// A read costs some 12 ms per GiB of data, since the kernel walks all of it to find the holes.
#[derive(Debug, Default)]
struct TouchedCache {
    /// Resident bytes and releases, as they were **before** `runs` was read: what was touched meanwhile is in the
    /// runs, and makes the next key another one.
    key: Option<(u64, u64)>,
    runs: Runs,
}

impl TouchedCache {
    /// True if the cached runs are still all touched pages, and are long enough for one system call each. A page
    /// that is first touched after this look has no entry yet in a scan of the cached runs, and the next look
    /// sees it.
    fn allows_exact(&self, storage: &Storage) -> Result<bool, TrackerError> {
        let long = self.runs.as_slice().len() as u64 * EXACT_PAGES_PER_RUN <= self.runs.pages().0;
        // Huge pages are scanned by whole 2 MiB, which runs need not be.
        Ok(long && storage.backing() == Backing::Small && self.key == Some(Self::key(storage)?))
    }

    fn key(storage: &Storage) -> Result<(u64, u64), TrackerError> {
        Ok((storage.resident_bytes()?, storage.releases()))
    }

    fn read(&mut self, storage: &Storage) -> Result<&Runs, TrackerError> {
        let key = Some(Self::key(storage)?);
        if self.key != key {
            self.runs = storage.touched()?;
            self.key = key;
        }
        Ok(&self.runs)
    }
}

/// `runs`, widened to whole blocks of addresses (as far as storage goes). Of 2 MiB or multiples of it, since a scan of a
/// part of a huge page splits it.
fn whole_blocks(storage: &Storage, runs: &Runs, block_bytes: u64) -> Runs {
    let base = storage.as_ptr() as u64;
    let (first, last) = (base, base + storage.len_bytes());
    let page = |address: u64| PageNumber((address - base) / PAGE_SIZE as u64);
    runs.iter()
        .map(|run| {
            let start = (base + run.offset_bytes()) / block_bytes * block_bytes;
            let end = (base + run.end().offset_bytes()).next_multiple_of(block_bytes);
            Run::between(page(start.max(first)), page(end.min(last)))
        })
        .collect()
}

/// The pages mapped by this process now: the stand-in for `SEEK_DATA` where a file system does not know it.
pub(crate) fn present_runs(storage: &Storage) -> Result<Runs, TrackerError> {
    runs_of(storage, PAGE_IS_PRESENT)
}

/// What the page tables of this process map by huge pages.
pub(crate) fn huge_runs(storage: &Storage) -> Result<Runs, TrackerError> {
    runs_of(storage, PAGE_IS_HUGE)
}

fn runs_of(storage: &Storage, category: u64) -> Result<Runs, TrackerError> {
    let mut found = Runs::new();
    let query = Query { flags: 0, all_of: category, any_of: 0 };
    Scanner::open()?.walk_all(storage, query, &mut found)?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::StorageOptions;

    #[test]
    fn the_swap_table_without_devices_is_no_swap() {
        assert!(!swap_active("Filename\tType\tSize\tUsed\tPriority\n"));
        assert!(swap_active("Filename\tType\tSize\tUsed\tPriority\n/dev/vda2 partition 1 0 -2\n"));
        assert!(!swap_active(""));
    }

    #[test]
    fn a_walk_that_the_kernel_pauses_for_its_own_buffer_is_not_taken_up_again() {
        let storage = Storage::create(&StorageOptions::small(32 << 20)).unwrap();
        let pages: Runs = (0..4000).map(|page| Run::new(page * 2, 1)).collect();
        pages.iter().for_each(|run| storage.write_bytes(run.start, 0, &[1]));
        let query = Query { flags: 0, all_of: PAGE_IS_PRESENT, any_of: 0 };
        let Ok(mut scanner) = Scanner::open() else { return println!("skipped: no pagemap") };
        let mut found = Runs::new();
        match scanner.walk_all(&storage, query, &mut found) {
            Ok(()) => {}
            Err(error) => return println!("skipped: {error}"),
        }
        let (first, last) = (storage.as_ptr() as u64, storage.as_ptr() as u64 + storage.len_bytes() - 1);
        assert_eq!(scanner.slices, last / SPARSE_SLICE_BYTES - first / SPARSE_SLICE_BYTES + 1);
        assert_eq!(found, pages);
    }

    #[test]
    fn widening_covers_the_runs_and_stays_inside_storage() {
        let storage = Storage::create(&StorageOptions::small(8 << 20)).unwrap();
        let touched = Runs::from_unsorted(vec![Run::new(0, 1), Run::new(700, 2), Run::new(2047, 1)]);
        let wide = whole_blocks(&storage, &touched, HUGE_PAGE_SIZE);
        assert!(touched.difference(&wide).is_empty());
        assert!(wide.difference(&Runs::from_run(storage.whole())).is_empty());
        assert!(wide.pages() >= touched.pages());
    }
}
