//! How the guest felt: counters, the gaps between its ticks, and its own blackout.
//!
//! A vCPU ticks every 500 µs whether or not it has anything to write. The time from one tick to the next is what a
//! request would have waited, so its histogram per phase shows what the relocation costs the guest, and
//! the one gap across the switch is the blackout as felt inside.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::fmt;

const GAP_MIN_NS: u64 = 1_000;
const GAP_MAX_NS: u64 = 60_000_000_000;

/// Which part of a relocation the guest is in, as the engine tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Not yet moving.
    #[default]
    Before,
    /// Memory is being moved, or the guest is stopped for it.
    During,
    /// Running at the destination, move done.
    After,
}

impl Phase {
    pub(crate) const COUNT: usize = 3;

    pub(crate) fn index(self) -> usize {
        match self {
            Self::Before => 0,
            Self::During => 1,
            Self::After => 2,
        }
    }

    pub(crate) fn from_index(index: usize) -> Self {
        match index {
            0 => Self::Before,
            1 => Self::During,
            _ => Self::After,
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Before => "before",
            Self::During => "during",
            Self::After => "after",
        })
    }
}

/// The time between two ticks of one vCPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// `CLOCK_MONOTONIC` of the earlier tick, in nanoseconds.
    pub from_ns: u64,
    /// `CLOCK_MONOTONIC` of the later tick, in nanoseconds.
    pub to_ns: u64,
}

impl Gap {
    /// Its length in nanoseconds.
    #[must_use]
    pub fn len_ns(&self) -> u64 {
        self.to_ns.saturating_sub(self.from_ns)
    }
}

/// The counters of one vCPU; they move with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counters {
    pub(crate) intended_bytes: u64,
    pub(crate) achieved_bytes: u64,
    pub(crate) ticks: u64,
    pub(crate) largest_gaps: [Gap; Phase::COUNT],
}

/// What one vCPU publishes after each tick.
#[derive(Debug)]
pub(crate) struct Meter {
    pub(crate) counters: Counters,
    pub(crate) blackout_ns: Option<u64>,
    gaps: [Histogram<u32>; Phase::COUNT],
}

impl Meter {
    pub(crate) fn new(counters: Counters) -> Self {
        Self { counters, blackout_ns: None, gaps: std::array::from_fn(|_| empty_histogram()) }
    }

    pub(crate) fn record_gap(&mut self, phase: Phase, gap: Gap) {
        self.gaps[phase.index()].saturating_record(gap.len_ns());
        let largest = &mut self.counters.largest_gaps[phase.index()];
        if gap.len_ns() > largest.len_ns() {
            *largest = gap;
        }
    }
}

fn empty_histogram() -> Histogram<u32> {
    Histogram::new_with_bounds(GAP_MIN_NS, GAP_MAX_NS, 3).expect("constant bounds that hdrhistogram accepts")
}

/// The gaps of one phase, over all vCPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseStats {
    /// Gaps recorded in this process in this phase.
    pub ticks: u64,
    /// Median gap in nanoseconds.
    pub p50_ns: u64,
    /// 90th percentile in nanoseconds.
    pub p90_ns: u64,
    /// 99th percentile in nanoseconds.
    pub p99_ns: u64,
    /// 99.9th percentile in nanoseconds.
    pub p999_ns: u64,
    /// Largest gap in nanoseconds, to the histogram's three digits.
    pub max_ns: u64,
    /// The largest gap since the guest was started, on whichever side.
    pub largest_gap: Gap,
}

/// What the workload guest tells about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadStats {
    /// Bytes that the rate asked for, since the guest was started, on whichever side.
    pub intended_bytes: u64,
    /// Bytes of pages written, each write counted as one page.
    pub achieved_bytes: u64,
    /// Ticks of all vCPUs.
    pub ticks: u64,
    /// The largest gap across the last stop, in nanoseconds, whether the guest went on here or at another side; in none of
    /// the phases. `None` if there was no stop yet, or the two sides have no common clock.
    pub blackout_ns: Option<u64>,
    /// Before the relocation.
    pub before: PhaseStats,
    /// While it went on.
    pub during: PhaseStats,
    /// After it.
    pub after: PhaseStats,
}

impl WorkloadStats {
    pub(crate) fn of<'m>(meters: impl Iterator<Item = impl std::ops::Deref<Target = Meter> + 'm>) -> Self {
        let mut stats = Self::default();
        let mut gaps: [Histogram<u32>; Phase::COUNT] = std::array::from_fn(|_| empty_histogram());
        let mut largest = [Gap::default(); Phase::COUNT];
        for meter in meters {
            let counters = &meter.counters;
            stats.intended_bytes = stats.intended_bytes.saturating_add(counters.intended_bytes);
            stats.achieved_bytes = stats.achieved_bytes.saturating_add(counters.achieved_bytes);
            stats.ticks = stats.ticks.saturating_add(counters.ticks);
            stats.blackout_ns = stats.blackout_ns.max(meter.blackout_ns);
            for phase in 0..Phase::COUNT {
                gaps[phase].add(&meter.gaps[phase]).expect("histograms of equal bounds add up");
                if counters.largest_gaps[phase].len_ns() > largest[phase].len_ns() {
                    largest[phase] = counters.largest_gaps[phase];
                }
            }
        }
        let phase = |phase: Phase| PhaseStats {
            ticks: gaps[phase.index()].len(),
            p50_ns: gaps[phase.index()].value_at_quantile(0.5),
            p90_ns: gaps[phase.index()].value_at_quantile(0.9),
            p99_ns: gaps[phase.index()].value_at_quantile(0.99),
            p999_ns: gaps[phase.index()].value_at_quantile(0.999),
            max_ns: gaps[phase.index()].max(),
            largest_gap: largest[phase.index()],
        };
        stats.before = phase(Phase::Before);
        stats.during = phase(Phase::During);
        stats.after = phase(Phase::After);
        stats
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_kept_by_phase_and_the_largest_with_its_times() {
        let mut meter = Meter::new(Counters { intended_bytes: 5, ..Counters::default() });
        for len_ns in [500_000, 700_000, 9_000_000] {
            meter.record_gap(Phase::During, Gap { from_ns: 100, to_ns: 100 + len_ns });
        }
        meter.record_gap(Phase::After, Gap { from_ns: 9, to_ns: 3 });
        meter.blackout_ns = Some(77);
        let stats = WorkloadStats::of([&meter, &Meter::new(Counters::default())].into_iter());
        assert_eq!((stats.during.ticks, stats.before.ticks, stats.after.ticks), (3, 0, 1));
        assert_eq!(stats.during.largest_gap, Gap { from_ns: 100, to_ns: 9_000_100 });
        assert!(stats.during.p50_ns.abs_diff(700_000) < 2_000 && stats.during.max_ns >= 9_000_000);
        assert_eq!((stats.blackout_ns, stats.intended_bytes), (Some(77), 5));
    }
}
