//! The names of a cluster: short, upper case, and valid once they exist.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Most members of a cluster: slots 1 to 4 (IBM z/VM 7.2, SSI statement).
pub const MEMBERS_MAX: u8 = 4;

/// Why a text is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing, or more characters than the name may have.
    #[error("'{text}': {what} has 1 to {max} characters")]
    Len {
        /// What it was to be.
        what: &'static str,
        /// As given.
        text: String,
        /// Most characters.
        max: usize,
    },
    /// A character that is not allowed.
    #[error("'{text}': {what} is written with {allowed}, not '{found}'")]
    Character {
        /// What it was to be.
        what: &'static str,
        /// As given.
        text: String,
        /// What may stand in it.
        allowed: &'static str,
        /// What stands there.
        found: char,
    },
    /// Not a number from 1 to 4.
    #[error("'{0}' is no slot: slots are 1 to {MEMBERS_MAX}")]
    Slot(String),
}

/// At most eight characters, in upper case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Short([u8; 8]);

impl Short {
    fn new(
        text: &str,
        what: &'static str,
        max: usize,
        allowed: &'static str,
        is_allowed: fn(u8) -> bool,
    ) -> Result<Self, NameError> {
        if let Some(found) = text.chars().find(|c| !c.is_ascii() || !is_allowed(c.to_ascii_uppercase() as u8))
        {
            return Err(NameError::Character { what, text: text.to_owned(), allowed, found });
        }
        if text.is_empty() || text.len() > max {
            return Err(NameError::Len { what, text: text.to_owned(), max });
        }
        let mut bytes = [0; 8];
        bytes[..text.len()].copy_from_slice(text.to_ascii_uppercase().as_bytes());
        Ok(Self(bytes))
    }

    fn as_str(&self) -> &str {
        let len = self.0.iter().position(|byte| *byte == 0).unwrap_or(self.0.len());
        std::str::from_utf8(&self.0[..len]).expect("only ASCII is let in")
    }
}

macro_rules! short_name {
    ($(#[$docs:meta])* $name:ident, $what:literal, $max:literal, $allowed:literal, $is_allowed:expr) => {
        $(#[$docs])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(into = "String", try_from = "String")]
        pub struct $name(Short);

        impl $name {
            /// In upper case.
            ///
            /// # Errors
            /// [`NameError`].
            pub fn new(text: &str) -> Result<Self, NameError> {
                Short::new(text, $what, $max, $allowed, $is_allowed).map(Self)
            }

            /// Its characters.
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.as_str().to_owned()
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(&text)
            }
        }
    };
}

short_name!(
    /// Name of a system, which as a member of a cluster is the member's name: 1 to 8 characters.
    SystemName,
    "a system name",
    8,
    "letters, digits, @, #, $ and _",
    |byte| byte.is_ascii_alphanumeric() || b"@#$_".contains(&byte)
);
short_name!(
    /// Name of a cluster: 1 to 8 letters and digits.
    ClusterName,
    "a cluster name",
    8,
    "letters and digits",
    |byte| byte.is_ascii_alphanumeric()
);
short_name!(
    /// A user id: 1 to 8 characters.
    UserId,
    "a user id",
    8,
    "letters, digits, @, #, $, _ and -",
    |byte| byte.is_ascii_alphanumeric() || b"@#$_-".contains(&byte)
);
short_name!(
    /// Label of a volume (volume serial): 1 to 6 characters.
    VolumeLabel,
    "a volume label",
    6,
    "letters, digits, @, # and $",
    |byte| byte.is_ascii_alphanumeric() || b"@#$".contains(&byte)
);

/// The place of a member in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
pub struct Slot(u8);

impl Slot {
    /// Slot `number`, from 1 to [`MEMBERS_MAX`].
    pub const fn new(number: u8) -> Option<Self> {
        if number >= 1 && number <= MEMBERS_MAX { Some(Self(number)) } else { None }
    }

    /// Its number, from 1.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Its number, from 0.
    pub const fn index(self) -> usize {
        self.0 as usize - 1
    }

    /// All slots, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (1..=MEMBERS_MAX).map(Self)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for Slot {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        text.parse().ok().and_then(Self::new).ok_or_else(|| NameError::Slot(text.to_owned()))
    }
}

impl From<Slot> for u8 {
    fn from(slot: Slot) -> Self {
        slot.0
    }
}

impl TryFrom<u8> for Slot {
    type Error = NameError;

    fn try_from(number: u8) -> Result<Self, NameError> {
        Self::new(number).ok_or_else(|| NameError::Slot(number.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_upper_case_and_survive_printing() {
        let name: SystemName = "membera".parse().unwrap();
        assert_eq!(name.to_string(), "MEMBERA");
        assert_eq!(format!("[{name:<10}]"), "[MEMBERA   ]");
        assert_eq!(VolumeLabel::new("vmcom1").unwrap().as_str(), "VMCOM1");
        assert!("A" < "B" && SystemName::new("A").unwrap() < SystemName::new("B").unwrap());
    }

    #[test]
    fn what_is_no_name_says_what_one_is() {
        let text = |error: NameError| error.to_string();
        assert_eq!(
            text(SystemName::new("NINECHARS").unwrap_err()),
            "'NINECHARS': a system name has 1 to 8 characters"
        );
        assert!(text(ClusterName::new("A_B").unwrap_err()).contains("letters and digits, not '_'"));
        assert!(
            VolumeLabel::new("SEVENCH").is_err() && UserId::new("").is_err() && UserId::new("ü").is_err()
        );
        assert_eq!(text("5".parse::<Slot>().unwrap_err()), "'5' is no slot: slots are 1 to 4");
        assert!("0".parse::<Slot>().is_err() && "x".parse::<Slot>().is_err());
    }
}
