//! Four members in virtual time, with everything that can happen to them.
//!
//! `LGR_CLUSTER_SIM_SEED=n` replays one seed with every event; `LGR_CLUSTER_SIM_SEEDS=n` runs so many.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use ssi::sim::{Simulation, Tally};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn no_invariant_breaks_for_any_seed() {
    if let Some(seed) = number("LGR_CLUSTER_SIM_SEED") {
        let (outcome, log) = Simulation::run_logged(seed);
        log.iter().for_each(|line| println!("{line}"));
        println!("{outcome:?}");
        outcome.unwrap();
        return;
    }
    let first = number("LGR_CLUSTER_SIM_FIRST").unwrap_or(0);
    let seeds = number("LGR_CLUSTER_SIM_SEEDS").unwrap_or(if cfg!(debug_assertions) { 100 } else { 2_000 });
    let mut sum = Tally::default();
    let mut broken = 0;
    for seed in first..first + seeds {
        match Simulation::run(seed) {
            Ok(tally) => sum += tally,
            Err(violation) => {
                broken += 1;
                println!("seed {seed}: {violation}");
                println!(
                    "replay: LGR_CLUSTER_SIM_SEED={seed} cargo test --release -p ssi --test sim_cluster -- --nocapture"
                );
                assert!(broken < 10, "and more");
            }
        }
    }
    println!("{seeds} seeds: {sum:?}");
    assert_eq!(broken, 0);
    let happened =
        [sum.granted, sum.refused, sum.fenced, sum.joins, sum.declared, sum.isolated, sum.mixed, sum.orders];
    assert!(happened.iter().all(|count| *count > seeds / 4), "too little happens: {sum:?}");
    let happened_at_times = [
        sum.watched,
        sum.multi,
        sum.stepped_back,
        sum.expelled,
        sum.lingering,
        sum.jumps,
        sum.set_back,
        sum.deaf,
        sum.edits,
        sum.crowds,
        sum.lasting,
        sum.orders_refused,
    ];
    assert!(happened_at_times.iter().all(|count| *count > seeds / 50), "too little happens: {sum:?}");
}
