//! Stop rules by name, for a command line.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::{DefaultPolicy, FixedPasses, PassPolicy, Threshold};

/// Passes of `fixed-passes` without a number.
const FIXED_PASSES_DEFAULT: u32 = 3;
/// Longest time that a name may hold, in milliseconds: a day.
const TIME_MS_MAX: f64 = 86_400_000.0;

/// A stop rule that has a name: `default`, `fixed-passes` or `threshold`, perhaps with a `:` and a number.
///
/// ```
/// use lgr_engine::policy::{PassPolicy, PolicyChoice};
///
/// let choice: PolicyChoice = "threshold:20".parse()?;
/// assert_eq!(choice.to_string(), "threshold:20");
/// assert_eq!(choice.build().name(), "threshold");
/// # Ok::<(), lgr_engine::policy::UnknownPolicy>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum PolicyChoice {
    /// `default`, or `default:MS` with another blackout to aim at.
    Default(DefaultPolicy),
    /// `fixed-passes:N`: stop after N passes, 3 unless given.
    FixedPasses(FixedPasses),
    /// `threshold:MS`: stop when the rest takes so long at most, 300 ms unless given.
    Threshold(Threshold),
}

/// A text that names no stop rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no stop rule: use default, default:MS, fixed-passes:N or threshold:MS")]
pub struct UnknownPolicy(pub String);

impl Default for PolicyChoice {
    fn default() -> Self {
        Self::Default(DefaultPolicy::default())
    }
}

impl PolicyChoice {
    /// The rule itself.
    #[must_use]
    pub fn build(&self) -> Box<dyn PassPolicy> {
        match self {
            Self::Default(rule) => Box::new(rule.clone()),
            Self::FixedPasses(rule) => Box::new(*rule),
            Self::Threshold(rule) => Box::new(*rule),
        }
    }
}

impl FromStr for PolicyChoice {
    type Err = UnknownPolicy;

    fn from_str(text: &str) -> Result<Self, UnknownPolicy> {
        let unknown = || UnknownPolicy(text.to_owned());
        let (name, number) = match text.split_once(':') {
            Some((name, number)) => (name, Some(number)),
            None => (text, None),
        };
        let time = number.map(|number| time_of(number).ok_or_else(unknown)).transpose()?;
        match name {
            "default" => {
                let rule = DefaultPolicy::default();
                let target_blackout = time.unwrap_or(rule.target_blackout);
                Ok(Self::Default(DefaultPolicy { target_blackout, ..rule }))
            }
            "fixed-passes" => {
                let passes = number.map_or(Ok(FIXED_PASSES_DEFAULT), str::parse).map_err(|_| unknown())?;
                if passes == 0 { Err(unknown()) } else { Ok(Self::FixedPasses(FixedPasses(passes))) }
            }
            "threshold" => {
                let rule = Threshold::default();
                Ok(Self::Threshold(Threshold { limit: time.unwrap_or(rule.limit) }))
            }
            _ => Err(unknown()),
        }
    }
}

/// Milliseconds with or without their unit.
fn time_of(text: &str) -> Option<Duration> {
    let ms: f64 = text.strip_suffix("ms").unwrap_or(text).parse().ok()?;
    (0.0..=TIME_MS_MAX).contains(&ms).then(|| Duration::from_secs_f64(ms / 1e3))
}

/// As it is parsed.
impl fmt::Display for PolicyChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default(rule) => f.write_str(&rule.rule()),
            Self::FixedPasses(rule) => f.write_str(&rule.rule()),
            Self::Threshold(rule) => f.write_str(&rule.rule()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_chosen_by_name_and_number() {
        for (text, name, printed) in [
            ("default", "default", "default"),
            ("default:20", "default", "default:20"),
            ("fixed-passes", "fixed-passes", "fixed-passes:3"),
            ("fixed-passes:1", "fixed-passes", "fixed-passes:1"),
            ("threshold", "threshold", "threshold:300"),
            ("threshold:0.5ms", "threshold", "threshold:0.5"),
        ] {
            let choice: PolicyChoice = text.parse().unwrap();
            assert_eq!(choice.build().name(), name);
            assert_eq!((choice.to_string(), choice.build().rule()), (printed.to_owned(), printed.to_owned()));
            assert_eq!(printed.parse::<PolicyChoice>(), Ok(choice));
        }
    }

    #[test]
    fn what_is_no_rule_is_told_what_there_is() {
        for text in
            ["", "qemu", "fixed-passes:0", "fixed-passes:1.5", "threshold:", "threshold:-1", "default:NaN"]
        {
            let error = text.parse::<PolicyChoice>().unwrap_err().to_string();
            assert!(error.contains("threshold:MS") && !error.contains('\n'), "{text}: {error}");
        }
    }
}
