//! Every way a move can end, and whether the report says only what happened: random facts, the report made of them as the
//! drivers make it, and each line and field held against the facts.
#![allow(clippy::unwrap_used)]

use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::codec::Compress;
use crate::policy::Limits;
use crate::source::{Outcome, PassDone};

/// What happened.
#[derive(Clone, Debug)]
struct Facts {
    code: FinishCode,
    runs_on: RunsOn,
    /// Passes that the destination confirmed, and whether one more was under way at the end.
    passes: usize,
    cut_short: bool,
    stopped_ms: Option<f64>,
    /// The destination's half came.
    both_sides: bool,
    died: bool,
    /// How the memory was checked, and how many faults were found.
    checked: Option<(Checked, u64)>,
    packed: Option<u64>,
    largest_gaps_ms: Option<(f64, f64)>,
    blackout_ms: Option<f64>,
    wrote: Option<(u64, u64)>,
    used_queues: usize,
    rate_limit: Option<u64>,
    slow_link: Option<u64>,
    pace: Option<&'static str>,
    rule: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Checked {
    Compared,
    Alone,
}

const PAGES: u64 = 1000;

prop_compose! {
    fn any_facts()(
        code in prop::sample::select(FinishCode::ALL.to_vec()),
        stayed in prop::sample::select(vec![RunsOn::Source, RunsOn::Nobody, RunsOn::Unknown]),
        (passes, cut_short, stopped_ms) in (0usize..4, any::<bool>(), option::of(0.1f64..500.0)),
        (both_sides, died) in any::<(bool, bool)>(),
        checked in option::of((prop::sample::select(vec![Checked::Compared, Checked::Alone]), 0u64..3)),
        packed in option::of(prop_oneof![Just(0), 1u64..PAGES * 4096]),
        largest_gaps_ms in option::of((0.5f64..90.0, 0.5f64..90.0)),
        blackout_ms in option::of(0.5f64..90.0),
        wrote in option::of((0u64..400_000_000, 0u64..400_000_000)),
        used_queues in 0usize..3,
        (rate_limit, slow_link, pace) in (
            option::of(1u64..1 << 40),
            option::of(1u64..1 << 40),
            prop::sample::select(vec![None, Some("ficon8s:4x4")]),
        ),
        rule in prop::sample::select(vec!["default", "threshold:300", "fixed-passes:2"]),
    ) -> Facts {
        let runs_on = if code == FinishCode::Completed { RunsOn::Destination } else { stayed };
        // Nothing can be compared with a guest that never left.
        let checked = checked.filter(|(how, _)| runs_on == RunsOn::Destination || *how == Checked::Alone);
        Facts {
            code, runs_on, passes, cut_short, stopped_ms, both_sides, died, checked, packed, largest_gaps_ms,
            blackout_ms, wrote, used_queues, rate_limit, slow_link, pace, rule,
        }
    }
}

fn queue(side: Side, device: u32, transfers: u64) -> QueueReport {
    let text = serde_json::json!({
        "side": side, "device": device, "tx_frames": 9, "tx_bytes": 5000, "rx_frames": 9, "rx_bytes": 5000,
        "stalls": 0, "retries": 0, "transfers": transfers, "state": "up",
    });
    serde_json::from_value(text).unwrap()
}

fn gaps(max_ms: f64) -> TickPercentiles {
    let max_us = max_ms * 1e3;
    TickPercentiles { count: 9, p50_us: 500.0, p90_us: 500.0, p99_us: 500.0, p99_9_us: max_us, max_us }
}

impl Facts {
    fn pass(&self, index: usize) -> PassDone {
        let cut_short = index >= self.passes;
        PassDone {
            number: index as u32 + 1,
            kind: if index == 0 { PassKind::First } else { PassKind::Intermediate },
            epoch: index as u32 + 1,
            pages: PAGES,
            duration: Duration::from_millis(10),
            window: Duration::from_millis(11),
            dirty_pages_after: (!cut_short).then_some(100),
            cut_short,
            predicted_quiesce_ms: (!cut_short).then_some(3.0),
            repeated: false,
        }
    }

    fn outcome(&self) -> Outcome {
        let passes = self.passes + usize::from(self.cut_short);
        Outcome {
            finish: Finish::new(self.code, "it was so"),
            runs_on: self.runs_on,
            prepare: Duration::from_millis(5),
            total: Duration::from_millis(200),
            link: Duration::ZERO,
            transfer: Duration::from_millis(195),
            quiesce: self.stopped_ms.map(|ms| (Duration::from_secs_f64(ms / 1e3), QuiesceParts::default())),
            passes: (0..passes).map(|index| self.pass(index)).collect(),
        }
    }

    fn report(&self) -> Report {
        let [source, destination] = ["ALPHA", "BETA"].map(|name| name.parse().unwrap());
        let outcome = self.outcome();
        let mut report = Report::of_outcome("LINUX1".parse().unwrap(), source, destination, &outcome);
        report.limits = LimitsGiven::new(&Limits::default(), self.rate_limit);
        report.options.extend(self.slow_link.map(|rate| ("slow_link".to_owned(), rate.into())));
        report.options.extend(self.pace.map(|pace| ("pace".to_owned(), pace.into())));
        (report.policy, report.tracker) = (self.rule.to_owned(), "uffd-async".to_owned());
        report.medium = "tcp".to_owned();
        (report.guest_memory_bytes, report.bytes_touched) = (PAGES * 4096, Some(PAGES * 4096));
        report.passes = outcome.passes.iter().map(reported).collect();
        report.bytes_logical = Some(report.passes.iter().map(|pass| pass.bytes).sum());
        report.ticks.before = self.largest_gaps_ms.map(|(before, _)| gaps(before));
        report.ticks.during = self.largest_gaps_ms.map(|(_, during)| gaps(during));
        report.blackout_ms = self.blackout_ms;
        (report.intended_write_bytes_per_s, report.achieved_write_bytes_per_s) = self.wrote.unzip();
        report.queues = (0..2)
            .map(|device| queue(Side::Source, device, u64::from(self.used_queues > device as usize)))
            .collect();
        report.codec = Some(match self.packed {
            None => CodecReport::none(Compress::Never, "not asked for".to_owned()),
            Some(packed) => CodecReport {
                packed_bytes: Some(packed),
                packed_wire_bytes: Some(packed / 3),
                kept_bytes: Some(8192),
                ..CodecReport::default()
            },
        });
        if self.runs_on == RunsOn::Source {
            report.verification = self.verification();
        }
        if self.both_sides {
            let mut half =
                Report::new(Side::Destination, report.guest, source, destination, report.finish.clone());
            half.runs_on = if self.runs_on == RunsOn::Destination { self.runs_on } else { RunsOn::Unknown };
            if self.runs_on == RunsOn::Destination {
                half.verification = self.verification();
            }
            report = Report::merge(report, half).unwrap();
        }
        report.died_with = self.dead_owner();
        report.derive_fields();
        report
    }

    /// Only a member without a half of its own is ever taken for dead.
    fn dead_owner(&self) -> Option<Side> {
        (self.died && self.runs_on == RunsOn::Destination && !self.both_sides).then_some(Side::Destination)
    }

    fn verification(&self) -> Option<Verification> {
        let (how, faults) = self.checked?;
        let right = Some(PAGES - faults);
        let mut found = Verification { pages_checked: PAGES, ..Verification::default() };
        match how {
            Checked::Compared => (found.exact_pages, found.rewritten_pages) = (right, Some(0)),
            Checked::Alone => found.sound_pages = right,
        }
        (0..faults).for_each(|page| found.add_fault(format!("page {page} is torn")));
        Some(found)
    }

    /// The check that this report can know of.
    fn check_known(&self) -> Option<(Checked, u64)> {
        self.checked.filter(|_| match self.runs_on {
            RunsOn::Source => true,
            RunsOn::Destination => self.both_sides,
            RunsOn::Nobody | RunsOn::Unknown => false,
        })
    }
}

/// As the driver reports a pass; half of one that was cut short had been sent.
fn reported(done: &PassDone) -> PassReport {
    let pages = if done.cut_short { done.pages / 2 } else { done.pages };
    PassReport {
        number: done.number,
        kind: done.kind,
        pages,
        zero_pages: (!done.cut_short).then_some(10),
        bytes: pages * 4096,
        wire_bytes: pages * 4096,
        ms: 10.0,
        dirty_pages_after: done.dirty_pages_after,
        cut_short: done.cut_short,
        predicted_quiesce_ms: done.predicted_quiesce_ms,
        dirty_rate_bytes_per_s: done.dirty_rate_bytes_per_s(),
        repeated: false,
        began_ms: None,
    }
}

/// What stands behind a label; `None` if there is no such line.
fn line<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(label)).map(str::trim)
}

proptest! {
    #[test]
    fn the_end_is_told_as_it_was(facts in any_facts()) {
        let report = facts.report();
        let text = table::render(&report);
        let finish = line(&text, "finish").unwrap();
        prop_assert!(finish.starts_with(&format!("{:02} {}: it was so", facts.code.number(), facts.code.name())), "{}", finish);
        // Somebody runs it only where his own side says so.
        let belongs = finish.split("the guest belongs to ").nth(1);
        let runs = match facts.runs_on {
            RunsOn::Source => Some("ALPHA"),
            RunsOn::Destination if facts.both_sides => Some("BETA"),
            _ => None,
        };
        prop_assert_eq!(belongs, runs, "{}", finish);
        prop_assert_eq!(finish.contains("the guest died with its destination; the record names BETA"), facts.dead_owner().is_some());
        let verified = match facts.check_known() {
            Some((_, 0)) => "; verified;",
            Some(_) => "; VERIFICATION FAILED;",
            None => "; not verified;",
        };
        prop_assert!(finish.contains(verified), "{} {}", finish, verified);
    }

    #[test]
    fn a_rate_is_one_of_a_move_that_was_made(facts in any_facts()) {
        let report = facts.report();
        let moved = facts.runs_on == RunsOn::Destination;
        prop_assert_eq!(report.throughput_bytes_per_s.is_some(), moved);
        let text = table::render(&report);
        prop_assert_eq!(text.contains("of touched memory"), moved, "{}", text);
    }

    #[test]
    fn passes_are_all_there_and_nothing_of_them_is_made_up(facts in any_facts()) {
        let report = facts.report();
        let text = table::render(&report);
        let sent = (facts.passes as u64 * PAGES + u64::from(facts.cut_short) * PAGES / 2) * 4096;
        prop_assert_eq!(report.bytes_logical, Some(sent));
        let moved = format!("{} of memory sent", table::size(sent));
        prop_assert!(line(&text, "moved").unwrap().starts_with(&moved), "{}", text);
        prop_assert_eq!(text.matches("  cut short").count(), usize::from(facts.cut_short), "{}", text);
        let rows = text.lines().filter(|line| line.contains("  first  ") || line.contains("  intermediate"));
        let rows: Vec<Vec<&str>> = rows.map(|row| row.split_whitespace().collect()).collect();
        prop_assert_eq!(rows.len(), facts.passes + usize::from(facts.cut_short));
        for row in rows {
            // Zero pages, and those left dirty: what nobody counted is a dash.
            let cut = row.last() == Some(&"short");
            prop_assert_eq!(row[3] == "-", cut, "{:?}", row);
            prop_assert_eq!(row.contains(&"100"), !cut, "{:?}", row);
        }
    }

    #[test]
    fn what_was_checked_is_told_by_how_it_was_checked(facts in any_facts()) {
        let report = facts.report();
        let text = table::render(&report);
        let told = line(&text, "verified").or(line(&text, "checked"));
        prop_assert_eq!(told.is_some(), facts.check_known().is_some(), "{}", text);
        if let Some((how, faults)) = facts.check_known() {
            let (told, right) = (told.unwrap(), PAGES - faults);
            let expected = match how {
                Checked::Compared => format!("{PAGES} pages: {right} exact, 0 rewritten since, {faults} faults"),
                Checked::Alone => format!("{PAGES} pages: {right} sound by themselves, with nothing to compare, {faults} faults"),
            };
            prop_assert_eq!(told, expected);
            prop_assert_eq!(line(&text, "verified").is_some(), faults == 0, "{}", text);
        }
    }

    #[test]
    fn how_it_was_done_names_every_number_that_decided_it(facts in any_facts()) {
        let text = table::render(&facts.report());
        let how: Vec<&str> = line(&text, "how").unwrap().split(", ").collect();
        let rule = format!("policy {}", facts.rule);
        prop_assert!(how.contains(&rule.as_str()), "{:?}", how);
        prop_assert_eq!(how.iter().any(|part| part.starts_with("at most ")), facts.rate_limit.is_some());
        prop_assert_eq!(how.iter().any(|part| part.starts_with("over a link of ")), facts.slow_link.is_some());
        prop_assert_eq!(how.contains(&"paced as ficon8s:4x4"), facts.pace.is_some());
    }

    #[test]
    fn the_largest_wait_of_the_passes_stands_beside_the_blackout(facts in any_facts()) {
        let text = table::render(&facts.report());
        let expected = facts.largest_gaps_ms.map(|(before, during)| {
            let blackout = facts.blackout_ms.map(|ms| format!("blackout {}, ", table::time(ms))).unwrap_or_default();
            format!("{blackout}largest during the passes {}, before them {}", table::time(during), table::time(before))
        });
        prop_assert_eq!(line(&text, "gaps").map(str::to_owned), expected);
    }

    #[test]
    fn what_was_not_counted_is_absent_and_not_zero(facts in any_facts()) {
        let report = facts.report();
        let codec = serde_json::to_value(report.codec.as_ref().unwrap()).unwrap();
        if facts.packed.is_none() {
            let counts = codec.as_object().unwrap().iter().filter(|(_, value)| value.is_number());
            prop_assert_eq!(counts.count(), 0, "{}", codec);
        }
        let text = table::render(&report);
        prop_assert_eq!(line(&text, "packed").is_some(), facts.packed.is_some(), "{}", text);
        prop_assert!(!text.contains("0 B to 0 B") && !text.contains("(0.00 to 1)"), "{}", text);
        let writes = line(&text, "writes");
        prop_assert_eq!(writes.is_some(), facts.wrote.is_some());
        if let Some((intended, _)) = facts.wrote {
            prop_assert_eq!(writes.unwrap().ends_with("none intended"), intended == 0);
        }
        let queues = line(&text, "queues").unwrap();
        prop_assert_eq!(queues.contains(" each, "), facts.used_queues > 0, "{}", queues);
        prop_assert!(facts.stopped_ms.is_some() == report.quiesce_ms.is_some());
        prop_assert_eq!(text.contains("quiesce "), facts.stopped_ms.is_some(), "{}", text);
        prop_assert!(!text.contains(", ,") && !text.contains(": ,"), "{}", text);
    }

    #[test]
    fn a_report_is_read_as_it_was_written(facts in any_facts()) {
        let report = facts.report();
        let again = Report::from_json(&report.to_json_pretty()).unwrap();
        prop_assert_eq!((&again.verification, &again.passes), (&report.verification, &report.passes));
        prop_assert_eq!((&again.codec, &again.options), (&report.codec, &report.options));
        prop_assert_eq!((again.died_with, again.finish), (report.died_with, report.finish));
    }
}

/// A half of a destination that nobody called: no memory, no tracker, no rule.
#[test]
fn a_half_that_knows_nothing_says_nothing() {
    let [source, destination] = ["UNKNOWN", "BETA"].map(|name| name.parse().unwrap());
    let finish = Finish::new(FinishCode::ConnectionLost, "the link is down");
    let report = Report::new(Side::Destination, "UNKNOWN".parse().unwrap(), source, destination, finish);
    let text = table::render(&report);
    let labels: Vec<&str> = text.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(labels, ["guest", "finish"], "{text}");
}

#[test]
fn a_report_of_version_2_is_read_without_its_made_up_zeros() {
    let facts = Facts {
        code: FinishCode::MaxTotalExceeded,
        runs_on: RunsOn::Source,
        passes: 1,
        cut_short: false,
        stopped_ms: None,
        both_sides: false,
        died: false,
        checked: None,
        packed: None,
        largest_gaps_ms: None,
        blackout_ms: None,
        wrote: None,
        used_queues: 0,
        rate_limit: None,
        slow_link: None,
        pace: None,
        rule: "threshold",
    };
    let mut old = serde_json::to_value(facts.report()).unwrap();
    old["schema_version"] = 2.into();
    old["throughput_bytes_per_s"] = 1_470_000_000.into();
    old["verification"] = serde_json::json!({
        "pages_checked": 5, "exact_pages": 0, "rewritten_pages": 5, "faults": [], "fault_count": 0,
    });
    for count in ["chunks", "zero_bytes", "raw_bytes", "packed_bytes", "packed_wire_bytes", "kept_bytes"] {
        old["codec"][count] = 0.into();
    }
    old.as_object_mut().unwrap().remove("died_with");
    let report = Report::from_json(&old.to_string()).unwrap();
    assert_eq!((report.schema_version, report.throughput_bytes_per_s), (SCHEMA_VERSION, None));
    let found = report.verification.unwrap();
    assert_eq!((found.sound_pages, found.rewritten_pages, found.passed()), (Some(5), None, true));
    assert_eq!(report.codec.unwrap().raw_bytes, None);
    let several = Report::several_from_json(&format!("[{old}]")).unwrap();
    assert_eq!(several[0].schema_version, SCHEMA_VERSION);
}
