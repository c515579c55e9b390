//! Writes a source directory that reads back as the same.

use std::fmt;

use super::{Entry, Kind, UserDirect};
use crate::source::Layout;

impl fmt::Display for UserDirect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.directory {
            writeln!(f, "{}", line.statement.layout().lines())?;
        }
        self.entries.iter().try_for_each(|entry| entry.fmt(f))
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layout = match self.kind {
            Kind::GlobalDefs => Layout::new().word("GLOBALDEFS"),
            Kind::Profile => Layout::new().word("PROFILE").word(self.name),
            Kind::User => Layout::new().word("USER").word(self.name),
            Kind::Identity => Layout::new().word("IDENTITY").word(self.name),
            Kind::Subconfig => Layout::new().word("SUBCONFIG").word(self.name),
        };
        let layout = match &self.header {
            Some(header) => header.layout(layout),
            None => layout,
        };
        writeln!(f, "{}", layout.lines())?;
        for line in &self.lines {
            // The first line of a statement is set in; Layout sets in those that continue it.
            writeln!(f, "{}", line.statement.layout().lines())?;
        }
        Ok(())
    }
}
