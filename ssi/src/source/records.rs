//! Logical lines of a system configuration file.
//!
//! Words are separated by blanks or commas. A comma that ends a line continues the statement on the next one that holds
//! words. Comments stand between `/*` and `*/`, anywhere, and may go over several lines. Quoted words keep blanks and
//! commas; a quote inside one is written twice.

use winnow::ascii::line_ending;
use winnow::combinator::{alt, not, opt, peek, repeat};
use winnow::error::{ContextError, ErrMode};
use winnow::stream::LocatingSlice;
use winnow::token::{any, none_of, one_of, take_until, take_while};
use winnow::{ModalResult, Parser};

use super::text::Limits;
use super::{Diagnostic, Diagnostics, Logical, Source, Span, Word};

type Input<'a> = LocatingSlice<&'a str>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    Blank,
    LineEnd,
    Comma,
    Word,
    Quoted,
    /// With whether it is closed, and whether another one is opened inside it.
    Comment {
        is_closed: bool,
        opens_again: bool,
    },
    OpenQuote,
}

fn comment(input: &mut Input<'_>) -> ModalResult<Piece> {
    "/*".parse_next(input)?;
    let inside = opt(take_until(0.., "*/")).parse_next(input)?;
    match inside {
        Some(inside) => {
            "*/".parse_next(input)?;
            let opens_again = inside.lines().skip(1).any(|line| line.trim_start().starts_with("/*"));
            Ok(Piece::Comment { is_closed: true, opens_again })
        }
        None => {
            take_while(0.., |_| true).parse_next(input)?;
            Ok(Piece::Comment { is_closed: false, opens_again: false })
        }
    }
}

fn quoted(input: &mut Input<'_>) -> ModalResult<Piece> {
    let quote = peek(one_of(['\'', '"'])).parse_next(input)?;
    let whole = (
        quote,
        repeat::<_, _, (), ErrMode<ContextError>, _>(
            0..,
            alt((none_of([quote, '\n']).void(), (quote, quote).void())),
        ),
        quote,
    );
    if let Some(()) = opt(whole.void()).parse_next(input)? {
        return Ok(Piece::Quoted);
    }
    take_while(1.., |letter| letter != '\n').parse_next(input)?;
    Ok(Piece::OpenQuote)
}

fn word(input: &mut Input<'_>) -> ModalResult<Piece> {
    let letters = take_while(1.., |letter: char| !letter.is_whitespace() && letter != ',' && letter != '/');
    let slash = ('/', not('*')).take();
    repeat(1.., alt((letters, slash))).map(|()| Piece::Word).parse_next(input)
}

fn piece(input: &mut Input<'_>) -> ModalResult<Piece> {
    alt((
        line_ending.value(Piece::LineEnd),
        take_while(1.., |letter: char| letter.is_whitespace() && letter != '\n').value(Piece::Blank),
        comment,
        ','.value(Piece::Comma),
        quoted,
        word,
        any.value(Piece::Blank),
    ))
    .parse_next(input)
}

/// Puts pieces together to statements.
struct Assembly<'a> {
    source: &'a Source,
    limits: Limits,
    lines: Vec<Logical>,
    words: Vec<Word>,
    /// The comma that may continue the statement.
    comma: Option<Span>,
    diagnostics: &'a mut Diagnostics,
}

impl Assembly<'_> {
    fn error(&mut self, span: Span, message: impl Into<String>, expected: &str) {
        self.diagnostics.push(Diagnostic::error(span, message).expecting(expected));
    }

    fn word(&mut self, span: Span, is_quoted: bool) {
        self.comma = None;
        if span.len > self.limits.word_len_max_bytes {
            let max = self.limits.word_len_max_bytes;
            self.error(span, "the word is too long", &format!("at most {max} bytes"));
        } else if self.words.len() == self.limits.words_max {
            let max = self.limits.words_max;
            self.error(span, "the statement has too many words", &format!("at most {max} words"));
        }
        if span.len <= self.limits.word_len_max_bytes && self.words.len() < self.limits.words_max {
            let text = self.source.at(span);
            let text = if is_quoted { unquote(text) } else { text.to_owned() };
            self.words.push(Word { text, is_quoted, span });
        }
    }

    /// The end of a line ends the statement unless its last word was a comma.
    fn line_end(&mut self) {
        if self.comma.is_none() {
            self.statement_end();
        }
    }

    fn statement_end(&mut self) {
        self.comma = None;
        let words = std::mem::take(&mut self.words);
        if let (Some(first), Some(last)) = (words.first(), words.last()) {
            let span = first.span.to(last.span);
            self.lines.push(Logical { words, span });
        }
    }

    fn comma(&mut self, span: Span) {
        if self.words.is_empty() {
            self.error(span, "a comma with nothing before it", "a statement");
        } else {
            self.comma = Some(span);
        }
    }

    fn comment(&mut self, span: Span, is_closed: bool, opens_again: bool) {
        let mark = Span { len: 2, ..span };
        if !is_closed {
            self.error(mark, "the comment is not closed", "*/");
        } else if opens_again {
            let message = "the comment goes over a line that starts another one";
            self.diagnostics.push(Diagnostic::warning(mark, message).expecting("*/ on the line of this /*"));
        }
    }
}

fn unquote(text: &str) -> String {
    let quote = &text[..1];
    text[1..text.len() - 1].replace(&quote.repeat(2), quote)
}

/// All statements of a configuration file.
pub(crate) fn records(source: &Source, limits: Limits, diagnostics: &mut Diagnostics) -> Vec<Logical> {
    long_lines(source, limits, diagnostics);
    let mut input = LocatingSlice::new(source.text());
    let mut assembly =
        Assembly { source, limits, lines: Vec::new(), words: Vec::new(), comma: None, diagnostics };
    while !input.is_empty() {
        if assembly.lines.len() == limits.statements_max {
            let span = assembly.lines.last().map(|line| line.span).unwrap_or_default();
            let max = limits.statements_max;
            assembly.error(span, "the file has too many statements", &format!("at most {max}"));
            return assembly.lines;
        }
        let (piece, range) = match piece.with_span().parse_next(&mut input) {
            Ok(found) => found,
            Err(_) => break,
        };
        let span = Span::between(range.start, range.end);
        match piece {
            Piece::Blank => {}
            Piece::LineEnd => assembly.line_end(),
            Piece::Comma => assembly.comma(span),
            Piece::Word => assembly.word(span, false),
            Piece::Quoted => assembly.word(span, true),
            Piece::OpenQuote => {
                assembly.comma = None;
                assembly.error(
                    Span { len: 1, ..span },
                    "the quoted word is not closed",
                    "a quote on the same line",
                );
            }
            Piece::Comment { is_closed, opens_again } => assembly.comment(span, is_closed, opens_again),
        }
    }
    if let Some(comma) = assembly.comma {
        assembly.error(
            comma,
            "the file ends in a statement that goes on",
            "the rest of the statement, or no comma",
        );
    }
    assembly.statement_end();
    assembly.lines
}

fn long_lines(source: &Source, limits: Limits, diagnostics: &mut Diagnostics) {
    let max = limits.line_len_max_bytes;
    let mut start = 0;
    for line in source.text().split_inclusive('\n') {
        if line.trim_end().len() > max {
            let span = Span { start, len: 1 };
            let message = format!("the line has {} bytes", line.trim_end().len());
            diagnostics.push(Diagnostic::error(span, message).expecting(format!("at most {max}")));
        }
        start += line.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Vec<Vec<String>>, Vec<String>) {
        let source = Source::new("f", text.as_bytes(), Limits::CONFIG).unwrap();
        let mut diagnostics = Diagnostics::default();
        let lines = records(&source, Limits::CONFIG, &mut diagnostics);
        let words = |line: Logical| line.words.into_iter().map(|word| word.text).collect();
        let messages = diagnostics.findings(&source).iter().map(ToString::to_string).collect();
        (lines.into_iter().map(words).collect(), messages)
    }

    #[test]
    fn commas_continue_and_comments_and_blank_lines_between_do_not_matter() {
        let (lines, messages) = read(
            "  /* one */ SSI C1 , /* two */\n\n  /* SLOT 9 X, */\n SLOT 1 A,SLOT 2 'B, ''C'''\r\nNEXT /* open\n still */ word\n",
        );
        assert_eq!(messages, Vec::<String>::new());
        assert_eq!(lines[0], ["SSI", "C1", "SLOT", "1", "A", "SLOT", "2", "B, 'C'"]);
        assert_eq!(lines[1], ["NEXT", "word"]);
    }

    #[test]
    fn a_slash_is_a_letter_unless_a_star_follows() {
        let (lines, _) = read("A unix:/run/a/b /x/*c*/ / y/");
        assert_eq!(lines[0], ["A", "unix:/run/a/b", "/x", "/", "y/"]);
    }

    #[test]
    fn what_is_left_open_is_named_with_its_place() {
        assert_eq!(read("A\n  B /* c").1, ["f:2:5: error: the comment is not closed (expected */)"]);
        assert_eq!(
            read("A 'b\nC").1,
            ["f:1:3: error: the quoted word is not closed (expected a quote on the same line)"]
        );
        assert_eq!(
            read("A b,\n\n").1,
            [
                "f:1:4: error: the file ends in a statement that goes on (expected the rest of the statement, or no comma)"
            ]
        );
        assert_eq!(read(", A").1, ["f:1:1: error: a comma with nothing before it (expected a statement)"]);
        assert!(read("/* a\n/* b */ C").1[0].contains("warning: the comment goes over a line"));
    }

    #[test]
    fn long_words_lines_and_statements_are_refused() {
        let word = "x".repeat(Limits::CONFIG.word_len_max_bytes + 1);
        assert!(read(&word).1[0].contains("the word is too long"));
        assert!(
            read(&"x ".repeat(Limits::CONFIG.line_len_max_bytes)).1[0].contains("the line has 7999 bytes")
        );
        let many = "x,\n".repeat(Limits::CONFIG.words_max + 1) + "y";
        assert!(read(&many).1[0].contains("too many words"));
        let many = "x\n".repeat(Limits::CONFIG.statements_max + 1);
        assert!(read(&many).1[0].contains("too many statements"));
    }
}
