//! Tests of reports: JSON, schema, merging, table.
#![allow(clippy::unwrap_used)]

use hdrhistogram::Histogram;
use serde_json::json;

use super::*;
use crate::policy::{Limits, Reason};

fn names() -> (GuestName, MemberName, MemberName) {
    ("LINUX1".parse().unwrap(), "ALPHA".parse().unwrap(), "BETA".parse().unwrap())
}

fn pass(
    number: u32,
    kind: PassKind,
    pages: u64,
    zero_pages: u64,
    ms: f64,
    dirty_pages_after: u64,
) -> PassReport {
    PassReport {
        number,
        kind,
        pages,
        zero_pages: Some(zero_pages),
        bytes: pages * 4096,
        wire_bytes: (pages - zero_pages) * 4096 + 640 * number as u64,
        ms,
        dirty_pages_after: Some(dirty_pages_after),
        cut_short: false,
        predicted_quiesce_ms: None,
        dirty_rate_bytes_per_s: (pages > 300).then_some(300_000_000),
        repeated: number == 2,
        began_ms: Some(ms * f64::from(number - 1)),
    }
}

fn queue(side: Side, device: u32) -> QueueReport {
    let (tx, rx) = if side == Side::Source { (1000, 16) } else { (16, 1000) };
    QueueReport {
        side,
        device,
        tx_frames: tx,
        tx_bytes: tx * 300_000,
        rx_frames: rx,
        rx_bytes: rx * 300_000,
        stalls: u64::from(device),
        retries: 0,
        transfers: 900,
        ssch: tx,
        unit_checks: 0,
        collisions: 0,
        resends: 0,
        depth_max: 3,
        latency: None,
        state: if device == 1 { "lost".to_owned() } else { "up".to_owned() },
    }
}

fn environment() -> Environment {
    Environment {
        kernel: "6.12.0".to_owned(),
        cpu_model: "Some CPU".to_owned(),
        cores: 2,
        memory_bytes: 24 << 30,
        lgr_version: "0.1.0".to_owned(),
        git_revision: None,
        date_unix_s: 1_790_000_000,
    }
}

fn source_half() -> Report {
    let (guest, source, destination) = names();
    let reason = Reason::Converged { remaining_bytes: 4_915_200, predicted_ms: 3.8, target_ms: 5.0 };
    let finish = Finish::new(FinishCode::Completed, "the guest was moved").with_policy_reason(Some(reason));
    let mut report = Report::new(Side::Source, guest, source, destination, finish);
    report.options.insert("memory".to_owned(), json!("4G"));
    report.options.insert("queues".to_owned(), json!(2));
    report.limits = LimitsGiven::new(&Limits::default(), Some(5_000_000_000));
    report.runs_on = RunsOn::Destination;
    report.total_ms = Some(1523.4);
    report.link_ms = Some(1.5);
    report.prepare_ms = Some(21.9);
    report.transfer_ms = Some(1500.0);
    report.quiesce_ms = Some(4.5);
    report.quiesce = Some(QuiesceParts {
        stop: 0.25,
        harvest: 0.75,
        state: 0.125,
        penultimate: 1.5,
        final_pass: 0.25,
        commit: 1.0,
        resume: 0.125,
        other: 0.0,
    });
    report.guest_memory_bytes = 4 << 30;
    report.bytes_touched = Some(4 << 30);
    report.bytes_logical = Some(4_500_000_000);
    report.bytes_wire = Some(3_600_000_000);
    report.intended_write_bytes_per_s = Some(300_000_000);
    report.achieved_write_bytes_per_s = Some(299_000_000);
    report.cpu_s = PerSide::of(Side::Source, 1.25);
    report.memory_peak_bytes = PerSide::of(Side::Source, 4_300_000_000);
    report.policy = "default".to_owned();
    report.passes = vec![
        pass(1, PassKind::First, 1_048_576, 262_144, 1203.1, 70_000),
        pass(2, PassKind::Intermediate, 70_000, 12, 83.0, 1200),
        pass(3, PassKind::Penultimate, 1200, 0, 1.5, 3),
        pass(4, PassKind::Final, 3, 0, 0.25, 0),
    ];
    report.queues = vec![queue(Side::Source, 0), queue(Side::Source, 1)];
    report.medium = "tcp".to_owned();
    report.tracker = "uffd_wp_async".to_owned();
    report.environment = PerSide::of(Side::Source, environment());
    report
}

fn destination_half() -> Report {
    let (guest, source, destination) = names();
    let finish = Finish::new(FinishCode::Completed, "the guest arrived");
    let mut report = Report::new(Side::Destination, guest, source, destination, finish);
    let mut gaps_ns = Histogram::<u64>::new(3).unwrap();
    (1..=1000).for_each(|gap_us| gaps_ns.record(gap_us * 1000).unwrap());
    report.runs_on = RunsOn::Destination;
    report.verification = Some(Verification {
        pages_checked: 1_048_576,
        exact_pages: Some(1_000_000),
        rewritten_pages: Some(48_576),
        ..Verification::default()
    });
    report.blackout_ms = Some(5.125);
    report.ticks.after = TickPercentiles::from_histogram_ns(&gaps_ns);
    report.cpu_s = PerSide::of(Side::Destination, 1.0);
    report.memory_peak_bytes = PerSide::of(Side::Destination, 4_400_000_000);
    report.queues = vec![queue(Side::Destination, 0), queue(Side::Destination, 1)];
    report.engine = EngineKind::Blocking;
    report.fallbacks = vec![Fallback {
        side: Side::Destination,
        wanted: "io_uring".to_owned(),
        used: "blocking".to_owned(),
        reason: "io_uring_setup: Operation not permitted".to_owned(),
    }];
    report.environment = PerSide::of(Side::Destination, environment());
    report
}

fn merged() -> Report {
    Report::merge(source_half(), destination_half()).unwrap()
}

#[test]
fn json_round_trip_keeps_everything() {
    for report in [source_half(), destination_half(), merged()] {
        let text = report.to_json_pretty();
        assert!(text.ends_with("}\n"));
        assert_eq!(Report::from_json(&text).unwrap(), report);
    }
}

#[test]
fn every_report_is_valid_against_the_schema_and_a_wrong_one_is_not() {
    let schema = Report::json_schema();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    for report in [source_half(), destination_half(), merged()] {
        let value: serde_json::Value = serde_json::from_str(&report.to_json_pretty()).unwrap();
        let faults: Vec<String> = validator.iter_errors(&value).map(|fault| fault.to_string()).collect();
        assert_eq!(faults, Vec::<String>::new());
    }
    let mut wrong: serde_json::Value = serde_json::from_str(&merged().to_json_pretty()).unwrap();
    wrong["finish"]["code"] = json!(99);
    assert!(!validator.is_valid(&wrong));
}

#[test]
fn every_field_is_described_in_the_schema() {
    fn walk(path: &str, schema: &serde_json::Value, bare: &mut Vec<String>) {
        let Some(fields) = schema.get("properties").and_then(|fields| fields.as_object()) else { return };
        for (name, field) in fields {
            // The tag of a reason explains itself.
            if field.get("description").is_none() && name != "kind" {
                bare.push(format!("{path}.{name}"));
            }
        }
    }
    let schema = Report::json_schema();
    let mut bare = Vec::new();
    walk("Report", &schema, &mut bare);
    for (name, part) in schema["$defs"].as_object().unwrap() {
        walk(name, part, &mut bare);
    }
    assert_eq!(bare, Vec::<String>::new());
}

#[test]
fn a_report_of_another_version_is_refused_by_name() {
    let text = r#"{"schema_version": 7, "future": true}"#;
    let error = Report::from_json(text).unwrap_err();
    assert_eq!(error.to_string(), "the report has schema version 7, this program knows versions 2 to 3");
    assert!(matches!(Report::from_json("{}"), Err(ReportError::Json(_))));
}

#[test]
fn the_total_of_a_report_of_version_2_gets_the_part_that_was_left_out() {
    let mut old = serde_json::to_value(merged()).unwrap();
    let fields = old.as_object_mut().unwrap();
    fields.insert("schema_version".to_owned(), json!(2));
    fields.insert("total_ms".to_owned(), json!(1500.0));
    for new in ["link_ms", "transfer_ms", "transfer_bytes_per_s"] {
        fields.remove(new);
    }
    let report = Report::from_json(&old.to_string()).unwrap();
    assert_eq!((report.total_ms, report.transfer_ms), (Some(1521.9), Some(1500.0)));
    assert_eq!(report.throughput_bytes_per_s, Some(((4u64 << 30) as f64 * 1e3 / 1521.9) as u64));
}

#[test]
fn a_guest_that_stayed_has_no_rate() {
    let mut report = merged();
    report.runs_on = RunsOn::Source;
    report.derive_fields();
    assert_eq!((report.throughput_bytes_per_s, report.transfer_bytes_per_s), (None, None));
    assert!(!table::render(&report).contains("of touched memory"));
}

#[test]
fn merging_takes_from_each_side_what_it_knows() {
    let report = merged();
    assert!(report.knows(Side::Source) && report.knows(Side::Destination));
    assert_eq!(report.verified, Some(true));
    assert_eq!(report.cpu_s, PerSide { source: Some(1.25), destination: Some(1.0) });
    assert_eq!((report.passes.len(), report.queues.len()), (4, 4));
    assert_eq!((report.blackout_ms, report.quiesce_ms), (Some(5.125), Some(4.5)));
    assert_eq!(report.throughput_bytes_per_s, Some(((4u64 << 30) as f64 * 1e3 / 1523.4) as u64));
    assert_eq!(report.transfer_bytes_per_s, Some(((4u64 << 30) as f64 * 1e3 / 1500.0) as u64));
    let parts = report.quiesce.unwrap();
    assert_eq!((parts.other, parts.sum_ms()), (0.5, 4.5));
    assert_eq!(report.finish.reason, "the guest was moved");
    assert_eq!(report.fallbacks.len(), 1);
}

#[test]
fn halves_of_different_moves_do_not_merge() {
    let mut other = destination_half();
    other.guest = "LINUX2".parse().unwrap();
    let error = Report::merge(source_half(), other).unwrap_err();
    assert_eq!(error.field, "guest");
    assert!(error.to_string().contains("LINUX1 at the source, LINUX2 at the destination"), "{error}");
}

#[test]
fn faults_are_all_counted_and_few_are_listed() {
    let mut found = Verification { pages_checked: 100, exact_pages: Some(60), ..Verification::default() };
    (0..40).for_each(|page| found.add_fault(format!("page {page} is stale: version 3, expected 4")));
    assert_eq!((found.faults.len(), found.fault_count), (VERIFICATION_FAULTS_MAX, 40));
    assert!(!found.passed());
    let mut report = merged();
    report.verification = Some(found);
    report.derive_fields();
    assert_eq!(report.verified, Some(false));
    let text = table::render(&report);
    assert!(text.contains("          page 3 is stale") && text.contains("          and 36 more\n"), "{text}");
    assert!(text.contains("VERIFICATION FAILED"));
}

#[test]
fn a_lost_page_without_a_fault_does_not_pass() {
    let found = Verification { pages_checked: 10, exact_pages: Some(8), ..Verification::default() };
    assert!(!found.passed());
}

#[test]
fn finish_codes_have_the_numbers_of_zvm() {
    let numbers: Vec<u8> = FinishCode::ALL.iter().map(|code| code.number()).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11]);
    assert_eq!(FinishCode::try_from(10), Err(UnknownFinishCode(10)));
    assert_eq!(FinishCode::MaxTotalExceeded.to_string(), "04 max_total_exceeded");
    let given_up = Finish::given_up(Reason::CannotMeetMaxQuiesce { predicted_ms: 70.0, limit_ms: 50.0 });
    assert_eq!(
        (given_up.code, given_up.name.as_str()),
        (FinishCode::MaxQuiesceExceeded, "max_quiesce_exceeded")
    );
    assert_eq!(serde_json::to_value(&given_up).unwrap()["code"], json!(5));
}

#[test]
fn numbers_are_shown_with_three_digits() {
    assert_eq!([0, 1023, 1024, 4096, 1 << 20, 4 << 30].map(table::size).join(" | "), {
        "0 B | 1023 B | 1.00 KiB | 4.00 KiB | 1.00 MiB | 4.00 GiB"
    });
    assert_eq!([0.0, 999.7, 3.5e9].map(table::speed).join(" | "), "- | 1.00 kB/s | 3.50 GB/s");
    assert_eq!(
        [0.0, 0.0125, 99.96, 1523.4].map(table::time).join(" | "),
        "0.00 us | 12.5 us | 100 ms | 1.52 s"
    );
    assert_eq!(table::size(u64::MAX), "16.0 EiB");
}

#[test]
fn the_table_of_a_finished_move() {
    let expected = include_str!("golden_table.txt");
    let text = table::render(&merged());
    assert_eq!(text, expected, "\n{text}");
}

#[test]
fn the_table_of_an_empty_report_shows_no_made_up_numbers() {
    let (guest, source, destination) = names();
    let mut finish = Finish::new(FinishCode::ConnectionLost, "no answer for 5 s");
    finish.policy_reason = None;
    let text = table::render(&Report::new(Side::Source, guest, source, destination, finish));
    assert_eq!(
        text.lines().last(),
        Some(
            "finish    03 connection_lost: no answer for 5 s; not verified; see the owner record for who runs the guest"
        )
    );
    assert!(!text.contains("quiesce") && !text.contains("cpu"), "{text}");
}
