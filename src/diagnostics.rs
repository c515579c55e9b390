//! Shows what is said about a file of statements: the line, a caret, and what was expected.

use std::io::IsTerminal;

use miette::{GraphicalReportHandler, GraphicalTheme, ThemeCharacters, ThemeStyles};
use ssi::source::{Diagnostics, InFile, Severity, Source};

use crate::progress::complain;

/// Most that are shown.
const SHOWN_MAX: usize = 50;

/// Plain ASCII, with a caret under each character of the place.
fn theme() -> GraphicalTheme {
    let is_colored =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let characters = ThemeCharacters { underbar: '^', underline: '^', ..ThemeCharacters::ascii() };
    let styles = if is_colored { ThemeStyles::ansi() } else { ThemeStyles::none() };
    GraphicalTheme { characters, styles }
}

/// On standard error, if there are any.
pub(crate) fn show(source: &Source, diagnostics: &Diagnostics) {
    if !diagnostics.is_empty() {
        complain(render(source, diagnostics).trim_end());
    }
}

/// Each diagnostic with its line, and a last line with how many there are.
fn render(source: &Source, diagnostics: &Diagnostics) -> String {
    let handler =
        GraphicalReportHandler::new_themed(theme()).with_links(false).with_context_lines(0).with_width(110);
    let mut text = String::new();
    for diagnostic in diagnostics.iter().take(SHOWN_MAX) {
        if handler.render_report(&mut text, &InFile { diagnostic, source }).is_err() {
            text += &format!("{diagnostic}\n");
        }
    }
    text + &count(source, diagnostics)
}

/// `FILE: 2 errors, 1 warning`.
fn count(source: &Source, diagnostics: &Diagnostics) -> String {
    let of = |severity: Severity, word: &str| {
        let count = diagnostics.iter().filter(|diagnostic| diagnostic.severity == severity).count();
        format!("{count} {word}{}", if count == 1 { "" } else { "s" })
    };
    let counts = format!("{}, {}", of(Severity::Error, "error"), of(Severity::Warning, "warning"));
    let hidden = diagnostics.len().saturating_sub(SHOWN_MAX) + diagnostics.omitted();
    let more = if hidden > 0 { format!(", {hidden} more not shown") } else { String::new() };
    format!("{}: {counts}{more}\n", source.name())
}
