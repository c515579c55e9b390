//! Writes a configuration so that it reads back the same.

use std::fmt;

use super::{Record, SystemConfig};

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for name in &self.scope.own {
            write!(f, "{name}: ")?;
        }
        f.write_str(&self.statement.layout().lines())
    }
}

impl fmt::Display for SystemConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for records in self.records.chunk_by(|one, other| one.scope.block == other.scope.block) {
            let block = &records[0].scope.block;
            let qualifiers = || block.iter().map(|name| format!("{name}: ")).collect::<String>();
            if !block.is_empty() {
                writeln!(f, "{}BEGIN", qualifiers())?;
            }
            for record in records {
                writeln!(f, "{record}")?;
            }
            if !block.is_empty() {
                writeln!(f, "{}END", qualifiers())?;
            }
        }
        Ok(())
    }
}
