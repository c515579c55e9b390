//! Behaviour of one vCPU, driven by hand in synthetic time: no threads, no dependence on the machine's speed.

use super::meter::WorkloadStats;
use super::page_format::{PageState, inspect};
use super::testing::{TIME_NS, copy, filled, machine, options, page, storage, tick};
use super::vcpu::{TICK_NS, Vcpu};
use super::{ContentMix, Pattern, WorkloadOptions};
use crate::page::PageNumber;
use crate::runs::{Run, Runs};

const PAGE_BYTES: u64 = 4096;

#[test]
fn a_filled_guest_has_sound_pages_exactly_where_it_was_touched() {
    let options = options(Pattern::Idle);
    let storage = filled(&options);
    let machine = machine(&storage, options);
    assert_eq!(storage.touched().unwrap(), machine.layout.touched());
    let mut zero = 0;
    for number in machine.layout.touched().iter().flat_map(Run::page_numbers) {
        match inspect(&page(&storage, number.0)) {
            PageState::Zero => zero += 1,
            state => assert_eq!(state, PageState::Sound { page: number, version: 1 }),
        }
    }
    assert!((150..350).contains(&zero), "a quarter of 1024 pages is zero: {zero}");
}

#[test]
fn every_pattern_writes_sound_pages_of_its_working_set_and_counts_each_write() {
    for pattern in Pattern::all() {
        let options = options(pattern);
        let storage = filled(&options);
        let machine = machine(&storage, options);
        let before: Vec<_> = (0..4096).map(|number| inspect(&page(&storage, number))).collect();
        tick(&machine, 60);
        let working_set = machine.layout.runs(0, 512);
        let mut writes = 0;
        for number in (0..4096).map(PageNumber) {
            let (entry, state) = (machine.ledger.entry(number), inspect(&page(&storage, number.0)));
            let old = before[number.0 as usize];
            assert!(!entry.is_written() || working_set.contains(number), "{pattern}: {number}");
            writes += u64::from(entry.writes());
            let old_version = if let PageState::Sound { version, .. } = old { version } else { 0 };
            let version = if entry.is_freed() { entry.writes() } else { old_version + entry.writes() };
            match state {
                PageState::Zero => assert_eq!(version, 0, "{pattern}: {number}"),
                state => assert_eq!(state, PageState::Sound { page: number, version }, "{pattern}"),
            }
        }
        let achieved: u64 = (0..2).map(|vcpu| machine.lock_state(vcpu).counters.achieved_bytes).sum();
        match pattern {
            Pattern::Idle => assert_eq!(achieved, 0),
            Pattern::Churn => assert!(writes * PAGE_BYTES <= achieved, "frees count as writes too"),
            _ => assert_eq!(achieved, writes * PAGE_BYTES, "{pattern}"),
        }
    }
}

#[test]
fn a_small_update_changes_at_most_256_bytes_and_the_header() {
    let options = WorkloadOptions { content: ContentMix::Text, ..options(Pattern::SmallUpdates) };
    let storage = filled(&options);
    let machine = machine(&storage, options);
    let mut vcpu = Vcpu::new(&machine, 0).unwrap();
    for _ in 0..200 {
        let before = page(&storage, 3);
        vcpu.write(&mut machine.lock_state(0), PageNumber(3));
        let after = page(&storage, 3);
        let changed: Vec<usize> = (32..4096).filter(|at| before[*at] != after[*at]).collect();
        assert!(!changed.is_empty() && changed[changed.len() - 1] - changed[0] < 256);
        assert!(matches!(inspect(&after), PageState::Sound { .. }));
    }
}

#[test]
fn churn_frees_pages_that_hold_data_and_fills_zero_ones() {
    let options = WorkloadOptions { content: ContentMix::Text, ..options(Pattern::Churn) };
    let storage = filled(&options);
    let machine = machine(&storage, options);
    let mut vcpu = Vcpu::new(&machine, 0).unwrap();
    let mut write = || {
        vcpu.write(&mut machine.lock_state(0), PageNumber(5));
        inspect(&page(&storage, 5))
    };
    assert_eq!(write(), PageState::Zero);
    assert_eq!(write(), PageState::Sound { page: PageNumber(5), version: 1 });
    assert_eq!(write(), PageState::Zero);
    assert!(machine.ledger.entry(PageNumber(5)).is_freed());
}

#[test]
fn the_all_zero_mix_stays_zero_and_still_writes() {
    let options = WorkloadOptions { content: ContentMix::Zero, ..options(Pattern::Uniform) };
    let storage = filled(&options);
    let machine = machine(&storage, options);
    tick(&machine, 20);
    assert!((0..4096).all(|number| inspect(&page(&storage, number)) == PageState::Zero));
    assert!(machine.lock_state(0).counters.achieved_bytes > 0);
}

#[test]
fn each_vcpu_writes_its_own_share_only() {
    let options = options(Pattern::Uniform);
    let storage = filled(&options);
    let machine = machine(&storage, options);
    let mut vcpu = Vcpu::new(&machine, 1).unwrap();
    let mut state = machine.lock_state(1);
    for step in 1..100 {
        vcpu.tick(&mut state, TIME_NS + step * TICK_NS, || false);
    }
    let share = machine.layout.runs(256, 512);
    for number in (0..4096).map(PageNumber) {
        assert!(!machine.ledger.entry(number).is_written() || share.contains(number));
    }
}

#[test]
fn the_debt_follows_the_clock_and_is_capped_at_a_tenth_of_a_second() {
    let options = WorkloadOptions { vcpus: 1, ..options(Pattern::Uniform) };
    let rate = options.dirty_rate_bytes_per_s;
    let storage = filled(&options);
    let machine = machine(&storage, options);
    let mut vcpu = Vcpu::new(&machine, 0).unwrap();
    let mut state = machine.lock_state(0);
    vcpu.tick(&mut state, TIME_NS, || false);
    assert_eq!(state.counters.intended_bytes, 0, "no time has passed");

    vcpu.tick(&mut state, TIME_NS + 10_000_000, || false);
    assert_eq!(state.counters.intended_bytes, rate / 100);
    assert_eq!(state.counters.achieved_bytes, rate / 100 / PAGE_BYTES * PAGE_BYTES);
    let left = state.backlog_bytes;
    assert!(left < PAGE_BYTES, "all whole pages were paid");

    // Stopped at once, a tick pays nothing and the debt stays.
    vcpu.tick(&mut state, TIME_NS + 20_000_000, || true);
    assert_eq!(state.backlog_bytes, left + rate / 100);
    let achieved = state.counters.achieved_bytes;

    // An hour later the intention is counted in full, but only a tenth of a second is made up for.
    vcpu.tick(&mut state, TIME_NS + 3_600_000_000_000, || true);
    assert!(state.counters.intended_bytes.abs_diff(rate * 3600) < 10);
    assert_eq!(state.backlog_bytes, rate / 10);
    vcpu.tick(&mut state, TIME_NS + 3_600_000_000_001, || false);
    assert_eq!(state.counters.achieved_bytes - achieved, rate / 10 / PAGE_BYTES * PAGE_BYTES);
}

#[test]
fn a_very_low_rate_writes_a_page_now_and_then() {
    let slow = WorkloadOptions { dirty_rate_bytes_per_s: 4096, vcpus: 1, ..options(Pattern::Uniform) };
    let storage = filled(&slow);
    let machine = machine(&storage, slow);
    let mut vcpu = Vcpu::new(&machine, 0).unwrap();
    let mut state = machine.lock_state(0);
    for tenth in 0..=35 {
        vcpu.tick(&mut state, TIME_NS + tenth * 100_000_000, || false);
    }
    assert_eq!(state.counters.achieved_bytes, 3 * PAGE_BYTES);
}

#[test]
fn the_saved_vcpu_goes_on_at_the_other_side_exactly_where_it_stopped() {
    for pattern in Pattern::all() {
        let options = options(pattern);
        let (here, there) = (filled(&options), storage());
        let source = machine(&here, options);
        tick(&source, 40);
        copy(&here, &there);
        let destination = machine(&there, options);
        for index in 0..2 {
            *destination.lock_state(index) = source.lock_state(index).clone();
        }
        tick(&source, 40);
        tick(&destination, 40);
        for number in 0..4096 {
            assert_eq!(page(&here, number), page(&there, number), "{pattern}: page {number}");
        }
        assert_eq!(source.lock_state(1).position, destination.lock_state(1).position, "{pattern}");
    }
}

#[test]
fn the_largest_gap_is_kept_with_its_times() {
    let options = options(Pattern::Idle);
    let storage = storage();
    let machine = machine(&storage, options);
    let mut vcpu = Vcpu::new(&machine, 0).unwrap();
    let mut state = machine.lock_state(0);
    for at in [0, 500_000, 20_500_000, 21_000_000] {
        vcpu.tick(&mut state, TIME_NS + at, || false);
    }
    let gap = state.counters.largest_gaps[0];
    assert_eq!((gap.from_ns - TIME_NS, gap.len_ns()), (500_000, 20_000_000));
    assert_eq!(state.counters.ticks, 4);
    assert_eq!(Runs::from_run(storage.whole()).difference(&storage.touched().unwrap()).pages().0, 4096);
}

#[test]
fn a_stop_is_told_as_the_blackout_and_is_no_gap_of_any_phase() {
    let machine = machine(&storage(), options(Pattern::Idle));
    let mut state = machine.lock_state(0);
    let mut vcpu = Vcpu::new(&machine, 0).unwrap().after_a_stop();
    let mut tick = |vcpu: &mut Vcpu<'_>, at_ns| vcpu.tick(&mut state, TIME_NS + at_ns, || false);
    // Before the first tick there was no time to stand still in.
    for at_ns in [0, 500_000, 1_100_000] {
        tick(&mut vcpu, at_ns);
    }
    assert_eq!(machine.lock_meter(0).blackout_ns, None);
    let mut vcpu = Vcpu::new(&machine, 0).unwrap().after_a_stop();
    for at_ns in [51_100_000, 51_600_000] {
        tick(&mut vcpu, at_ns);
    }
    let meter = machine.lock_meter(0);
    assert_eq!(meter.blackout_ns, Some(50_000_000));
    assert_eq!(meter.counters.largest_gaps[0].len_ns(), 600_000);
    let stats = WorkloadStats::of([&*meter].into_iter());
    assert_eq!((stats.before.ticks, stats.during.ticks, stats.after.ticks), (3, 0, 0));
}
