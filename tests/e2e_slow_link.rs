//! Guests move over links that are slow, and over paths that take no long frames: loopback through a link made in the
//! test's own process, without privileges.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "these are tests")]

mod common;

use common::pair::{Aftermath, Pair};
use common::{SMALL, Trial, assert_moved_whole, assert_stayed_whole};
use lgr::slow_link::{Shape, SlowLink};
use lgr_engine::report::{Report, Side};

/// Moves a guest through a link of this shape.
fn through(trial: &Trial, shape: Shape, both: &str, source: &str) -> Aftermath {
    let both = format!("--volume {} --progress json {both}", trial.volume().display());
    let mut destination = trial.start(&format!("receive tcp:127.0.0.1:0 {both}"));
    let address = destination.address();
    let target = address.strip_prefix("tcp:").unwrap().parse().unwrap();
    let link = SlowLink::start(target, shape).unwrap();
    let source = trial.start(&format!("relocate --to tcp:{} {both} {source}", link.address()));
    Pair { destination, source }.wait()
}

fn notes(aftermath: &Aftermath) -> usize {
    let told = format!("{}{}", aftermath.source, aftermath.destination);
    told.matches(" is down").count()
}

fn sent_share(report: &Report) -> f64 {
    report.bytes_wire.unwrap() as f64 / report.bytes_logical.unwrap() as f64
}

#[test]
fn a_guest_crosses_a_link_of_5_megabits_with_16_queues_and_nothing_is_sent_twice() {
    let trial = Trial::new();
    let shape = Shape { bytes_per_s: 625_000, swallow_after_bytes: None };
    let words = format!("--workload idle --content random --compress never {SMALL}");
    let aftermath = through(&trial, shape, "--peer-timeout 3", &words);
    assert_eq!(aftermath.assert_one_guest(&trial), Side::Destination);
    let report = aftermath.source.report();
    assert_moved_whole(&aftermath.source, &report);
    assert!(sent_share(&report) < 1.2, "{:.2} of the memory was sent", sent_share(&report));
    assert_eq!(notes(&aftermath), 0, "{}", aftermath.source);
}

#[test]
fn a_path_that_takes_hellos_and_no_pages_ends_the_move_with_a_reason() {
    let trial = Trial::new();
    let shape = Shape { bytes_per_s: 1 << 30, swallow_after_bytes: Some(32 << 10) };
    let words = format!("--workload idle --content random --compress never {SMALL}");
    let aftermath = through(&trial, shape, "--peer-timeout 2", &words);
    assert_eq!(aftermath.assert_one_guest(&trial), Side::Source);
    let report = aftermath.source.report();
    assert_stayed_whole(&aftermath.source, &report, 3);
    assert!(report.finish.reason.contains("MTU"), "{}", report.finish.reason);
    // Four time-outs, and what the trial takes besides.
    assert!(report.total_ms.unwrap() < 10_000.0, "{:?} ms", report.total_ms);
    assert!(notes(&aftermath) <= 64, "{}", aftermath.source);
}
