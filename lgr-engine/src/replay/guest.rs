//! A guest that writes what a trace says, when it says.

use std::time::Duration;

use guest_mem::Runs;

use crate::trace::{Sample, Trace};

/// Where in the trace, which is gone through again and again: whole rounds, and samples of the round that is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    rounds: u64,
    samples: usize,
}

/// The guest of a trace.
pub(super) struct TracedGuest<'a> {
    touched: &'a Runs,
    samples: &'a [Sample],
    round: Duration,
    began: Duration,
    stopped: Option<Duration>,
    collected: Place,
}

impl<'a> TracedGuest<'a> {
    pub(super) fn new(trace: &'a Trace) -> Self {
        Self {
            touched: trace.touched(),
            samples: trace.samples(),
            round: trace.duration(),
            began: Duration::ZERO,
            stopped: None,
            collected: Place::default(),
        }
    }

    pub(super) fn touched(&self) -> &'a Runs {
        self.touched
    }

    /// The trace begins now.
    pub(super) fn begin(&mut self, now: Duration) {
        self.began = now;
    }

    /// It writes no more from then on.
    pub(super) fn stop(&mut self, at: Duration) {
        self.stopped = Some(at);
    }

    /// All pages written since this was last asked.
    pub(super) fn written_until(&mut self, now: Duration) -> Runs {
        let now = self.stopped.map_or(now, |stopped| stopped.min(now));
        let (from, to) = (self.collected, self.place_at(now.saturating_sub(self.began)));
        self.collected = to;
        let union = |samples: &[Sample]| -> Runs {
            samples.iter().flat_map(|sample| sample.written.iter().copied()).collect()
        };
        match to.rounds - from.rounds {
            0 => union(&self.samples[from.samples..to.samples]),
            1 if to.samples <= from.samples => {
                union(&self.samples[from.samples..]).union(&union(&self.samples[..to.samples]))
            }
            // A whole round or more: everything there is.
            _ => union(self.samples),
        }
    }

    /// Samples that are over after so much time.
    fn place_at(&self, elapsed: Duration) -> Place {
        if self.round.is_zero() {
            return Place::default();
        }
        let (elapsed_ns, round_ns) = (elapsed.as_nanos(), self.round.as_nanos());
        let rounds = (elapsed_ns / round_ns) as u64;
        let rest = Duration::from_nanos((elapsed_ns % round_ns) as u64);
        Place { rounds, samples: self.samples.partition_point(|sample| sample.at <= rest) }
    }
}
