//! Micro-benchmarks of what a relocation does over and over, each beside what this machine could do at best.
//!
//! `cargo bench --bench micro` runs them all, `cargo bench --bench micro -- harvest` those with that word. After each group
//! come lines that begin with `limit`: the median of the benchmark just run, and the limit it stands against, measured
//! in the same run.
#![allow(missing_docs, clippy::print_stdout)]

mod bookkeeping;
mod codec;
mod content;
mod frame;
mod harvest;
mod limit;
mod link_core;
mod policy;
mod workload;

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};

/// Short enough for all of them to take a few minutes.
fn quick() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
}

criterion_group! {
    name = benches;
    config = quick();
    targets = content::content, codec::codec, bookkeeping::runs, bookkeeping::passes, harvest::uffd, harvest::software, frame::frame,
        link_core::link_core, policy::policy, workload::workload
}
criterion_main!(benches);
