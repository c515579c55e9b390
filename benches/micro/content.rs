//! How fast page content is looked at, in bytes of guest storage per second and core. The buffers are far larger than
//! the caches.

use std::hint::black_box;

use criterion::Criterion;
use guest_mem::{
    PAGE_SIZE, PageCount, Runs, Storage, StorageOptions, copy_zero, copy_zero_hash_pages, hash_pages,
    zero_pages,
};

use crate::limit::{Limit, against};

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

pub(crate) fn content(criterion: &mut Criterion) {
    let (zero, data) = (storage(0), storage(0xA5));
    let pages = zero.pages().0 as usize;
    let mut group = criterion.benchmark_group("content");
    let limit = Limit::read(BYTES);
    // A page that is not zero needs no more than a look: its test may pass the limit of a full read.
    for (name, storage) in [("zero test, zero pages", &zero), ("zero test, data pages", &data)] {
        against(
            &mut group,
            name,
            Some(BYTES),
            &limit,
            || (),
            |()| {
                let mut found = 0;
                // SAFETY: all pages are inside storage, which lives on.
                unsafe { zero_pages(storage.as_ptr(), pages, |_, mask| found += mask.count_ones()) };
                black_box(found);
            },
        );
    }
    let limit = Limit::copy_to_cache(BYTES);
    let (mut chunk, mut contents, mut hashes) = (vec![0; CHUNK_BYTES], Vec::new(), Vec::new());
    for (name, storage) in
        [("copy + zero test + hash, data", &data), ("copy + zero test + hash, zero", &zero)]
    {
        against(
            &mut group,
            name,
            Some(BYTES),
            &limit,
            || (),
            |()| {
                for piece in Runs::from_run(storage.whole()).split_at_chunk(PageCount(256)) {
                    let first = storage.page_ptr(piece.start);
                    // SAFETY: the chunk is inside storage, which lives on.
                    unsafe { copy_zero_hash_pages(first, &mut chunk, &mut contents) };
                    black_box(&contents);
                }
            },
        );
    }
    against(
        &mut group,
        "copy + zero test, data",
        Some(BYTES),
        &limit,
        || (),
        |()| {
            for page in data.whole().page_numbers() {
                let at = page.0 as usize % 256 * PAGE_SIZE;
                // SAFETY: the page is inside storage, which lives on.
                black_box(unsafe { copy_zero(data.page_ptr(page), &mut chunk[at..at + PAGE_SIZE]) });
            }
        },
    );
    let cached = vec![0x5A; CHUNK_BYTES / 4];
    let limit = Limit::cached("reading the cache", BYTES);
    against(
        &mut group,
        "hash of pages in cache",
        Some(BYTES),
        &limit,
        || (),
        |()| {
            for _ in 0..BYTES as usize / cached.len() {
                hash_pages(&cached, &mut hashes);
                black_box(&hashes);
            }
        },
    );
    group.finish();
}
