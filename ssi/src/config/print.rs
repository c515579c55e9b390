//! Writes a configuration so that it reads back the same.

use std::fmt;

use super::{Record, SystemConfig};
use crate::source::Layout;

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let qualifiers = self.scope.own.iter().map(|name| format!("{name}:"));
        f.write_str(&Layout::new().words(qualifiers).then(self.statement.layout()).lines())
    }
}

impl fmt::Display for SystemConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for records in self.records.chunk_by(|one, other| one.scope.block == other.scope.block) {
            let block = &records[0].scope.block;
            let bracket = |word: &str| {
                let qualifiers = block.iter().map(|name| format!("{name}:"));
                Layout::new().words(qualifiers).word(word).lines()
            };
            if !block.is_empty() {
                writeln!(f, "{}", bracket("BEGIN"))?;
            }
            for record in records {
                writeln!(f, "{record}")?;
            }
            if !block.is_empty() {
                writeln!(f, "{}", bracket("END"))?;
            }
        }
        Ok(())
    }
}
