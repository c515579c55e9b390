//! What there is to know of a logical link and its devices, as `QUERY ISLINK` tells it: as data and as a table.
//!
//! z/VM's own layout is not published; the table has its facts (node, device, type, state, bytes both ways) and what
//! ISFC's monitor records count beside them.

use std::fmt;

use serde::Serialize;

use crate::counters::DeviceCounters;

/// A logical link at one instant.
#[derive(Clone, Debug, Serialize)]
pub struct Islink {
    /// This system's name.
    pub node: String,
    /// The peer's system name, once it has told it.
    pub peer: Option<String>,
    /// Address of the peer.
    pub address: String,
    /// What carries the devices: `tcp`, `unix` or `shm`.
    pub medium: String,
    /// What drives them: `io_uring` or `blocking`.
    pub engine: String,
    /// Level that both sides speak; 2 has numbered segments and names.
    pub level: u16,
    /// `up`, or why the link is down.
    pub state: String,
    /// Every device.
    pub devices: Vec<IslinkDevice>,
}

/// One device of a logical link.
#[derive(Clone, Debug, Serialize)]
pub struct IslinkDevice {
    /// This side may write pages on it, by the write rule.
    pub writes: bool,
    /// Segments under way now.
    pub depth: u64,
    /// What it has counted.
    #[serde(flatten)]
    pub counters: DeviceCounters,
}

impl Islink {
    /// Devices that are up.
    pub fn devices_up(&self) -> usize {
        self.devices.iter().filter(|device| device.counters.state == "up").count()
    }
}

impl fmt::Display for Islink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peer = self.peer.as_deref().unwrap_or("(not told)");
        writeln!(
            f,
            "Node: {}  Link to: {peer}  Type: FCTC over {}  {}",
            self.node, self.medium, self.address
        )?;
        writeln!(
            f,
            "{} devices, {} up  Level: {}  Engine: {}  State: {}",
            self.devices.len(),
            self.devices_up(),
            self.level,
            self.engine,
            self.state
        )?;
        write!(f, "{}", DeviceTable(&self.devices))
    }
}

/// The lines of a table of devices, with its headline.
#[derive(Clone, Copy, Debug)]
pub struct DeviceTable<'a>(pub &'a [IslinkDevice]);

impl fmt::Display for DeviceTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "device  transfers out/in  bytes sent  bytes received  frames    SSCH  collisions  resends  depth  \
             p50 us  p99 us  state"
        )?;
        self.0.iter().try_for_each(|device| device.fmt_row(f))
    }
}

impl IslinkDevice {
    fn fmt_row(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counters = &self.counters;
        let latency = |of: fn(&crate::counters::LatencyPercentiles) -> u64| {
            counters.latency.as_ref().map_or_else(|| "-".to_owned(), |latency| of(latency).to_string())
        };
        writeln!(
            f,
            "{:>6}  {:>16}  {:>10}  {:>14}  {:>6}  {:>6}  {:>10}  {:>7}  {:>5}  {:>6}  {:>6}  {}",
            counters.device,
            format!("{}/{}", counters.transfers_tx, counters.transfers_rx),
            counters.tx_bytes,
            counters.rx_bytes,
            counters.tx_frames + counters.rx_frames,
            counters.ssch,
            counters.collisions,
            counters.resends,
            format!("{}/{}", self.depth, counters.depth_max),
            latency(|latency| latency.p50_us),
            latency(|latency| latency.p99_us),
            counters.state
        )
    }
}
