//! The stop rule: after each pass it says *another pass*, *quiesce*, or *give up*, and why.
//!
//! ```text
//!   passes so far ─┐
//!   limits ────────┼─▶ PassPolicy::judge ─▶ AnotherPass
//!   stop cost ─────┤                        Quiesce(reason)   stop the guest now
//!   pending bytes ─┘                        GiveUp(reason)    it goes on running at the source
//! ```
//!
//! A policy is a pure function of [`PassHistory`]: no clock, no randomness, so the simulator, a test and
//! the real engine get the same answer from the same numbers. The reason is data and ends in the
//! report. z/VM's own rule is not published; its operands MAXTOTAL, MAXQUIESCE and IMMEDIATE are
//! kept with their meaning and defaults (CP Commands and Utilities Reference, VMRELOCATE), and the rest is
//! our choice, written down at [`DefaultPolicy`].
//!
//! [`FixedPasses`] and [`Threshold`] are other rules to compare it with; [`PolicyChoice`] gives each a name for the
//! command line. [`crate::replay`] tries any rule on a recorded guest.

use std::time::Duration;

use serde::{Deserialize, Serialize};

mod choice;
mod default_policy;
mod fixed_passes;
mod reason;
#[cfg(test)]
mod tests;
mod threshold;

pub use choice::{PolicyChoice, UnknownPolicy};
pub use default_policy::DefaultPolicy;
pub use fixed_passes::FixedPasses;
pub use reason::Reason;
pub use threshold::Threshold;

/// z/VM's MAXQUIESCE when neither it nor IMMEDIATE is given.
pub const MAX_QUIESCE_DEFAULT: Duration = Duration::from_secs(10);
/// Passes over a live guest before the rule decides with what it has. QEMU's test suite uses the same
/// number.
pub const MAX_PASSES_DEFAULT: u32 = 30;
/// A pass below this size says little about the link: its time is start-up and barrier.
pub const LINK_RATE_BYTES_MIN: u64 = 1 << 20;
/// Largest predicted time that is reported; stands for "longer than anyone waits" (about 31 years).
pub const PREDICTION_MS_MAX: f64 = 1e12;

/// The operator's limits on a relocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Limit on the whole relocation (MAXTOTAL); `None` is NOLIMIT.
    pub max_total: Option<Duration>,
    /// Limit on the time the guest is stopped (MAXQUIESCE); `None` is NOLIMIT.
    pub max_quiesce: Option<Duration>,
    /// Most passes over the running guest, whatever the rule says; zero is read as 1.
    pub max_passes: u32,
    /// One early pass, then straight to quiesce (IMMEDIATE).
    pub immediate: bool,
}

impl Default for Limits {
    /// z/VM's defaults: no MAXTOTAL, MAXQUIESCE of 10 s.
    fn default() -> Self {
        Self {
            max_total: None,
            max_quiesce: Some(MAX_QUIESCE_DEFAULT),
            max_passes: MAX_PASSES_DEFAULT,
            immediate: false,
        }
    }
}

impl Limits {
    /// The limits of IMMEDIATE: neither time is limited.
    pub fn immediate() -> Self {
        Self { max_quiesce: None, immediate: true, ..Self::default() }
    }
}

/// What one pass over the running guest did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PassSummary {
    /// Number of the pass, from 1.
    pub number: u32,
    /// Pages sent.
    pub pages: u64,
    /// Guest memory sent, in bytes; zero pages count in full.
    pub bytes: u64,
    /// From the first page of the pass to its barrier.
    pub duration: Duration,
    /// Pages found changed after the pass: what the next pass would send.
    pub dirty_pages_after: u64,
    /// How fast the guest changed memory during the pass; zero when not known.
    pub dirty_rate_bytes_per_s: u64,
    /// How fast guest memory reached the destination, in the unit of `bytes`; zero when not known.
    pub link_rate_bytes_per_s: u64,
}

/// All that a stop rule may know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PassHistory {
    /// Finished passes, oldest first.
    pub passes: Vec<PassSummary>,
    /// Time since the relocation was asked for.
    pub elapsed: Duration,
    /// The operator's limits.
    pub limits: Limits,
    /// What stopping costs beside sending pages: stop, harvest, state, commit, resume; measured or
    /// estimated.
    pub stop_cost: Duration,
    /// Guest memory known to be changed and not yet sent, in bytes.
    pub pending_bytes: u64,
}

impl PassHistory {
    /// The rate to expect when the pending pages are sent, in bytes per second; zero when not known.
    ///
    /// From the latest pass of at least [`LINK_RATE_BYTES_MIN`]; where there is none, from the largest
    /// pass.
    pub fn link_rate_bytes_per_s(&self) -> u64 {
        let known = || self.passes.iter().filter(|pass| pass.link_rate_bytes_per_s > 0);
        known()
            .rfind(|pass| pass.bytes >= LINK_RATE_BYTES_MIN)
            .or_else(|| known().max_by_key(|pass| pass.bytes))
            .map_or(0, |pass| pass.link_rate_bytes_per_s)
    }

    /// Time to send the pending pages at [`Self::link_rate_bytes_per_s`], in milliseconds, at most
    /// [`PREDICTION_MS_MAX`]; that maximum when the rate is not known.
    pub fn transfer_ms(&self) -> f64 {
        if self.pending_bytes == 0 {
            return 0.0;
        }
        match self.link_rate_bytes_per_s() {
            0 => PREDICTION_MS_MAX,
            rate => (self.pending_bytes as f64 * 1e3 / rate as f64).min(PREDICTION_MS_MAX),
        }
    }

    /// How long the guest would be stopped if it were stopped now, in milliseconds: pending pages and
    /// stop cost, times `safety_factor`.
    pub fn predicted_quiesce_ms(&self, safety_factor: f64) -> f64 {
        ((self.transfer_ms() + to_ms(self.stop_cost)) * safety_factor).min(PREDICTION_MS_MAX)
    }

    /// Whether no further pass over the running guest is allowed.
    pub fn is_last_pass(&self) -> bool {
        self.passes.len() >= self.limits.max_passes.max(1) as usize
    }

    /// MAXQUIESCE in milliseconds, or `None` for NOLIMIT.
    pub fn max_quiesce_ms(&self) -> Option<f64> {
        self.limits.max_quiesce.map(to_ms)
    }

    /// Quiesce with `reason` if the predicted stop keeps both MAXQUIESCE and what is left of MAXTOTAL;
    /// otherwise give up and name the limit in the way.
    pub fn quiesce_or_give_up(&self, predicted_ms: f64, reason: Reason) -> Verdict {
        let elapsed_ms = to_ms(self.elapsed);
        match (self.max_quiesce_ms(), self.limits.max_total.map(to_ms)) {
            (Some(limit_ms), _) if predicted_ms > limit_ms => {
                Verdict::GiveUp(Reason::CannotMeetMaxQuiesce { predicted_ms, limit_ms })
            }
            (_, Some(limit_ms)) if elapsed_ms + predicted_ms > limit_ms => {
                Verdict::GiveUp(Reason::MaxTotalExceeded { elapsed_ms, predicted_ms, limit_ms })
            }
            _ => Verdict::Quiesce(reason),
        }
    }
}

/// What to do after a pass.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Verdict {
    /// Send what changed, with the guest running.
    AnotherPass,
    /// Stop the guest now and send the rest.
    Quiesce(Reason),
    /// Leave the guest at the source.
    GiveUp(Reason),
}

/// A stop rule. Implement it to try another; see [`FixedPasses`] for the least there is to do.
pub trait PassPolicy: Send {
    /// Short name for reports, for example `default`.
    fn name(&self) -> &'static str;

    /// The name with the numbers that make it this rule, as on the command line: `threshold:300`.
    fn rule(&self) -> String {
        self.name().to_owned()
    }

    /// How long the guest would be stopped if it were stopped now, in milliseconds, as this rule reckons.
    fn predicted_quiesce_ms(&self, history: &PassHistory) -> f64 {
        history.predicted_quiesce_ms(1.0)
    }

    /// Decides what follows the passes in `history`. Called after each pass, and must be a pure
    /// function. A rule that asks for another pass after [`Limits::max_passes`] does not get it: the guest is stopped
    /// if that keeps the operator's limits, and else the move is given up. A rule that wants to keep the operator's limits ends with
    /// [`PassHistory::quiesce_or_give_up`].
    fn judge(&self, history: &PassHistory) -> Verdict;
}

/// A duration in milliseconds, the unit of predictions and reports.
pub(crate) fn to_ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e3).min(PREDICTION_MS_MAX)
}
