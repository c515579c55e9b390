//! How fast a guest is filled, and how fast its pages are hashed for the manifest and compared.

use std::hint::black_box;
use std::sync::Arc;

use criterion::Criterion;
use guest_mem::{ContentMix, Pattern, Storage, StorageOptions, WorkloadGuest, WorkloadOptions, fill};

use crate::limit::{Limit, against};

const BYTES: u64 = 256 << 20;

fn options(content: ContentMix) -> WorkloadOptions {
    WorkloadOptions {
        pattern: Pattern::Uniform,
        dirty_rate_bytes_per_s: 0,
        working_set_bytes: None,
        touched_bytes: BYTES,
        content,
        seed: 1,
        vcpus: 2,
    }
}

pub(crate) fn workload(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("workload");
    group.sample_size(10);
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    let on_all = |what, limit: Limit| Limit::new(what, limit.seconds / threads);
    let write = on_all("a plain copy by every thread", Limit::copy_to_cache(BYTES));
    let read = on_all("a streaming read by every thread", Limit::read(BYTES));
    let fresh = || Storage::create(&StorageOptions::small(BYTES)).expect("sparse storage");
    for content in [ContentMix::Realistic, ContentMix::Random, ContentMix::Text, ContentMix::Pointer] {
        let filled = fresh();
        against(
            &mut group,
            &format!("fill again, {content}"),
            Some(BYTES),
            &write,
            || (),
            |()| {
                fill(&filled, &options(content), &|_| {}).expect("memory");
            },
        );
    }
    against(&mut group, "fill fresh storage, realistic", Some(BYTES), &write, fresh, |storage| {
        fill(&storage, &options(ContentMix::Realistic), &|_| {}).expect("memory");
        black_box(storage);
    });
    let storage = Arc::new(fresh());
    fill(&storage, &options(ContentMix::Random), &|_| {}).expect("memory");
    let guest = WorkloadGuest::new(storage, options(ContentMix::Random), None).expect("options that fit");
    against(
        &mut group,
        "manifest",
        Some(BYTES),
        &read,
        || (),
        |()| {
            black_box(guest.manifest().expect("a stopped guest").count());
        },
    );
    let batches: Vec<_> = guest.manifest().expect("a stopped guest").collect();
    against(
        &mut group,
        "verify",
        Some(BYTES),
        &read,
        || (),
        |()| {
            let verifier = guest.verifier().expect("a stopped guest");
            for batch in &batches {
                black_box(verifier.verify_batch(batch).expect("a batch that fits").len());
            }
        },
    );
    group.finish();
}
