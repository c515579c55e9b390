//! Placed transfers: write these bytes at this offset of the peer's region, as an RDMA write does.
//!
//! Devices **pull** work: whenever one has nothing in flight it asks the [`TransferSource`] for the
//! next transfer, so a fast device carries more and a stuck one carries nothing, with no queue
//! between. At the other end a [`TransferSink`] is told of each transfer that has been placed.

use std::time::Instant;

use crate::frame::{BODY_LEN_BYTES_MAX, EXTENTS_MAX, Extent, ExtentClass};

/// One transfer, filled by a [`TransferSource`]; a device keeps one and reuses it.
#[derive(Debug)]
pub struct Transfer {
    /// The source's name for it, unique within the epoch.
    pub tag: u64,
    /// Transfers of one epoch may arrive in any order; epochs never mix.
    pub epoch: u32,
    /// Region on both sides.
    pub region: u16,
    /// At most [`EXTENTS_MAX`], together at most [`BODY_LEN_BYTES_MAX`] bytes.
    pub extents: Vec<Extent>,
    /// xxh3-64 of the raw bytes in order: set it when they cannot change any more.
    pub digest: Option<u64>,
    /// Send the first bytes of `staging` in place of the region's: a private copy of live memory.
    pub staged: bool,
    /// Private buffer of the device, [`BODY_LEN_BYTES_MAX`] bytes.
    pub staging: Vec<u8>,
}

impl Transfer {
    pub(crate) fn new() -> Self {
        Self {
            tag: 0,
            epoch: 0,
            region: 0,
            extents: Vec::with_capacity(EXTENTS_MAX),
            digest: None,
            staged: false,
            staging: Vec::new(),
        }
    }

    /// Empties it, keeping its buffers.
    pub fn clear(&mut self) {
        self.extents.clear();
        self.digest = None;
        self.staged = false;
    }

    /// The private buffer at its full size (it is allocated on first use: most passes need none).
    pub fn staging(&mut self) -> &mut [u8] {
        self.staging.resize(BODY_LEN_BYTES_MAX as usize, 0);
        &mut self.staging
    }

    /// Bytes that travel: the raw extents' length.
    pub fn raw_len_bytes(&self) -> u64 {
        raw_len_bytes(&self.extents)
    }
}

/// Sum of the raw extents' lengths, in bytes.
pub fn raw_len_bytes(extents: &[Extent]) -> u64 {
    let raw = extents.iter().filter(|extent| extent.class == ExtentClass::Raw);
    raw.map(|extent| u64::from(extent.len_bytes)).sum()
}

/// What a [`TransferSource`] has for a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing now. [`crate::link::Link::kick`] when there is again.
    Nothing,
    /// The transfer has been filled; send it.
    Ready,
    /// The transfer has been filled; send it, but not before then (rate limit).
    NotBefore(Instant),
}

/// Where devices get transfers. Called by all device threads at once, once per transfer.
pub trait TransferSource: Send + Sync {
    /// Fills `transfer` with the next piece of work for `device`.
    fn next(&self, device: u8, transfer: &mut Transfer) -> Next;
    /// The transfer of `epoch` and `tag` has been handed to the medium; `wire_bytes` went with it.
    fn sent(&self, device: u8, epoch: u32, tag: u64, wire_bytes: u64);
    /// The transfer has arrived. Only links of level 2 tell.
    fn delivered(&self, device: u8, epoch: u32, tag: u64) {
        let _ = (device, epoch, tag);
    }
    /// The transfer was lost or damaged on its way: give it out again, to any device.
    fn lost(&self, device: u8, epoch: u32, tag: u64);
    /// The device is gone. What it was given since the last barrier may not have arrived.
    fn device_down(&self, device: u8);
}

/// A transfer that arrived.
#[derive(Clone, Copy, Debug)]
pub struct Placed<'a> {
    /// As the sender set it.
    pub epoch: u32,
    /// As the sender set it.
    pub tag: u64,
    /// What it covers. Zero extents have **not** been written: that is the sink's to do, since only
    /// it knows whether the range was ever touched.
    pub extents: &'a [Extent],
    /// False if the payload does not hash to the sender's digest, and the sender cannot be told to send it again (a
    /// peer of level 1).
    pub intact: bool,
}

/// What becomes of a transfer whose header has come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Its bytes go into the region, and [`TransferSink::placed`] follows.
    Place,
    /// It comes too late (its epoch is closed): its bytes are read and thrown away.
    Discard,
}

/// The owner of a region, told what is placed there. Called by device threads.
pub trait TransferSink: Send + Sync {
    /// May this transfer be placed? Asked before the first byte is.
    ///
    /// # Errors
    /// A text that says why not; the device it came on is closed.
    fn admit(&self, device: u8, epoch: u32, tag: u64, extents: &[Extent]) -> Result<Admission, String>;
    /// All raw bytes are in place.
    fn placed(&self, device: u8, placed: &Placed<'_>);
    /// The transfer that was admitted last on this device came damaged. What is in its place now is worth nothing;
    /// it will come again.
    fn damaged(&self, device: u8);
    /// The device is gone and will touch the region no more; a transfer it was placing is incomplete.
    fn device_down(&self, device: u8);
}
