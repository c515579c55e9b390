//! `EQUATE name sysname...`: a name for several systems, for use as a qualifier.

use serde::Serialize;

use crate::SystemName;
use crate::config::Pattern;
use crate::source::{Diagnostic, Layout, Words};

/// An EQUATE statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Equate {
    /// The group.
    pub name: SystemName,
    /// Who is in it.
    pub members: Vec<Pattern>,
}

impl Equate {
    pub(crate) fn parse(words: &mut Words<'_>) -> Result<Self, Diagnostic> {
        let name = words.value("a name for the group")?;
        let mut members = vec![words.value("a member's name or a pattern")?];
        while !words.is_empty() {
            members.push(words.value("a member's name or a pattern")?);
        }
        Ok(Self { name, members })
    }

    pub(crate) fn layout(&self) -> Layout {
        Layout::new().word("EQUATE").word(self.name).words(&self.members)
    }
}
