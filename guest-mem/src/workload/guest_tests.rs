//! Behaviour of the guest with its threads: stop, go, move.

use super::clock::ClockDomain;
use super::state::GuestState;
use super::testing::{MIB, copy, filled, options, page, storage, verify};
use super::{Pattern, Phase, WorkloadError, WorkloadGuest, WorkloadOptions};
use crate::content::hash_pages;
use crate::page::PageNumber;
use crate::runs::{Run, Runs};
use crate::storage::Storage;
use crate::tracker::{DirtyTracker, TrackerChoice, TrackerKind, pick_tracker, probe};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn guest(pattern: Pattern) -> WorkloadGuest {
    let options = options(pattern);
    WorkloadGuest::new(filled(&options), options, None).unwrap()
}

/// Waits until the guest has written so much; fails only if it seems to write nothing at all.
fn let_it_write(guest: &WorkloadGuest, bytes: u64) {
    let (goal, began) = (guest.stats().achieved_bytes + bytes, Instant::now());
    while guest.stats().achieved_bytes < goal {
        assert!(began.elapsed() < Duration::from_secs(30), "the guest does not write");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn image(storage: &Storage) -> Vec<u64> {
    let mut hashes = Vec::new();
    let bytes: Vec<u8> = (0..storage.pages().0).flat_map(|number| page(storage, number)).collect();
    hash_pages(&bytes, &mut hashes);
    hashes
}

#[test]
fn a_quiesced_guest_writes_nothing_and_a_resumed_one_goes_on() {
    let guest = guest(Pattern::Uniform);
    guest.start().unwrap();
    let_it_write(&guest, MIB);
    assert!(guest.is_running());
    guest.quiesce().unwrap();
    assert!(!guest.is_running());
    let stopped = image(guest.storage());
    std::thread::sleep(Duration::from_millis(10));
    assert_eq!(image(guest.storage()), stopped);
    guest.resume().unwrap();
    let_it_write(&guest, MIB);
    guest.quiesce().unwrap();
    assert_ne!(image(guest.storage()), stopped);
    assert!(guest.stats().intended_bytes > 0);
}

#[test]
fn stop_and_go_in_any_rhythm_strands_no_vcpu() {
    let guest = guest(Pattern::Idle);
    for round in 0..300 {
        guest.resume().unwrap();
        if round % 3 == 0 {
            guest.resume().unwrap();
            std::thread::yield_now();
        }
        guest.quiesce().unwrap();
        guest.quiesce().unwrap();
    }
}

#[test]
fn a_guest_goes_on_at_the_destination_and_every_page_verifies_twice() {
    for pattern in [Pattern::HotCold, Pattern::Churn, Pattern::SmallUpdates] {
        let mut source = guest(pattern);
        source.start().unwrap();
        // The second move starts where the first one ended.
        for _ in 0..2 {
            source.set_phase(Phase::During);
            let_it_write(&source, MIB);
            source.quiesce().unwrap();
            let destination = WorkloadGuest::skeleton(storage(), None);
            destination.prepare_vcpus(2).unwrap();
            copy(source.storage(), destination.storage());
            destination.load_state(&source.save_state().unwrap()).unwrap();
            destination.resume().unwrap();
            let_it_write(&destination, MIB);
            destination.set_phase(Phase::After);
            destination.quiesce().unwrap();
            assert_eq!(verify(&source, &destination), [], "{pattern}");
            let (before, after) = (source.stats(), destination.stats());
            assert!(after.achieved_bytes > before.achieved_bytes, "counters go on");
            assert!(after.blackout_ns.is_some_and(|blackout_ns| blackout_ns > 0));
            assert_eq!(before.before.largest_gap, after.before.largest_gap);
            source = destination;
            source.resume().unwrap();
        }
    }
}

#[test]
fn a_guest_that_is_taken_back_tells_of_its_stop_too() {
    let source = guest(Pattern::HotCold);
    source.start().unwrap();
    let_it_write(&source, MIB);
    assert_eq!(source.stats().blackout_ns, None, "it has not been stopped");
    source.quiesce().unwrap();
    source.resume().unwrap();
    let_it_write(&source, MIB);
    assert!(source.stats().blackout_ns.is_some_and(|blackout_ns| blackout_ns > 0));
}

#[test]
fn without_a_common_clock_there_is_no_blackout_figure() {
    let source = guest(Pattern::Idle);
    source.start().unwrap();
    source.quiesce().unwrap();
    let pages = source.storage().pages();
    let mut state = GuestState::decode(&source.save_state().unwrap(), pages).unwrap();
    assert_eq!(state.clock, ClockDomain::current());
    state.clock = None;
    let destination = WorkloadGuest::skeleton(storage(), None);
    destination.load_state(&state.encode().unwrap()).unwrap();
    destination.resume().unwrap();
    while destination.stats().ticks < source.stats().ticks + 4 {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(destination.stats().blackout_ns, None);
}

#[test]
fn what_needs_a_stopped_or_a_whole_guest_says_so() {
    let source = guest(Pattern::Idle);
    source.start().unwrap();
    assert!(matches!(source.save_state(), Err(WorkloadError::Running)));
    assert!(matches!(source.manifest(), Err(WorkloadError::Running)));
    assert!(matches!(source.verifier(), Err(WorkloadError::Running)));
    source.quiesce().unwrap();
    let state = source.save_state().unwrap();
    source.resume().unwrap();
    assert!(matches!(source.load_state(&state), Err(WorkloadError::Running)));

    let skeleton = WorkloadGuest::skeleton(storage(), None);
    assert!(matches!(skeleton.resume(), Err(WorkloadError::NoState)));
    assert!(matches!(skeleton.save_state(), Err(WorkloadError::NoState)));
    assert!(matches!(skeleton.load_state(&[1, 2, 3]), Err(WorkloadError::BadState { .. })));
    assert!(matches!(skeleton.prepare_vcpus(200), Err(WorkloadError::TooManyVcpus { vcpus: 200 })));
    assert_eq!(skeleton.stats().ticks, 0);
    assert!(skeleton.options().is_none());
    skeleton.quiesce().unwrap();
}

#[test]
fn options_that_do_not_fit_the_storage_are_refused() {
    let too_much = WorkloadOptions { touched_bytes: 1 << 40, ..options(Pattern::Uniform) };
    assert!(WorkloadGuest::new(storage(), too_much, None).is_err());
    assert!(super::fill(&storage(), &too_much, &|_| {}).is_err());
}

/// Version of every page of a stopped guest.
fn versions(guest: &WorkloadGuest) -> Vec<(Run, Vec<u32>)> {
    guest.manifest().unwrap().map(|batch| (batch.run, batch.versions)).collect()
}

/// The pages whose version is another one.
fn changed(before: &[(Run, Vec<u32>)], after: &[(Run, Vec<u32>)]) -> Runs {
    let pages = before.iter().zip(after).flat_map(|((run, old), (same_run, new))| {
        assert_eq!(run, same_run, "no page was touched anew");
        let numbers: Vec<PageNumber> = run.page_numbers().collect();
        old.iter()
            .zip(new)
            .zip(numbers)
            .filter(|((old, new), _)| old != new)
            .map(|(_, page)| page)
            .collect::<Vec<_>>()
    });
    pages.map(|page| Run::new(page.0, 1)).collect()
}

fn harvests_tell_exactly_the_pages_written(choice: TrackerChoice) {
    let options = WorkloadOptions { dirty_rate_bytes_per_s: 20 * MIB, ..options(Pattern::Uniform) };
    let storage = filled(&options);
    let mut picked = pick_tracker(&storage, choice).unwrap();
    let guest = WorkloadGuest::new(Arc::clone(&storage), options, picked.bitmap.clone()).unwrap();
    let tracker: &mut dyn DirtyTracker = &mut *picked.tracker;
    tracker.start().unwrap();
    for _ in 0..2 {
        let before = versions(&guest);
        let (mut all, mut runs) = (Runs::new(), Runs::new());
        guest.resume().unwrap();
        for _ in 0..4 {
            let_it_write(&guest, MIB / 8);
            tracker.harvest(&mut runs).unwrap();
            all = all.union(&runs);
        }
        guest.quiesce().unwrap();
        tracker.harvest(&mut runs).unwrap();
        all = all.union(&runs);
        assert_eq!(all, changed(&before, &versions(&guest)));
    }
}

#[test]
fn the_uffd_tracker_tells_exactly_the_pages_that_running_vcpus_wrote() {
    if let Err(reason) = probe(TrackerKind::UffdAsync) {
        println!("skipped: userfaultfd: {reason}");
        return;
    }
    harvests_tell_exactly_the_pages_written(TrackerChoice::Uffd);
}

#[test]
fn the_software_tracker_tells_exactly_the_pages_that_running_vcpus_wrote() {
    harvests_tell_exactly_the_pages_written(TrackerChoice::Software);
}
