//! `lgr bench suite`, `lgr bench compare` and `lgr report`: what they write is what they promise. Guests are tiny here,
//! and no figure is looked at.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::fs;
use std::path::Path;

use common::Trial;
use lgr::results::{ScenarioResult, read, read_folder};
use rustix::process::Signal;

/// One scenario of each kind, tiny.
const TINY: &str = "bench suite --scale 0.02 --runs 2 --machine test-machine --progress json";
const SOME: &str = "--scenario bulk-realistic live-media queues-tcp paced-ficon small-guests sparse growth";

fn tiny(trial: &Trial, more: &str) -> common::Ended {
    trial.run(&format!("{TINY} {more} --out {}", trial.path("results").display()))
}

#[test]
fn the_suite_writes_results_pictures_and_an_index() {
    let trial = Trial::new();
    let ended = tiny(&trial, SOME);
    assert_eq!(ended.code(), Some(0), "{ended}");
    let dir = trial.path("results/test-machine");
    let results = read_folder(&dir).unwrap();
    assert_eq!(results.len(), 7, "{ended}");
    let schema = jsonschema::draft202012::new(&ScenarioResult::json_schema()).unwrap();
    let index = fs::read_to_string(dir.join("README.md")).unwrap();
    for result in &results {
        let path = dir.join(format!("{}.json", result.scenario));
        let value: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let faults: Vec<String> = schema.iter_errors(&value).map(|error| error.to_string()).collect();
        assert!(faults.is_empty(), "{}: {faults:?}", result.scenario);
        check_result(result);
        check_pictures(&dir, result);
        assert!(index.contains(&format!("### {}", result.scenario)), "{index}");
    }
    every_link_leads_to_a_file(&dir, &index);
}

#[test]
fn a_result_of_another_version_beside_new_ones_is_named_in_the_index_and_stops_nothing() {
    let trial = Trial::new();
    let dir = trial.path("results/test-machine");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("bulk-random.json"), "{\"schema_version\": 1}").unwrap();
    let ended = tiny(&trial, "--scenario sparse");
    assert_eq!(ended.code(), Some(0), "{ended}");
    let index = fs::read_to_string(dir.join("README.md")).unwrap();
    assert!(index.contains("### sparse") && index.contains("(bulk-random.json)"), "{index}");
}

fn check_result(result: &ScenarioResult) {
    let name = &result.scenario;
    for contestant in &result.contestants {
        assert_eq!(contestant.samples.iter().filter(|sample| sample.warm_up).count(), 1, "{name}");
        assert_eq!(contestant.values(&result.main_metric).len(), 2, "{name}: {contestant:?}");
        assert_eq!(contestant.summary[&result.main_metric].count, 2, "{name}");
        assert_eq!(contestant.command_line[..2], ["lgr", "relocate"], "{name}");
    }
    // In turns: each run has its place, and no contestant runs twice in a row of turns.
    let mut places: Vec<u32> =
        result.contestants.iter().flat_map(|one| one.samples.iter().map(|sample| sample.run)).collect();
    places.sort_unstable();
    assert_eq!(places, (1..=places.len() as u32).collect::<Vec<_>>(), "{name}");
    let in_each_round = result.contestants.len() as u32;
    for contestant in &result.contestants {
        let rounds: Vec<u32> =
            contestant.samples.iter().map(|sample| (sample.run - 1) / in_each_round).collect();
        assert_eq!(rounds, [0, 1, 2], "{name}");
    }
    let text = result.to_json_pretty();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    assert!(host.len() < 3 || !text.contains(&host), "{name} names the host");
    assert!(!text.contains("/dev/shm") && !text.contains("/tmp"), "{name} names a path");
}

fn check_pictures(dir: &Path, result: &ScenarioResult) {
    let mut drawn = 0;
    for kind in &result.pictures {
        let path = dir.join(lgr::pictures::file_name(&result.scenario, *kind));
        // A relocation that is over within one sample of the queues leaves no picture of them.
        let Ok(svg) = fs::read_to_string(&path) else { continue };
        let document =
            roxmltree::Document::parse(&svg).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let marks = document.descendants().filter(|node| {
            let class = node.attribute("class").unwrap_or("");
            ["rect", "circle", "path"].contains(&node.tag_name().name())
                && class != "lgr-sheet"
                && class != "lgr-shade"
        });
        assert!(marks.count() >= result.contestants.len().min(2), "{}: {svg}", path.display());
        drawn += 1;
    }
    assert!(drawn >= 1, "{} has no picture", result.scenario);
}

fn every_link_leads_to_a_file(dir: &Path, index: &str) {
    let targets: Vec<&str> = index.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    assert!(targets.len() > 10, "{index}");
    for target in targets.iter().filter(|target| !target.starts_with('#') && !target.starts_with("../")) {
        assert!(dir.join(target).exists(), "{target}");
    }
}

#[test]
fn an_interrupted_suite_keeps_what_is_done() {
    let trial = Trial::new();
    let out = trial.path("results");
    let mut suite =
        trial.start(&format!("{TINY} --runs 200 --scenario bulk-zero sparse --out {}", out.display()));
    suite.line(|line| line.contains(r#""done":7,"#).then_some(()));
    suite.signal(Signal::INT);
    let ended = suite.wait();
    assert_eq!(ended.code(), Some(1), "{ended}");
    assert!(ended.words().contains("interrupted; 1 of 2 scenarios"), "{ended}");
    let result = read(&out.join("test-machine/bulk-zero.json")).unwrap();
    assert!(result.notes.iter().any(|note| note.contains("Interrupted")), "{:?}", result.notes);
    assert!(result.contestants.iter().all(|one| !one.values(&result.main_metric).is_empty()));
    assert!(out.join("test-machine/README.md").exists());
}

#[test]
fn results_are_compared_with_each_other_and_with_themselves() {
    let trial = Trial::new();
    let ended = tiny(&trial, "--scenario bulk-zero --runs 5");
    assert_eq!(ended.code(), Some(0), "{ended}");
    let dir = trial.path("results/test-machine");
    let same = trial.run(&format!("bench compare {0} {0}", dir.display()));
    assert_eq!(same.code(), Some(0), "{same}");
    assert!(same.out().contains("0 better, 0 worse, 0 different"), "{same}");
    // The same result with every run slower than the slowest: worse, and no noise.
    let mut slower = read(&dir.join("bulk-zero.json")).unwrap();
    for sample in slower.contestants.iter_mut().flat_map(|one| &mut one.samples) {
        sample.metrics.entry("total_ms".to_owned()).and_modify(|ms| *ms += 1e6);
    }
    slower.summarize();
    let path = trial.path("slower.json");
    fs::write(&path, slower.to_json_pretty()).unwrap();
    let words = format!("bench compare {} {} --json", dir.join("bulk-zero.json").display(), path.display());
    let ended = trial.run(&words);
    assert_eq!(ended.code(), Some(0), "{ended}");
    let found: serde_json::Value = serde_json::from_str(&ended.out()).unwrap();
    for line in found["lines"].as_array().unwrap() {
        let expected = if line["metric"] == "total_ms" { "worse" } else { "noise" };
        assert_eq!(line["change"], expected, "{line}");
    }
}

#[test]
fn a_relocation_is_drawn_as_a_page_that_needs_nothing_else() {
    let trial = Trial::new();
    let json = trial.path("run.json");
    let moved = trial.run(&format!("relocate {} --json {}", common::SMALL, json.display()));
    assert_eq!(moved.code(), Some(0), "{moved}");
    let ended = trial.run(&format!("report {}", json.display()));
    assert_eq!(ended.code(), Some(0), "{ended}");
    let page = fs::read_to_string(trial.path("run.html")).unwrap();
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
    let document = roxmltree::Document::parse_with_options(&page, options).unwrap();
    let count = |name: &str| document.descendants().filter(|node| node.tag_name().name() == name).count();
    assert!(count("svg") >= 2 && count("table") >= 3, "{page}");
    assert_eq!(count("script") + count("img") + count("link") + count("iframe"), 0);
    let elsewhere =
        document.descendants().flat_map(|node| node.attributes()).any(|one| one.value().contains("://"));
    assert!(!elsewhere && !page.contains("url(") && !page.contains("@import"), "{page}");
}

#[test]
fn of_several_reports_one_is_drawn() {
    let trial = Trial::new();
    let json = trial.path("runs.json");
    let moved = trial.run(&format!("relocate {} --runs 3 --json {}", common::SMALL, json.display()));
    assert_eq!(moved.code(), Some(0), "{moved}");
    let page = trial.path("page.html");
    let words = format!("report {} --out {}", json.display(), page.display());
    assert_eq!(trial.run(&words).code(), Some(0));
    assert!(page.exists());
    trial.run(&format!("{words} --run 4")).refused(1, &["runs.json", "no run 4", "holds 3"]);
}

#[test]
fn bad_files_are_refused_by_name_and_line() {
    let trial = Trial::new();
    let bad = trial.path("bad.json");
    let name = bad.display().to_string();
    for (text, parts) in [
        ("{\n\"schema_version\": 2,\n\"scenario\": 7, \"guest\": 7\n}", vec!["line 3"]),
        ("{\n\"schema_version\": 2\n", vec!["line 3"]),
        ("{\"schema_version\": 99}", vec!["schema version 99", "versions 2 to 3"]),
        ("not json", vec!["line 1"]),
        ("", vec!["line 1"]),
    ] {
        fs::write(&bad, text).unwrap();
        let named = |mut parts: Vec<&'static str>| {
            parts.push("bad.json");
            parts
        };
        trial.run(&format!("bench compare {name} {name}")).refused(1, &named(parts.clone()));
        trial.run(&format!("report {name}")).refused(1, &named(parts));
        assert!(!trial.path("bad.html").exists());
    }
    let missing = trial.path("missing.json").display().to_string();
    trial.run(&format!("bench compare {missing} {missing}")).refused(1, &["missing.json"]);
    trial.run(&format!("report {missing}")).refused(1, &["missing.json"]);
    let empty = trial.path("volume").display().to_string();
    trial.run(&format!("bench compare {empty} {empty}")).refused(1, &["no benchmark result"]);
}

#[test]
fn wrong_usage_is_told_before_anything_runs() {
    let trial = Trial::new();
    trial.run("bench suite --scenario nonsense").refused(2, &["nonsense", "--list"]);
    trial.run("bench suite --scenario queues-unix").refused(2, &["--full"]);
    for words in [
        "bench suite --machine ../elsewhere",
        "bench suite --scale 0",
        "bench suite --quick --full",
        "bench compare one",
        "report",
    ] {
        assert_eq!(trial.run(words).code(), Some(2), "{words}");
    }
    let listed = trial.run("bench suite --list");
    assert_eq!(listed.code(), Some(0), "{listed}");
    assert!(listed.out().contains("bulk-random") && listed.out().contains("paced-ficon"), "{listed}");
}
