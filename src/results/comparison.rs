//! One thing against another, and against what was asked for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ScenarioResult;
use super::statistics::{self, Estimate};

/// A contestant's metric against a reference's, and against a limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    /// What is compared, in a few words.
    pub name: String,
    /// The metric.
    pub metric: String,
    /// Whose.
    pub contestant: String,
    /// With whose; `null`: with nobody's, the metric itself is held against the limit.
    pub reference: Option<String>,
    /// The contestant's median over the reference's; without a reference, the contestant's median.
    pub value: Estimate,
    /// How likely samples that differ so much are if both came from one distribution (Mann-Whitney, two-sided); `null`
    /// without a reference.
    pub p_value: Option<f64>,
    /// What was asked for.
    pub limit: Option<Limit>,
    /// Whether `value` keeps the limit; `null` without one.
    pub verdict: Option<Verdict>,
    /// The whole interval of `value` is on the verdict's side of the limit; `null` without a limit.
    pub clear: Option<bool>,
}

/// What is asked of a number.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// No less than this.
    AtLeast(f64),
    /// No more than this.
    AtMost(f64),
}

impl Limit {
    /// The number at the limit.
    pub const fn bound(self) -> f64 {
        match self {
            Self::AtLeast(bound) | Self::AtMost(bound) => bound,
        }
    }

    fn is_kept_by(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }
}

/// Whether a limit is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is.
    Pass,
    /// It is not.
    Fail,
}

impl Verdict {
    /// As it stands in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
        }
    }
}

impl Comparison {
    /// Compares; `None` when one of the two has no samples, or a ratio has no meaning because a median is not
    /// positive.
    pub(super) fn make(
        result: &ScenarioResult,
        name: &str,
        metric: &str,
        contestant: &str,
        reference: Option<&str>,
        limit: Option<Limit>,
    ) -> Option<Self> {
        let own = result.contestant(contestant)?.values(metric);
        let (value, p_value) = match reference {
            None => (statistics::median_estimate(&own)?, None),
            Some(reference) => {
                let other = result.contestant(reference)?.values(metric);
                (statistics::ratio_of_medians(&own, &other)?, statistics::mann_whitney(&own, &other))
            }
        };
        let verdict =
            limit.map(|limit| if limit.is_kept_by(value.value) { Verdict::Pass } else { Verdict::Fail });
        let clear = limit.map(|limit| {
            let ends = [value.low, value.high];
            ends.iter()
                .all(|end| end.is_some_and(|end| limit.is_kept_by(end) == (verdict == Some(Verdict::Pass))))
        });
        Some(Self {
            name: name.to_owned(),
            metric: metric.to_owned(),
            contestant: contestant.to_owned(),
            reference: reference.map(str::to_owned),
            value,
            p_value,
            limit,
            verdict,
            clear,
        })
    }
}
