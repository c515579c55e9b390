//! What endpoints are called.

/// Longest name of an endpoint, in characters.
pub const NAME_LEN_BYTES: usize = 8;

/// The name of an endpoint: 1 to 8 printable characters without blanks, in upper case.
///
/// As CP folds the names in its commands, lower-case letters are read as upper-case ones: `ssilock` and `SSILOCK` are
/// one name. Every other ASCII character from `!` to `~` stands for itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointName([u8; NAME_LEN_BYTES]);

/// A text that is no endpoint's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot name an endpoint: 1 to 8 printable ASCII characters without blanks can")]
pub struct NameError(String);

impl EndpointName {
    /// The name that `text` stands for, in upper case.
    ///
    /// # Errors
    /// No character, more than 8, or one that is not printable ASCII.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let mut padded = [0; NAME_LEN_BYTES];
        let room = padded.get_mut(..text.len()).filter(|room| !room.is_empty());
        // A text from outside may be long: the error shows its beginning.
        let error = || NameError(text.chars().take(NAME_LEN_BYTES + 1).collect());
        room.ok_or_else(error)?.copy_from_slice(text.to_ascii_uppercase().as_bytes());
        Self::from_wire(padded).filter(|name| name.as_str().len() == text.len()).ok_or_else(error)
    }

    /// The name as it stands on the wire: in upper case, padded with zeros.
    pub fn from_wire(padded: [u8; NAME_LEN_BYTES]) -> Option<Self> {
        let length = padded.iter().position(|byte| *byte == 0).unwrap_or(NAME_LEN_BYTES);
        let (name, padding) = padded.split_at(length);
        let allowed = |byte: &u8| byte.is_ascii_graphic() && !byte.is_ascii_lowercase();
        let whole = length > 0 && name.iter().all(allowed) && padding.iter().all(|byte| *byte == 0);
        whole.then_some(Self(padded))
    }

    /// Padded with zeros, as it stands on the wire.
    pub fn to_wire(self) -> [u8; NAME_LEN_BYTES] {
        self.0
    }

    /// The characters of the name.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a name is ASCII").trim_end_matches('\0')
    }
}

impl std::fmt::Display for EndpointName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::fmt::Debug for EndpointName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl std::str::FromStr for EndpointName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_case_is_folded_and_everything_else_stands_for_itself() {
        assert_eq!(EndpointName::new("ssiLock").unwrap().as_str(), "SSILOCK");
        assert_eq!(EndpointName::new("a@#$_-9~").unwrap().to_wire(), *b"A@#$_-9~");
        assert_eq!(format!("{:>6}", EndpointName::new("lgr").unwrap()), "   LGR");
    }

    #[test]
    fn what_is_empty_long_or_unprintable_is_no_name() {
        for text in ["", "NINECHARS", "A B", "A\0B", "AB\0", "Ä", "TAB\t", "\u{7f}"] {
            assert!(EndpointName::new(text).is_err(), "{text:?}");
        }
        let long = EndpointName::new(&"x".repeat(1 << 20)).unwrap_err();
        assert!(long.to_string().len() < 200, "{long}");
    }

    #[test]
    fn the_wire_has_one_spelling_of_each_name() {
        for padded in [*b"lgr\0\0\0\0\0", *b"\0\0\0\0\0\0\0\0", *b"LGR\0LGR\0", *b"LGR     "] {
            assert_eq!(EndpointName::from_wire(padded), None, "{padded:?}");
        }
    }
}
