//! SYSTEM CONFIG: what each member of the cluster is told before it starts.
//!
//! One file serves all members. A statement applies to every member unless it is qualified by names of members.
//!
//! ```text
//! Source ─▶ SystemConfig (records: scope + statement) ─▶ for_member(MEMBERA) ─▶ Effective
//!                 └─▶ check(): all that is wrong, with places          └─▶ shared parts compared at join
//! ```
//!
//! The language is that of z/VM (CP Planning and Administration, "The System Configuration File"); `docs/configuration.md`
//! lists the statements, and what is chosen where the manual is silent.

mod check;
mod check_links;
mod check_member;
mod effective;
mod endpoint;
mod identify;
mod names;
mod pattern;
mod print;
mod read;
mod scope;
mod shared;
mod show;
pub mod statement;

pub use effective::{Effective, Link, OwnedVolume};
pub use endpoint::{Endpoint, EndpointError};
pub use identify::Hardware;
pub use pattern::{Pattern, PatternError};
pub use scope::Scope;
pub use shared::Comparison;
pub use statement::Statement;

use crate::SystemName;
use crate::source::{Diagnostics, Logical, Source};

/// A statement of the file, for whom it is, and where it stands.
#[derive(Clone, Debug)]
pub struct Record {
    /// For whom it is.
    pub scope: Scope,
    /// What it says.
    pub statement: Statement,
    /// Its words and places.
    pub(crate) logical: Logical,
}

impl PartialEq for Record {
    /// Records are the same if they say the same, wherever they stand.
    fn eq(&self, other: &Self) -> bool {
        (&self.scope, &self.statement) == (&other.scope, &other.statement)
    }
}

/// A system configuration file that was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SystemConfig {
    records: Vec<Record>,
}

impl SystemConfig {
    /// Reads a file and checks it. The diagnostics tell whether what was read can be used.
    pub fn parse(source: &Source) -> (Self, Diagnostics) {
        let (config, mut diagnostics) = Self::parse_statements(source);
        // What a statement that was not understood may say is not missing.
        let is_whole = !diagnostics.has_errors();
        diagnostics.extend(config.check_all(is_whole));
        (config, diagnostics)
    }

    /// Reads a file, each statement by itself.
    pub fn parse_statements(source: &Source) -> (Self, Diagnostics) {
        let mut diagnostics = Diagnostics::default();
        let records = read::records(source, &mut diagnostics);
        (Self { records }, diagnostics)
    }

    /// All statements, in the order of the file.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Those that apply to this member.
    pub fn records_of(&self, member: SystemName) -> impl Iterator<Item = &Record> {
        let groups = self.groups_of(member);
        self.records.iter().filter(move |record| record.scope.includes(member, &groups))
    }

    /// Names that EQUATE statements give to groups this system belongs to.
    fn groups_of(&self, member: SystemName) -> Vec<SystemName> {
        let equates = self.records.iter().filter_map(|record| match &record.statement {
            Statement::Equate(equate) => Some(equate),
            _ => None,
        });
        equates
            .filter(|equate| equate.members.iter().any(|pattern| pattern.matches(member.as_str())))
            .map(|equate| equate.name)
            .collect()
    }

    /// All systems that the file is for: those in slots, or, where there is no SSI statement, those that it identifies.
    pub fn members(&self) -> Vec<SystemName> {
        let mut members = self.slot_members();
        if members.is_empty() {
            members = self.identified();
        }
        members.sort();
        members.dedup();
        members
    }

    fn slot_members(&self) -> Vec<SystemName> {
        let ssi = self.records.iter().find_map(|record| match &record.statement {
            Statement::Ssi(ssi) => Some(ssi),
            _ => None,
        });
        ssi.map(|ssi| ssi.members().map(|(_, name)| name).collect()).unwrap_or_default()
    }
}
