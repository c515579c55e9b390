//! The fuzz targets on their committed corpora: what the fuzzer once found worth keeping stays without a finding, on
//! the stable toolchain.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

#[path = "../fuzz/src/lib.rs"]
#[allow(unreachable_pub, dead_code)]
mod targets;

/// Limits of a committed corpus.
const FILES_MAX: usize = 40;
const BYTES_MAX: usize = 64 << 10;

fn fuzz_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

#[test]
fn every_target_runs_through_its_corpus_without_a_finding() {
    let mut findings = Vec::new();
    for (name, target) in targets::TARGETS {
        let files = fs::read_dir(fuzz_dir().join("corpus").join(name)).unwrap();
        let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        paths.sort();
        let mut total_bytes = 0;
        for path in &paths {
            let bytes = fs::read(path).unwrap();
            total_bytes += bytes.len();
            if std::panic::catch_unwind(|| target(&bytes)).is_err() {
                findings.push(path.clone());
            }
        }
        println!("{name}: {} inputs, {total_bytes} bytes", paths.len());
        assert!(
            (1..=FILES_MAX).contains(&paths.len()) && total_bytes <= BYTES_MAX,
            "{name}: too much or nothing"
        );
    }
    assert!(findings.is_empty(), "these break an invariant: {findings:#?}");
}

#[test]
fn no_target_is_forgotten() {
    let known: BTreeSet<_> = targets::TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let names = |folder: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(fuzz_dir().join(folder)).unwrap();
        entries.map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("fuzz_targets"), known);
    assert_eq!(names("corpus"), known);
    let manifest = fs::read_to_string(fuzz_dir().join("Cargo.toml")).unwrap();
    assert!(known.iter().all(|name| manifest.contains(&format!("name = \"{name}\""))));
}
