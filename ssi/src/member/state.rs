//! What a member can be, and what the cluster can be.

use std::fmt;

use serde::{Deserialize, Serialize};

/// State of a member. The numbers are z/VM's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum MemberState {
    /// Not running, or declared so.
    Down = 0,
    /// Starting; waits for every other member's consent.
    Joining = 1,
    /// A full member.
    Joined = 2,
    /// Shutting down.
    Leaving = 3,
    /// Its join failed: it runs and may touch nothing that is shared.
    Isolated = 4,
    /// A full member that cannot be reached.
    Suspended = 5,
    /// Nobody here can tell.
    Unknown = 128,
}

impl MemberState {
    /// In words, as messages have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Down => "Down",
            Self::Joining => "Joining",
            Self::Joined => "Joined",
            Self::Leaving => "Leaving",
            Self::Isolated => "Isolated",
            Self::Suspended => "Suspended",
            Self::Unknown => "Unknown",
        }
    }
}

impl fmt::Display for MemberState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Mode of the cluster, as one member sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Mode {
    /// Requests are granted after asking the other members.
    Stable,
    /// Somebody joins or leaves: requests wait.
    InFlux,
    /// Somebody cannot be reached: requests are refused.
    Safe,
}

impl Mode {
    /// In words, as `QUERY SSI` has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stable => "Stable",
            Self::InFlux => "In-Flux",
            Self::Safe => "Safe",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a member is down. The numbers are z/VM's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum WhyDown {
    /// It never ran.
    Undetermined = 0,
    /// It left the cluster.
    Left = 1,
    /// It stopped without leaving, and said so.
    Stopped = 2,
    /// The others, or an operator, declared it down.
    Declared = 3,
}
