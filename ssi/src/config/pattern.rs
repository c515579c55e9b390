//! Patterns of names: `*` stands for any characters, `%` for one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no name or pattern: 1 to 8 of letters, digits, @, #, $, _, * and %")]
pub struct PatternError(String);

/// A name in which `*` and `%` may stand.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Pattern(String);

impl Pattern {
    /// Its characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it stands for just one name.
    pub fn is_name(&self) -> bool {
        !self.0.contains(['*', '%'])
    }

    /// Whether it stands for this name, which is in capitals.
    pub fn matches(&self, name: &str) -> bool {
        matches(self.0.as_bytes(), name.as_bytes())
    }
}

/// Patterns have at most eight characters, so that recursion is neither deep nor long.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern, name) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => (0..=name.len()).any(|at| matches(rest, &name[at..])),
        ([b'%', pattern @ ..], [_, name @ ..]) => matches(pattern, name),
        ([letter, pattern @ ..], [of_name, name @ ..]) => letter == of_name && matches(pattern, name),
        _ => false,
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"@#$_*%".contains(&byte);
        if (1..=8).contains(&text.len()) && text.bytes().all(is_letter) {
            Ok(Self(text.to_ascii_uppercase()))
        } else {
            Err(PatternError(text.to_owned()))
        }
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.0
    }
}

impl TryFrom<String> for Pattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_characters_and_percent_signs_for_one() {
        let is = |pattern: &str, name: &str| pattern.parse::<Pattern>().unwrap().matches(name);
        assert!(is("lnx*", "LNX001") && is("LNX*", "LNX") && is("*", "A") && is("*X*1", "LNX001"));
        assert!(is("M%1RES", "M01RES") && !is("M%RES", "M01RES") && !is("LNX*", "LN") && !is("%", ""));
        assert!(is("********", "ABCDEFGH") && !is("A", "AB") && !is("AB", "A"));
        for bad in ["", "ABCDEFGHI", "A B", "Ä", "a:"] {
            assert!(bad.parse::<Pattern>().is_err(), "{bad}");
        }
    }
}
