//! How a relocation ended: z/VM's finish codes.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::policy::Reason;

/// z/VM's finish codes, with their numbers (monitor record D4R12, relocation ended). 10 is not used there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
#[repr(u8)]
pub enum FinishCode {
    /// 00: the guest runs at the destination.
    Completed = 0,
    /// 01: cancelled by VMRELOCATE CANCEL.
    Cancelled = 1,
    /// 02: the command was halted (CPHX; here an interrupt from the terminal).
    Halted = 2,
    /// 03: the connection between the members was lost.
    ConnectionLost = 3,
    /// 04: MAXTOTAL exceeded.
    MaxTotalExceeded = 4,
    /// 05: MAXQUIESCE exceeded.
    MaxQuiesceExceeded = 5,
    /// 06: the guest is not eligible.
    NotEligible = 6,
    /// 07: the guest was reset or logged off.
    GuestEnded = 7,
    /// 08: internal processing error.
    InternalError = 8,
    /// 09: an exit rejected the relocation.
    ExitRejected = 9,
    /// 11: an exit returned a value that is not valid.
    ExitInvalid = 11,
}

/// A number that is no finish code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a finish code (0 to 9 and 11 are)")]
pub struct UnknownFinishCode(pub u8);

impl FinishCode {
    /// All codes, by number.
    pub const ALL: [Self; 11] = [
        Self::Completed,
        Self::Cancelled,
        Self::Halted,
        Self::ConnectionLost,
        Self::MaxTotalExceeded,
        Self::MaxQuiesceExceeded,
        Self::NotEligible,
        Self::GuestEnded,
        Self::InternalError,
        Self::ExitRejected,
        Self::ExitInvalid,
    ];

    /// z/VM's number.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Short name for programs, for example `max_total_exceeded`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Halted => "halted",
            Self::ConnectionLost => "connection_lost",
            Self::MaxTotalExceeded => "max_total_exceeded",
            Self::MaxQuiesceExceeded => "max_quiesce_exceeded",
            Self::NotEligible => "not_eligible",
            Self::GuestEnded => "guest_ended",
            Self::InternalError => "internal_error",
            Self::ExitRejected => "exit_rejected",
            Self::ExitInvalid => "exit_invalid",
        }
    }
}

impl From<FinishCode> for u8 {
    fn from(code: FinishCode) -> u8 {
        code.number()
    }
}

impl TryFrom<u8> for FinishCode {
    type Error = UnknownFinishCode;
    fn try_from(number: u8) -> Result<Self, UnknownFinishCode> {
        Self::ALL.into_iter().find(|code| code.number() == number).ok_or(UnknownFinishCode(number))
    }
}

/// The two digits and the name, as in `04 max_total_exceeded`.
impl fmt::Display for FinishCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02} {}", self.number(), self.name())
    }
}

impl Reason {
    /// The finish code of a relocation given up for this reason.
    pub fn finish_code(&self) -> FinishCode {
        match self {
            Self::MaxTotalExceeded { .. } | Self::MaxTotalNear { .. } => FinishCode::MaxTotalExceeded,
            Self::CannotMeetMaxQuiesce { .. } | Self::OutOfReach { .. } => FinishCode::MaxQuiesceExceeded,
            // The others are reasons to stop the guest; a policy that gives up for them cancels the move.
            Self::Immediate { .. }
            | Self::Converged { .. }
            | Self::NothingToGain { .. }
            | Self::BelowThreshold { .. }
            | Self::PassLimit { .. }
            | Self::NoLongerShrinking { .. }
            | Self::Other { .. } => FinishCode::Cancelled,
        }
    }
}

/// How a relocation ended, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Finish {
    /// z/VM's finish code: 0 completed, 1 cancelled, 2 command halted, 3 connection lost, 4 MAXTOTAL
    /// exceeded, 5 MAXQUIESCE exceeded, 6 not eligible, 7 guest reset or logged off, 8 internal error,
    /// 9 rejected by an exit, 11 invalid value from an exit.
    #[schemars(with = "u8", range(min = 0, max = 11))]
    pub code: FinishCode,
    /// The code's short name.
    pub name: String,
    /// What happened, in one sentence.
    pub reason: String,
    /// Why the stop rule stopped the guest or gave up; `null` when it never did.
    pub policy_reason: Option<Reason>,
}

impl Finish {
    /// An end with its reason in words.
    pub fn new(code: FinishCode, reason: impl Into<String>) -> Self {
        Self { code, name: code.name().to_owned(), reason: reason.into(), policy_reason: None }
    }

    /// The same end with what the stop rule said.
    #[must_use]
    pub fn with_policy_reason(self, reason: Option<Reason>) -> Self {
        Self { policy_reason: reason, ..self }
    }

    /// The end of a relocation that the stop rule gave up.
    pub fn given_up(reason: Reason) -> Self {
        Self::new(reason.finish_code(), reason.to_string()).with_policy_reason(Some(reason))
    }
}
