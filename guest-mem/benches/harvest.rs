//! What a harvest costs: 1 GiB with nothing or every fourth page dirty, and 1 TiB of which 1 GiB was touched.
#![allow(missing_docs, clippy::print_stderr)]

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use guest_mem::{
    DirtyTracker, PageNumber, Run, Runs, ScanMode, SoftwareBitmap, SoftwareTracker, Storage, StorageOptions,
    TrackerKind, UffdTracker, probe,
};
use std::cell::RefCell;
use std::hint::black_box;
use std::sync::Arc;

const GIB: u64 = 1 << 30;
const GIB_PAGES: u64 = GIB / 4096;

fn storage(len_bytes: u64, touched: &Runs) -> Arc<Storage> {
    let storage = Storage::create(&StorageOptions::small(len_bytes)).expect("sparse storage");
    storage.prefault(touched, 2, &|_| {}).expect("1 GiB of memory");
    Arc::new(storage)
}

/// Harvests after `dirty` has written; only the harvest is timed.
fn bench(criterion: &mut Criterion, name: &str, tracker: &mut dyn DirtyTracker, dirty: impl Fn()) {
    tracker.start().expect("tracking was probed");
    let tracker = RefCell::new(tracker);
    let mut runs = Runs::new();
    let mut group = criterion.benchmark_group("harvest");
    group.sample_size(20).bench_function(name, |bencher| {
        bencher.iter_batched(
            &dirty,
            |()| black_box(tracker.borrow_mut().harvest(&mut runs).expect("a harvest").pages),
            BatchSize::PerIteration,
        );
    });
    group.finish();
    tracker.borrow_mut().stop();
}

fn write(storage: &Storage, pages: impl Iterator<Item = u64>) {
    pages.for_each(|page| storage.write_bytes(PageNumber(page), 0, &[1]));
}

fn uffd(criterion: &mut Criterion) {
    if let Err(reason) = probe(TrackerKind::UffdAsync) {
        eprintln!("skipped: userfaultfd: {reason}");
        return;
    }
    let gib = storage(GIB, &Runs::from_run(Run::new(0, GIB_PAGES)));
    for mode in [ScanMode::PresentOrSwapped, ScanMode::WrittenInTouched] {
        let mut tracker = UffdTracker::with_scan_mode(Arc::clone(&gib), mode);
        bench(criterion, &format!("uffd {mode:?}, 1 GiB, none dirty"), &mut tracker, || {});
        bench(criterion, &format!("uffd {mode:?}, 1 GiB, every fourth dirty"), &mut tracker, || {
            write(&gib, (0..GIB_PAGES).step_by(4));
        });
        bench(criterion, &format!("uffd {mode:?}, 1 GiB, all dirty"), &mut tracker, || {
            write(&gib, 0..GIB_PAGES);
        });
    }
    drop(gib);
    let touched: Runs = (0..16).map(|stretch| Run::new(stretch << 24, GIB_PAGES / 16)).collect();
    let tebibyte = storage(1 << 40, &touched);
    let mut tracker = UffdTracker::new(Arc::clone(&tebibyte));
    bench(criterion, "uffd, 1 TiB with 1 GiB touched, none dirty", &mut tracker, || {});
    bench(criterion, "uffd, 1 TiB with 1 GiB touched, every fourth dirty", &mut tracker, || {
        write(&tebibyte, touched.iter().flat_map(Run::page_numbers).map(PageNumber::get).step_by(4));
    });
    let mut group = criterion.benchmark_group("touched");
    group.sample_size(20).bench_function("1 TiB with 1 GiB touched", |bencher| {
        bencher.iter(|| black_box(tebibyte.touched()));
    });
    group.finish();
}

fn software(criterion: &mut Criterion) {
    for (name, len_bytes) in [("1 GiB", GIB), ("1 TiB", 1 << 40)] {
        let bitmap = SoftwareBitmap::new(guest_mem::PageCount::holding(len_bytes)).expect("a bitmap");
        let mut tracker = SoftwareTracker::new(bitmap.clone());
        bench(criterion, &format!("software, {name}, none dirty"), &mut tracker, || {});
        bench(criterion, &format!("software, {name}, every fourth of 1 GiB dirty"), &mut tracker, || {
            (0..GIB_PAGES).step_by(4).for_each(|page| bitmap.mark(PageNumber(page)));
        });
    }
}

criterion_group!(benches, uffd, software);
criterion_main!(benches);
