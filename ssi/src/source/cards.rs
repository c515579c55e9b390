//! Logical lines of a source directory: card images.
//!
//! Words are separated by blanks. A line whose first character that is not blank is an asterisk is a comment. A comma
//! that ends a line continues the statement. Columns 73 to 80 hold sequence numbers, which are not read.

use super::text::Limits;
use super::{Diagnostic, Diagnostics, Logical, Source, Span, Word};

/// Columns of a card that are read, in characters.
const COLUMNS: usize = 72;

/// The part of a line that is read. Something other than a sequence number after it is an error.
fn card(line: &str, start: usize, diagnostics: &mut Diagnostics) -> usize {
    let Some((cut, _)) = line.char_indices().nth(COLUMNS) else { return line.len() };
    let tail = line[cut..].trim();
    if !(tail.len() <= 8 && tail.bytes().all(|byte| byte.is_ascii_digit())) {
        let blanks = line[cut..].len() - line[cut..].trim_start().len();
        let span = Span { start: start + cut + blanks, len: tail.len() };
        let message = "columns 73 to 80 are for sequence numbers and are not read";
        diagnostics
            .push(Diagnostic::error(span, message).expecting("the rest of the statement on the next line"));
    }
    cut
}

/// The words of a line, with their places in the file.
fn words(line: &str, start: usize) -> impl Iterator<Item = Word> {
    line.split_whitespace().map(move |text| {
        let offset = text.as_ptr() as usize - line.as_ptr() as usize;
        let span = Span { start: start + offset, len: text.len() };
        Word { text: text.to_owned(), is_quoted: false, span }
    })
}

/// All statements of a source directory.
pub(crate) fn cards(source: &Source, limits: Limits, diagnostics: &mut Diagnostics) -> Vec<Logical> {
    let mut lines: Vec<Logical> = Vec::new();
    let mut held: Vec<Word> = Vec::new();
    let mut comma = None;
    let mut start = 0;
    for line in source.text().split_inclusive('\n') {
        let at = start;
        start += line.len();
        if line.trim_start().starts_with('*') || line.trim().is_empty() {
            continue;
        }
        let line = line.trim_end();
        if line.len() > limits.line_len_max_bytes {
            let message = format!("the line has {} bytes", line.len());
            let expected = format!("at most {}", limits.line_len_max_bytes);
            diagnostics.push(Diagnostic::error(Span { start: at, len: 1 }, message).expecting(expected));
            continue;
        }
        let card = &line[..card(line, at, diagnostics)];
        if card.trim().is_empty() {
            continue;
        }
        held.extend(words(card, at));
        comma = drop_comma(&mut held);
        if comma.is_none() && !end_statement(&mut held, &mut lines, limits, diagnostics) {
            return lines;
        }
    }
    if let Some(span) = comma {
        let message = "the file ends in a statement that goes on";
        diagnostics
            .push(Diagnostic::error(span, message).expecting("the rest of the statement, or no comma"));
    }
    end_statement(&mut held, &mut lines, limits, diagnostics);
    lines
}

/// Takes the comma off the end of a line that goes on.
fn drop_comma(words: &mut Vec<Word>) -> Option<Span> {
    let last = words.last_mut()?;
    let text = last.text.strip_suffix(',')?.to_owned();
    let comma = Span { start: last.span.end() - 1, len: 1 };
    if text.is_empty() {
        words.pop();
    } else {
        last.span.len -= 1;
        last.text = text;
    }
    Some(comma)
}

/// Whether there is room for more statements.
fn end_statement(
    words: &mut Vec<Word>,
    lines: &mut Vec<Logical>,
    limits: Limits,
    diagnostics: &mut Diagnostics,
) -> bool {
    let words = std::mem::take(words);
    let (Some(first), Some(last)) = (words.first(), words.last()) else { return true };
    let span = first.span.to(last.span);
    let mut error = |message: &str, max: usize| {
        diagnostics.push(Diagnostic::error(first.span, message).expecting(format!("at most {max}")));
    };
    if words.iter().any(|word| word.text.len() > limits.word_len_max_bytes) {
        error("a word of the statement is too long", limits.word_len_max_bytes);
    } else if words.len() > limits.words_max {
        error("the statement has too many words", limits.words_max);
    } else if lines.len() == limits.statements_max {
        error("the file has too many statements", limits.statements_max);
        return false;
    } else {
        lines.push(Logical { words, span });
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Vec<Vec<String>>, Vec<String>) {
        let source = Source::new("f", text.as_bytes(), Limits::DIRECTORY).unwrap();
        let mut diagnostics = Diagnostics::default();
        let lines = cards(&source, Limits::DIRECTORY, &mut diagnostics);
        let words = |line: Logical| line.words.into_iter().map(|word| word.text).collect();
        let messages = diagnostics.findings(&source).iter().map(ToString::to_string).collect();
        (lines.into_iter().map(words).collect(), messages)
    }

    #[test]
    fn asterisks_comment_commas_continue_and_sequence_numbers_are_not_read() {
        let text = format!("* a\n  * b\nUSER A\n  OPTION X ,\n* c\n   Y,\n Z\n{:<72}00010000\n", "IPL CMS");
        let (lines, messages) = read(&text);
        assert_eq!(messages, Vec::<String>::new());
        assert_eq!(lines, [vec!["USER", "A"], vec!["OPTION", "X", "Y", "Z"], vec!["IPL", "CMS"]]);
    }

    #[test]
    fn text_after_column_72_and_an_open_end_are_errors() {
        let (_, messages) = read(&format!("{:<74}PARM\n", "IPL CMS"));
        assert!(messages[0].starts_with("f:1:75: error: columns 73 to 80"), "{messages:?}");
        assert!(read("IPL ,\n").1[0].contains("the file ends in a statement that goes on"));
        assert!(read(",\n").1[0].contains("the file ends"));
    }
}
