//! Why a stop rule decided as it did: numbers for the report, and one sentence for people.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why the guest was stopped, or why the relocation was given up. All times in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Reason {
    /// Criterion 1: MAXTOTAL has passed, or would pass while the guest is stopped.
    MaxTotalExceeded {
        /// Time since the relocation was asked for.
        elapsed_ms: f64,
        /// Predicted time the guest would be stopped.
        predicted_ms: f64,
        /// MAXTOTAL.
        limit_ms: f64,
    },
    /// Criterion 2: IMMEDIATE was asked for.
    Immediate {
        /// Predicted time the guest is stopped.
        predicted_ms: f64,
    },
    /// Criterion 3: so little is left that stopping is as short as is aimed at.
    Converged {
        /// Guest memory left to send.
        remaining_bytes: u64,
        /// Predicted time the guest is stopped.
        predicted_ms: f64,
        /// The stop time aimed at.
        target_ms: f64,
    },
    /// Criterion 3: stopping itself takes so much longer than sending the rest that another pass would gain nothing.
    NothingToGain {
        /// Guest memory left to send.
        remaining_bytes: u64,
        /// Time to send it.
        transfer_ms: f64,
        /// What stopping costs besides.
        stop_cost_ms: f64,
        /// Predicted time the guest is stopped.
        predicted_ms: f64,
    },
    /// Of [`super::Threshold`]: sending the rest takes no longer than its limit.
    BelowThreshold {
        /// Guest memory left to send.
        remaining_bytes: u64,
        /// Time to send it.
        transfer_ms: f64,
        /// The threshold.
        limit_ms: f64,
        /// Predicted time the guest is stopped, with what stopping costs besides.
        predicted_ms: f64,
    },
    /// Criterion 4: the last pass that is allowed is done.
    PassLimit {
        /// Passes done.
        passes: u32,
        /// Predicted time the guest is stopped.
        predicted_ms: f64,
    },
    /// Criterion 5: another pass and the stop after it would not end before MAXTOTAL.
    MaxTotalNear {
        /// Time since the relocation was asked for.
        elapsed_ms: f64,
        /// Predicted time the guest is stopped.
        predicted_ms: f64,
        /// MAXTOTAL.
        limit_ms: f64,
    },
    /// Criterion 6: more passes do not make the rest smaller, and this is as good a moment as any.
    NoLongerShrinking {
        /// Guest memory left to send.
        remaining_bytes: u64,
        /// Pages left to send now.
        pending_pages: u64,
        /// Fewest pages left in the passes looked at.
        best_pages: u64,
        /// Predicted time the guest is stopped.
        predicted_ms: f64,
    },
    /// Criteria 2 to 4, when they would stop the guest but it would be stopped longer than MAXQUIESCE.
    CannotMeetMaxQuiesce {
        /// Predicted time the guest would be stopped.
        predicted_ms: f64,
        /// MAXQUIESCE.
        limit_ms: f64,
    },
    /// Criterion 7: MAXQUIESCE cannot be kept now, and at the pace of the last passes those that are left do not change
    /// that.
    OutOfReach {
        /// Predicted time the guest would be stopped.
        predicted_ms: f64,
        /// MAXQUIESCE.
        limit_ms: f64,
        /// How many passes the pace was told from.
        watched_passes: u32,
        /// What each of them left, as a share of what it sent: at most 1.
        kept_per_pass: f64,
    },
    /// A reason of another policy.
    Other {
        /// Name of the policy.
        policy: String,
        /// Its reason in words.
        text: String,
    },
}

impl Reason {
    /// Number of the criterion in the documentation of [`super::DefaultPolicy`]; `None` for
    /// [`Reason::CannotMeetMaxQuiesce`], which ends several, and for other policies.
    pub fn criterion(&self) -> Option<u8> {
        match self {
            Self::MaxTotalExceeded { .. } => Some(1),
            Self::Immediate { .. } => Some(2),
            Self::Converged { .. } | Self::NothingToGain { .. } => Some(3),
            Self::PassLimit { .. } => Some(4),
            Self::MaxTotalNear { .. } => Some(5),
            Self::NoLongerShrinking { .. } => Some(6),
            Self::OutOfReach { .. } => Some(7),
            Self::BelowThreshold { .. } | Self::CannotMeetMaxQuiesce { .. } | Self::Other { .. } => None,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MaxTotalExceeded { elapsed_ms, predicted_ms, limit_ms } => write!(
                f,
                "MAXTOTAL: {elapsed_ms:.1} ms have passed and stopping takes {predicted_ms:.1} ms, the limit is {limit_ms:.1} ms"
            ),
            Self::Immediate { predicted_ms } => {
                write!(f, "IMMEDIATE: one pass, then quiesce (predicted {predicted_ms:.2} ms)")
            }
            Self::Converged { remaining_bytes, predicted_ms, target_ms } => write!(
                f,
                "converged: {remaining_bytes} bytes left, predicted quiesce {predicted_ms:.2} ms, target {target_ms:.2} ms"
            ),
            Self::NothingToGain { remaining_bytes, transfer_ms, stop_cost_ms, predicted_ms } => write!(
                f,
                "another pass gains nothing: {remaining_bytes} bytes left take {transfer_ms:.2} ms and stopping {stop_cost_ms:.2} ms, predicted quiesce {predicted_ms:.2} ms"
            ),
            Self::BelowThreshold { remaining_bytes, transfer_ms, limit_ms, predicted_ms } => write!(
                f,
                "below the threshold: {remaining_bytes} bytes left take {transfer_ms:.2} of {limit_ms:.2} ms, predicted quiesce {predicted_ms:.2} ms"
            ),
            Self::PassLimit { passes, predicted_ms } => {
                write!(f, "pass limit: {passes} passes done, predicted quiesce {predicted_ms:.2} ms")
            }
            Self::MaxTotalNear { elapsed_ms, predicted_ms, limit_ms } => write!(
                f,
                "MAXTOTAL is near: {elapsed_ms:.1} of {limit_ms:.1} ms have passed, predicted quiesce {predicted_ms:.2} ms"
            ),
            Self::NoLongerShrinking { pending_pages, best_pages, predicted_ms, .. } => write!(
                f,
                "no longer shrinking: {pending_pages} pages left, best was {best_pages}, predicted quiesce {predicted_ms:.2} ms"
            ),
            Self::CannotMeetMaxQuiesce { predicted_ms, limit_ms } => write!(
                f,
                "cannot keep MAXQUIESCE: predicted quiesce {predicted_ms:.2} ms, the limit is {limit_ms:.2} ms"
            ),
            Self::OutOfReach { predicted_ms, limit_ms, watched_passes, kept_per_pass } => write!(
                f,
                "MAXQUIESCE is out of reach: predicted quiesce {predicted_ms:.2} ms, the limit is {limit_ms:.2} ms, and of what each of the last {watched_passes} passes sent, about {:.0} % were left again",
                kept_per_pass * 100.0
            ),
            Self::Other { policy, text } => write!(f, "{policy}: {text}"),
        }
    }
}
