//! A system configuration file.

use ssi::config::SystemConfig;
use ssi::source::{Limits, Source};

/// What is printed of a file without errors reads back the same; each member's part can be shown.
pub fn run(bytes: &[u8]) {
    let Ok(source) = Source::new("system.config", bytes, Limits::CONFIG) else { return };
    let (config, diagnostics) = SystemConfig::parse(&source);
    let _ = diagnostics.findings(&source);
    for member in config.members() {
        let effective = config.for_member(member);
        let _ = (effective.to_string(), effective.comparison());
    }
    let (statements, diagnostics) = SystemConfig::parse_statements(&source);
    if !diagnostics.has_errors() {
        let printed = Source::new("printed", statements.to_string().as_bytes(), Limits::CONFIG);
        let Ok(printed) = printed else { return };
        let (again, diagnostics) = SystemConfig::parse_statements(&printed);
        // Lines grow when they are printed in full, so the longest of them may not be taken again.
        if !diagnostics.has_errors() {
            assert!(again == statements, "{}", printed.text());
        }
    }
}
