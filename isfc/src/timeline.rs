//! What each device did over time: a sample of its counters every so often, for pictures.
//!
//! The number of samples is bounded: when there are too many, every other one is dropped and the interval doubles, so a
//! move of a second and one of a day are both told in at most [`SAMPLES_MAX`] points.

use std::time::{Duration, Instant};

/// Most samples kept.
pub const SAMPLES_MAX: usize = 256;

/// One device's running counters at one instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceSample {
    /// Bytes sent so far, headers included.
    pub tx_bytes: u64,
    /// Bytes received so far, headers included.
    pub rx_bytes: u64,
    /// Start-subchannels so far.
    pub ssch: u64,
    /// Segments under way now: the queue's depth.
    pub depth: u16,
    /// The device is up.
    pub up: bool,
}

/// All devices at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When.
    pub at: Instant,
    /// By device number.
    pub devices: Vec<DeviceSample>,
}

/// The samples of a link.
#[derive(Debug)]
pub(crate) struct Timeline {
    every: Duration,
    samples: Vec<Sample>,
}

impl Timeline {
    pub(crate) fn new(every: Duration) -> Self {
        Self { every: every.max(Duration::from_millis(1)), samples: Vec::new() }
    }

    /// How long until the next sample is due.
    pub(crate) fn due_in(&self, now: Instant) -> Duration {
        self.samples
            .last()
            .map_or(Duration::ZERO, |last| (last.at + self.every).saturating_duration_since(now))
    }

    pub(crate) fn push(&mut self, sample: Sample) {
        if self.samples.len() >= SAMPLES_MAX {
            let mut index = 0;
            self.samples.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            self.every *= 2;
        }
        self.samples.push(sample);
    }

    pub(crate) fn samples(&self) -> &[Sample] {
        &self.samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_time_is_told_in_as_many_points_as_a_short_one() {
        let (mut line, began) = (Timeline::new(Duration::from_millis(50)), Instant::now());
        let mut now = began;
        for _ in 0..10 * SAMPLES_MAX {
            now += line.due_in(now);
            line.push(Sample { at: now, devices: Vec::new() });
        }
        let samples = line.samples();
        assert!((SAMPLES_MAX / 2..=SAMPLES_MAX).contains(&samples.len()), "{}", samples.len());
        assert_eq!(samples[0].at, began);
        assert!(samples.is_sorted_by(|a, b| a.at < b.at));
        let gaps: Vec<_> = samples.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
        assert!(gaps.iter().max().unwrap() <= &(*gaps.iter().min().unwrap() * 2), "{gaps:?}");
    }
}
