//! A file of statements as text, with limits on what is accepted.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// A stretch of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Span {
    /// Its first byte.
    pub start: usize,
    /// Its length, bytes.
    pub len: usize,
}

impl Span {
    /// From `start` up to, not including, `end`.
    pub fn between(start: usize, end: usize) -> Self {
        Self { start, len: end.saturating_sub(start) }
    }

    /// The byte after its last one.
    pub fn end(self) -> usize {
        self.start + self.len
    }

    /// From the start of this one to the end of the other.
    pub fn to(self, other: Self) -> Self {
        Self::between(self.start, other.end())
    }
}

/// How much of a file is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest file, bytes.
    pub file_len_max_bytes: usize,
    /// Longest line, bytes.
    pub line_len_max_bytes: usize,
    /// Longest word, bytes.
    pub word_len_max_bytes: usize,
    /// Most statements.
    pub statements_max: usize,
    /// Most words of one statement, continuation lines included.
    pub words_max: usize,
}

impl Limits {
    /// For a system configuration file.
    pub const CONFIG: Self = Self {
        file_len_max_bytes: 1 << 20,
        line_len_max_bytes: 4000,
        word_len_max_bytes: 1000,
        statements_max: 20_000,
        words_max: 2000,
    };
    /// For a source directory: a large one has some ten thousand entries.
    pub const DIRECTORY: Self = Self {
        file_len_max_bytes: 64 << 20,
        line_len_max_bytes: 4000,
        word_len_max_bytes: 1000,
        statements_max: 2_000_000,
        words_max: 2000,
    };
}

/// Why a file is not read at all.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file cannot be read.
    #[error("cannot read {name}: {source}")]
    Read {
        /// The file.
        name: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is too long.
    #[error("{name} is longer than {max} bytes, the most that is read")]
    Len {
        /// The file.
        name: String,
        /// Most bytes.
        max: usize,
    },
    /// The file is not UTF-8 text.
    #[error("{name}, line {line}: not text (a byte that is not UTF-8, or a zero byte)")]
    Text {
        /// The file.
        name: String,
        /// Where, from 1.
        line: usize,
    },
}

/// A file's name and text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    name: String,
    text: String,
}

impl Source {
    /// The text as the contents of a file of this name.
    ///
    /// # Errors
    /// [`SourceError::Len`], [`SourceError::Text`].
    pub fn new(name: &str, text: &[u8], limits: Limits) -> Result<Self, SourceError> {
        if text.len() > limits.file_len_max_bytes {
            return Err(SourceError::Len { name: name.to_owned(), max: limits.file_len_max_bytes });
        }
        let valid_len = match std::str::from_utf8(text) {
            Ok(_) => text.len(),
            Err(error) => error.valid_up_to(),
        };
        let valid_len = text[..valid_len].iter().position(|byte| *byte == 0).unwrap_or(valid_len);
        if valid_len < text.len() {
            let line = text[..valid_len].iter().filter(|byte| **byte == b'\n').count() + 1;
            return Err(SourceError::Text { name: name.to_owned(), line });
        }
        let text = String::from_utf8(text.to_vec()).expect("checked above");
        Ok(Self { name: name.to_owned(), text })
    }

    /// Reads a file, but never more than the limit of it.
    ///
    /// # Errors
    /// [`SourceError`].
    pub fn read(path: &Path, limits: Limits) -> Result<Self, SourceError> {
        let name = path.display().to_string();
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(limits.file_len_max_bytes as u64 + 1).read_to_end(&mut bytes))
            .map_err(|source| SourceError::Read { name: name.clone(), source })?;
        Self::new(&name, &bytes, limits)
    }

    /// The file's name, as given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All of its text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What stands at the span; nothing if the span is not of this file.
    pub fn at(&self, span: Span) -> &str {
        self.text.get(span.start..span.end()).unwrap_or_default()
    }

    fn before(&self, span: Span) -> &str {
        self.text.get(..span.start).unwrap_or(&self.text)
    }

    /// Where the line starts on which the span starts.
    fn line_start(&self, span: Span) -> usize {
        self.before(span).rfind('\n').map_or(0, |at| at + 1)
    }

    /// Column of the span's start, in characters, from 1.
    pub fn column(&self, span: Span) -> usize {
        self.before(span)[self.line_start(span)..].chars().count() + 1
    }

    /// Line and column of the span's start, both from 1. The column counts characters.
    pub fn position(&self, span: Span) -> (usize, usize) {
        let line = self.before(span).bytes().filter(|byte| *byte == b'\n').count() + 1;
        (line, self.column(span))
    }

    /// The line on which the span starts, without its end.
    pub fn line(&self, span: Span) -> &str {
        self.text[self.line_start(span)..].lines().next().unwrap_or_default()
    }
}

impl miette::SourceCode for Source {
    /// The line on which the span starts.
    fn read_span<'a>(
        &'a self,
        span: &miette::SourceSpan,
        _lines_before: usize,
        _lines_after: usize,
    ) -> Result<Box<dyn miette::SpanContents<'a> + 'a>, miette::MietteError> {
        let span = Span { start: span.offset(), len: span.len() };
        if span.end() > self.text.len() {
            return Err(miette::MietteError::OutOfBounds);
        }
        let (start, line) = (self.line_start(span), self.line(span));
        let (number, _) = self.position(span);
        Ok(Box::new(miette::MietteSpanContents::new_named(
            self.name.clone(),
            line.as_bytes(),
            miette::SourceSpan::from((start, line.len())),
            number - 1,
            self.column(span) - 1,
            1,
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_characters_from_one() {
        let source = Source::new("f", "ä b\nsecond line\n".as_bytes(), Limits::CONFIG).unwrap();
        assert_eq!(source.position(Span { start: 3, len: 1 }), (1, 3));
        let second = Span { start: 12, len: 4 };
        assert_eq!(
            (source.position(second), source.at(second), source.line(second)),
            ((2, 8), "line", "second line")
        );
        assert_eq!(source.position(Span { start: 999, len: 1 }).0, 3);
        assert_eq!(source.line(Span { start: 999, len: 1 }), "");
        assert_eq!(source.line(Span { start: 2, len: 1 }), "ä b");
    }

    #[test]
    fn what_is_no_text_or_too_long_is_refused() {
        assert!(matches!(
            Source::new("f", b"a\n\xffb", Limits::CONFIG),
            Err(SourceError::Text { line: 2, .. })
        ));
        assert!(matches!(Source::new("f", b"\0", Limits::CONFIG), Err(SourceError::Text { line: 1, .. })));
        let limits = Limits { file_len_max_bytes: 3, ..Limits::CONFIG };
        assert!(matches!(Source::new("f", b"abcd", limits), Err(SourceError::Len { max: 3, .. })));
        assert!(Source::new("f", b"abc", limits).is_ok());
        assert!(matches!(Source::read(Path::new("/dev/zero"), limits), Err(SourceError::Len { .. })));
        assert!(matches!(Source::read(Path::new("/nowhere/at/all"), limits), Err(SourceError::Read { .. })));
    }
}
