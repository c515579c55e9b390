//! A running guest is moved between two member processes of this machine and is whole afterwards, whatever
//! carries it, whatever it does and whatever it holds.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "these are tests")]

mod common;

use common::{BRIEF, SMALL, Trial, assert_moved_whole};
use lgr_engine::event::Event;
use lgr_engine::report::{EngineKind, Report, Side};

/// Relocates with `words` and expects a whole guest at the destination. Without `--memory`, it is small.
fn moves_whole(words: &str) -> Report {
    let trial = Trial::new();
    let start = if words.contains("--memory") { BRIEF } else { SMALL };
    let (ended, report) = trial.relocate(&format!("{start} {words}"));
    assert_moved_whole(&ended, &report);
    report
}

/// By the write rule the source, whose name is the lesser, writes pages on the first fourteen of sixteen queues; the
/// last two carry its messages only. Queues pull from one pass, so a fast one may take the share of one whose thread
/// was not scheduled. With a rate limit each waits for its turn with a chunk in hand, and all get some.
fn moves_over_all_queues(medium: &str, engine: &str) {
    if let (Err(reason), "io_uring") = (isfc::probe_io_uring(), engine) {
        println!("skipped: io_uring ({reason})");
        return;
    }
    let words = format!(
        "--memory 64M --rate-limit 32M --compress never --dirty-rate 4M --medium {medium} --engine {engine}"
    );
    let report = moves_whole(&words);
    assert_eq!(report.medium, medium);
    let expected = if engine == "blocking" { EngineKind::Blocking } else { EngineKind::IoUring };
    assert_eq!(report.engine, expected);
    let sent: Vec<u64> =
        report.queues.iter().filter(|queue| queue.side == Side::Source).map(|queue| queue.tx_bytes).collect();
    assert_eq!(sent.len(), 16, "{sent:?}");
    assert!(sent.iter().all(|bytes| *bytes > 0), "{sent:?}");
    if medium != "shm" {
        // Over shm the payload does not go through a queue.
        let (writing, quiet) = sent.split_at(14);
        let pages = 64 << 10;
        assert!(
            writing.iter().all(|bytes| *bytes > pages) && quiet.iter().all(|bytes| *bytes < pages),
            "{sent:?}"
        );
    }
    assert_eq!(report.bytes_touched, Some(64 << 20));
}

#[test]
fn tcp_with_io_uring_moves_a_guest_over_sixteen_queues() {
    moves_over_all_queues("tcp", "io_uring");
}

#[test]
fn tcp_with_threads_moves_a_guest_over_sixteen_queues() {
    moves_over_all_queues("tcp", "blocking");
}

#[test]
fn unix_with_io_uring_moves_a_guest_over_sixteen_queues() {
    moves_over_all_queues("unix", "io_uring");
}

#[test]
fn unix_with_threads_moves_a_guest_over_sixteen_queues() {
    moves_over_all_queues("unix", "blocking");
}

#[test]
fn shm_with_io_uring_moves_a_guest_over_sixteen_queues() {
    moves_over_all_queues("shm", "io_uring");
}

#[test]
fn shm_with_threads_moves_a_guest_over_sixteen_queues() {
    moves_over_all_queues("shm", "blocking");
}

#[test]
fn one_queue_is_enough() {
    for medium in ["tcp", "shm"] {
        assert_eq!(moves_whole(&format!("--queues 1 --medium {medium}")).queues.len(), 2);
    }
}

#[test]
fn the_report_is_valid_against_the_printed_schema() {
    let trial = Trial::new();
    let schema: serde_json::Value = serde_json::from_str(&trial.run("schema").out()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for words in ["--medium tcp", "--medium shm --no-verify", "--workload idle --immediate"] {
        let file = trial.path("report.json");
        let ended = trial.run(&format!("relocate {SMALL} {words} --json {}", file.display()));
        assert_eq!(ended.code(), Some(0), "{ended}");
        let report = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let faults: Vec<String> = validator.iter_errors(&report).map(|error| error.to_string()).collect();
        assert!(faults.is_empty(), "{words}: {faults:#?}");
    }
}

#[test]
fn a_guest_of_any_workload_arrives_whole() {
    for workload in ["idle", "uniform", "sequential", "hotcold", "zipf", "phased", "small", "java", "churn"] {
        let report = moves_whole(&format!("--workload {workload} --dirty-rate 100M"));
        assert_eq!(report.options["workload"], workload);
        if workload == "idle" {
            assert_eq!(report.achieved_write_bytes_per_s.unwrap_or(0), 0);
        }
    }
}

#[test]
fn a_guest_of_any_content_arrives_whole() {
    for content in ["realistic", "zero", "random", "text", "pointer", "duplicates"] {
        let report = moves_whole(&format!("--content {content} --workload idle"));
        let first = &report.passes[0];
        match content {
            "zero" => assert_eq!(first.zero_pages, Some(first.pages), "{content}"),
            "random" => assert_eq!(first.zero_pages, Some(0), "{content}"),
            _ => {}
        }
    }
}

#[test]
fn memory_never_touched_costs_nothing() {
    for medium in ["tcp", "shm"] {
        let report = moves_whole(&format!("--memory 1T --touched 64M --medium {medium}"));
        assert_eq!(report.guest_memory_bytes, 1 << 40);
        assert_eq!(report.bytes_touched, Some(64 << 20));
        // Twice the guest over shm, where the destination maps the source's memory too, and the program.
        let peak = report.memory_peak_bytes.destination.unwrap();
        assert!(peak < 256 << 20, "{medium}: {peak}");
    }
}

#[test]
fn live_memory_can_be_hashed_on_its_way() {
    for medium in ["tcp", "shm"] {
        moves_whole(&format!("--hash-live --dirty-rate 500M --workload uniform --medium {medium}"));
        moves_whole(&format!("--hash-live --content zero --medium {medium}"));
    }
}

#[test]
fn the_software_tracker_misses_nothing() {
    let report = moves_whole("--tracker software --dirty-rate 500M");
    assert_eq!(report.tracker, "software");
}

#[test]
fn an_immediate_move_has_one_pass_over_the_running_guest() {
    let report = moves_whole("--immediate --dirty-rate 500M");
    assert_eq!(report.passes.len(), 3, "{:#?}", report.passes);
    assert!(report.limits.immediate);
}

#[test]
fn a_guest_with_three_writers_arrives_whole() {
    moves_whole("--vcpus 3 --dirty-rate 300M");
}

#[test]
fn a_guest_whose_memory_is_ready_before_the_first_pass_arrives_whole() {
    for medium in ["tcp", "shm"] {
        moves_whole(&format!("--prefault --medium {medium}"));
    }
}

#[test]
fn a_rate_limit_is_kept_by_all_queues_together() {
    let report = moves_whole("--rate-limit 32M --content random --workload idle");
    // 16 MiB at 32 MiB/s take half a second; the limiter lets 10 ms and the first transfers go at once.
    assert!(report.passes[0].ms > 250.0, "{:#?}", report.passes);
    assert_eq!(report.limits.rate_limit_bytes_per_s, Some(32 << 20));
}

#[test]
fn several_runs_are_summed_up_and_written_as_an_array() {
    let trial = Trial::new();
    let file = trial.path("reports.json");
    let ended = trial.run(&format!("relocate {SMALL} --runs 2 --json {}", file.display()));
    assert_eq!(ended.code(), Some(0), "{ended}");
    assert!(ended.out().contains("2 of 2 runs moved, 2 of them verified"), "{ended}");
    let reports: Vec<Report> = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert!(reports.len() == 2 && reports.iter().all(|report| report.verified == Some(true)));
}

#[test]
fn progress_as_json_ends_with_the_report() {
    let trial = Trial::new();
    let ended = trial.run(&format!("relocate {SMALL} --progress json"));
    assert_eq!(ended.code(), Some(0), "{ended}");
    let events = ended.events();
    let last = events.len() - 1;
    assert!(matches!(events[last], Event::Finished { .. }), "{ended}");
    let at = |wanted: &dyn Fn(&Event) -> bool| events.iter().position(wanted).unwrap();
    let connected = at(&|event| matches!(event, Event::Connected { queues: 16, .. }));
    let first = at(&|event| matches!(event, Event::PassStarted { number: 1, .. }));
    let stopped = at(&|event| matches!(event, Event::Quiesced));
    let runs = at(&|event| matches!(event, Event::Running { side: Side::Destination }));
    assert!(connected < first && first < stopped && stopped < runs && runs < last, "{ended}");
}

#[test]
fn plain_progress_ends_with_a_table() {
    let trial = Trial::new();
    let ended = trial.run(&format!("relocate {SMALL} --progress plain"));
    assert_eq!(ended.code(), Some(0), "{ended}");
    assert!(ended.words().contains("guest stopped\n"), "{ended}");
    assert!(ended.out().contains("verified"), "{ended}");
}

#[test]
fn a_reader_that_goes_away_does_not_stop_the_move() {
    let trial = Trial::new();
    let file = trial.path("report.json");
    let mut command = std::process::Command::new("sh");
    let lgr = env!("CARGO_BIN_EXE_lgr");
    let pipe = format!("{lgr} relocate {SMALL} --progress json --json {} | true", file.display());
    command.args(["-c", &pipe]);
    trial.spawn(command).wait();
    let deadline = std::time::Instant::now() + common::DEADLINE;
    while !trial.processes().is_empty() && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let report = Report::from_json(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(report.verified, Some(true));
}

#[test]
fn a_guest_on_huge_pages_arrives_whole() {
    moves_whole("--backing thp --dirty-rate 50M");
    let Some(_reserved) = HugePages::reserve(32) else {
        println!("skipped: no free huge pages");
        return;
    };
    let report = moves_whole("--backing hugetlb --dirty-rate 50M");
    assert_eq!(report.granule, 2 << 20);
}

/// Huge pages of 2 MiB reserved for a test, given back after it.
struct HugePages {
    before: u64,
}

impl HugePages {
    const SETTING: &str = "/proc/sys/vm/nr_hugepages";

    fn free() -> u64 {
        let path = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
        std::fs::read_to_string(path).map_or(0, |text| text.trim().parse().unwrap())
    }

    /// Makes sure that `wanted` are free, if that is allowed here.
    fn reserve(wanted: u64) -> Option<Self> {
        let before: u64 = std::fs::read_to_string(Self::SETTING).ok()?.trim().parse().unwrap();
        let missing = wanted.saturating_sub(Self::free());
        let _ = std::fs::write(Self::SETTING, format!("{}", before + missing));
        let reserved = Self { before };
        (Self::free() >= wanted).then_some(reserved)
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        let _ = std::fs::write(Self::SETTING, format!("{}", self.before));
    }
}

/// How near it comes to the model depends on the machine; that it does not exceed it does not. The least move is over
/// before a channel could make up for anything.
#[test]
fn a_paced_move_is_no_faster_than_the_channels_would_be() {
    for memory in ["64M", "4M"] {
        let words = format!("--memory {memory} --content random --workload idle --pace ficon4:1x4");
        let report = moves_whole(&words);
        let first = &report.passes[0];
        let rate_mb_per_s = first.bytes as f64 / first.ms / 1e3;
        assert!(rate_mb_per_s < 342.7 * 1.01, "{memory}: {rate_mb_per_s}");
        assert_eq!(report.queues.len(), 2 * 4);
    }
}

#[test]
fn the_link_shows_its_devices_when_asked_and_the_report_has_their_timeline() {
    let trial = Trial::new();
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("report.json");
    let words = "--memory 32M --queues 3 --rate-limit 64M --compress never --progress none --islink";
    let ended = trial.run(&format!("relocate {BRIEF} {words} --json {}", path.display()));
    let report = Report::from_json(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let out = ended.out();
    assert_moved_whole(&ended, &report);
    for node in ["Node: MEMBERA  Link to: MEMBERB  Type: FCTC over tcp", "Node: MEMBERB  Link to: MEMBERA"] {
        assert!(out.contains(node), "{out}");
    }
    let rows =
        out.lines().filter(|line| line.trim_start().starts_with(['0', '1', '2']) && line.ends_with("  up"));
    assert_eq!(rows.count(), 6, "{out}");
    let timeline = &report.timeline;
    assert!(timeline.at_ms.len() > 2 && timeline.at_ms.is_sorted(), "{:?}", timeline.at_ms);
    assert_eq!((timeline.at_ms.len(), timeline.at_ms.len()), (timeline.tx_bytes.len(), timeline.depth.len()));
    let told: u64 = timeline.tx_bytes.iter().flatten().sum();
    assert!(told > 32 << 20, "{told} bytes in the timeline");
    assert!(
        report.passes.is_sorted_by(|a, b| a.began_ms <= b.began_ms) && report.passes[0].began_ms == Some(0.0)
    );
}

#[test]
fn a_trace_has_a_span_for_each_pass_and_for_what_each_queue_carried() {
    let trial = Trial::new();
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("trace.json");
    let (ended, report) = trial.relocate(&format!("{BRIEF} --memory 32M --trace {}", path.display()));
    assert_moved_whole(&ended, &report);
    let text = std::fs::read_to_string(&path).unwrap();
    let spans: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["span"].clone())
        .collect();
    let named = |name: &'static str| spans.iter().filter(move |span| span["name"] == name);
    assert_eq!(named("pass").count(), report.passes.len(), "{text}");
    let carried: u64 = named("programs").map(|span| span["bytes"].as_u64().unwrap()).sum();
    assert_eq!(Some(carried), report.bytes_wire, "{text}");
}
