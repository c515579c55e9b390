//! Privilege classes: who may give which command.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A set of privilege classes, `A` to `Z` and `1` to `6`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Classes(u32);

/// Why a text is no set of classes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no privilege class: classes are A to Z and 1 to 6")]
pub struct ClassError(pub char);

const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ123456";

impl Classes {
    /// What every command that anybody may give belongs to.
    pub const ANY: Self = Self(u32::MAX);

    /// Of these letters, which are known to be classes.
    pub const fn of(letters: &str) -> Self {
        let (bytes, all) = (letters.as_bytes(), LETTERS.as_bytes());
        let (mut set, mut at) = (0, 0);
        while at < bytes.len() {
            let mut class = 0;
            while all[class] != bytes[at] {
                class += 1;
            }
            set |= 1 << class;
            at += 1;
        }
        Self(set)
    }

    /// Whether both have a class in common.
    pub const fn meet(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl FromStr for Classes {
    type Err = ClassError;

    fn from_str(text: &str) -> Result<Self, ClassError> {
        let mut set = 0;
        for letter in text.chars() {
            let at = LETTERS.find(letter.to_ascii_uppercase()).ok_or(ClassError(letter))?;
            set |= 1 << at;
        }
        Ok(Self(set))
    }
}

impl fmt::Display for Classes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ANY {
            return f.pad("any");
        }
        let letters = LETTERS.chars().enumerate().filter(|(at, _)| self.0 & (1 << at) != 0);
        f.pad(&letters.map(|(_, letter)| letter).collect::<String>())
    }
}

impl From<Classes> for String {
    fn from(classes: Classes) -> Self {
        let letters = LETTERS.chars().enumerate().filter(|(at, _)| classes.0 & (1 << at) != 0);
        letters.map(|(_, letter)| letter).collect()
    }
}

impl TryFrom<String> for Classes {
    type Error = ClassError;

    fn try_from(text: String) -> Result<Self, ClassError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_for_those_who_have_one_of_its_classes() {
        let operator: Classes = "ABCDEFG".parse().unwrap();
        assert!(operator.meet(Classes::of("B")) && !"G".parse::<Classes>().unwrap().meet(Classes::of("AB")));
        assert!(Classes::default().meet(Classes::ANY) != "G".parse::<Classes>().unwrap().meet(Classes::ANY));
        assert_eq!(operator.to_string(), "ABCDEFG");
        assert_eq!("7".parse::<Classes>(), Err(ClassError('7')));
    }
}
