//! Whatever dies, is cut or stalls at whichever step of a relocation: the guest runs on exactly one side, the
//! one its owner record names, it is whole, and the reports say what happened.
//!
//! The guest changes memory faster than the link may carry it, so passes 1 and 2 always come, and the pass limit
//! ends them.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "these are tests")]

mod common;

use common::pair::{Aftermath, Pair};
use common::{SMALL, Trial, assert_moved_whole, assert_stayed_whole};
use lgr_engine::event::Event;
use lgr_engine::report::{PassKind, Report, RunsOn, Side};
use rustix::process::Signal;

/// Two passes and then the stop, with something to send in each.
const TWO_PASSES: &str =
    "--workload uniform --dirty-rate 400M --rate-limit 100M --compress never --max-passes 2";

/// Lets `fault` strike on both sides, which each act on their own, and checks that one guest is left.
fn with_fault(fault: &str, trial: &Trial) -> (Aftermath, Side) {
    let pair = Pair::start(trial, &format!("--fault {fault}"), &format!("{SMALL} {TWO_PASSES}"));
    let aftermath = pair.wait();
    let owner = aftermath.assert_one_guest(trial);
    (aftermath, owner)
}

fn source_killed_at(step: &str) -> Side {
    let trial = Trial::new();
    let (aftermath, owner) = with_fault(&format!("kill-source@{step}"), &trial);
    assert!(aftermath.source.was_killed(), "{}", aftermath.source);
    let expected = if owner == Side::Destination { 0 } else { 1 };
    assert_eq!(aftermath.destination.code(), Some(expected), "{}", aftermath.destination);
    owner
}

fn destination_killed_at(step: &str) -> Side {
    let trial = Trial::new();
    let (aftermath, owner) = with_fault(&format!("kill-destination@{step}"), &trial);
    assert!(aftermath.destination.was_killed(), "{}", aftermath.destination);
    if owner == Side::Source {
        assert_stayed_whole(&aftermath.source, &aftermath.source.report(), 3);
    } else {
        // Nobody could compare the guest, so the source cannot call this a success.
        assert_eq!(aftermath.source.code(), Some(1), "{}", aftermath.source);
    }
    owner
}

/// Cuts all devices; both sides live.
fn all_queues_cut_at(step: &str) -> Side {
    let trial = Trial::new();
    let (aftermath, owner) = with_fault(&format!("cut:all@{step}"), &trial);
    let (source, destination) = (&aftermath.source, &aftermath.destination);
    if owner == Side::Source {
        assert_stayed_whole(source, &source.report(), 3);
        assert_eq!(destination.code(), Some(1), "{destination}");
        let finish = destination.report().finish;
        // Asked to commit, it may have found that the source had withdrawn already.
        let withdrawn = step == "commit" && finish.reason.contains("the source withdrew");
        assert!(withdrawn || finish.code.number() == 3, "{destination}");
    } else {
        assert_eq!(destination.code(), Some(0), "{destination}");
        // The source let go, but nobody is left to compare the guest with.
        assert_eq!((source.code(), source.report().verified), (Some(1), None), "{source}");
    }
    owner
}

/// Cuts one device: the others carry what it had.
fn one_queue_cut_at(step: &str) {
    let trial = Trial::new();
    let (aftermath, owner) = with_fault(&format!("cut:5@{step}"), &trial);
    assert_eq!(owner, Side::Destination);
    let report = aftermath.source.report();
    assert_moved_whole(&aftermath.source, &report);
    // A cut in the last instants may go unnoticed, or untold: nothing needs the device any more. One that is noticed may be
    // mended before the end: the device comes back by itself.
    if ["pass1", "pass2"].contains(&step) {
        let told =
            |event: &Event| matches!(event, Event::Note { text } if text.starts_with("device 5 is down"));
        assert!(aftermath.source.events().iter().any(told), "{}", aftermath.source);
    }
    let up = report.queues.iter().filter(|queue| queue.side == Side::Source && queue.state == "up");
    assert!(up.count() >= 15, "{:#?}", report.queues);
}

/// One test for each step: `name: call(step)`, with the side that must own the guest after it, if that is sure.
macro_rules! at_steps {
    ($($name:ident: $check:ident($step:literal) $(=> $owner:expr)?;)*) => {
        $(#[test]
        fn $name() {
            let owner = $check($step);
            $(assert_eq!(owner, $owner);)?
            let _ = owner;
        })*
    };
}

// Nobody but the destination changes the record, and only when it was asked to commit. So a source killed
// earlier takes its guest with it, and the destination must not run its copy.
at_steps! {
    source_killed_after_its_offer: source_killed_at("offer") => Side::Source;
    source_killed_when_accepted: source_killed_at("accepted") => Side::Source;
    source_killed_in_pass_1: source_killed_at("pass1") => Side::Source;
    source_killed_in_pass_2: source_killed_at("pass2") => Side::Source;
    source_killed_with_its_guest_stopped: source_killed_at("quiesce") => Side::Source;
    source_killed_after_sending_the_state: source_killed_at("state") => Side::Source;
    source_killed_in_the_penultimate_pass: source_killed_at("penultimate") => Side::Source;
    source_killed_in_the_final_pass: source_killed_at("final") => Side::Source;
    source_killed_asking_for_the_commit: source_killed_at("commit");
}

at_steps! {
    destination_killed_on_an_offer: destination_killed_at("offer") => Side::Source;
    destination_killed_accepting: destination_killed_at("accepted") => Side::Source;
    destination_killed_in_pass_1: destination_killed_at("pass1") => Side::Source;
    destination_killed_in_pass_2: destination_killed_at("pass2") => Side::Source;
    destination_killed_with_the_state: destination_killed_at("state") => Side::Source;
    destination_killed_in_the_penultimate_pass: destination_killed_at("penultimate") => Side::Source;
    destination_killed_before_the_commit: destination_killed_at("commit") => Side::Source;
    destination_killed_after_the_commit: destination_killed_at("committed") => Side::Destination;
    destination_killed_with_the_guest_resumed: destination_killed_at("resumed") => Side::Destination;
}

at_steps! {
    one_queue_cut_in_pass_1: one_queue_cut_at("pass1");
    one_queue_cut_in_pass_2: one_queue_cut_at("pass2");
    one_queue_cut_while_the_guest_stops: one_queue_cut_at("quiesce");
    one_queue_cut_after_the_state: one_queue_cut_at("state");
    one_queue_cut_in_the_penultimate_pass: one_queue_cut_at("penultimate");
    one_queue_cut_in_the_final_pass: one_queue_cut_at("final");
    one_queue_cut_at_the_commit: one_queue_cut_at("commit");
}

at_steps! {
    all_queues_cut_in_pass_1: all_queues_cut_at("pass1") => Side::Source;
    all_queues_cut_in_pass_2: all_queues_cut_at("pass2") => Side::Source;
    all_queues_cut_while_the_guest_stops: all_queues_cut_at("quiesce") => Side::Source;
    all_queues_cut_in_the_penultimate_pass: all_queues_cut_at("penultimate") => Side::Source;
    all_queues_cut_in_the_final_pass: all_queues_cut_at("final") => Side::Source;
    all_queues_cut_at_the_commit: all_queues_cut_at("commit");
}

/// Cuts at every kind of step over another medium or engine: the checks that do not depend on them.
fn cut_everywhere(address: impl Fn(&Trial) -> String, options: &str) {
    for device in ["5", "all"] {
        for step in ["pass1", "pass2", "penultimate", "commit"] {
            let trial = Trial::new();
            let both = format!("--fault cut:{device}@{step} {options}");
            let words = format!("{SMALL} {TWO_PASSES}");
            let aftermath = Pair::start_at(&trial, &address(&trial), &both, &words).wait();
            let owner = aftermath.assert_one_guest(&trial);
            assert!(device == "all" || owner == Side::Destination, "{}", aftermath.source);
        }
    }
}

#[test]
fn cuts_with_threads_leave_one_guest() {
    cut_everywhere(|_| "tcp:127.0.0.1:0".to_owned(), "--engine blocking");
}

#[test]
fn cuts_over_shm_leave_one_guest() {
    cut_everywhere(|trial| format!("shm:{}", trial.path("link").display()), "");
}

#[test]
fn cuts_over_shm_with_threads_leave_one_guest() {
    cut_everywhere(|trial| format!("shm:{}", trial.path("link").display()), "--engine blocking");
}

/// Holds device 3 back in a pass while the guest writes the same few pages again and again. An old copy that
/// arrived after a newer one would be a stale page.
fn held_back_in(step: &str, medium: &str) {
    let trial = Trial::new();
    let writes = "--workload hotcold --working-set 4M --dirty-rate 400M --rate-limit 100M --compress never --max-passes 4";
    let words = format!("{SMALL} {writes} --medium {medium} --fault hold:3:200ms@{step}");
    let (ended, report) = trial.relocate(&words);
    assert_moved_whole(&ended, &report);
    let number: u32 = step.strip_prefix("pass").unwrap().parse().unwrap();
    let pass = report.passes.iter().find(|pass| pass.number == number).unwrap();
    assert_eq!(pass.kind, if number == 1 { PassKind::First } else { PassKind::Intermediate });
    assert!(pass.ms >= 190.0, "nothing was held back: {pass:#?}");
    assert!(pass.dirty_pages_after > Some(0), "nothing was written meanwhile: {pass:#?}");
}

#[test]
fn a_queue_held_back_in_pass_1_leaves_no_stale_page() {
    held_back_in("pass1", "tcp");
}

#[test]
fn a_queue_held_back_in_pass_1_over_shm_leaves_no_stale_page() {
    held_back_in("pass1", "shm");
}

#[test]
fn a_queue_held_back_in_pass_2_leaves_no_stale_page() {
    held_back_in("pass2", "tcp");
}

#[test]
fn a_destination_that_stops_reading_is_given_up_and_the_guest_goes_on() {
    for medium in ["tcp", "shm"] {
        let trial = Trial::new();
        let address = match medium {
            "tcp" => "tcp:127.0.0.1:0".to_owned(),
            _ => format!("{medium}:{}", trial.path("link").display()),
        };
        let words = format!("{SMALL} --rate-limit 4M --compress never");
        let mut pair = Pair::start_at(&trial, &address, "--peer-timeout 1", &words);
        pair.source.in_first_pass();
        pair.destination.signal(Signal::STOP);
        let source = pair.source.wait();
        assert_stayed_whole(&source, &source.report(), 3);
        // When it goes on, it finds that its source is gone and that the guest is not its own.
        pair.destination.signal(Signal::CONT);
        let aftermath = Aftermath { source, destination: pair.destination.wait() };
        assert_eq!(aftermath.assert_one_guest(&trial), Side::Source);
    }
}

#[test]
fn an_interrupted_launcher_leaves_the_guest_on_the_source() {
    let trial = Trial::new();
    let mut launcher =
        trial.start(&format!("relocate {SMALL} --rate-limit 4M --compress never --progress json"));
    launcher.in_first_pass();
    launcher.signal(Signal::INT);
    let ended = launcher.wait();
    assert_stayed_whole(&ended, &ended.report(), 1);
}

#[test]
fn an_interrupted_source_leaves_the_guest_with_itself() {
    let trial = Trial::new();
    let mut pair = Pair::start(&trial, "", &format!("{SMALL} --rate-limit 4M --compress never"));
    pair.source.in_first_pass();
    pair.source.signal(Signal::INT);
    let aftermath = pair.wait();
    assert_eq!(aftermath.assert_one_guest(&trial), Side::Source);
    assert_stayed_whole(&aftermath.source, &aftermath.source.report(), 1);
}

#[test]
fn an_interrupted_destination_sends_the_guest_back() {
    let trial = Trial::new();
    let mut pair = Pair::start(&trial, "", &format!("{SMALL} --rate-limit 4M --compress never"));
    pair.source.in_first_pass();
    pair.destination.signal(Signal::INT);
    let aftermath = pair.wait();
    assert_eq!(aftermath.assert_one_guest(&trial), Side::Source);
    let reason = aftermath.source.report().finish.reason;
    assert!(reason.contains("cancelled by the operator of the destination"), "{reason}");
}

#[test]
fn the_launcher_reports_what_the_survivor_of_a_killed_member_knows() {
    let trial = Trial::new();
    let ended = trial.run(&format!("relocate {SMALL} --progress json --fault kill-source@pass1"));
    assert_eq!(ended.code(), Some(1), "{ended}");
    let killed = "the source was killed by signal 9";
    let report: Report = ended.report();
    assert!(report.finish.reason.contains(killed), "{ended}");
    // The record names it still, and nobody runs it.
    assert_eq!((report.runs_on, report.died_with), (RunsOn::Source, Some(Side::Source)), "{ended}");
    let ended = trial.run(&format!("relocate {SMALL} --progress json --fault kill-destination@pass1"));
    let report: Report = ended.report();
    assert_stayed_whole(&ended, &report, 3);
    assert!(report.finish.reason.contains("the destination was killed by signal 9"), "{ended}");
    assert!(ended.ran_the_guest(Side::Source), "{ended}");
    assert!(!ended.events().iter().any(|event| matches!(event, Event::Quiesced)), "{ended}");
}

#[test]
fn a_member_that_lost_its_guest_to_another_cannot_start_it_again() {
    let trial = Trial::new();
    let (_, owner) = with_fault("kill-destination@committed", &trial);
    assert_eq!(owner, Side::Destination);
    let words = format!("relocate --to tcp:127.0.0.1:1 --volume {}", trial.volume().display());
    trial.run(&format!("{words} {SMALL}")).refused(1, &["LINUX1", "MEMBERB"]);
}
