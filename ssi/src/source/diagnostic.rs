//! What is said about a file: where, what, and what was expected.

use std::fmt;

use serde::Serialize;

use super::{Source, Span};

/// Whether a file with this can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Probably not meant so, but can be used.
    Warning,
    /// Cannot be used.
    Error,
}

/// One thing said about a place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether the file can be used.
    pub severity: Severity,
    /// The place.
    pub span: Span,
    /// What is wrong there.
    pub message: String,
    /// What should stand there, or what to do.
    pub expected: Option<String>,
}

impl Diagnostic {
    /// The file cannot be used.
    pub fn error(span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, span, message: message.into(), expected: None }
    }

    /// The file can be used.
    pub fn warning(span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(span, message) }
    }

    /// With what should stand there.
    #[must_use]
    pub fn expecting(mut self, what: impl Into<String>) -> Self {
        self.expected = Some(what.into());
        self
    }
}

/// A diagnostic with the file it is about, as `miette` shows it.
#[derive(Debug)]
pub struct InFile<'a> {
    /// What is said.
    pub diagnostic: &'a Diagnostic,
    /// The file.
    pub source: &'a Source,
}

impl fmt::Display for InFile<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.diagnostic.fmt(f)
    }
}

impl std::error::Error for InFile<'_> {}

impl miette::Diagnostic for InFile<'_> {
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.diagnostic.severity {
            Severity::Warning => miette::Severity::Warning,
            Severity::Error => miette::Severity::Error,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let expected = self.diagnostic.expected.as_ref()?;
        Some(Box::new(format!("expected {expected}")))
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        Some(self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = miette::LabeledSpan> + '_>> {
        let span = self.diagnostic.span;
        // A span never goes over the end of its line, so that one line is shown.
        let len = self.source.at(span).lines().next().map_or(span.len, str::len);
        Some(Box::new(std::iter::once(miette::LabeledSpan::new(None, span.start, len))))
    }
}

/// A diagnostic with the file's name and line, for programs and logs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The file's name.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1, in characters.
    pub column: usize,
    /// Whether the file can be used.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// What should stand there.
    pub expected: Option<String>,
    /// The words at the place.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{}:{}:{}: {severity}: {}", self.file, self.line, self.column, self.message)?;
        match &self.expected {
            Some(expected) => write!(f, " (expected {expected})"),
            None => Ok(()),
        }
    }
}

/// Most diagnostics that are kept: nobody reads more, and a broken file may give one for each of its lines.
const KEPT_MAX: usize = 1000;

/// All that is said about one file, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics {
    kept: Vec<Diagnostic>,
    omitted: usize,
    has_errors: bool,
}

impl Diagnostics {
    /// Adds one, unless the same was said of the same place before.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.has_errors |= diagnostic.severity == Severity::Error;
        let at = self.kept.partition_point(|held| held.span.start <= diagnostic.span.start);
        let mut same_place =
            self.kept[..at].iter().rev().take_while(|held| held.span.start == diagnostic.span.start);
        if same_place.any(|held| *held == diagnostic) {
            return;
        }
        if self.kept.len() == KEPT_MAX {
            self.omitted += 1;
        } else {
            self.kept.insert(at, diagnostic);
        }
    }

    /// Whether the file cannot be used.
    pub fn has_errors(&self) -> bool {
        self.has_errors
    }

    /// Each, in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.kept.iter()
    }

    /// How many were kept.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// How many were not kept, since there are so many.
    pub fn omitted(&self) -> usize {
        self.omitted
    }

    /// Whether nothing was said.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Each with the file's name and its line.
    pub fn findings(&self, source: &Source) -> Vec<Finding> {
        // Lines are counted on from the diagnostic before, so that the file is gone through once.
        let mut counted = (0, 1);
        let finding = |diagnostic: &Diagnostic| {
            let (from, first) = counted;
            let between = Span::between(from, diagnostic.span.start);
            let line = first + source.at(between).bytes().filter(|byte| *byte == b'\n').count();
            counted = (from.max(diagnostic.span.start), line);
            let column = source.column(diagnostic.span);
            Finding {
                file: source.name().to_owned(),
                line,
                column,
                severity: diagnostic.severity,
                message: diagnostic.message.clone(),
                expected: diagnostic.expected.clone(),
                text: source.at(diagnostic.span).to_owned(),
            }
        };
        self.iter().map(finding).collect()
    }
}

impl Extend<Diagnostic> for Diagnostics {
    fn extend<I: IntoIterator<Item = Diagnostic>>(&mut self, diagnostics: I) {
        diagnostics.into_iter().for_each(|diagnostic| self.push(diagnostic));
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.kept.into_iter()
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Diagnostic {}
