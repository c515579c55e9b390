//! The promises about time: MAXTOTAL ends a move, MAXQUIESCE lets a stopped guest go on in time, and either
//! way the guest is whole on one side.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "these are tests")]

mod common;

use common::pair::Pair;
use common::{BRIEF, SMALL, Trial, assert_moved_whole, assert_stayed_whole};
use lgr_engine::event::Event;
use lgr_engine::policy::Reason;
use lgr_engine::report::{Report, RunsOn, table};

/// A machine that is busy may not let the engine run at the very moment its time is up.
const SCHEDULING_MS: f64 = 1000.0;

/// The guest was not held longer than `limit_ms`, and the end has a reason.
fn assert_held_at_most(report: &Report, limit_ms: f64) {
    let held_ms = report.quiesce_ms.unwrap_or(0.0);
    assert!(held_ms <= limit_ms + SCHEDULING_MS, "{held_ms} ms: {:#?}", report.quiesce);
    assert!(!report.finish.reason.is_empty());
    assert_eq!(report.verified, Some(true), "{:#?}", report.verification);
    assert_eq!(report.limits.max_quiesce_ms, Some(limit_ms));
}

#[test]
fn a_guest_that_writes_too_fast_is_not_held_beyond_maxquiesce() {
    let trial = Trial::new();
    let words = "--memory 256M --dirty-rate 4G --max-quiesce 0.05";
    let (ended, report) = trial.relocate(&format!("{BRIEF} {words}"));
    assert_held_at_most(&report, 50.0);
    match report.runs_on {
        RunsOn::Destination => assert_moved_whole(&ended, &report),
        _ => assert_stayed_whole(&ended, &report, 5),
    }
}

/// The rate limit makes it certain: the rest can never be sent in the time.
#[test]
fn a_rest_that_cannot_be_sent_within_maxquiesce_is_not_even_tried() {
    let trial = Trial::new();
    let words = "--workload uniform --dirty-rate 1G --rate-limit 64M --compress never --max-quiesce 0.05 --max-passes 3";
    let (ended, report) = trial.relocate(&format!("{SMALL} {words}"));
    assert_held_at_most(&report, 50.0);
    assert_stayed_whole(&ended, &report, 5);
    assert_eq!(report.quiesce_ms, None, "{ended}");
    assert!(matches!(report.finish.policy_reason, Some(Reason::CannotMeetMaxQuiesce { .. })), "{ended}");
    let predicted = report.passes.iter().map(|pass| pass.predicted_quiesce_ms);
    assert!(predicted.into_iter().all(|ms| ms.is_some_and(|ms| ms > 50.0)), "{ended}");
}

/// The passes that are left could not change it, so they are not made.
#[test]
fn a_move_that_is_out_of_reach_is_given_up_before_its_passes_are_used_up_and_foretold_after_the_first() {
    let trial = Trial::new();
    let words = "--workload uniform --dirty-rate 1G --rate-limit 5M --compress never --max-quiesce 0.05";
    let (ended, report) = trial.relocate(&format!("{SMALL} {words}"));
    assert_stayed_whole(&ended, &report, 5);
    assert!(matches!(report.finish.policy_reason, Some(Reason::OutOfReach { .. })), "{ended}");
    assert!(report.passes.len() <= 4, "{ended}");
    let foretold = ended.events().into_iter().find_map(|event| match event {
        Event::Predicted { number: 1, quiesce_ms, limit_ms: Some(limit_ms), .. } => {
            Some((quiesce_ms, limit_ms))
        }
        _ => None,
    });
    assert!(foretold.is_some_and(|(quiesce_ms, limit_ms)| quiesce_ms > 50.0 && limit_ms == 50.0), "{ended}");
}

/// The policy could not foresee it: a queue is held back while the guest is stopped.
#[test]
fn a_guest_stopped_for_too_long_goes_on_at_the_source() {
    let trial = Trial::new();
    let words = "--working-set 2M --dirty-rate 400M --max-quiesce 0.2 --rate-limit 64M --compress never --max-passes 2";
    let held: String = (0..16).map(|device| format!(" --fault hold:{device}:3000ms@penultimate")).collect();
    let (ended, report) = trial.relocate(&format!("{SMALL} {words} {held}"));
    assert_held_at_most(&report, 200.0);
    assert_stayed_whole(&ended, &report, 5);
    assert!(report.finish.reason.starts_with("MAXQUIESCE: the guest had been stopped"), "{ended}");
    assert!(report.quiesce_ms.is_some_and(|held_ms| held_ms >= 100.0), "{ended}");
}

#[test]
fn maxtotal_ends_a_move_that_takes_longer() {
    for medium in ["tcp", "shm"] {
        let trial = Trial::new();
        let words = format!("--max-total 0.2 --rate-limit 16M --compress never --medium {medium}");
        let (ended, report) = trial.relocate(&format!("{SMALL} {words}"));
        assert_stayed_whole(&ended, &report, 4);
        // What is shown as the total is what MAXTOTAL counts, and both are told in the same words.
        let total_ms = report.total_ms.unwrap();
        assert!(total_ms >= 200.0, "{ended}");
        let told = format!("MAXTOTAL: {} have passed", table::time(total_ms));
        assert!(report.finish.reason.starts_with(&told), "{ended}");
        let parts = [report.link_ms, report.prepare_ms, report.transfer_ms].map(Option::unwrap);
        assert!((parts.iter().sum::<f64>() - total_ms).abs() < 1e-6, "{parts:?} {ended}");
        assert_eq!((report.quiesce_ms, report.throughput_bytes_per_s), (None, None), "{ended}");
    }
}

#[test]
fn the_pass_limit_stops_a_guest_that_never_converges() {
    let trial = Trial::new();
    let words = "--workload uniform --dirty-rate 400M --rate-limit 100M --compress never --max-passes 3";
    let (ended, report) = trial.relocate(&format!("{SMALL} {words}"));
    assert_moved_whole(&ended, &report);
    assert_eq!(report.passes.len(), 5, "{ended}");
    assert!(matches!(report.finish.policy_reason, Some(Reason::PassLimit { passes: 3, .. })), "{ended}");
}

/// Locks LINUX1's record as any program may, until this is dropped.
fn lock_record(trial: &Trial) -> std::fs::File {
    let path = trial.volume().join("LINUX1.owner");
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    rustix::fs::fcntl_lock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    file
}

/// The members tell the source what they wait for, and who has it.
fn waited_for_the_record(ended: &common::Ended) -> bool {
    let told = |event: &Event| matches!(event, Event::Note { text } if text.contains("waits for the owner record of LINUX1") && text.contains("is locked by process"));
    ended.events().iter().any(told)
}

/// The queues are held back with the guest stopped, so the lock is there before the commit is asked for, and it stays.
#[test]
fn a_record_that_is_locked_after_the_stop_does_not_hold_the_guest_beyond_maxquiesce() {
    let trial = Trial::new();
    let words =
        "--working-set 2M --dirty-rate 400M --max-quiesce 3 --rate-limit 64M --compress never --max-passes 2";
    let held: String = (0..16).map(|device| format!(" --fault hold:{device}:800ms@penultimate")).collect();
    let mut pair = Pair::start(&trial, "", &format!("{SMALL} {words} {held}"));
    pair.source.event(|event| matches!(event, Event::Quiesced).then_some(()));
    let lock = lock_record(&trial);
    let destination = pair.destination.wait();
    drop(lock);
    let source = pair.source.wait();
    let report = source.report();
    assert_held_at_most(&report, 3000.0);
    assert_stayed_whole(&source, &report, 5);
    assert!(report.quiesce_ms.is_some_and(|held_ms| held_ms > 1500.0), "{source}");
    assert!(report.finish.reason.contains("is locked by process"), "{source}");
    assert!(waited_for_the_record(&destination), "{destination}");
    assert_eq!(trial.owner(), "MEMBERA");
}

#[test]
fn a_record_that_is_locked_before_the_stop_ends_the_move_and_never_stops_the_guest() {
    let trial = Trial::new();
    let mut pair = Pair::start(&trial, "", &format!("{SMALL} --rate-limit 8M --compress never"));
    pair.source.in_first_pass();
    let lock = lock_record(&trial);
    let source = pair.source.wait();
    drop(lock);
    let report = source.report();
    assert_stayed_whole(&source, &report, 8);
    assert_eq!(report.quiesce_ms, None, "{source}");
    assert!(report.finish.reason.contains("locked by process"), "{source}");
    pair.destination.wait();
    assert_eq!(trial.owner(), "MEMBERA");
}

#[test]
fn a_record_that_goes_away_in_a_pass_ends_the_move_and_never_stops_the_guest() {
    let trial = Trial::new();
    let mut pair = Pair::start(&trial, "", &format!("{SMALL} --rate-limit 8M --compress never"));
    pair.source.in_first_pass();
    std::fs::rename(trial.volume(), trial.path("elsewhere")).unwrap();
    let source = pair.source.wait();
    let report = source.report();
    assert_stayed_whole(&source, &report, 8);
    assert_eq!(report.quiesce_ms, None, "{source}");
    assert!(report.finish.reason.contains("no owner record"), "{source}");
    pair.destination.wait();
}

#[test]
fn a_record_that_is_locked_when_the_guest_is_offered_refuses_the_move() {
    let trial = Trial::new();
    let mut pair = Pair::start(&trial, "", "--memory 16M --run-before 3 --run-after 0.05");
    pair.source.event(|event| matches!(event, Event::Running { .. }).then_some(()));
    let lock = lock_record(&trial);
    let source = pair.source.wait();
    drop(lock);
    assert_stayed_whole(&source, &source.report(), 6);
    pair.destination.wait();
}
