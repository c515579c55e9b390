//! Everything that can happen to a small cluster, in every order: the cores that real members run, as a model for the
//! model checker `stateright`.
//!
//! A scenario says from where the cluster begins and how many times what may happen; the checker then visits every state
//! that can come of it. Time is exact but short: a step of the clock is a heartbeat. The clock of a *prompt* scenario waits
//! for messages and for the record, unless a fault keeps them; that of the others does not.
//!
//! The test command visits the small ones, `LGR_LONG=1` all of them in full.
//! `LGR_MODEL_LARGE=1 cargo test --release -p ssi --test model_check -- --nocapture` adds scenarios that take up to half an
//! hour and 16 GiB. With a bug planted (a feature of `ssi`, see its `Cargo.toml`) the checker must find it.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, unreachable_pub)]

#[path = "model_check/actions.rs"]
mod actions;
#[path = "model_check/model.rs"]
mod model;
#[path = "model_check/state.rs"]
mod state;

use std::time::Instant;

use model::{Beginning, Cluster};
use state::Budget;
use stateright::{Checker, Expectation, Model};

const PLANTED: bool = cfg!(any(
    feature = "planted-no-fence",
    feature = "planted-forgotten-yes",
    feature = "planted-early-commit"
));

/// Nothing happens.
const NONE: Budget = Budget { steps: 0, faults: 0, logons: 0, logoffs: 0, boots: 0, commands: 0 };

/// Two members, everything prompt.
const TWO: Cluster = Cluster {
    name: "",
    members: 2,
    begins: Beginning::Joined,
    last_is_odd: false,
    is_prompt: true,
    budget: NONE,
    flying_max: 4,
    depth_max: None,
};

fn scenarios() -> Vec<Cluster> {
    use Beginning::{Joined, LastIsDown, Nothing, On};
    vec![
        Cluster {
            name: "a member starts that does not fit",
            begins: LastIsDown,
            last_is_odd: true,
            budget: Budget { steps: 2, faults: 1, logons: 1, boots: 1, ..NONE },
            ..TWO
        },
        Cluster {
            name: "links fail while users log on and off, and nothing comes in time",
            is_prompt: false,
            budget: Budget { steps: 1, faults: 1, logons: 2, logoffs: 1, ..NONE },
            ..TWO
        },
        Cluster {
            name: "members stop, sleep, and are declared down",
            begins: On,
            budget: Budget { steps: 5, faults: 2, logons: 1, ..NONE },
            ..TWO
        },
        Cluster {
            name: "members start at once",
            begins: Nothing,
            budget: Budget { steps: 2, faults: 1, logons: 1, boots: 2, ..NONE },
            ..TWO
        },
        Cluster {
            name: "members leave, abend and come back",
            begins: On,
            budget: Budget { steps: 3, logons: 1, boots: 1, commands: 1, ..NONE },
            ..TWO
        },
        Cluster {
            name: "three members log the user on at once",
            members: 3,
            begins: Joined,
            budget: Budget { steps: 1, logons: 2, ..NONE },
            flying_max: 3,
            ..TWO
        },
        Cluster {
            name: "a link of three members fails, its first moments",
            members: 3,
            budget: Budget { faults: 1, logons: 2, ..NONE },
            flying_max: 3,
            depth_max: Some(14),
            ..TWO
        },
    ]
}

fn large_scenarios() -> Vec<Cluster> {
    use Beginning::{Nothing, On};
    vec![
        Cluster {
            name: "large: two faults, and nothing comes in time",
            is_prompt: false,
            budget: Budget { steps: 1, faults: 2, logons: 2, ..NONE },
            ..TWO
        },
        Cluster {
            name: "large: members start at once",
            begins: Nothing,
            budget: Budget { steps: 3, faults: 1, logons: 2, boots: 3, ..NONE },
            ..TWO
        },
        Cluster {
            name: "large: members leave, come back, and are declared down",
            begins: On,
            budget: Budget { steps: 4, faults: 1, logons: 1, boots: 1, commands: 1, ..NONE },
            ..TWO
        },
        Cluster {
            name: "large: something of three members fails",
            members: 3,
            budget: Budget { faults: 1, logons: 2, ..NONE },
            flying_max: 3,
            ..TWO
        },
    ]
}

/// What does not hold, with the way there.
fn check(cluster: &Cluster) -> Option<String> {
    let began = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut checker = cluster.clone().checker().threads(threads);
    if let Some(depth) = cluster.depth_max {
        checker = checker.target_max_depth(depth);
    }
    let checker = checker.spawn_bfs().join();
    let (unique, all) = (checker.unique_state_count(), checker.state_count());
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{}: {unique} states ({all} with repetitions), {} deep, {seconds:.1} s",
        cluster.name,
        checker.max_depth()
    );
    let discoveries = checker.discoveries();
    cluster.properties().into_iter().find_map(|property| {
        let path = discoveries.get(property.name);
        match (property.expectation, path) {
            (Expectation::Sometimes, None) => Some(format!("{}: never", property.name)),
            (Expectation::Always, Some(path)) => {
                Some(format!("not so: {}: {:?}", property.name, path.clone().into_actions()))
            }
            _ => None,
        }
    })
}

#[test]
fn nothing_that_can_happen_breaks_an_invariant_and_a_planted_bug_does() {
    let mut clusters = scenarios();
    let is_long =
        PLANTED || std::env::var_os("LGR_LONG").is_some() || std::env::var_os("LGR_MODEL_LARGE").is_some();
    if !is_long {
        // Enough to see that the model works, and what a change of the cores breaks at once.
        clusters.iter_mut().for_each(|cluster| cluster.make_small());
    }
    if std::env::var_os("LGR_MODEL_LARGE").is_some() {
        clusters.extend(large_scenarios());
    }
    let found = clusters.iter().find_map(|cluster| check(cluster).map(|what| println!("found: {what}")));
    assert_eq!(found.is_some(), PLANTED);
}
