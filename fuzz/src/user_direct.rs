//! A source directory.

use ssi::SystemName;
use ssi::directory::{HashCost, Object, UserDirect, maps};
use ssi::source::{Limits, Source};

/// What is printed of a file without errors reads back the same; it compiles, passwords apart.
pub fn run(bytes: &[u8]) {
    let Ok(source) = Source::new("user.direct", bytes, Limits::DIRECTORY) else { return };
    let (directory, diagnostics) = UserDirect::parse(&source);
    let _ = diagnostics.findings(&source);
    for map in maps(&directory) {
        let _ = (map.gaps(), map.overlaps());
    }
    let (statements, diagnostics) = UserDirect::parse_statements(&source);
    if diagnostics.has_errors() {
        return;
    }
    let Ok(printed) = Source::new("printed", statements.to_string().as_bytes(), Limits::DIRECTORY) else {
        return;
    };
    let (again, diagnostics) = UserDirect::parse_statements(&printed);
    if !diagnostics.has_errors() {
        assert!(again == statements, "{}", printed.text());
    }
    // Hashing is slow: a few are enough.
    if statements.entries().len() <= 4 && bytes.len() < 400 {
        let member = SystemName::new("MEMBERA").unwrap();
        let objects = Object::compile(&statements, &[member], 1, HashCost::LEAST).unwrap();
        assert_eq!(objects.len(), 1);
    }
}
