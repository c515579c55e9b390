//! The simulator finds bugs: with one planted (a feature of this crate each), it takes less than 1,000 seeds.
//!
//! `cargo test --release -p ssi --features planted-no-fence --test sim_planted`, and so on.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use ssi::sim::Simulation;

const PLANTED: bool = cfg!(any(
    feature = "planted-no-fence",
    feature = "planted-forgotten-yes",
    feature = "planted-early-commit",
    feature = "planted-fence-behind-console",
    feature = "planted-endless-join",
    feature = "planted-trusted-kind"
));

#[test]
fn a_planted_bug_is_found_and_without_one_nothing_is() {
    let found = (0..1_000).find_map(|seed| Simulation::run(seed).err().map(|violation| (seed, violation)));
    match &found {
        Some((seed, violation)) => println!("seed {seed}: {violation}"),
        None => println!("nothing in 1,000 seeds"),
    }
    assert_eq!(found.is_some(), PLANTED);
}
