//! Writes words as lines that read back as the same statement.
//!
//! On a card, a line that starts with an asterisk is a comment: no line may start with such a word.

/// Longest line that is written, in characters, unless one word alone is longer. A card has as many columns for text.
const COLUMNS: usize = 72;
/// Of continuation lines, if there is room.
const INDENT: usize = 4;

/// Words of a statement to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    words: Vec<String>,
}

impl Layout {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a word as it is.
    #[must_use]
    pub fn word(mut self, word: impl ToString) -> Self {
        self.words.push(word.to_string());
        self
    }

    /// Adds each as a word.
    #[must_use]
    pub fn words<T: ToString>(mut self, words: impl IntoIterator<Item = T>) -> Self {
        self.words.extend(words.into_iter().map(|word| word.to_string()));
        self
    }

    /// Adds all words of another one.
    #[must_use]
    pub fn then(mut self, other: Self) -> Self {
        self.words.extend(other.words);
        self
    }

    /// Adds a word in quotes.
    #[must_use]
    pub fn quoted(self, word: &str) -> Self {
        self.word(format!("'{}'", word.replace('\'', "''")))
    }

    /// Adds free text: in quotes if it would not be read as one word otherwise.
    #[must_use]
    pub fn text(self, text: &str) -> Self {
        let is_plain = !text.is_empty()
            && !text.starts_with(['\'', '"'])
            && !text.contains(|letter: char| letter.is_whitespace() || letter == ',')
            && !text.contains("/*");
        if is_plain { self.word(text) } else { self.quoted(text) }
    }

    /// Adds a keyword and its value, if there is one.
    #[must_use]
    pub fn option<T: ToString>(self, keyword: &str, value: Option<T>) -> Self {
        match value {
            Some(value) => self.word(keyword).word(value.to_string()),
            None => self,
        }
    }

    /// Adds a keyword if it holds.
    #[must_use]
    pub fn flag(self, keyword: &str, holds: bool) -> Self {
        if holds { self.word(keyword) } else { self }
    }

    /// On as many lines as it takes, each but the last with the comma that continues it.
    pub fn lines(&self) -> String {
        let mut text = String::new();
        let mut column = 0;
        let starts_line = |word: &String| !word.starts_with('*');
        for chunk in self.words.chunk_by(|_, next| !starts_line(next)) {
            let chunk = chunk.join(" ");
            let len = chunk.chars().count();
            // Room for the blank before the chunk, and for blank and comma after it.
            if column > 0 && column + len + 3 > COLUMNS {
                text += if column + 2 > COLUMNS { ",\n" } else { " ,\n" };
                column = if INDENT + len + 2 > COLUMNS { 0 } else { INDENT };
                text.extend(std::iter::repeat_n(' ', column));
            } else if column > 0 {
                text.push(' ');
                column += 1;
            }
            text += &chunk;
            column += len;
        }
        text
    }

    /// On one line.
    pub fn line(&self) -> String {
        self.words.join(" ")
    }
}
