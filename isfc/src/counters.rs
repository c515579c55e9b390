//! What each device counts, readable at any time without stopping it.

use std::sync::atomic::{AtomicU64, Ordering};

/// Running counters of a device, written by its thread, read by anybody.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) tx_frames: AtomicU64,
    pub(crate) tx_bytes: AtomicU64,
    pub(crate) rx_frames: AtomicU64,
    pub(crate) rx_bytes: AtomicU64,
    pub(crate) transfers_tx: AtomicU64,
    pub(crate) transfers_rx: AtomicU64,
    pub(crate) stalls: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) submissions: AtomicU64,
    pub(crate) programs: AtomicU64,
    pub(crate) unit_checks: AtomicU64,
    pub(crate) collisions: AtomicU64,
    pub(crate) resends: AtomicU64,
    pub(crate) depth_max: AtomicU64,
}

/// A device's counters at one instant.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DeviceCounters {
    /// Device number.
    pub device: u8,
    /// Frames sent, of every kind.
    pub tx_frames: u64,
    /// Bytes sent, headers included.
    pub tx_bytes: u64,
    /// Frames received, of every kind.
    pub rx_frames: u64,
    /// Bytes received, headers included.
    pub rx_bytes: u64,
    /// Transfers among the frames sent.
    pub transfers_tx: u64,
    /// Transfers among the frames received.
    pub transfers_rx: u64,
    /// Waits in which a frame that was being sent made no progress for 100 ms.
    pub stalls: u64,
    /// Sends that the medium took only in part, and that went on from where they stopped.
    pub retries: u64,
    /// Calls into the kernel to submit or wait.
    pub submissions: u64,
    /// Start-subchannels: channel programs sent, each one frame with its payload.
    pub ssch: u64,
    /// Programs that ended with unit check: the device went away before all of their data was sent.
    pub unit_checks: u64,
    /// Programs that carried pages while the peer's were coming in on the same device.
    pub collisions: u64,
    /// Segments of this device that were lost, and whose content was sent again.
    pub resends: u64,
    /// Most segments that were under way at once.
    pub depth_max: u64,
    /// From handing a segment to the medium until its acknowledgement; `None` before the first one.
    pub latency: Option<LatencyPercentiles>,
    /// `up`, or why the device is down.
    pub state: String,
}

/// Percentiles of a device's latency, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LatencyPercentiles {
    /// Segments measured.
    pub count: u64,
    /// Median.
    pub p50_us: u64,
    /// 99th percentile.
    pub p99_us: u64,
    /// Largest.
    pub max_us: u64,
}

impl LatencyPercentiles {
    pub(crate) fn of(histogram: &hdrhistogram::Histogram<u64>) -> Option<Self> {
        (!histogram.is_empty()).then(|| Self {
            count: histogram.len(),
            p50_us: histogram.value_at_quantile(0.5),
            p99_us: histogram.value_at_quantile(0.99),
            max_us: histogram.max(),
        })
    }
}

pub(crate) fn add(counter: &AtomicU64, value: u64) {
    counter.fetch_add(value, Ordering::Relaxed);
}

impl Counters {
    pub(crate) fn snapshot(
        &self,
        device: u8,
        latency: Option<LatencyPercentiles>,
        state: String,
    ) -> DeviceCounters {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DeviceCounters {
            device,
            tx_frames: get(&self.tx_frames),
            tx_bytes: get(&self.tx_bytes),
            rx_frames: get(&self.rx_frames),
            rx_bytes: get(&self.rx_bytes),
            transfers_tx: get(&self.transfers_tx),
            transfers_rx: get(&self.transfers_rx),
            stalls: get(&self.stalls),
            retries: get(&self.retries),
            submissions: get(&self.submissions),
            ssch: get(&self.programs),
            unit_checks: get(&self.unit_checks),
            collisions: get(&self.collisions),
            resends: get(&self.resends),
            depth_max: get(&self.depth_max),
            latency,
            state,
        }
    }
}
