//! Words of the language, in the notation of the manuals: the capitals must be written, the rest may be.

use std::fmt;

/// A word and its shortest abbreviation, e.g. `PDR_VOLume`. Each part between underscores may be shortened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Spelling(pub &'static str);

impl Spelling {
    /// Whether `word` is this word, in any case, or an abbreviation of it that is long enough.
    pub fn is(self, word: &str) -> bool {
        let mut parts = word.split('_');
        let same = self.0.split('_').all(|full| parts.next().is_some_and(|part| is_abbreviation(full, part)));
        same && parts.next().is_none()
    }

    /// Written in full, in capitals.
    pub fn full(self) -> String {
        self.0.to_ascii_uppercase()
    }
}

fn is_abbreviation(full: &str, part: &str) -> bool {
    let shortest = full.bytes().filter(|byte| !byte.is_ascii_lowercase()).count();
    part.len() >= shortest
        && part.len() <= full.len()
        && part.bytes().zip(full.bytes()).all(|(byte, of_full)| byte.eq_ignore_ascii_case(&of_full))
}

impl fmt::Display for Spelling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.full())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capitals_must_be_written_and_the_rest_may_be() {
        let word = Spelling("PDR_VOLume");
        for good in ["PDR_VOL", "pdr_volu", "Pdr_Volume", "PDR_VOLUME"] {
            assert!(word.is(good), "{good}");
        }
        for bad in ["PDR_VO", "PDR_VOLUMES", "PDRVOL", "PDR", "PDR_VOLUME_", "", "_", "PDR_VOLX"] {
            assert!(!word.is(bad), "{bad}");
        }
        assert_eq!(word.to_string(), "PDR_VOLUME");
    }
}
