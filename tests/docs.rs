//! What the documents name exists, and what exists is named in the documents.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn document(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// Names of all properties and words of all enumerations in a schema.
fn names_in(schema: &serde_json::Value, names: &mut BTreeSet<String>) {
    match schema {
        serde_json::Value::Object(entries) => {
            if let Some(serde_json::Value::Object(properties)) = entries.get("properties") {
                names.extend(properties.keys().cloned());
            }
            if let Some(serde_json::Value::String(word)) = entries.get("const") {
                names.insert(word.clone());
            }
            entries.values().for_each(|value| names_in(value, names));
        }
        serde_json::Value::Array(values) => values.iter().for_each(|value| names_in(value, names)),
        _ => {}
    }
}

#[test]
fn every_field_and_word_of_the_report_is_explained() {
    let text = document("docs/report.md");
    let mut names = BTreeSet::new();
    names_in(&lgr_engine::report::Report::json_schema(), &mut names);
    assert!(names.len() > 80, "the schema has more names than these: {names:?}");
    let missing: Vec<_> = names.iter().filter(|name| !text.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "docs/report.md does not explain {missing:?}");
}

#[test]
fn every_field_and_word_of_a_result_is_explained() {
    // A run's passes, stop and queues are a report's.
    let text = document("docs/benchmarks.md") + &document("docs/report.md");
    let mut names = BTreeSet::new();
    names_in(&lgr::results::ScenarioResult::json_schema(), &mut names);
    names.extend(lgr::results::metrics::known().into_keys());
    assert!(names.len() > 60, "the schema has more names than these: {names:?}");
    let missing: Vec<_> = names.iter().filter(|name| !text.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "docs/benchmarks.md does not explain {missing:?}");
}

/// A number that readers of files and frames go by is the code's.
#[test]
fn the_changelog_has_the_numbers_of_the_code() {
    let text = document("CHANGELOG.md");
    let (oldest, newest) = isfc::hello::VERSIONS;
    for expected in [
        format!("report schema {},", lgr_engine::report::SCHEMA_VERSION),
        format!("result schema {},", lgr::results::SCHEMA_VERSION),
        format!("trace format {}\n", lgr_engine::trace::FORMAT_VERSION),
        format!("link protocol versions {oldest} to {newest},"),
        format!("cluster protocol levels {} to {}\n", ssi::member::LEVEL_OLDEST, ssi::member::LEVEL),
    ] {
        assert!(text.contains(&expected), "CHANGELOG.md does not say '{}'", expected.trim_end());
    }
}

#[test]
fn every_fault_in_the_documents_is_one() {
    let text = document("docs/faults.md") + &document("README.md");
    let faults: Vec<&str> = text
        .split(|letter: char| letter.is_whitespace() || letter == '`')
        .filter(|word| word.contains('@') && !word.starts_with("ACTION"))
        .collect();
    assert!(faults.len() >= 8, "{faults:?}");
    for fault in faults {
        fault.parse::<lgr_engine::fault::Fault>().unwrap();
    }
}

#[test]
fn systemd_takes_the_unit_of_a_member() {
    let unit = document("docs/lgr-member@.service");
    // The checker wants the program to be there.
    let program = env!("CARGO_BIN_EXE_lgr");
    assert!(unit.contains("ExecStart=/usr/bin/lgr member "));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lgr-member@MEMBERA.service");
    fs::write(&path, unit.replace("/usr/bin/lgr", program)).unwrap();
    let Ok(output) = std::process::Command::new("systemd-analyze").arg("verify").arg(&path).output() else {
        println!("skipped: systemd-analyze is not installed");
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    let of_ours: Vec<&str> = said.lines().filter(|line| line.contains("lgr-member")).collect();
    assert!(output.status.success() && of_ours.is_empty(), "{said}");
}

#[test]
fn each_researcher_example_is_short_enough_to_read() {
    for path in ["examples/own_guest.rs", "examples/own_policy.rs"] {
        let lines = document(path).lines().count();
        assert!(lines < 100, "{path} has {lines} lines");
        assert!(document("README.md").contains(path), "the README does not show {path}");
    }
}

#[test]
fn every_stop_rule_in_the_documents_is_one() {
    let text = document("docs/trace.md") + &document("README.md");
    let rules: Vec<&str> =
        text.split("--policy ").skip(1).filter_map(|rest| rest.split_whitespace().next()).collect();
    assert!(rules.len() >= 3, "{rules:?}");
    for rule in rules.into_iter().filter(|rule| rule.starts_with(|letter: char| letter.is_lowercase())) {
        rule.parse::<lgr_engine::policy::PolicyChoice>().unwrap();
    }
}

#[test]
fn every_relative_link_leads_to_a_file() {
    let documents = [
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "docs/benchmarks.md",
        "docs/report.md",
        "docs/protocol.md",
        "docs/faults.md",
        "docs/security.md",
        "docs/cluster.md",
        "docs/configuration.md",
        "docs/running.md",
        "docs/volumes.md",
        "docs/trace.md",
        "docs/profiling.md",
    ];
    for path in documents {
        let folder = PathBuf::from(path);
        let folder = folder.parent().unwrap();
        for target in document(path).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap();
            let is_elsewhere = target.contains("://") || file.is_empty();
            assert!(is_elsewhere || root().join(folder).join(file).exists(), "{path}: {target}");
        }
    }
}
