//! One writer thread: an open loop that owes pages by the clock and pays them tick by tick.
//!
//! Open loop means that the debt grows with time, not with what was done: a guest that is slowed by write-protect
//! faults falls behind visibly (`achieved < intended`), where a closed loop would just slow down and make the
//! relocation look cheap (coordinated omission). The debt is capped at 100 ms of the rate, as a client gives up
//! some time.

use super::clock::now_ns;
use super::control::Control;
use super::generate::{PageClass, page as generate_page, written_class};
use super::ledger::Found;
use super::machine::Machine;
use super::meter::{Counters, Gap};
use super::page_format::{HEADER_BYTES, PageBytes, PageState, inspect, seal, version_and_class};
use super::pattern::{PageOrder, Position};
use super::{Pattern, WorkloadError};
use crate::page::{PAGE_SIZE, PageNumber};
use serde::{Deserialize, Serialize};
use std::num::NonZeroU64;
use std::time::Duration;

/// Time between two ticks.
pub(crate) const TICK_NS: u64 = 500_000;
const BACKLOG_NS_MAX: u64 = 100_000_000;
/// A small update changes 8 to 256 bytes.
const SMALL_STEP_BYTES: u64 = 8;
const SMALL_STEPS: u64 = 32;
/// The clock is read once per so many pages inside a tick.
const PAGES_PER_CLOCK: u64 = 16;

/// The part of a vCPU that moves: the guest's virtual processor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VcpuState {
    pub(crate) position: Position,
    pub(crate) backlog_bytes: u64,
    /// `CLOCK_MONOTONIC` of the last tick; 0 before the first.
    pub(crate) last_tick_ns: u64,
    /// The last tick was on another side.
    pub(crate) arrived: bool,
    pub(crate) counters: Counters,
}

impl VcpuState {
    pub(crate) fn new(seed: u64, index: u8) -> Self {
        Self {
            position: Position::new(seed, index),
            backlog_bytes: 0,
            last_tick_ns: 0,
            arrived: false,
            counters: Counters::default(),
        }
    }
}

/// The body of a vCPU thread.
pub(crate) fn run(index: usize, control: &Control) {
    // The default slack of 50 µs would blur a 500 µs tick. Without the right to change it, it just does.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1_000));
    let mut epoch = 0;
    while let Some(machine) = control.park(index, &mut epoch) {
        if let Ok(mut vcpu) = Vcpu::new(&machine, index).map(Vcpu::after_a_stop) {
            let mut state = machine.lock_state(index);
            while !control.must_stop() {
                let wait_ns = vcpu.tick(&mut state, now_ns(), || control.must_stop());
                if wait_ns > 0 {
                    control.wait_for_tick(Duration::from_nanos(wait_ns));
                }
            }
        }
    }
}

/// What a vCPU has on one side and does not take along.
pub(crate) struct Vcpu<'m> {
    machine: &'m Machine,
    index: usize,
    order: PageOrder,
    /// First index of its slice of the working set, and the pages in the slice.
    first: u64,
    pages: u64,
    rate_bytes_per_s: u64,
    /// The guest has been stopped since the last tick.
    stood_still: bool,
    bytes: Box<PageBytes>,
}

impl<'m> Vcpu<'m> {
    pub(crate) fn new(machine: &'m Machine, index: usize) -> Result<Self, WorkloadError> {
        let (first, end) = machine.slice(index);
        let vcpus = machine.vcpus() as u64;
        let rate = machine.options.dirty_rate_bytes_per_s;
        let share = rate / vcpus + u64::from((index as u64) < rate % vcpus);
        Ok(Self {
            machine,
            index,
            order: PageOrder::new(machine.options.pattern, end - first)?,
            first,
            pages: end - first,
            rate_bytes_per_s: if end > first { share } else { 0 },
            stood_still: false,
            bytes: Box::new([0; PAGE_SIZE]),
        })
    }

    /// The guest has not run since the last tick of `state`, if there was one.
    pub(crate) fn after_a_stop(self) -> Self {
        Self { stood_still: true, ..self }
    }

    /// One tick at time `now`: notes the gap, adds to the debt, pays what can be paid until the next tick is due or
    /// `must_stop`. Returns how long to wait for the next tick, in nanoseconds.
    pub(crate) fn tick(&mut self, state: &mut VcpuState, now: u64, must_stop: impl Fn() -> bool) -> u64 {
        let elapsed_ns = if state.last_tick_ns == 0 { 0 } else { now.saturating_sub(state.last_tick_ns) };
        self.note_gap(state, now);
        self.add_debt(state, elapsed_ns);
        let due = now + TICK_NS;
        let mut written = 0u64;
        while state.backlog_bytes >= PAGE_SIZE as u64 && !must_stop() {
            let page =
                self.machine.layout.page(self.first + self.order.next(&mut state.position) % self.pages);
            self.write(state, page);
            state.backlog_bytes -= PAGE_SIZE as u64;
            written += 1;
            if written.is_multiple_of(PAGES_PER_CLOCK) && now_ns() >= due {
                break;
            }
        }
        let bytes = written * PAGE_SIZE as u64;
        state.counters.achieved_bytes = state.counters.achieved_bytes.saturating_add(bytes);
        self.machine.lock_meter(self.index).counters = state.counters;
        due.saturating_sub(now_ns())
    }

    fn note_gap(&mut self, state: &mut VcpuState, now: u64) {
        if state.last_tick_ns != 0 {
            let gap = Gap { from_ns: state.last_tick_ns, to_ns: now };
            let mut meter = self.machine.lock_meter(self.index);
            // A stop is no gap of the passes before it or of the time after it: it is told by itself.
            if state.arrived || self.stood_still {
                meter.blackout_ns = Some(gap.len_ns());
            } else {
                meter.record_gap(self.machine.phase(), gap);
                state.counters.largest_gaps = meter.counters.largest_gaps;
            }
        }
        (state.arrived, self.stood_still) = (false, false);
        state.last_tick_ns = now;
        state.counters.ticks = state.counters.ticks.saturating_add(1);
    }

    fn add_debt(&self, state: &mut VcpuState, elapsed_ns: u64) {
        let writing_ns = self.order.writing_ns(&mut state.position, elapsed_ns);
        let bytes =
            |time_ns: u64| (u128::from(self.rate_bytes_per_s) * u128::from(time_ns) / 1_000_000_000) as u64;
        state.counters.intended_bytes = state.counters.intended_bytes.saturating_add(bytes(writing_ns));
        let cap = bytes(BACKLOG_NS_MAX).max(2 * PAGE_SIZE as u64);
        state.backlog_bytes = state.backlog_bytes.saturating_add(bytes(writing_ns)).min(cap);
    }

    /// Writes one page and then says so, in this order: ledger and bitmap must not run ahead of the bytes.
    pub(crate) fn write(&mut self, state: &mut VcpuState, page: PageNumber) {
        let machine = self.machine;
        let version = self.look_before_write(page);
        let next_version = version.wrapping_add(1).max(1);
        let class = written_class(&machine.options, page);
        let freed = match machine.options.pattern {
            _ if class == PageClass::Zero => true,
            Pattern::Churn => version > 0,
            _ => false,
        };
        if freed {
            machine.storage.zero_page(page);
            machine.ledger.count_free(page);
        } else {
            if machine.options.pattern == Pattern::SmallUpdates && version > 0 {
                self.update_in_place(&mut state.position, page, next_version);
            } else {
                generate_page(machine.options.seed, page, next_version, class, &mut self.bytes);
                machine.storage.write_page(page, &self.bytes);
            }
            machine.ledger.count_write(page);
        }
        if let Some(bitmap) = &machine.bitmap {
            bitmap.mark(page);
        }
    }

    /// The version of a page that is about to be written. The first time on this side, all of it is checked: a
    /// page that arrived wrong must not become right by being overwritten.
    fn look_before_write(&mut self, page: PageNumber) -> u32 {
        let machine = self.machine;
        if machine.ledger.entry(page).is_written() {
            let mut header = [0; HEADER_BYTES];
            machine.storage.read_bytes(page, 0, &mut header);
            return version_and_class(&header).0;
        }
        machine.storage.read_page(page, &mut self.bytes);
        let (found, version) = match inspect(&self.bytes) {
            PageState::Zero => (Found::Zero, 0),
            PageState::Sound { page: number, version } if number == page => (Found::Sound, version),
            PageState::Sound { .. } | PageState::Torn => (Found::Bad, 0),
        };
        machine.ledger.open(page, found);
        version
    }

    /// Changes a few bytes and the header; the rest of the page is not written.
    fn update_in_place(&mut self, position: &mut Position, page: PageNumber, version: u32) {
        let storage = &self.machine.storage;
        storage.read_page(page, &mut self.bytes);
        let len = ((1 + position.below(SMALL_STEPS)) * SMALL_STEP_BYTES) as usize;
        let places = (PAGE_SIZE - HEADER_BYTES - len) as u64 / SMALL_STEP_BYTES + 1;
        let start = HEADER_BYTES + (position.below(places) * SMALL_STEP_BYTES) as usize;
        let range = start..start + len;
        for word in self.bytes[range.clone()].as_chunks_mut::<8>().0 {
            *word = position.random().to_le_bytes();
        }
        let header: &[u8; HEADER_BYTES] = self.bytes.first_chunk().expect("a page is longer than its header");
        let class = version_and_class(header).1;
        seal(&mut self.bytes, page, version, class);
        storage.write_bytes(page, start, &self.bytes[range]);
        storage.write_bytes(page, 0, &self.bytes[..HEADER_BYTES]);
    }
}
