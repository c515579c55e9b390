//! The stop rule: one decision after many passes.

use std::hint::black_box;
use std::time::Duration;

use criterion::Criterion;
use lgr_engine::policy::{Limits, PassHistory, PassSummary, PolicyChoice};

use crate::limit::{Limit, against};

const PASSES: u32 = 29;
const DECISIONS: usize = 1024;

/// A guest that no longer converges: every criterion is looked at.
fn history() -> PassHistory {
    let pass = |number| PassSummary {
        number,
        pages: 50_000,
        bytes: 50_000 * 4096,
        duration: Duration::from_millis(200),
        dirty_pages_after: 50_000,
        dirty_rate_bytes_per_s: 1_000_000_000,
        link_rate_bytes_per_s: 1_000_000_000,
    };
    PassHistory {
        passes: (1..=PASSES).map(pass).collect(),
        elapsed: Duration::from_secs(6),
        limits: Limits { max_quiesce: Some(Duration::from_millis(50)), ..Limits::default() },
        stop_cost: Duration::from_millis(1),
        pending_bytes: 50_000 * 4096,
    }
}

pub(crate) fn policy(criterion: &mut Criterion) {
    let history = history();
    let bytes = (DECISIONS * size_of_val(&history.passes[..])) as u64;
    let limit = Limit::cached("reading the passes", bytes);
    let mut group = criterion.benchmark_group("policy");
    for name in ["default", "fixed-passes:30", "threshold:20"] {
        let rule = name.parse::<PolicyChoice>().expect("the name of a rule").build();
        let title = format!("1024 decisions after 29 passes, {name}");
        against(
            &mut group,
            &title,
            None,
            &limit,
            || (),
            |()| {
                for _ in 0..DECISIONS {
                    black_box(rule.judge(black_box(&history)));
                }
            },
        );
    }
    group.finish();
}
