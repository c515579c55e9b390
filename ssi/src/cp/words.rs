//! A command's words, with CP's abbreviations.

use std::str::FromStr;

use super::Refusal;

/// Longest command, in bytes. CP itself takes 240.
pub const COMMAND_LEN_BYTES_MAX: usize = 1_024;

/// The words of a command that are still to be read.
#[derive(Clone, Debug)]
pub(super) struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text.trim() }
    }

    /// The next word, if there is one.
    pub(super) fn next(&mut self) -> Option<&'a str> {
        let (word, rest) = self.rest.split_once(char::is_whitespace).unwrap_or((self.rest, ""));
        self.rest = rest.trim_start();
        (!word.is_empty()).then_some(word)
    }

    pub(super) fn peek(&self) -> Option<&'a str> {
        self.clone().next()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// All that is left, as it was written.
    pub(super) fn rest(&mut self) -> &'a str {
        std::mem::take(&mut self.rest)
    }

    /// Takes the next word if it is this one; the capitals at its beginning are its shortest form.
    pub(super) fn accept(&mut self, spelling: &str) -> bool {
        let found = self.peek().is_some_and(|word| spells(spelling, word));
        if found {
            self.next();
        }
        found
    }

    /// The next word as a value.
    pub(super) fn value<T: FromStr<Err: std::fmt::Display>>(&mut self, what: &str) -> Result<T, Refusal> {
        let word =
            self.next().ok_or_else(|| Refusal::new(26, format!("Operand missing or invalid: {what}")))?;
        word.parse().map_err(|error| Refusal::new(3, format!("Invalid option - {word}: {error}")))
    }

    /// Nothing may be left.
    pub(super) fn end(&mut self) -> Result<(), Refusal> {
        self.next().map_or(Ok(()), |word| Err(Refusal::new(3, format!("Invalid option - {word}"))))
    }
}

/// Whether `word` is `spelling`, or an abbreviation of it not shorter than its capitals. A word with two spellings has `|`
/// between them.
pub(super) fn spells(spelling: &str, word: &str) -> bool {
    spelling.split('|').any(|one| abbreviates(one, word))
}

fn abbreviates(spelling: &str, word: &str) -> bool {
    let shortest = spelling.bytes().take_while(|byte| !byte.is_ascii_lowercase()).count();
    (shortest..=spelling.len()).contains(&word.len())
        && spelling.is_char_boundary(word.len())
        && spelling[..word.len()].eq_ignore_ascii_case(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_may_be_as_short_as_their_capitals() {
        for word in ["q", "Q", "query", "QUE"] {
            assert!(spells("Query", word), "{word}");
        }
        for word in ["deact", "DEACTIVE", "deactiva", "DEACTIVATE"] {
            assert!(spells("DEACTive|DEACTIVAte", word), "{word}");
        }
        assert!(!spells("Query", "queries") && !spells("ACTivate", "AC") && !spells("Query", ""));
        let mut words = Words::new("  act  islink 4290 ");
        assert!(words.accept("ACTivate") && !words.accept("SSI") && words.accept("ISLINK"));
        assert_eq!((words.rest(), words.is_empty()), ("4290", true));
    }
}
