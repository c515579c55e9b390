//! Every way in which a page can arrive wrong is named rightly, whether or not the guest wrote it afterwards.

use super::meter::Phase;
use super::page_format::seal;
use super::testing::{copy, filled, kinds, machine, options, page, storage, tick};
use super::vcpu::VcpuState;
use super::verify::Verifier;
use super::{ContentMix, FaultKind, Manifest, ManifestBatch, ManifestError, PageFault, Pattern};
use crate::page::{PAGE_SIZE, PageNumber};
use crate::runs::{Run, Runs};
use crate::storage::Storage;
use std::sync::Arc;

/// A source with text pages, stopped after a while; the copy; what the verifier says after `spoil` and then
/// `ticks` at the destination.
fn faults_after(pattern: Pattern, spoil: impl Fn(&Storage, &Storage), ticks: u64) -> Vec<PageFault> {
    let options = super::WorkloadOptions { content: ContentMix::Text, ..options(pattern) };
    let (here, there) = (filled(&options), storage());
    let early = storage();
    copy(&here, &early);
    let source = machine(&here, options);
    tick(&source, 40);
    copy(&here, &there);
    spoil(&early, &there);
    let destination = machine(&there, options);
    tick(&destination, ticks);
    let verifier = Verifier::new(Arc::new(destination)).unwrap();
    let mut faults = Vec::new();
    for batch in Manifest::new(&source).unwrap() {
        faults.extend(verifier.verify_batch(&batch).unwrap());
    }
    faults.extend(verifier.verify_untouched());
    faults
}

/// Ticks enough that a sequential pattern writes each page of its working set at least once.
const ALL_WRITTEN: u64 = 40;
const NONE_WRITTEN: u64 = 0;

#[test]
fn a_perfect_copy_has_no_faults_written_or_not() {
    for pattern in Pattern::all() {
        for ticks in [NONE_WRITTEN, 3, ALL_WRITTEN] {
            assert_eq!(faults_after(pattern, |_, _| {}, ticks), [], "{pattern} {ticks}");
        }
    }
}

#[test]
fn a_page_that_never_arrived_is_lost() {
    let spoil = |_: &Storage, there: &Storage| there.release(&Runs::from_run(Run::new(3, 1))).unwrap();
    for ticks in [NONE_WRITTEN, ALL_WRITTEN] {
        let faults = faults_after(Pattern::Sequential, spoil, ticks);
        assert_eq!(kinds(&faults), [(3, FaultKind::Lost)], "{ticks}");
        assert!(faults[0].to_string().starts_with("page 0x3 is lost: version"), "{}", faults[0]);
    }
}

#[test]
fn an_older_copy_is_stale() {
    let spoil = |early: &Storage, there: &Storage| there.write_page(PageNumber(7), &page(early, 7));
    for ticks in [NONE_WRITTEN, ALL_WRITTEN] {
        let faults = faults_after(Pattern::Sequential, spoil, ticks);
        assert_eq!(kinds(&faults), [(7, FaultKind::Stale)], "{ticks}");
        assert!(faults[0].found_version.unwrap() < faults[0].expected_version);
    }
}

#[test]
fn a_changed_byte_is_a_torn_page_even_if_the_guest_updates_it_in_place() {
    let spoil = |_: &Storage, there: &Storage| there.write_bytes(PageNumber(9), 2000, &[0xFF, 0xFE]);
    for pattern in [Pattern::Sequential, Pattern::SmallUpdates] {
        for ticks in [NONE_WRITTEN, 10 * ALL_WRITTEN] {
            let faults = faults_after(pattern, spoil, ticks);
            assert_eq!(kinds(&faults), [(9, FaultKind::Torn)], "{pattern} {ticks}");
        }
    }
}

#[test]
fn two_swapped_pages_are_misplaced() {
    let spoil = |_: &Storage, there: &Storage| {
        let (one, two) = (page(there, 4), page(there, 5));
        there.write_page(PageNumber(4), &two);
        there.write_page(PageNumber(5), &one);
    };
    let faults = faults_after(Pattern::Sequential, spoil, NONE_WRITTEN);
    assert_eq!(kinds(&faults), [(4, FaultKind::Misplaced), (5, FaultKind::Misplaced)]);
    let written_over: Vec<u64> =
        kinds(&faults_after(Pattern::Sequential, spoil, ALL_WRITTEN)).iter().map(|(page, _)| *page).collect();
    assert_eq!(written_over, [4, 5]);
}

#[test]
fn content_where_none_belongs_is_named_and_zero_pages_there_are_fine() {
    let spoil = |_: &Storage, there: &Storage| {
        let mut bytes = [1; PAGE_SIZE];
        seal(&mut bytes, PageNumber(100), 3, 2);
        there.write_page(PageNumber(100), &bytes);
        there.write_page(PageNumber(101), &[9; PAGE_SIZE]);
        there.zero_page(PageNumber(102));
    };
    // The working set's stretches are 64 pages from every 256th, so these were never touched.
    let faults = faults_after(Pattern::Sequential, spoil, ALL_WRITTEN);
    assert_eq!(kinds(&faults), [(100, FaultKind::Stale), (101, FaultKind::Torn)]);
}

#[test]
fn a_version_from_the_future_is_unexpected() {
    let spoil = |_: &Storage, there: &Storage| {
        let mut bytes = page(there, 8);
        seal(&mut bytes, PageNumber(8), 1_000_000, 2);
        there.write_page(PageNumber(8), &bytes);
    };
    for ticks in [NONE_WRITTEN, ALL_WRITTEN] {
        let faults = faults_after(Pattern::Sequential, spoil, ticks);
        assert_eq!(kinds(&faults), [(8, FaultKind::Unexpected)], "{ticks}");
    }
}

#[test]
fn a_missed_zeroing_is_stale() {
    let options = super::WorkloadOptions { content: ContentMix::Text, ..options(Pattern::Sequential) };
    let (here, there) = (filled(&options), storage());
    copy(&here, &there);
    here.zero_page(PageNumber(6));
    for ticks in [NONE_WRITTEN, ALL_WRITTEN] {
        let destination = machine(&there, options);
        tick(&destination, ticks);
        let verifier = Verifier::new(Arc::new(destination)).unwrap();
        let faults: Vec<PageFault> = Manifest::new(&machine(&here, options))
            .unwrap()
            .flat_map(|batch| verifier.verify_batch(&batch).unwrap())
            .collect();
        assert_eq!(kinds(&faults), [(6, FaultKind::Stale)], "{ticks}");
    }
}

#[test]
fn verifying_gives_no_memory_to_pages_that_are_zero_on_both_sides() {
    let options = super::WorkloadOptions { content: ContentMix::Zero, ..options(Pattern::Idle) };
    let (here, there) = (filled(&options), storage());
    let verifier = Verifier::new(Arc::new(machine(&there, options))).unwrap();
    for batch in Manifest::new(&machine(&here, options)).unwrap() {
        assert_eq!(verifier.verify_batch(&batch).unwrap(), []);
    }
    assert_eq!(there.resident_bytes().unwrap(), 0);
    assert_eq!(here.resident_bytes().unwrap(), options.touched_bytes);
}

#[test]
fn a_batch_that_does_not_fit_is_refused() {
    let options = options(Pattern::Idle);
    let states = vec![VcpuState::new(0, 0), VcpuState::new(0, 1)];
    let machine = super::machine::Machine::new(storage(), options, None, states, Phase::After).unwrap();
    let verifier = Verifier::new(Arc::new(machine)).unwrap();
    let batch = |run: Run, entries: usize| ManifestBatch {
        run,
        versions: vec![0; entries],
        hashes: vec![0; entries],
    };
    let outside = verifier.verify_batch(&batch(Run::new(4095, 2), 2)).unwrap_err();
    assert!(matches!(outside, ManifestError::OutOfRange { .. }));
    let overflow = verifier.verify_batch(&batch(Run::new(u64::MAX, 2), 2)).unwrap_err();
    assert!(matches!(overflow, ManifestError::OutOfRange { .. }));
    assert!(verifier.verify_batch(&batch(Run::new(0, 2), 1)).is_err());
    assert!(verifier.verify_batch(&batch(Run::new(0, 0), 0)).is_err());
}

#[test]
fn a_guest_alone_finds_what_is_broken_in_itself() {
    let options = super::WorkloadOptions { content: ContentMix::Text, ..options(Pattern::SmallUpdates) };
    let storage = filled(&options);
    let check = |ticks: u64| {
        let machine = machine(&storage, options);
        tick(&machine, ticks);
        Verifier::new(Arc::new(machine)).unwrap().verify_alone()
    };
    let (pages, faults) = check(ALL_WRITTEN);
    assert_eq!((pages.bytes(), faults), (options.touched_bytes, vec![]));
    storage.write_bytes(PageNumber(3), 1000, b"torn");
    storage.write_page(PageNumber(4), &page(&storage, 5));
    for ticks in [NONE_WRITTEN, 10 * ALL_WRITTEN] {
        let bad: Vec<u64> = kinds(&check(ticks).1).iter().map(|(page, _)| *page).collect();
        assert_eq!(bad, [3, 4], "{ticks}");
    }
}
