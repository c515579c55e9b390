//! The parts of a report.

use hdrhistogram::Histogram;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::policy::{Limits, to_ms};

/// Most faults a report lists; all are counted.
pub const VERIFICATION_FAULTS_MAX: usize = 32;

/// One side of a relocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The member the guest ran on.
    Source,
    /// The member it moves to.
    Destination,
}

impl Side {
    /// As it stands in reports and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
        }
    }
}

/// Who runs the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunsOn {
    /// The member it ran on before.
    Source,
    /// The member it moved to.
    Destination,
    /// Nobody: its owner died with it, or it ended.
    Nobody,
    /// This side cannot tell; the owner record can.
    Unknown,
}

/// One value for each side; `null` where it is not known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PerSide<T> {
    /// Of the source.
    pub source: Option<T>,
    /// Of the destination.
    pub destination: Option<T>,
}

impl<T> Default for PerSide<T> {
    fn default() -> Self {
        Self { source: None, destination: None }
    }
}

impl<T> PerSide<T> {
    /// A value of one side only.
    pub fn of(side: Side, value: T) -> Self {
        match side {
            Side::Source => Self { source: Some(value), destination: None },
            Side::Destination => Self { source: None, destination: Some(value) },
        }
    }
}

/// Limits of a relocation, in the units of a report.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LimitsGiven {
    /// MAXTOTAL in ms; `null` is NOLIMIT.
    pub max_total_ms: Option<f64>,
    /// MAXQUIESCE in ms; `null` is NOLIMIT.
    pub max_quiesce_ms: Option<f64>,
    /// Most passes over the running guest.
    pub max_passes: u32,
    /// IMMEDIATE was given.
    pub immediate: bool,
    /// Rate limit of all queues together, in bytes per second.
    pub rate_limit_bytes_per_s: Option<u64>,
}

impl LimitsGiven {
    /// The engine's limits in the units of a report.
    pub fn new(limits: &Limits, rate_limit_bytes_per_s: Option<u64>) -> Self {
        Self {
            max_total_ms: limits.max_total.map(to_ms),
            max_quiesce_ms: limits.max_quiesce.map(to_ms),
            max_passes: limits.max_passes,
            immediate: limits.immediate,
            rate_limit_bytes_per_s,
        }
    }
}

/// What the comparison of the guest's memory after the move found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verification {
    /// Pages looked at.
    pub pages_checked: u64,
    /// Pages that are the same as when the guest was stopped; `null` if there was nothing to compare with.
    #[serde(default)]
    pub exact_pages: Option<u64>,
    /// Pages the guest has rewritten since, and which are sound in themselves; `null` if there was nothing to compare with.
    #[serde(default)]
    pub rewritten_pages: Option<u64>,
    /// Pages that are sound by their own checksums, if there was nothing to compare with (the guest stayed, or the source
    /// is gone), else `null`.
    #[serde(default)]
    pub sound_pages: Option<u64>,
    /// The first faults, each naming its page and what is wrong; at most 32.
    #[schemars(length(max = 32))]
    pub faults: Vec<String>,
    /// All faults, those not listed too.
    pub fault_count: u64,
}

impl Verification {
    /// Whether every page was right.
    pub fn passed(&self) -> bool {
        let right = [self.exact_pages, self.rewritten_pages, self.sound_pages];
        self.fault_count == 0 && self.pages_checked == right.into_iter().flatten().sum::<u64>()
    }

    /// Version 2 counted pages of a guest that stayed, with which nothing was compared, as rewritten.
    pub(super) fn of_version_2(self, runs_on: RunsOn) -> Self {
        match runs_on {
            RunsOn::Source => {
                Self { exact_pages: None, rewritten_pages: None, sound_pages: self.rewritten_pages, ..self }
            }
            _ => self,
        }
    }

    /// Counts a fault, and lists it if there is room.
    pub fn add_fault(&mut self, fault: impl Into<String>) {
        self.fault_count += 1;
        if self.faults.len() < VERIFICATION_FAULTS_MAX {
            self.faults.push(fault.into());
        }
    }
}

/// How long the guest was stopped, part by part, in ms. The parts follow each other except where one
/// says so.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct QuiesceParts {
    /// Until the guest's last virtual processor stood still.
    pub stop: f64,
    /// Saving the guest's and its devices' state and handing it to the link.
    pub state: f64,
    /// Finding the pages of the final pass. The devices carry the penultimate pass meanwhile.
    pub harvest: f64,
    /// The rest of the penultimate pass, to its barrier.
    pub penultimate: f64,
    /// Final pass, to the barrier where both sides agree on counts and digests.
    pub final_pass: f64,
    /// Changing the owner record.
    pub commit: f64,
    /// From the commit until the guest runs.
    pub resume: f64,
    /// What none of the parts above has measured.
    pub other: f64,
}

impl QuiesceParts {
    /// Parts with their names, in order of time.
    pub fn named_ms(&self) -> [(&'static str, f64); 8] {
        [
            ("stop", self.stop),
            ("state", self.state),
            ("harvest", self.harvest),
            ("penultimate", self.penultimate),
            ("final pass", self.final_pass),
            ("commit", self.commit),
            ("resume", self.resume),
            ("other", self.other),
        ]
    }

    /// All parts together, in ms.
    pub fn sum_ms(&self) -> f64 {
        self.named_ms().iter().map(|(_, ms)| ms).sum()
    }
}

/// Gaps between the ticks of a guest, in microseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TickPercentiles {
    /// Gaps measured.
    pub count: u64,
    /// Median.
    pub p50_us: f64,
    /// 90th percentile.
    pub p90_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// 99.9th percentile.
    pub p99_9_us: f64,
    /// Largest.
    pub max_us: f64,
}

impl TickPercentiles {
    /// Percentiles of a histogram of gaps in nanoseconds; `None` when it is empty.
    pub fn from_histogram_ns(histogram: &Histogram<u64>) -> Option<Self> {
        if histogram.is_empty() {
            return None;
        }
        let at_us = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Some(Self {
            count: histogram.len(),
            p50_us: at_us(0.5),
            p90_us: at_us(0.9),
            p99_us: at_us(0.99),
            p99_9_us: at_us(0.999),
            max_us: histogram.max() as f64 / 1e3,
        })
    }
}

/// The guest's ticks in the three times of a move; `null` where there were none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ticks {
    /// Before the move.
    pub before: Option<TickPercentiles>,
    /// From the first pass until the guest runs at the destination.
    pub during: Option<TickPercentiles>,
    /// After it.
    pub after: Option<TickPercentiles>,
}

/// What a pass was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PassKind {
    /// All touched pages; the guest runs.
    First,
    /// Pages changed since; the guest runs.
    Intermediate,
    /// Pages changed since, together with the guest's state; the guest is stopped.
    Penultimate,
    /// What the state move changed; the guest is stopped.
    Final,
}

impl PassKind {
    /// As it stands in reports and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Intermediate => "intermediate",
            Self::Penultimate => "penultimate",
            Self::Final => "final",
        }
    }
}

/// One pass.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PassReport {
    /// Number of the pass, from 1.
    pub number: u32,
    /// What it was for.
    pub kind: PassKind,
    /// Pages sent, zero pages too.
    pub pages: u64,
    /// Those of them sent as "all zero", without their bytes; `null` if nobody looked.
    pub zero_pages: Option<u64>,
    /// Guest memory sent, in bytes; zero pages count in full.
    pub bytes: u64,
    /// Bytes it took on the wire.
    pub wire_bytes: u64,
    /// From its first page to its barrier, where both sides agree on what arrived, in ms. Finding the pages
    /// of the next pass is not in it.
    pub ms: f64,
    /// Pages found changed after it; `null` if the move ended before anybody looked.
    pub dirty_pages_after: Option<u64>,
    /// The move ended before the destination had confirmed it: `pages`, `bytes` and `wire_bytes` are what had been sent.
    #[serde(default)]
    pub cut_short: bool,
    /// How long the guest would have been stopped after it, as the stop rule reckoned, in ms; `null` for a pass over the
    /// stopped guest and in reports of older programs.
    #[serde(default)]
    pub predicted_quiesce_ms: Option<f64>,
    /// How fast the guest changed memory, in bytes per second; `null` for a pass too short to tell.
    pub dirty_rate_bytes_per_s: Option<u64>,
    /// The barrier found a difference, so its pages were sent again.
    pub repeated: bool,
    /// When it began, in ms since the first pass began; `null` in reports of older programs.
    #[serde(default)]
    pub began_ms: Option<f64>,
}

/// What the source's device queues did over time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TimelineReport {
    /// When each sample was taken, in ms since the first pass began. At most 256; the longer the move, the
    /// farther apart.
    pub at_ms: Vec<u64>,
    /// Bytes sent since the sample before, headers included: for each sample, by device number.
    pub tx_bytes: Vec<Vec<u64>>,
    /// Segments under way at that instant: for each sample, by device number.
    pub depth: Vec<Vec<u16>>,
}

/// Counters of one device queue, seen from one side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QueueReport {
    /// Whose counters they are.
    pub side: Side,
    /// Number of the device, from 0.
    pub device: u32,
    /// Frames sent.
    pub tx_frames: u64,
    /// Bytes sent, headers included.
    pub tx_bytes: u64,
    /// Frames received.
    pub rx_frames: u64,
    /// Bytes received, headers included.
    pub rx_bytes: u64,
    /// Waits in which a frame that was being sent made no progress for 100 ms.
    pub stalls: u64,
    /// Sends that the medium took only in part, and that went on from where they stopped.
    pub retries: u64,
    /// Placed transfers, which carry pages: those sent by the source, those received by the destination.
    #[serde(default)]
    pub transfers: u64,
    /// Start-subchannels: channel programs sent, each one frame with its payload.
    #[serde(default)]
    pub ssch: u64,
    /// Programs that ended with unit check: the device went away before all of their data was sent.
    #[serde(default)]
    pub unit_checks: u64,
    /// Programs that carried pages while the peer's were coming in on the same device.
    #[serde(default)]
    pub collisions: u64,
    /// Segments that were lost, and whose content was sent again.
    #[serde(default)]
    pub resends: u64,
    /// Most segments that were under way at once.
    #[serde(default)]
    pub depth_max: u64,
    /// From handing a segment to the medium until its acknowledgement; `null` if none was acknowledged.
    #[serde(default)]
    pub latency: Option<QueueLatency>,
    /// Its state at the end, for example `up` or `lost`.
    pub state: String,
}

/// Latency of a device queue, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QueueLatency {
    /// Segments measured.
    pub count: u64,
    /// Median.
    pub p50_us: u64,
    /// 99th percentile.
    pub p99_us: u64,
    /// Largest.
    pub max_us: u64,
}

/// How queues do their I/O.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    /// An io_uring for each queue.
    IoUring,
    /// A thread for each queue, with blocking calls.
    Blocking,
    /// There were no queues: a replay of a trace in virtual time.
    Modelled,
}

/// Something used in place of something better that is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fallback {
    /// The side it was missing on.
    pub side: Side,
    /// What is missing, for example `io_uring`.
    pub wanted: String,
    /// What was used, for example `blocking`.
    pub used: String,
    /// Why, as the probe found it.
    pub reason: String,
}

/// TLS as a link used it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LinkTls {
    /// Version of TLS, such as `TLSv1.3`.
    pub version: String,
    /// Cipher suite, such as `TLS13_AES_128_GCM_SHA256`.
    pub suite: String,
    /// The member that each side found at the other end, by its certificate.
    #[serde(default)]
    pub peer: PerSide<String>,
}
