//! How fast a guest is filled, and how fast its pages are hashed for the manifest and compared.
#![allow(missing_docs)]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use guest_mem::{ContentMix, Pattern, Storage, StorageOptions, WorkloadGuest, WorkloadOptions, fill};
use std::hint::black_box;
use std::sync::Arc;

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

fn workload(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("workload");
    group.throughput(Throughput::Bytes(BYTES)).sample_size(10);
    let fresh = || Storage::create(&StorageOptions::small(BYTES)).expect("sparse storage");
    for content in [ContentMix::Realistic, ContentMix::Random, ContentMix::Text, ContentMix::Pointer] {
        let filled = fresh();
        group.bench_function(format!("fill again, {content}"), |bencher| {
            bencher.iter(|| fill(&filled, &options(content), &|_| {}).expect("memory"));
        });
    }
    group.bench_function("fill fresh storage, realistic", |bencher| {
        bencher.iter_batched(
            fresh,
            |storage| {
                fill(&storage, &options(ContentMix::Realistic), &|_| {}).expect("memory");
                storage
            },
            BatchSize::PerIteration,
        );
    });
    let storage = Arc::new(fresh());
    fill(&storage, &options(ContentMix::Random), &|_| {}).expect("memory");
    let guest = WorkloadGuest::new(storage, options(ContentMix::Random), None).expect("options that fit");
    group.bench_function("manifest", |bencher| {
        bencher.iter(|| black_box(guest.manifest().expect("a stopped guest").count()));
    });
    let batches: Vec<_> = guest.manifest().expect("a stopped guest").collect();
    group.bench_function("verify", |bencher| {
        bencher.iter(|| {
            let verifier = guest.verifier().expect("a stopped guest");
            batches
                .iter()
                .map(|batch| verifier.verify_batch(batch).expect("a batch that fits").len())
                .sum::<usize>()
        });
    });
    group.finish();
}

criterion_group!(benches, workload);
criterion_main!(benches);
