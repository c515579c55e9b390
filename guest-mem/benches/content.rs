//! How fast page content is looked at, in bytes of guest storage per second and core. The buffers are far larger than
//! the caches.
#![allow(missing_docs)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use guest_mem::{
    PAGE_SIZE, Run, Runs, Storage, StorageOptions, copy_zero, copy_zero_hash_pages, hash_pages, zero_pages,
};
use std::hint::black_box;

const BYTES: u64 = 256 << 20;
const CHUNK_BYTES: usize = 1 << 20;

/// Storage that is all zero, or whose pages all end in a set byte (so that a zero test must read all of them, were
/// it not for its look at the last word) or hold data everywhere.
fn storage(fill: u8) -> Storage {
    let storage = Storage::create(&StorageOptions::small(BYTES)).expect("256 MiB of storage");
    storage.prefault(&Runs::from_run(storage.whole()), 2, &|_| {}).expect("256 MiB of memory");
    if fill != 0 {
        for page in storage.whole().page_numbers() {
            storage.write_page(page, &[fill; PAGE_SIZE]);
        }
    }
    storage
}

fn content(criterion: &mut Criterion) {
    let (zero, data) = (storage(0), storage(0xA5));
    let pages = zero.pages().0 as usize;
    let mut group = criterion.benchmark_group("content");
    group.throughput(Throughput::Bytes(BYTES)).sample_size(20);
    for (name, storage) in [("zero test, zero pages", &zero), ("zero test, data pages", &data)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut found = 0;
                // SAFETY: all pages are inside storage, which lives on.
                unsafe { zero_pages(storage.as_ptr(), pages, |_, mask| found += mask.count_ones()) };
                black_box(found)
            });
        });
    }
    let (mut chunk, mut contents, mut hashes) = (vec![0; CHUNK_BYTES], Vec::new(), Vec::new());
    for (name, storage) in
        [("copy + zero test + hash, data", &data), ("copy + zero test + hash, zero", &zero)]
    {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for piece in Runs::from_run(storage.whole()).split_at_chunk(guest_mem::PageCount(256)) {
                    let first = storage.page_ptr(piece.start);
                    // SAFETY: the chunk is inside storage, which lives on.
                    unsafe { copy_zero_hash_pages(first, &mut chunk, &mut contents) };
                    black_box(&contents);
                }
            });
        });
    }
    group.bench_function("copy + zero test, data", |bencher| {
        bencher.iter(|| {
            for page in data.whole().page_numbers() {
                let at = page.0 as usize % 256 * PAGE_SIZE;
                // SAFETY: the page is inside storage, which lives on.
                black_box(unsafe { copy_zero(data.page_ptr(page), &mut chunk[at..at + PAGE_SIZE]) });
            }
        });
    });
    group.bench_function("hash of pages in cache", |bencher| {
        let pages = vec![0x5A; CHUNK_BYTES / 4];
        bencher.iter(|| {
            for _ in 0..BYTES as usize / pages.len() {
                hash_pages(&pages, &mut hashes);
                black_box(&hashes);
            }
        });
    });
    group.finish();
}

fn runs(criterion: &mut Criterion) {
    let every_other: Runs = (0..1 << 17).map(|page| Run::new(page * 2, 1)).collect();
    let every_third: Runs = (0..1 << 16).map(|page| Run::new(page * 3, 1)).collect();
    let mut group = criterion.benchmark_group("runs");
    group.bench_function("union of 128 Ki and 64 Ki runs", |bencher| {
        bencher.iter(|| black_box(every_other.union(&every_third)));
    });
    group.bench_function("plan of 128 Ki runs", |bencher| {
        bencher.iter(|| black_box(every_other.plan_chunks(256, 64)));
    });
    group.finish();
}

criterion_group!(benches, content, runs);
criterion_main!(benches);
