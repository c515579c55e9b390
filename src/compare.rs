//! What differs between two results, and whether it is noise.
//!
//! For every metric of every contestant that both have: the ratio of medians with its interval, and a Mann-Whitney
//! test of the samples. A difference counts as one when the test's p is below [`LEVEL`]; otherwise it is noise. With
//! so few samples that no difference could get there, it says so in place of guessing.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::results::statistics::{self, Estimate};
use crate::results::{Better, Contestant, Metric, ScenarioResult, Summary};

/// Differences are told from noise at this level. A folder holds hundreds of metrics, so it is stricter than usual: of
/// so many, one in a hundred looks changed by chance.
pub const LEVEL: f64 = 0.01;

/// What two sets of results differ in.
#[derive(Debug, Clone, Serialize)]
pub struct Differences {
    /// The level of the test.
    pub level: f64,
    /// A line for each metric that both have.
    pub lines: Vec<Difference>,
    /// So many of the lines would look changed by chance if nothing had changed.
    pub expected_by_chance: f64,
    /// Scenarios and contestants that only one side has.
    pub unmatched: Vec<String>,
    /// Why the two may not be comparable at all.
    pub warnings: Vec<String>,
}

/// One metric of one contestant on both sides.
#[derive(Debug, Clone, Serialize)]
pub struct Difference {
    /// The scenario.
    pub scenario: String,
    /// The contestant.
    pub contestant: String,
    /// The metric's name.
    pub metric: String,
    /// What it means.
    #[serde(flatten)]
    pub meaning: Metric,
    /// The first side's samples, summed up.
    pub before: Summary,
    /// The second side's.
    pub after: Summary,
    /// The second side's median over the first's; `null` when one of them is not positive.
    pub ratio: Option<Estimate>,
    /// The p of the Mann-Whitney test.
    pub p_value: f64,
    /// What it comes to.
    pub change: Change,
}

/// What a difference comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Samples that differ so much or more are common when nothing has changed.
    Noise,
    /// So few samples could not show any difference.
    TooFewSamples,
    /// The second side is better.
    Better,
    /// The second side is worse.
    Worse,
    /// It has changed, and has no better side.
    Different,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Noise => "noise",
            Self::TooFewSamples => "too few samples",
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Different => "different",
        })
    }
}

/// Compares results by the names of scenarios, contestants and metrics.
pub fn compare(before: &[ScenarioResult], after: &[ScenarioResult]) -> Differences {
    let others: BTreeMap<&str, &ScenarioResult> =
        after.iter().map(|result| (result.scenario.as_str(), result)).collect();
    let mut found = Differences {
        level: LEVEL,
        lines: Vec::new(),
        expected_by_chance: 0.0,
        unmatched: Vec::new(),
        warnings: Vec::new(),
    };
    for result in before {
        match others.get(result.scenario.as_str()) {
            Some(other) => compare_scenario(result, other, &mut found),
            None => found.unmatched.push(format!("{} (first only)", result.scenario)),
        }
    }
    for result in after {
        if before.iter().all(|other| other.scenario != result.scenario) {
            found.unmatched.push(format!("{} (second only)", result.scenario));
        }
    }
    let tested = found.lines.iter().filter(|line| line.change != Change::TooFewSamples).count();
    found.expected_by_chance = tested as f64 * LEVEL;
    found
}

fn compare_scenario(before: &ScenarioResult, after: &ScenarioResult, found: &mut Differences) {
    let (one, other) = (&before.environment, &after.environment);
    if (&one.cpu_model, one.cores, &one.kernel) != (&other.cpu_model, other.cores, &other.kernel) {
        let warning = format!(
            "measured on different machines: {}, {} cores, Linux {}; and {}, {} cores, Linux {}",
            one.cpu_model, one.cores, one.kernel, other.cpu_model, other.cores, other.kernel
        );
        // Every scenario of a folder says the same.
        if !found.warnings.contains(&warning) {
            found.warnings.push(warning);
        }
    }
    for contestant in &before.contestants {
        let name = &contestant.name;
        let Some(twin) = after.contestant(name) else {
            found.unmatched.push(format!("{} {name} (first only)", before.scenario));
            continue;
        };
        if contestant.command_line != twin.command_line {
            found.warnings.push(format!("{} {name}: the command lines differ", before.scenario));
        }
        for (metric, meaning) in &before.metrics {
            found.lines.extend(difference(&before.scenario, (contestant, twin), metric, meaning));
        }
    }
    for contestant in after.contestants.iter().filter(|twin| before.contestant(&twin.name).is_none()) {
        found.unmatched.push(format!("{} {} (second only)", before.scenario, contestant.name));
    }
}

fn difference(
    scenario: &str,
    (before, after): (&Contestant, &Contestant),
    metric: &str,
    meaning: &Metric,
) -> Option<Difference> {
    let (own, other) = (before.values(metric), after.values(metric));
    let (first, second) = (Summary::of(&own)?, Summary::of(&other)?);
    let p_value = statistics::mann_whitney(&own, &other)?;
    let rises = second.median.value > first.median.value;
    let change = match meaning.better {
        _ if statistics::least_p(own.len(), other.len()) >= LEVEL => Change::TooFewSamples,
        _ if p_value >= LEVEL => Change::Noise,
        Better::Higher if rises => Change::Better,
        Better::Lower if !rises => Change::Better,
        Better::Neither => Change::Different,
        Better::Higher | Better::Lower => Change::Worse,
    };
    Some(Difference {
        scenario: scenario.to_owned(),
        contestant: before.name.clone(),
        metric: metric.to_owned(),
        meaning: meaning.clone(),
        ratio: statistics::ratio_of_medians(&other, &own),
        before: first,
        after: second,
        p_value,
        change,
    })
}
