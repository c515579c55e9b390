//! `RELOCATION_DOMAIN domain MEMBERS sysname...`: members among which a guest keeps all of its facilities.

use serde::Serialize;

use crate::SystemName;
use crate::source::{Diagnostic, Layout, Spelling, Words};

/// A RELOCATION_DOMAIN statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RelocationDomain {
    /// The domain.
    pub name: SystemName,
    /// Who is in it, each once.
    pub members: Vec<SystemName>,
}

impl RelocationDomain {
    pub(crate) fn parse(words: &mut Words<'_>) -> Result<Self, Diagnostic> {
        let name = words.value("the domain's name")?;
        words.require(Spelling("MEMBERs"))?;
        let mut members: Vec<SystemName> = Vec::new();
        while members.is_empty() || !words.is_empty() {
            let member = words.value("a member's name")?;
            if members.contains(&member) {
                return Err(
                    Diagnostic::error(words.last(), format!("{member} twice")).expecting("each member once")
                );
            }
            members.push(member);
        }
        Ok(Self { name, members })
    }

    pub(crate) fn layout(&self) -> Layout {
        Layout::new().word("RELOCATION_DOMAIN").word(self.name).word("MEMBERS").words(&self.members)
    }
}
