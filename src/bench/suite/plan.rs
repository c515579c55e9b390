//! A scenario made ready to run: names, words of the command line, runs.

use anyhow::Context;
use clap::Parser;

use super::scenarios::{Crowd, Depth, Scenario, Variant};
use crate::relocate::RelocateArgs;
use crate::units::size;

const MIB: u64 = 1 << 20;
/// The least memory a scaled guest has, in MiB.
const MEMORY_MIN_MIB: u64 = 4;

/// Options of every run: the guest need not run long where the suite does not look at it.
const ALWAYS: [&str; 4] = ["--run-before", "0.1", "--run-after", "0.05"];

/// How the suite was asked to run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    pub(super) depth: Depth,
    /// Runs of each that count, in place of the scenario's own.
    pub(super) runs: Option<u32>,
    /// Sizes of memory are multiplied by this, 1 at most.
    pub(super) scale: f64,
}

impl Effort {
    /// Runs of each variant that count; none if the scenario is left out.
    pub(super) fn runs(&self, scenario: &Scenario) -> u32 {
        match (scenario.runs.at(self.depth), self.runs) {
            (0, _) => 0,
            (own, asked) => asked.unwrap_or(own),
        }
    }

    fn scaled_mib(&self, mib: u64) -> u64 {
        ((mib as f64 * self.scale) as u64).max(MEMORY_MIN_MIB)
    }
}

/// A variant as it is run.
#[derive(Debug)]
pub(super) struct Contender {
    /// Its name.
    pub(super) name: String,
    /// `relocate` and its options.
    pub(super) words: Vec<String>,
    /// The same as the command reads it.
    pub(super) args: RelocateArgs,
    /// Guests in one run and how many of them at once, if more than one.
    pub(super) crowd: Option<(u32, u32)>,
}

/// The command line of a relocation, read as `lgr relocate` reads its own.
#[derive(Parser)]
#[command(no_binary_name = false, args_override_self = true)]
struct CommandLine {
    #[command(flatten)]
    args: RelocateArgs,
}

/// The variants of a scenario as they are run. Variants that scaling has made the same become one.
///
/// # Errors
/// The table holds words that `lgr relocate` does not know.
pub(super) fn contenders(scenario: &Scenario, effort: &Effort) -> anyhow::Result<Vec<Contender>> {
    let mut contenders: Vec<Contender> = Vec::new();
    for variant in scenario.variants {
        let new = contender(scenario, variant, effort)?;
        if contenders.iter().all(|known| known.name != new.name) {
            contenders.push(new);
        }
    }
    Ok(contenders)
}

fn contender(scenario: &Scenario, variant: &Variant, effort: &Effort) -> anyhow::Result<Contender> {
    let memory = variant.memory_mib.unwrap_or(scenario.memory_mib).at(effort.depth);
    // Memory that is not touched costs nothing, so only what is touched is scaled.
    let sparse = scenario.words.contains("--touched");
    let memory_mib = if sparse { memory } else { effort.scaled_mib(memory) };
    let name = if variant.name.is_empty() { size(memory_mib * MIB) } else { variant.name.to_owned() };
    let mut words = vec!["relocate".to_owned(), "--memory".to_owned(), format!("{memory_mib}M")];
    words.extend(ALWAYS.map(str::to_owned));
    words
        .extend(scenario.words.split_whitespace().chain(variant.words.split_whitespace()).map(str::to_owned));
    scale_option(&mut words, "--touched", effort);
    scale_option(&mut words, "--working-set", effort);
    let args = CommandLine::try_parse_from(&words)
        .with_context(|| format!("scenario {}, variant {name}", scenario.name))?
        .args;
    args.guest.workload().check(args.guest.memory)?;
    let crowd = variant.crowd.map(|crowd: Crowd| {
        let guests = (f64::from(crowd.guests.at(effort.depth)) * effort.scale).ceil() as u32;
        (guests.max(1), crowd.at_once)
    });
    Ok(Contender { name, words, args, crowd })
}

/// Scales the size after an option, in place.
fn scale_option(words: &mut [String], option: &str, effort: &Effort) {
    let Some(at) = words.iter().position(|word| word == option) else { return };
    if let Some(value) = words.get_mut(at + 1)
        && let Some(mib) = value.strip_suffix('M').and_then(|number| number.parse::<u64>().ok())
    {
        *value = format!("{}M", if mib <= MEMORY_MIN_MIB { mib } else { effort.scaled_mib(mib) });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::scenarios::SCENARIOS;
    use super::*;

    fn effort(depth: Depth, scale: f64) -> Effort {
        Effort { depth, runs: None, scale }
    }

    #[test]
    fn every_scenario_of_the_table_can_be_run_and_its_checks_name_its_variants() {
        for depth in [Depth::Quick, Depth::Full] {
            for scenario in SCENARIOS {
                for scale in [1.0, 0.02] {
                    let contenders = contenders(scenario, &effort(depth, scale)).expect(scenario.name);
                    let names: BTreeSet<&str> = contenders.iter().map(|one| one.name.as_str()).collect();
                    assert_eq!(names.len(), contenders.len(), "{}: {names:?}", scenario.name);
                    assert!(scale < 1.0 || names.len() == scenario.variants.len(), "{names:?}");
                    for check in scenario.checks {
                        assert!(names.contains(check.variant), "{}: {}", scenario.name, check.variant);
                        assert!(check.reference.is_none_or(|name| names.contains(name)), "{}", scenario.name);
                    }
                }
            }
        }
    }

    #[test]
    fn names_of_scenarios_are_their_own() {
        let names: BTreeSet<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), SCENARIOS.len());
        assert!(names.iter().all(|name| lgr::results::check_machine_name(name).is_ok()));
    }

    #[test]
    fn scaling_makes_guests_smaller_and_keeps_what_is_sparse() {
        let sparse = SCENARIOS.iter().find(|scenario| scenario.name == "sparse").expect("in the table");
        let contenders = contenders(sparse, &effort(Depth::Quick, 0.1)).expect("sparse");
        let last = contenders.last().expect("three variants");
        assert_eq!((last.args.guest.memory, last.args.guest.touched_bytes()), (1 << 40, 25 << 20));
    }
}
