//! VLAN identifiers.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// Not a number from 1 to 4094.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no VLAN: a number from 1 to 4094")]
pub struct VlanIdError(String);

/// A VLAN, from 1 to 4094.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct VlanId(u16);

impl VlanId {
    /// Its number.
    pub fn number(self) -> u16 {
        self.0
    }
}

impl fmt::Display for VlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for VlanId {
    type Err = VlanIdError;

    fn from_str(text: &str) -> Result<Self, VlanIdError> {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = if digits { text.parse().ok() } else { None };
        let number = number.filter(|number| (1..=4094).contains(number));
        number.map(Self).ok_or_else(|| VlanIdError(text.to_owned()))
    }
}

/// Whether a switch knows of VLANs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VlanUse {
    /// It passes frames as they are.
    #[default]
    Unaware,
    /// It knows of them, and ports without one of their own get none.
    Aware,
    /// It knows of them, and ports without one of their own get this one.
    Default(VlanId),
}
