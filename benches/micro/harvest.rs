//! What a harvest costs: 1 GiB with nothing or every fourth page dirty, and 1 TiB of which 1 GiB was touched.

use std::cell::RefCell;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use criterion::Criterion;
use guest_mem::{
    DirtyTracker, PAGE_SIZE, PageCount, PageNumber, Run, Runs, STORAGE_BYTES_MIN, ScanMode, SoftwareBitmap,
    SoftwareTracker, Storage, StorageOptions, TrackerKind, UffdTracker, probe,
};

use crate::limit::{Limit, against};

const GIB: u64 = 1 << 30;
const GIB_PAGES: u64 = GIB / PAGE_SIZE as u64;
/// A page table entry.
const ENTRY_BYTES: u64 = 8;

fn storage(len_bytes: u64, touched: &Runs) -> Arc<Storage> {
    let storage = Storage::create(&StorageOptions::small(len_bytes)).expect("sparse storage");
    storage.prefault(touched, 2, &|_| {}).expect("1 GiB of memory");
    Arc::new(storage)
}

/// Harvests after `dirty` has written; only the harvest is timed. The rate is that of the touched memory looked through.
fn bench(
    criterion: &mut Criterion,
    name: &str,
    bytes: u64,
    limit: &Limit,
    tracker: &mut dyn DirtyTracker,
    dirty: impl Fn(),
) {
    tracker.start().expect("tracking was probed");
    let tracker = RefCell::new(tracker);
    let mut runs = Runs::new();
    let mut group = criterion.benchmark_group("harvest");
    against(&mut group, name, Some(bytes), limit, dirty, |()| {
        black_box(tracker.borrow_mut().harvest(&mut runs).expect("a harvest").pages);
    });
    group.finish();
    tracker.borrow_mut().stop();
}

fn write(storage: &Storage, pages: impl Iterator<Item = u64>) {
    pages.for_each(|page| storage.write_bytes(PageNumber(page), 0, &[1]));
}

/// The least a harvest of 1 GiB can take: one harvest of next to nothing, which is the floor of the system call, and a read
/// of the page table entries.
fn uffd_limit() -> Limit {
    let small = storage(STORAGE_BYTES_MIN, &Runs::from_run(Run::new(0, 1)));
    let mut tracker = UffdTracker::new(small);
    tracker.start().expect("tracking was probed");
    let mut runs = Runs::new();
    let mut floor = f64::INFINITY;
    for _ in 0..1000 {
        let started = Instant::now();
        tracker.harvest(&mut runs).expect("a harvest");
        floor = floor.min(started.elapsed().as_secs_f64());
    }
    tracker.stop();
    let entries = Limit::read(GIB_PAGES * ENTRY_BYTES);
    Limit::new("floor of the ioctl and a read of the page table", floor + entries.seconds)
}

pub(crate) fn uffd(criterion: &mut Criterion) {
    if let Err(reason) = probe(TrackerKind::UffdAsync) {
        println!("skipped: userfaultfd: {reason}");
        return;
    }
    let limit = uffd_limit();
    let gib = storage(GIB, &Runs::from_run(Run::new(0, GIB_PAGES)));
    for mode in [ScanMode::PresentOrSwapped, ScanMode::WrittenInTouched] {
        let mut tracker = UffdTracker::with_scan_mode(Arc::clone(&gib), mode);
        bench(criterion, &format!("uffd {mode:?}, 1 GiB, none dirty"), GIB, &limit, &mut tracker, || {});
        let name = format!("uffd {mode:?}, 1 GiB, every fourth dirty");
        bench(criterion, &name, GIB, &limit, &mut tracker, || write(&gib, (0..GIB_PAGES).step_by(4)));
        let name = format!("uffd {mode:?}, 1 GiB, all dirty");
        bench(criterion, &name, GIB, &limit, &mut tracker, || write(&gib, 0..GIB_PAGES));
    }
    drop(gib);
    let touched: Runs = (0..16).map(|stretch| Run::new(stretch << 24, GIB_PAGES / 16)).collect();
    let tebibyte = storage(1 << 40, &touched);
    let mut tracker = UffdTracker::new(Arc::clone(&tebibyte));
    let name = "uffd, 1 TiB with 1 GiB touched, none dirty";
    bench(criterion, name, GIB, &limit, &mut tracker, || {});
    let name = "uffd, 1 TiB with 1 GiB touched, every fourth dirty";
    bench(criterion, name, GIB, &limit, &mut tracker, || {
        write(&tebibyte, touched.iter().flat_map(Run::page_numbers).map(PageNumber::get).step_by(4));
    });
    let mut group = criterion.benchmark_group("touched");
    against(
        &mut group,
        "1 TiB with 1 GiB touched",
        Some(GIB),
        &limit,
        || (),
        |()| {
            black_box(tebibyte.touched()).expect("the touched pages");
        },
    );
    group.finish();
}

pub(crate) fn software(criterion: &mut Criterion) {
    for (name, len_bytes) in [("1 GiB", GIB), ("1 TiB", 1 << 40)] {
        let bitmap = SoftwareBitmap::new(PageCount::holding(len_bytes)).expect("a bitmap");
        let limit = Limit::cached("a read of the bitmap of 1 GiB", GIB_PAGES / 8);
        let mut tracker = SoftwareTracker::new(bitmap.clone());
        bench(criterion, &format!("software, {name}, none dirty"), GIB, &limit, &mut tracker, || {});
        let name = format!("software, {name}, every fourth of 1 GiB dirty");
        bench(criterion, &name, GIB, &limit, &mut tracker, || {
            (0..GIB_PAGES).step_by(4).for_each(|page| bitmap.mark(PageNumber(page)));
        });
    }
}
