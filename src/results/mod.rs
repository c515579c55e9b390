//! What a benchmark leaves behind: one struct for each scenario, exported as JSON with a schema.
//!
//! ```text
//! ScenarioResult   the scenario, the machine, the method
//!  ├─ metrics      what each number means: unit, and which way is better
//!  ├─ contestants  what was measured: version, command line, settings
//!  │   ├─ samples  every run, warm-up and failed ones too
//!  │   ├─ summary  median with its interval, least, most (follows from the samples)
//!  │   └─ middle_run   passes, stop and queues of the run in the middle, for pictures
//!  └─ comparisons  a ratio with its interval, the limit asked for, pass or fail
//! ```
//!
//! No host name and no path is in it: results get published. A number that was not measured is missing, never zero.

use std::collections::{BTreeMap, BTreeSet};

use lgr_engine::report::{Environment, PassReport, QuiesceParts, Report, TimelineReport};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod comparison;
mod folder;
mod machine;
pub mod metrics;
mod older;
pub mod statistics;

pub use comparison::{Comparison, Limit, Verdict};
pub(crate) use folder::put;
pub use folder::{FolderError, read, read_folder, read_folder_for_page, write};
pub use machine::{check_machine_name, git_revision, machine_name};
pub use metrics::{Better, Metric, Unit};
pub use statistics::{Estimate, Summary};

/// Version of the schema. Raised by one whenever a field changes its meaning or goes away; a new field alone does
/// not raise it.
pub const SCHEMA_VERSION: u32 = 3;
/// Oldest version that is read, too.
const SCHEMA_VERSION_OLDEST: u32 = 2;

/// All that was measured of one scenario on one machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "Benchmark scenario result")]
pub struct ScenarioResult {
    /// Version of this schema.
    #[schemars(extend("const" = SCHEMA_VERSION))]
    pub schema_version: u32,
    /// Name of the scenario: small letters, digits and `-`; the file is named for it.
    pub scenario: String,
    /// What it is, in a sentence.
    pub what: String,
    /// The part of the index it belongs to, such as `bulk`.
    pub group: String,
    /// The command that measures it again.
    pub command: String,
    /// Machine, kernel, version, source revision and date. `git_revision` ends in `-modified` if the source had
    /// changes that were not committed.
    pub environment: Environment,
    /// How it was measured.
    pub method: Method,
    /// What each metric in the samples means.
    pub metrics: BTreeMap<String, Metric>,
    /// The metric that the scenario is about.
    pub main_metric: String,
    /// What was measured, in the order of the pictures.
    pub contestants: Vec<Contestant>,
    /// What was compared with what, and with which limit.
    #[serde(default)]
    pub comparisons: Vec<Comparison>,
    /// The pictures that say something about this scenario.
    #[serde(default)]
    pub pictures: Vec<PictureKind>,
    /// What a reader must know to judge the numbers.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// How a scenario was measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Method {
    /// Runs of each contestant before those that count; they are kept and marked.
    pub warm_up_runs: u32,
    /// Runs of each contestant that count, as asked for; fewer samples mean that it was interrupted.
    pub runs: u32,
    /// The contestants took turns, run by run, so that a disturbance from outside met all of them.
    pub interleaved: bool,
    /// What is between the two sides, such as `loopback`.
    pub network: String,
    /// How medians, intervals and ratios were made.
    pub statistics: String,
}

impl Method {
    /// Runs in turns over loopback, summed up by [`statistics`].
    pub fn interleaved(warm_up_runs: u32, runs: u32) -> Self {
        Self {
            warm_up_runs,
            runs,
            interleaved: true,
            network: "loopback".to_owned(),
            statistics: statistics::METHOD.to_owned(),
        }
    }
}

/// Something that was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Contestant {
    /// Short name, its own within the scenario.
    pub name: String,
    /// The program and its version, such as `lgr 0.1.0` or `QEMU 10.0.2`.
    pub version: String,
    /// The command line as given, without paths of the machine.
    pub command_line: Vec<String>,
    /// What was set apart from the command line, by name.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// Every run, in order of time.
    pub samples: Vec<Sample>,
    /// Each metric over the samples that count. Follows from them: [`ScenarioResult::summarize`].
    #[serde(default)]
    pub summary: BTreeMap<String, Summary>,
    /// The run whose main metric is in the middle, in detail.
    #[serde(default)]
    pub middle_run: Option<RunShape>,
}

impl Contestant {
    /// A contestant that has not run yet.
    pub fn new(name: &str, version: &str, command_line: Vec<String>) -> Self {
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            command_line,
            settings: BTreeMap::new(),
            samples: Vec::new(),
            summary: BTreeMap::new(),
            middle_run: None,
        }
    }

    /// The values of a metric in the samples that count, in order of time.
    pub fn values(&self, metric: &str) -> Vec<f64> {
        self.samples
            .iter()
            .filter(|sample| sample.counts())
            .filter_map(|sample| sample.metrics.get(metric).copied())
            .collect()
    }
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sample {
    /// Its place among all runs of the scenario, from 1.
    pub run: u32,
    /// It was to warm up, and does not count.
    #[serde(default)]
    pub warm_up: bool,
    /// Why it failed; a failed run does not count, and neither does one whose memory was not whole.
    #[serde(default)]
    pub failed: Option<String>,
    /// What was measured, by the names in [`ScenarioResult::metrics`].
    pub metrics: BTreeMap<String, f64>,
}

impl Sample {
    /// A run with these metrics; what is not a finite number was not measured, and is left out.
    pub fn new(run: u32, warm_up: bool, metrics: BTreeMap<String, f64>) -> Self {
        let metrics = metrics.into_iter().filter(|(_, value)| value.is_finite()).collect();
        Self { run, warm_up, failed: None, metrics }
    }

    /// A run that failed.
    pub fn failed(run: u32, warm_up: bool, reason: &str) -> Self {
        Self { run, warm_up, failed: Some(reason.to_owned()), metrics: BTreeMap::new() }
    }

    /// Whether the statistics take it.
    pub fn counts(&self) -> bool {
        !self.warm_up && self.failed.is_none()
    }
}

/// One relocation in the detail that pictures need.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunShape {
    /// Which run it was.
    pub run: u32,
    /// Its passes.
    pub passes: Vec<PassReport>,
    /// How long the guest was stopped, in parts.
    pub quiesce: Option<QuiesceParts>,
    /// What the source's queues did over time.
    #[serde(default)]
    pub timeline: TimelineReport,
}

impl RunShape {
    /// What a report tells of the run.
    pub fn of(run: u32, report: &Report) -> Self {
        let (passes, quiesce) = (report.passes.clone(), report.quiesce.clone());
        Self { run, passes, quiesce, timeline: report.timeline.clone() }
    }
}

/// A kind of picture of a scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PictureKind {
    /// The main metric: every sample, median and interval of each contestant.
    Samples,
    /// Each comparison beside its limit.
    Limits,
    /// Memory in each pass.
    Passes,
    /// What each queue carried over time.
    Queues,
    /// How long the guest did not run, as a histogram of all samples.
    Blackout,
    /// How long the guest was stopped, in parts.
    Quiesce,
}

impl PictureKind {
    /// The end of the file's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Samples => "samples",
            Self::Limits => "limits",
            Self::Passes => "passes",
            Self::Queues => "queues",
            Self::Blackout => "blackout",
            Self::Quiesce => "quiesce",
        }
    }
}

/// Why a text is not a result.
#[derive(Debug, thiserror::Error)]
pub enum ResultError {
    /// It is not JSON, or a field is missing or has another type.
    #[error("not a benchmark result: {0}")]
    Json(#[from] serde_json::Error),
    /// It has a schema this program does not know. Use the program that wrote it.
    #[error(
        "the result has schema version {found}, this program knows versions {SCHEMA_VERSION_OLDEST} to {SCHEMA_VERSION}"
    )]
    UnknownVersion {
        /// The version in the result.
        found: u64,
    },
    /// The fields do not fit together.
    #[error("the result contradicts itself: {0}")]
    Contradiction(String),
}

impl ScenarioResult {
    /// Fills in every contestant's `summary` from its samples. Call it after the last sample.
    pub fn summarize(&mut self) {
        for contestant in &mut self.contestants {
            contestant.summary = self
                .metrics
                .keys()
                .filter_map(|metric| Some((metric.clone(), Summary::of(&contestant.values(metric))?)))
                .collect();
        }
    }

    /// The contestant of that name.
    pub fn contestant(&self, name: &str) -> Option<&Contestant> {
        self.contestants.iter().find(|contestant| contestant.name == name)
    }

    /// Compares a contestant's metric with a reference's (or, without one, with the limit itself) and adds what
    /// comes out. Nothing is added when there are no samples to compare.
    pub fn compare(
        &mut self,
        name: &str,
        metric: &str,
        contestant: &str,
        reference: Option<&str>,
        limit: Option<Limit>,
    ) {
        self.comparisons.extend(Comparison::make(self, name, metric, contestant, reference, limit));
    }

    /// The result as indented JSON with a newline at its end.
    pub fn to_json_pretty(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("a result has string keys only");
        text.push('\n');
        text
    }

    /// Reads a result, and checks that its fields fit together.
    ///
    /// # Errors
    /// The text is not a result (with the line), one of another schema version, or contradicts itself.
    pub fn from_json(text: &str) -> Result<Self, ResultError> {
        // The version is looked at first: a later schema may lack fields this one needs.
        #[derive(Deserialize)]
        struct Versioned {
            schema_version: u64,
        }
        let Versioned { schema_version: found } = serde_json::from_str(text)?;
        if !(u64::from(SCHEMA_VERSION_OLDEST)..=u64::from(SCHEMA_VERSION)).contains(&found) {
            return Err(ResultError::UnknownVersion { found });
        }
        let mut result: Self = serde_json::from_str(text)?;
        if found == 2 {
            older::of_version_2(&mut result);
        }
        result.check().map_err(ResultError::Contradiction)?;
        Ok(result)
    }

    /// The JSON schema of a result (draft 2020-12).
    pub fn json_schema() -> serde_json::Value {
        schemars::schema_for!(ScenarioResult).to_value()
    }

    fn check(&self) -> Result<(), String> {
        if !is_plain_name(&self.scenario) {
            return Err(format!("the scenario's name {:?} cannot be a file's name", self.scenario));
        }
        if !self.metrics.contains_key(&self.main_metric) {
            return Err(format!("the main metric {:?} is not explained", self.main_metric));
        }
        let mut names = BTreeSet::new();
        for contestant in &self.contestants {
            if !names.insert(contestant.name.as_str()) {
                return Err(format!("two contestants are named {:?}", contestant.name));
            }
            for metric in contestant.samples.iter().flat_map(|sample| sample.metrics.keys()) {
                if !self.metrics.contains_key(metric) {
                    return Err(format!("{}: the metric {metric:?} is not explained", contestant.name));
                }
            }
        }
        for comparison in &self.comparisons {
            let named = [Some(&comparison.contestant), comparison.reference.as_ref()];
            if let Some(name) = named.into_iter().flatten().find(|name| !names.contains(name.as_str())) {
                return Err(format!("{:?} is compared, but is no contestant", name));
            }
            if !self.metrics.contains_key(&comparison.metric) {
                return Err(format!("the metric {:?} is compared, but is not explained", comparison.metric));
            }
        }
        Ok(())
    }
}

/// Whether a text can name a file or a folder: small letters, digits and `-`, at most 64 of them.
fn is_plain_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=64).contains(&text.len()) && text.bytes().all(plain) && !text.starts_with('-')
}
