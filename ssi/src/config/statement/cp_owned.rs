//! `CP_OWNED SLOT n {volid | RESERVED} [OWN | SHARED]`: a volume on which CP itself keeps spool, pages, or the directory.

use serde::Serialize;

use crate::VolumeLabel;
use crate::source::{Diagnostic, Layout, Spelling, Words};

/// What is in a slot of the CP-owned list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Owned {
    /// This volume.
    Volume(VolumeLabel),
    /// Nothing, and nothing may be put there by a command.
    Reserved,
}

/// A CP_OWNED statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CpOwned {
    /// From 1 to 255.
    pub slot: u8,
    /// What is in it.
    pub owned: Owned,
    /// Whether the temporary space of the volume may be shared with another system, as single systems once did.
    pub is_shared: bool,
}

impl CpOwned {
    pub(crate) fn parse(words: &mut Words<'_>) -> Result<Self, Diagnostic> {
        words.require(Spelling("SLOT"))?;
        let slot = words.number("a slot of the CP-owned list", 1..=255)? as u8;
        if words.accept(Spelling("RESERVED")) {
            return Ok(Self { slot, owned: Owned::Reserved, is_shared: false });
        }
        let owned = Owned::Volume(words.value("a volume's label or RESERVED")?);
        let is_shared = match words.is_empty() {
            true => false,
            false => words.one_of(&[(Spelling("OWN"), false), (Spelling("SHAred"), true)])?,
        };
        Ok(Self { slot, owned, is_shared })
    }

    pub(crate) fn layout(&self) -> Layout {
        let layout = Layout::new().word("CP_OWNED").word("SLOT").word(self.slot);
        let layout = match self.owned {
            Owned::Volume(label) => layout.word(label),
            Owned::Reserved => layout.word("RESERVED"),
        };
        layout.flag("SHARED", self.is_shared)
    }
}
