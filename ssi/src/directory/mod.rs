//! USER DIRECT: who may log on, with what.
//!
//! One source serves all members. It is compiled into an object directory for each, which the member runs on:
//!
//! ```text
//! Source ─▶ UserDirect (entries: header + statements) ─┬─▶ check(): all that is wrong, with places
//!                                                      ├─▶ minidisks(): what is where on which volume
//!                                                      └─▶ Object::compile(MEMBERA) ─▶ file ─▶ LiveDirectory
//! ```
//!
//! A `USER` is a single-configuration user: on one member at a time. An `IDENTITY` is a multiconfiguration user: once on each
//! member that a `BUILD ON` of it names, there with the statements of that `SUBCONFIG`.
//!
//! The language is that of z/VM (CP Planning and Administration, "Creating and Updating a User Directory");
//! `docs/directory.md` lists the statements, and what is chosen where the manual is silent.

mod check;
mod file;
mod live;
mod map;
mod minidisk;
mod object;
mod password;
mod print;
mod read;
mod statement;

pub use file::{ObjectError, from_bytes, read, write};
pub use live::LiveDirectory;
pub use map::{Overlap, Placed, VolumeMap, maps};
pub use minidisk::{Cylinders, Minidisk, Where};
pub use object::{DiskPassword, Object, ObjectDisk, ObjectUser, Scope};
pub use password::{HashCost, Password};
pub use statement::{Header, Statement};

use crate::name::UserId;
use crate::source::{Diagnostics, Logical, Source};

/// What kind of entry it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Settings for all.
    GlobalDefs,
    /// Statements that other entries include.
    Profile,
    /// A single-configuration user.
    User,
    /// A multiconfiguration user.
    Identity,
    /// What such a user has on some members only.
    Subconfig,
}

/// A statement and where it stands.
#[derive(Clone, Debug)]
pub struct Line {
    /// What it says.
    pub statement: Statement,
    pub(crate) logical: Logical,
}

impl PartialEq for Line {
    fn eq(&self, other: &Self) -> bool {
        self.statement == other.statement
    }
}

/// An entry: its first statement and all up to the next entry.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Of which kind.
    pub kind: Kind,
    /// Its name; that of the global definitions is `GLOBALS`.
    pub name: UserId,
    /// Password, storage and classes, of users only.
    pub header: Option<Header>,
    /// Its statements.
    pub lines: Vec<Line>,
    pub(crate) logical: Logical,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.kind, self.name, &self.header, &self.lines)
            == (other.kind, other.name, &other.header, &other.lines)
    }
}

/// A source directory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UserDirect {
    /// DIRECTORY statements, as written.
    directory: Vec<Line>,
    entries: Vec<Entry>,
}

impl UserDirect {
    /// Reads a source and checks it. The diagnostics tell whether what was read can be used.
    pub fn parse(source: &Source) -> (Self, Diagnostics) {
        let (directory, mut diagnostics) = Self::parse_statements(source);
        diagnostics.extend(directory.check());
        (directory, diagnostics)
    }

    /// Reads a source, each statement by itself.
    pub fn parse_statements(source: &Source) -> (Self, Diagnostics) {
        let mut diagnostics = Diagnostics::default();
        let directory = read::directory(source, &mut diagnostics);
        (directory, diagnostics)
    }

    /// All entries, in the order of the source.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The source is for a cluster: a DIRECTORY statement says SSI.
    pub fn is_ssi(&self) -> bool {
        self.directory.iter().any(|line| {
            matches!(&line.statement, Statement::Words(_, words) if words.first().is_some_and(|word| word == "SSI"))
        })
    }

    fn entry(&self, kind: Kind, name: UserId) -> Option<&Entry> {
        self.entries.iter().find(|entry| (entry.kind, entry.name) == (kind, name))
    }
}
