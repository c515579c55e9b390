//! Which system runs on which hardware.

use super::statement::SystemIdentifier;
use super::{Statement, SystemConfig};
use crate::SystemName;

/// What a system knows about the machine it starts on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hardware {
    /// Name of the logical partition, or for a second-level system the first-level user id.
    pub lpar: String,
    /// Machine type, e.g. `3906`.
    pub model: String,
    /// CPU identification number.
    pub cpu_id: String,
}

impl SystemConfig {
    /// The system's name on this hardware: the first SYSTEM_IDENTIFIER that fits, or else the default.
    pub fn identify(&self, hardware: &Hardware) -> Option<SystemName> {
        let fits = self.identifiers().find(|identifier| identifier.fits(hardware));
        fits.map(|identifier| identifier.system).or_else(|| self.default_name())
    }

    /// All names that the file gives to systems.
    pub(super) fn identified(&self) -> Vec<SystemName> {
        self.identifiers().map(|identifier| identifier.system).chain(self.default_name()).collect()
    }

    pub(super) fn identifiers(&self) -> impl Iterator<Item = &SystemIdentifier> {
        self.records.iter().filter_map(|record| match &record.statement {
            Statement::SystemIdentifier(identifier) => Some(identifier),
            _ => None,
        })
    }

    pub(super) fn default_name(&self) -> Option<SystemName> {
        self.records.iter().find_map(|record| match &record.statement {
            Statement::SystemIdentifierDefault(default) => Some(default.system),
            _ => None,
        })
    }
}
