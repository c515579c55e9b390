//! What a researcher does with the command: record a guest, replay it under several rules, and look where the time went.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::path::PathBuf;

use common::{BRIEF, Ended, Trial, assert_moved_whole};
use lgr_engine::report::{EngineKind, FinishCode, Report, RunsOn};
use lgr_engine::trace::Trace;

/// Records a small guest for a moment.
fn recorded(trial: &Trial) -> PathBuf {
    let path = trial.path("guest.trace");
    let words = "--memory 16M --workload uniform --dirty-rate 20M --seconds 0.3 --run-before 0.05";
    let ended = trial.run(&format!("record {} {words}", path.display()));
    assert_eq!(ended.code(), Some(0), "{ended}");
    assert!(ended.out().contains("16.0 MiB touched"), "{ended}");
    path
}

fn report_of(ended: &Ended) -> Report {
    Report::from_json(&ended.out()).unwrap_or_else(|error| panic!("{error}: {ended}"))
}

#[test]
fn a_recorded_guest_is_replayed_under_each_rule_and_always_the_same() {
    let trial = Trial::new();
    let path = recorded(&trial);
    let trace = Trace::read(&std::fs::read(&path).unwrap()[..]).unwrap();
    assert_eq!(trace.header().pages.bytes(), 16 << 20);
    assert!(trace.header().description.contains("uniform"), "{:?}", trace.header());
    assert!(!trace.samples().is_empty());
    for (rule, passes) in [("default", None), ("fixed-passes:2", Some(4)), ("threshold:1000", Some(3))] {
        let words = format!("replay {} --json --rate 100M --policy {rule}", path.display());
        let (once, again) = (trial.run(&words), trial.run(&words));
        assert_eq!(once.code(), Some(0), "{once}");
        assert_eq!(once.out(), again.out());
        let report = report_of(&once);
        assert_eq!((report.runs_on, report.engine), (RunsOn::Destination, EngineKind::Modelled));
        assert_eq!(report.passes[0].pages, trace.touched().pages().get());
        assert!(passes.is_none_or(|passes| report.passes.len() == passes), "{rule}: {once}");
        assert_eq!(report.options["policy"], rule);
        let table = trial.run(&words.replace("--json", ""));
        assert!(table.out().contains("virtual time") && table.out().contains("penultimate"), "{table}");
    }
}

#[test]
fn a_guest_that_would_not_move_is_exit_code_1_with_the_limit_as_the_reason() {
    let trial = Trial::new();
    let path = recorded(&trial);
    // 16 MiB take a second, and the guest writes as fast as that.
    let words = format!("replay {} --json --rate 16M --max-total 0.5", path.display());
    let ended = trial.run(&words);
    assert_eq!(ended.code(), Some(1), "{ended}");
    assert_eq!(report_of(&ended).finish.code, FinishCode::MaxTotalExceeded);
}

#[test]
fn a_file_that_is_no_trace_is_refused_with_its_name_and_offset() {
    let trial = Trial::new();
    let path = recorded(&trial);
    let bytes = std::fs::read(&path).unwrap();
    let cut = trial.path("cut.trace");
    std::fs::write(&cut, &bytes[..700]).unwrap();
    trial.run(&format!("replay {}", cut.display())).refused(1, &["cut.trace", "cut off at byte 700"]);
    let mut damaged = bytes.clone();
    damaged[530] ^= 1;
    std::fs::write(&cut, &damaged).unwrap();
    trial.run(&format!("replay {}", cut.display())).refused(1, &["cut.trace", "damaged at byte 512"]);
    std::fs::write(&cut, "MEMBERA").unwrap();
    trial.run(&format!("replay {}", cut.display())).refused(1, &["cut.trace", "not a dirty trace"]);
    let nowhere = trial.path("nothing.trace");
    trial.run(&format!("replay {}", nowhere.display())).refused(1, &["nothing.trace", "No such file"]);
    trial.run(&format!("replay {} --policy qemu", path.display())).refused(2, &["qemu", "threshold:MS"]);
    trial.run(&format!("replay {} --rate 0", path.display())).refused(2, &["carries nothing"]);
    trial.run("relocate --bandwidth 0").refused(2, &["carries nothing"]);
}

#[test]
fn a_relocation_takes_the_same_rules() {
    let trial = Trial::new();
    let (ended, report) = trial.relocate(&format!("--memory 16M --policy fixed-passes:2 {BRIEF}"));
    assert_moved_whole(&ended, &report);
    assert_eq!((report.policy.as_str(), report.passes.len()), ("fixed-passes:2", 4));
}

#[test]
fn a_flame_graph_has_both_members_and_their_passes_and_the_guest_is_whole() {
    let trial = Trial::new();
    for engine in ["auto", "blocking"] {
        let path = trial.path("move.folded");
        let words = format!("--memory 512M --content random --engine {engine} {BRIEF}");
        let (ended, report) = trial.relocate(&format!("{words} --flamegraph {}", path.display()));
        assert_moved_whole(&ended, &report);
        let stacks = std::fs::read_to_string(&path).unwrap();
        for line in stacks.lines() {
            let (frames, count) = line.rsplit_once(' ').unwrap();
            assert!(count.parse::<u64>().is_ok_and(|count| count > 0), "{line}");
            assert!(frames.split(';').count() >= 3, "side, stage, thread: {line}");
            assert!(frames.starts_with("source;") || frames.starts_with("destination;"), "{line}");
        }
        for wanted in ["source;pass 1 first;ctc-*;", "destination;pass 1 first;ctc-*;", "isfc::device::"] {
            assert!(stacks.contains(wanted), "no '{wanted}' with {engine}:\n{stacks}");
        }
    }
}

#[test]
fn a_flame_graph_is_a_picture_that_ends() {
    let trial = Trial::new();
    let path = trial.path("move.svg");
    let (ended, report) =
        trial.relocate(&format!("--memory 256M --medium shm {BRIEF} --flamegraph {}", path.display()));
    assert_moved_whole(&ended, &report);
    let svg = std::fs::read_to_string(&path).unwrap();
    assert!(svg.contains("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
    assert!(svg.contains("processor time of a relocation"), "{svg}");
    let nowhere = trial.path("none/move.svg");
    let refused = trial.run(&format!("relocate --memory 16M --flamegraph {}", nowhere.display()));
    refused.refused(1, &["cannot write", "none/move.svg"]);
}
