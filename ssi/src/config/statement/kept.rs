//! A statement that z/VM has and that is kept as it is.

use serde::Serialize;

use crate::source::{Layout, Spelling, Word};

/// Name and words of a statement without effect here.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Kept {
    /// Its name in full.
    pub name: String,
    /// All of its words, the name's too, as written.
    #[serde(serialize_with = "texts")]
    pub words: Vec<Word>,
}

fn texts<S: serde::Serializer>(words: &[Word], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(words.iter().map(|word| &word.text))
}

impl Kept {
    pub(crate) fn new(name: &[Spelling], words: &[Word]) -> Self {
        let name = name.iter().map(|part| part.full()).collect::<Vec<_>>().join(" ");
        Self { name, words: words.to_vec() }
    }

    pub(crate) fn layout(&self) -> Layout {
        self.words.iter().fold(Layout::new(), |layout, word| match word.is_quoted {
            true => layout.quoted(&word.text),
            false => layout.word(&word.text),
        })
    }
}
