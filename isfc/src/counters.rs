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
    /// `up`, or why the device is down.
    pub state: String,
}

pub(crate) fn add(counter: &AtomicU64, value: u64) {
    counter.fetch_add(value, Ordering::Relaxed);
}

impl Counters {
    pub(crate) fn snapshot(&self, device: u8, state: String) -> DeviceCounters {
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
            state,
        }
    }
}
