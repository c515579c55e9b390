//! `PRODUCT PRODID id [STATE ENABLED | STATE DISABLED] [DESCRIPTION 'text']`: a product that is on the system.

use serde::Serialize;

use crate::source::{Diagnostic, Layout, Spelling, Words};

/// A PRODUCT statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Product {
    /// Product number, 1 to 8 characters.
    pub id: String,
    /// Whether it may be used.
    pub is_enabled: bool,
    /// As written.
    pub description: Option<String>,
}

impl Product {
    pub(crate) fn parse(words: &mut Words<'_>) -> Result<Self, Diagnostic> {
        words.require(Spelling("PRODid"))?;
        let id = words.expect("a product's number")?;
        if !(1..=8).contains(&id.text.len()) || !id.text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            let message = format!("'{}' is no product number", id.text);
            return Err(Diagnostic::error(id.span, message).expecting("1 to 8 letters and digits"));
        }
        let (mut state, mut description) = (None, None);
        while !words.is_empty() {
            if state.is_none() && words.accept(Spelling("STATE")) {
                let choices = [(Spelling("ENAbled"), true), (Spelling("DISAbled"), false)];
                state = Some(words.one_of(&choices)?);
            } else if description.is_none() && words.accept(Spelling("DESCription")) {
                description = Some(words.expect("a description in quotes")?.text.clone());
            } else {
                words.finish("STATE or DESCRIPTION, each once")?;
            }
        }
        Ok(Self { id: id.text.to_ascii_uppercase(), is_enabled: state.unwrap_or(true), description })
    }

    pub(crate) fn layout(&self) -> Layout {
        let state = if self.is_enabled { "ENABLED" } else { "DISABLED" };
        let layout = Layout::new().word("PRODUCT").word("PRODID").word(&self.id).word("STATE").word(state);
        match &self.description {
            Some(text) => layout.word("DESCRIPTION").quoted(text),
            None => layout,
        }
    }
}
