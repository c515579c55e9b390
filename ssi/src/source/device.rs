//! Device numbers, real and virtual: one to four hexadecimal digits.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is no device number or range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceNumberError {
    /// Not one to four hexadecimal digits.
    #[error("'{0}' is no device number: one to four hexadecimal digits")]
    Digits(String),
    /// A range whose end is before its start.
    #[error("'{0}' is no range of device numbers: its end is before its start")]
    Order(String),
}

/// A device number, real or virtual.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct DeviceNumber(pub u16);

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04X}", self.0)
    }
}

impl fmt::Debug for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for DeviceNumber {
    type Err = DeviceNumberError;

    fn from_str(text: &str) -> Result<Self, DeviceNumberError> {
        let is_number = (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = if is_number { u16::from_str_radix(text, 16).ok() } else { None };
        number.map(Self).ok_or_else(|| DeviceNumberError::Digits(text.to_owned()))
    }
}

impl From<DeviceNumber> for String {
    fn from(number: DeviceNumber) -> Self {
        number.to_string()
    }
}

impl TryFrom<String> for DeviceNumber {
    type Error = DeviceNumberError;

    fn try_from(text: String) -> Result<Self, DeviceNumberError> {
        text.parse()
    }
}

/// One device number, or all from one to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct DeviceRange {
    first: DeviceNumber,
    last: DeviceNumber,
}

impl DeviceRange {
    /// Its lowest number.
    pub fn first(self) -> DeviceNumber {
        self.first
    }

    /// Its highest number.
    pub fn last(self) -> DeviceNumber {
        self.last
    }

    /// Whether this device is one of them.
    pub fn contains(self, device: DeviceNumber) -> bool {
        self.first <= device && device <= self.last
    }

    /// Whether a device is in both.
    pub fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl From<DeviceNumber> for DeviceRange {
    fn from(device: DeviceNumber) -> Self {
        Self { first: device, last: device }
    }
}

impl fmt::Display for DeviceRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

impl FromStr for DeviceRange {
    type Err = DeviceNumberError;

    fn from_str(text: &str) -> Result<Self, DeviceNumberError> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let range = Self { first: first.parse()?, last: last.parse()? };
        if range.first <= range.last { Ok(range) } else { Err(DeviceNumberError::Order(text.to_owned())) }
    }
}

impl From<DeviceRange> for String {
    fn from(range: DeviceRange) -> Self {
        range.to_string()
    }
}

impl TryFrom<String> for DeviceRange {
    type Error = DeviceNumberError;

    fn try_from(text: String) -> Result<Self, DeviceNumberError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_hexadecimal_and_ranges_ascend() {
        assert_eq!("9".parse(), Ok(DeviceNumber(9)));
        assert_eq!("d0f0".parse::<DeviceNumber>().unwrap().to_string(), "D0F0");
        assert_eq!("4290-4293".parse::<DeviceRange>().unwrap().to_string(), "4290-4293");
        assert_eq!("20-20".parse::<DeviceRange>().unwrap().to_string(), "0020");
        for bad in ["", "12345", "+1", "G", "1-", "-1", "0009-0008", "1-2-3", " 1"] {
            assert!(bad.parse::<DeviceRange>().is_err(), "{bad}");
        }
    }
}
