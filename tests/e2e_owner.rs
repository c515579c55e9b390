//! One guest of a name: while a process runs it, nobody else starts it, whatever name and options are given.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "these are tests")]

mod common;

use common::pair::Pair;
use common::{Ended, SMALL, Trial, assert_moved_whole, assert_stayed_whole};
use lgr_engine::event::Event;
use lgr_engine::report::Side;
use rustix::process::Signal;

/// Tries to start LINUX1 once more, where nobody listens.
fn start_again(trial: &Trial, words: &str) -> Ended {
    let volume = trial.volume();
    trial.run(&format!("relocate --to tcp:127.0.0.1:1 --volume {} {SMALL} {words}", volume.display()))
}

/// It got as far as calling its destination, so the guest was its own to start.
fn assert_started(ended: &Ended) {
    assert_eq!(ended.code(), Some(1), "{ended}");
    assert!(ended.words().contains("127.0.0.1:1"), "{ended}");
    assert!(!ended.words().contains("arrives at"), "{ended}");
}

#[test]
fn a_guest_that_runs_cannot_be_started_again_nor_claimed() {
    let trial = Trial::new();
    let mut pair = Pair::start(&trial, "", &format!("{SMALL} --rate-limit 2M --compress never"));
    pair.source.in_first_pass();
    for words in ["", "--claim", "--claim --member OTHER", "--member MEMBERB", "--member MEMBERB --claim"] {
        let again = start_again(&trial, words);
        again.refused(
            1,
            &["guest LINUX1 runs or arrives at MEMBERA (process ", "end it there or relocate it from there"],
        );
    }
    let told = trial.run(&format!("owner LINUX1 --volume {}", trial.volume().display()));
    assert!(told.out().contains("runs or arrives at MEMBERA (process "), "{told}");
    pair.source.signal(Signal::INT);
    let aftermath = pair.wait();
    assert_eq!(aftermath.assert_one_guest(&trial), Side::Source);
    assert_stayed_whole(&aftermath.source, &aftermath.source.report(), 1);
}

#[test]
fn a_guest_that_runs_where_it_was_moved_cannot_be_started_by_either_member() {
    let trial = Trial::new();
    let mut pair = Pair::start(&trial, "", "--memory 16M --run-before 0.05 --run-after 6");
    pair.source.event(|event| matches!(event, Event::Running { side: Side::Destination }).then_some(()));
    for words in ["--member MEMBERB", "--member MEMBERB --claim", "--claim"] {
        start_again(&trial, words).refused(1, &["guest LINUX1 runs or arrives at MEMBERB (process "]);
    }
    let aftermath = pair.wait();
    assert_moved_whole(&aftermath.source, &aftermath.source.report());
    assert_eq!(aftermath.assert_one_guest(&trial), Side::Destination);
    // It has ended: its owner may start it, others only by claiming it.
    let told = trial.run(&format!("owner LINUX1 --volume {}", trial.volume().display()));
    assert!(told.out().contains("belongs to MEMBERB") && told.out().contains("runs nowhere now"), "{told}");
    start_again(&trial, "").refused(1, &["owned by member MEMBERB", "--claim", "--member MEMBERB"]);
    assert_started(&start_again(&trial, "--member MEMBERB"));
    assert_started(&start_again(&trial, "--claim"));
    assert_eq!(trial.owner(), "MEMBERA");
}

#[test]
fn a_guest_whose_process_was_killed_can_be_started_again() {
    let trial = Trial::new();
    let mut pair = Pair::start(&trial, "", &format!("{SMALL} --rate-limit 2M --compress never"));
    pair.source.in_first_pass();
    pair.source.signal(Signal::KILL);
    let aftermath = pair.wait();
    assert!(aftermath.source.was_killed());
    assert_started(&start_again(&trial, ""));
}

#[test]
fn a_guest_that_is_being_received_is_not_started_when_its_source_has_died() {
    let trial = Trial::new();
    let mut pair = Pair::start(&trial, "", &format!("{SMALL} --rate-limit 2M --compress never"));
    pair.source.in_first_pass();
    pair.destination.signal(Signal::STOP);
    pair.source.signal(Signal::KILL);
    let source = pair.source.wait();
    assert!(source.was_killed());
    start_again(&trial, "--claim").refused(1, &["guest LINUX1 runs or arrives at MEMBERB (process "]);
    pair.destination.signal(Signal::CONT);
    assert_eq!(pair.destination.wait().code(), Some(1));
    assert_started(&start_again(&trial, "--claim"));
}

#[test]
fn two_members_of_one_name_do_not_move_a_guest() {
    let trial = Trial::new();
    let pair = Pair::start(&trial, "", &format!("{SMALL} --member MEMBERB"));
    let aftermath = pair.wait();
    for ended in [&aftermath.source, &aftermath.destination] {
        let report = ended.report();
        assert_eq!((ended.code(), report.finish.code.number()), (Some(1), 6), "{ended}");
        assert!(report.finish.reason.contains("both members are called MEMBERB"), "{ended}");
    }
    let (ended, report) = trial.relocate(&format!("{SMALL} --member MEMBERB"));
    assert_moved_whole(&ended, &report);
    assert_eq!(report.destination.as_str(), "MEMBERA");
}

/// What no lock can see: the record was taken away by hand, and another made.
#[test]
fn a_member_whose_guest_was_taken_over_says_so_and_does_not_end_well() {
    let trial = Trial::new();
    let mut pair = Pair::start(&trial, "", "--memory 16M --run-before 0.05 --run-after 6");
    pair.source.event(|event| matches!(event, Event::Running { side: Side::Destination }).then_some(()));
    let volume = lgr_engine::owner::OwnerVolume::open(trial.volume()).unwrap();
    let other = lgr_engine::owner::MemberName::new("OTHER").unwrap();
    volume.replace(lgr_engine::owner::GuestName::new("LINUX1").unwrap(), other).unwrap();
    let aftermath = pair.wait();
    for ended in [&aftermath.source, &aftermath.destination] {
        let report = ended.report();
        assert_eq!(ended.code(), Some(1), "{ended}");
        assert!(report.finish.reason.contains("taken over: its owner record names OTHER now"), "{ended}");
    }
}
