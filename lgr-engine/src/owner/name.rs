//! Names of members and guests: one to eight characters, as z/VM writes them.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest name, in bytes. z/VM system identifiers and user identifiers have eight characters.
pub const NAME_LEN_BYTES_MAX: usize = 8;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text has no characters.
    #[error("a {what} name is empty; give 1 to 8 characters")]
    Empty {
        /// "member" or "guest".
        what: &'static str,
    },
    /// The text has more than [`NAME_LEN_BYTES_MAX`] characters.
    #[error("the {what} name \"{text}\" is {len} characters long; at most 8 are allowed")]
    TooLong {
        /// "member" or "guest".
        what: &'static str,
        /// The beginning of the text.
        text: String,
        /// Length of the whole text, in characters.
        len: usize,
    },
    /// The text has a character that names may not have.
    #[error("the {what} name \"{text}\" has the character {found:?}; use A-Z, 0-9, @, #, $, _ and -")]
    BadCharacter {
        /// "member" or "guest".
        what: &'static str,
        /// The text as given.
        text: String,
        /// The first character that is not allowed.
        found: char,
    },
}

/// Bytes of a valid name, NUL padded. Lower case is folded; a name is never empty.
fn parse(what: &'static str, text: &str) -> Result<[u8; NAME_LEN_BYTES_MAX], NameError> {
    if text.is_empty() {
        return Err(NameError::Empty { what });
    }
    let len = text.chars().count();
    if len > NAME_LEN_BYTES_MAX {
        // Only the beginning is kept: the text may come from a peer and be of any length.
        let text = text.chars().take(32).collect();
        return Err(NameError::TooLong { what, text, len });
    }
    let mut bytes = [0; NAME_LEN_BYTES_MAX];
    for (byte, found) in bytes.iter_mut().zip(text.chars()) {
        let folded = found.to_ascii_uppercase();
        if !matches!(folded, 'A'..='Z' | '0'..='9' | '@' | '#' | '$' | '_' | '-') {
            return Err(NameError::BadCharacter { what, text: text.to_owned(), found });
        }
        *byte = folded as u8;
    }
    Ok(bytes)
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schemars(extend("pattern" = "^[A-Z0-9@#$_-]{1,8}$"))]
        pub struct $name([u8; NAME_LEN_BYTES_MAX]);

        impl $name {
            /// Parses a name; lower case letters are folded to upper case.
            ///
            /// # Errors
            /// The text is empty, too long, or has a character that names may not have.
            pub fn new(text: &str) -> Result<Self, NameError> {
                parse($what, text).map(Self)
            }

            /// The name as text, without padding.
            pub fn as_str(&self) -> &str {
                let len = self.0.iter().position(|&byte| byte == 0).unwrap_or(NAME_LEN_BYTES_MAX);
                std::str::from_utf8(&self.0[..len]).expect("a name holds ASCII only")
            }

            /// The eight bytes stored in files and messages: the name, padded with NUL bytes.
            pub fn to_padded(self) -> [u8; NAME_LEN_BYTES_MAX] {
                self.0
            }

            /// Reads the eight padded bytes. `None` unless they are exactly what [`Self::to_padded`]
            /// makes: upper case, no byte after the first NUL.
            pub fn from_padded(bytes: [u8; NAME_LEN_BYTES_MAX]) -> Option<Self> {
                let len = bytes.iter().position(|&byte| byte == 0).unwrap_or(NAME_LEN_BYTES_MAX);
                let text = std::str::from_utf8(&bytes[..len]).ok()?;
                Self::new(text).ok().filter(|name| name.0 == bytes)
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.as_str().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.as_str())
            }
        }
    };
}

name_type!(
    /// Name of a member of the cluster: the one who runs guests.
    MemberName,
    "member"
);
name_type!(
    /// Name of a guest (z/VM: the user identifier of a virtual machine).
    GuestName,
    "guest"
);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lower_case_is_folded() {
        assert_eq!(GuestName::new("linux-1").unwrap().as_str(), "LINUX-1");
        assert_eq!("a@#$_9".parse::<MemberName>().unwrap().to_string(), "A@#$_9");
    }

    #[test]
    fn bad_names_are_refused_with_the_reason() {
        assert_eq!(GuestName::new(""), Err(NameError::Empty { what: "guest" }));
        assert!(matches!(MemberName::new("ABCDEFGHI"), Err(NameError::TooLong { len: 9, .. })));
        for text in ["a/b", "..", "A B", "É", "a\0b"] {
            assert!(matches!(GuestName::new(text), Err(NameError::BadCharacter { .. })), "{text:?}");
        }
        let long = "x".repeat(1 << 20);
        assert!(GuestName::new(&long).unwrap_err().to_string().len() < 200);
    }

    #[test]
    fn padded_bytes_round_trip_and_nothing_else_is_accepted() {
        let name = GuestName::new("LINUX1").unwrap();
        assert_eq!(&name.to_padded(), b"LINUX1\0\0");
        assert_eq!(GuestName::from_padded(*b"LINUX1\0\0"), Some(name));
        for bytes in [*b"\0\0\0\0\0\0\0\0", *b"linux1\0\0", *b"LIN\0X1\0\0", *b"LIN/X1\0\0"] {
            assert_eq!(GuestName::from_padded(bytes), None);
        }
    }

    #[test]
    fn names_are_strings_in_json() {
        let name: GuestName = serde_json::from_str("\"linux1\"").unwrap();
        assert_eq!(serde_json::to_string(&name).unwrap(), "\"LINUX1\"");
        assert!(serde_json::from_str::<GuestName>("\"no/slash\"").is_err());
        let schema = schemars::schema_for!(GuestName);
        assert_eq!(schema.get("type").and_then(|kind| kind.as_str()), Some("string"));
        assert!(schema.get("pattern").is_some());
    }
}
