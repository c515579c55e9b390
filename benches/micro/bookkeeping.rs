//! What it costs to know which pages are where, per byte of guest memory that is spoken of.
//!
//! The rate is *logical*: guest memory per second of bookkeeping. It must be far above what any link carries; 100 GB/s is
//! the least that is asked for.

use std::hint::black_box;

use criterion::Criterion;
use guest_mem::{PAGE_SIZE, Run, Runs};
use lgr_engine::feed::Pass;

use crate::limit::{Limit, against};

const GIB_PAGES: u64 = (1 << 30) / PAGE_SIZE as u64;
const DEVICES: u8 = 16;

/// Two sets to one.
type Operation = fn(&Runs, &Runs) -> Runs;

fn run_bytes(runs: &Runs) -> u64 {
    size_of_val(runs.as_slice()) as u64
}

/// Run algebra, against reading its operands once.
pub(crate) fn runs(criterion: &mut Criterion) {
    let every_other: Runs = (0..1 << 17).map(|page| Run::new(page * 2, 1)).collect();
    let every_third: Runs = (0..1 << 16).map(|page| Run::new(page * 3, 1)).collect();
    let both_bytes = run_bytes(&every_other) + run_bytes(&every_third);
    let limit = Limit::cached("reading both sets of runs", both_bytes);
    let logical = every_other.bytes() + every_third.bytes();
    let mut group = criterion.benchmark_group("runs");
    let algebra: [(&str, Operation); 3] = [
        ("union of 128 Ki and 64 Ki runs", Runs::union),
        ("difference of 128 Ki and 64 Ki runs", Runs::difference),
        ("intersection of 128 Ki and 64 Ki runs", Runs::intersection),
    ];
    for (name, operation) in algebra {
        against(
            &mut group,
            name,
            Some(logical),
            &limit,
            || (),
            |()| {
                black_box(operation(&every_other, &every_third));
            },
        );
    }
    group.finish();
}

/// From runs to chunks that devices can take: plan, coverage digest, and every chunk's extents.
pub(crate) fn passes(criterion: &mut Criterion) {
    let shapes: [(&str, Runs); 3] = [
        ("pass over 1 GiB in one run", Runs::from_run(Run::new(0, GIB_PAGES))),
        (
            "pass over 1 GiB in runs of 16 pages",
            (0..GIB_PAGES / 16).map(|run| Run::new(run * 17, 16)).collect(),
        ),
        ("pass over 1 GiB in single pages", (0..GIB_PAGES).map(|page| Run::new(page * 2, 1)).collect()),
    ];
    let mut group = criterion.benchmark_group("bookkeeping");
    for (name, runs) in shapes {
        let limit = Limit::cached("reading the runs", run_bytes(&runs));
        against(
            &mut group,
            name,
            Some(runs.bytes()),
            &limit,
            || runs.clone(),
            |runs| {
                let pass = Pass::new(1, runs, false, DEVICES);
                black_box(pass.totals());
            },
        );
    }
    group.finish();
}
