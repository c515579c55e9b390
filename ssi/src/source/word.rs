//! Words of a statement and the cursor that a parser reads them with.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::{Diagnostic, Span, Spelling};

/// A word as written, and where.
#[derive(Clone, Debug)]
pub struct Word {
    /// Its text; of a quoted word without the quotes.
    pub text: String,
    /// Whether it stood in quotes.
    pub is_quoted: bool,
    /// Where.
    pub span: Span,
}

impl Word {
    /// Whether it is this word of the language, perhaps abbreviated.
    pub fn is(&self, spelling: Spelling) -> bool {
        !self.is_quoted && spelling.is(&self.text)
    }
}

impl PartialEq for Word {
    /// Two words are the same if they say the same, wherever they stand.
    fn eq(&self, other: &Self) -> bool {
        (&self.text, self.is_quoted) == (&other.text, other.is_quoted)
    }
}

/// A statement with its continuation lines, before anybody knows what it says.
#[derive(Clone, Debug, PartialEq)]
pub struct Logical {
    /// Its words, at least one.
    pub words: Vec<Word>,
    /// From the first to the last of them.
    pub span: Span,
}

impl Logical {
    /// Where a word of this text stands: the `nth` of them (from 0), or the whole statement if there are not as many.
    pub fn span_of(&self, text: &str, nth: usize) -> Span {
        let mut found = self.words.iter().filter(|word| word.text.eq_ignore_ascii_case(text));
        found.nth(nth).map_or(self.span, |word| word.span)
    }
}

/// Reads the words of one statement from left to right.
#[derive(Clone, Debug)]
pub struct Words<'a> {
    words: &'a [Word],
    at: usize,
    end: Span,
}

impl<'a> Words<'a> {
    /// All words of the statement.
    pub fn new(logical: &'a Logical) -> Self {
        let end = Span { start: logical.span.end(), len: 0 };
        Self { words: &logical.words, at: 0, end }
    }

    /// The next word, which stays.
    pub fn peek(&self) -> Option<&'a Word> {
        self.words.get(self.at)
    }

    /// The next word.
    #[expect(clippy::should_implement_trait, reason = "a cursor: parsers look ahead in it and go back")]
    pub fn next(&mut self) -> Option<&'a Word> {
        let word = self.peek();
        self.at += usize::from(word.is_some());
        word
    }

    /// Whether all words were read.
    pub fn is_empty(&self) -> bool {
        self.peek().is_none()
    }

    /// Everything that was not read yet.
    pub fn rest(&mut self) -> &'a [Word] {
        let rest = &self.words[self.at..];
        self.at = self.words.len();
        rest
    }

    /// Where the next word stands, or the end of the statement.
    pub fn here(&self) -> Span {
        self.peek().map_or(self.end, |word| word.span)
    }

    /// Where the word read last stands.
    pub fn last(&self) -> Span {
        self.at.checked_sub(1).and_then(|at| self.words.get(at)).map_or(self.end, |word| word.span)
    }

    /// Reads this word if it comes next.
    pub fn accept(&mut self, spelling: Spelling) -> bool {
        let is_next = self.peek().is_some_and(|word| word.is(spelling));
        self.at += usize::from(is_next);
        is_next
    }

    /// Reads a word that must be there.
    ///
    /// # Errors
    /// The statement ends here.
    pub fn expect(&mut self, what: &str) -> Result<&'a Word, Diagnostic> {
        let end = self.end;
        self.next().ok_or_else(|| Diagnostic::error(end, "the statement ends too early").expecting(what))
    }

    /// Reads this word, which must come next.
    ///
    /// # Errors
    /// Another word, or the end.
    pub fn require(&mut self, spelling: Spelling) -> Result<(), Diagnostic> {
        let word = self.expect(&spelling.full())?;
        if word.is(spelling) { Ok(()) } else { Err(unexpected(word, &spelling.full())) }
    }

    /// Reads one of some words and tells which of them it is.
    ///
    /// # Errors
    /// Another word, or the end.
    pub fn one_of<T: Copy>(&mut self, choices: &[(Spelling, T)]) -> Result<T, Diagnostic> {
        let all = choices.iter().map(|(spelling, _)| spelling.full()).collect::<Vec<_>>().join(" or ");
        let word = self.expect(&all)?;
        let chosen = choices.iter().find(|(spelling, _)| word.is(*spelling));
        chosen.map(|(_, choice)| *choice).ok_or_else(|| unexpected(word, &all))
    }

    /// Reads a value.
    ///
    /// # Errors
    /// The word is none, or the end.
    pub fn value<T>(&mut self, what: &str) -> Result<T, Diagnostic>
    where
        T: FromStr,
        T::Err: Display,
    {
        let word = self.expect(what)?;
        word.text
            .parse()
            .map_err(|error: T::Err| Diagnostic::error(word.span, error.to_string()).expecting(what))
    }

    /// Reads a decimal number of this range.
    ///
    /// # Errors
    /// The word is none, or the end.
    pub fn number(&mut self, what: &str, range: RangeInclusive<u64>) -> Result<u64, Diagnostic> {
        let expected = format!("{what} from {} to {}", range.start(), range.end());
        let word = self.expect(&expected)?;
        let digits = !word.text.is_empty() && word.text.bytes().all(|byte| byte.is_ascii_digit());
        let number = if digits { word.text.parse::<u64>().ok() } else { None };
        number.filter(|number| range.contains(number)).ok_or_else(|| {
            Diagnostic::error(word.span, format!("'{}' is not {what}", word.text)).expecting(expected)
        })
    }

    /// Nothing may follow.
    ///
    /// # Errors
    /// A word follows.
    pub fn finish(&mut self, expected: &str) -> Result<(), Diagnostic> {
        self.next().map_or(Ok(()), |word| Err(unexpected(word, expected)))
    }
}

/// This word should not stand here.
pub(crate) fn unexpected(word: &Word, expected: &str) -> Diagnostic {
    Diagnostic::error(word.span, format!("'{}' is not known here", word.text)).expecting(expected)
}
