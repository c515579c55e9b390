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
    /// Set by the device before it asks: it would like to have no more than so many bytes. On a slow link a long transfer
    /// keeps everything behind it waiting. What is sent again may be longer.
    pub len_bytes_max: u64,
    /// At most [`EXTENTS_MAX`], together at most [`BODY_LEN_BYTES_MAX`] bytes.
    pub extents: Vec<Extent>,
    /// xxh3-64 of the payload, which is the raw bytes in order: set it when they cannot change any more.
    pub digest: Option<u64>,
    /// Send the first bytes of `staging` in place of the region's: a private copy of live memory.
    pub staged: bool,
    /// So many bytes of `staging` are the payload that becomes the packed extents: fewer than they cover, with a digest,
    /// and without raw extents. Only on links that pack ([`crate::Link::packs`]).
    pub packed_len_bytes: Option<u32>,
    /// Private buffer of the device, [`BODY_LEN_BYTES_MAX`] bytes.
    pub staging: Vec<u8>,
}

impl Transfer {
    pub(crate) fn new() -> Self {
        Self {
            tag: 0,
            epoch: 0,
            region: 0,
            len_bytes_max: BODY_LEN_BYTES_MAX,
            extents: Vec::with_capacity(EXTENTS_MAX),
            digest: None,
            staged: false,
            packed_len_bytes: None,
            staging: Vec::new(),
        }
    }

    /// Empties it, keeping its buffers.
    pub fn clear(&mut self) {
        self.extents.clear();
        self.digest = None;
        self.staged = false;
        self.packed_len_bytes = None;
    }

    /// The private buffer at its full size (it is allocated on first use: most passes need none).
    pub fn staging(&mut self) -> &mut [u8] {
        self.staging.resize(BODY_LEN_BYTES_MAX as usize, 0);
        &mut self.staging
    }

    /// Bytes of the raw extents.
    pub fn raw_len_bytes(&self) -> u64 {
        raw_len_bytes(&self.extents)
    }

    /// Bytes of memory it is about.
    pub fn covered_len_bytes(&self) -> u64 {
        self.extents.iter().map(|extent| u64::from(extent.len_bytes)).sum()
    }

    /// Bytes that travel.
    pub fn payload_len_bytes(&self) -> u64 {
        self.packed_len_bytes.map_or_else(|| self.raw_len_bytes(), u64::from)
    }
}

/// Sum of the raw extents' lengths, in bytes.
pub fn raw_len_bytes(extents: &[Extent]) -> u64 {
    len_bytes_of(ExtentClass::Raw, extents)
}

/// Sum of the lengths of the extents of `class`, in bytes.
pub fn len_bytes_of(class: ExtentClass, extents: &[Extent]) -> u64 {
    extents.iter().filter(|extent| extent.class == class).map(|extent| u64::from(extent.len_bytes)).sum()
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
    /// The transfer was lost or damaged on its way: give it out again, to any device. Like [`Self::sent`] and
    /// [`Self::delivered`], it can be told late, when a transfer of a later epoch and the same tag is with the device.
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
    /// Writes what `payload` becomes when it is unpacked to the packed extents, in their order. The payload is what the
    /// sender sent, by its digest, and hostile for all that. [`Self::placed`] follows.
    ///
    /// # Errors
    /// A text that says why it cannot be unpacked, or not to exactly as many bytes; the device it came on is closed.
    fn unpack(&self, device: u8, extents: &[Extent], payload: &[u8]) -> Result<(), String> {
        let _ = (device, extents, payload);
        Err("nothing is unpacked here".to_owned())
    }
    /// All raw and packed bytes are in place.
    fn placed(&self, device: u8, placed: &Placed<'_>);
    /// The transfer that was admitted last on this device came damaged. What is in its place now is worth nothing;
    /// it will come again.
    fn damaged(&self, device: u8);
    /// The device is gone and will touch the region no more; a transfer it was placing is incomplete.
    fn device_down(&self, device: u8);
}
