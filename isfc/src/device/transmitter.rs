//! The sending half of a device, without I/O: lays out one frame as a channel program, straight from the region it is
//! sent from, and says piece by piece how it is to go.
//!
//! | piece | goes by | what the processor copies |
//! |---|---|---|
//! | header, extents, short runs of pages, what was staged | gather list (`sendmsg`) | all of it, into the socket's buffer |
//! | a run of [`FILE_LEN_BYTES_MIN`] or more in a region that maps a file | `sendfile` | nothing: the socket is lent the file's pages |
//!
//! A page that is lent may be written before the receiver has copied it, as one that is copied may be written while it
//! is: it is dirty then, and goes again. Memory that stands still stays as it is until the pass is confirmed.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use libc::iovec;
use xxhash_rust::xxh3::xxh3_64;
use zerocopy::IntoBytes;

use super::subchannel::Subchannel;
use crate::ctc::channel::SubchannelStatus;
use crate::frame::{
    EXTENT_LEN_BYTES, EXTENTS_MAX, ExtentClass, FLAG_ACK_NOW, FLAG_DIGEST, FLAG_FETCH, FrameKind,
    HEADER_LEN_BYTES, Header, WireExtent, extents_check,
};
use crate::link::{Outgoing, SegmentAck};
use crate::region::Region;
use crate::transfer::Transfer;

/// What the frame in flight is, for when it has been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InFlight {
    Control,
    Transfer { epoch: u32, tag: u64 },
}

/// Shorter runs are copied: to lend a file's pages costs a system call of its own.
pub(crate) const FILE_LEN_BYTES_MIN: usize = 64 << 10;

/// The next piece of the frame in flight.
#[derive(Debug)]
pub(crate) enum Piece<'a> {
    /// A gather list; with `more`, another piece of the frame follows at once.
    Memory { buffers: &'a mut [iovec], more: bool },
    /// So many bytes of a file.
    File { file: &'a OwnedFd, offset_bytes: u64, len_bytes: usize },
}

impl Piece<'_> {
    pub(crate) fn len_bytes(&self) -> usize {
        match self {
            Self::Memory { buffers, .. } => buffers.iter().map(|buffer| buffer.iov_len).sum(),
            Self::File { len_bytes, .. } => *len_bytes,
        }
    }
}

pub(crate) struct Transmitter {
    device: u8,
    /// Number of the next segment, and whether it is to be acknowledged at once.
    segment: (u16, bool),
    header: Box<[u8; HEADER_LEN_BYTES]>,
    extents: Vec<WireExtent>,
    body: Arc<[u8]>,
    subchannel: Subchannel,
    /// What the frame's pages are sent from, if it has any.
    region: Option<Region>,
    /// The medium takes pages by `sendfile`.
    lends: bool,
    in_flight: Option<InFlight>,
}

impl Transmitter {
    pub(crate) fn new(device: u8) -> Self {
        Self {
            device,
            segment: (0, false),
            header: Box::new([0; HEADER_LEN_BYTES]),
            extents: Vec::with_capacity(EXTENTS_MAX),
            body: Arc::new([]),
            subchannel: Subchannel::new(),
            region: None,
            lends: true,
            in_flight: None,
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight.is_none()
    }

    pub(crate) fn is_transfer(&self) -> bool {
        matches!(self.in_flight, Some(InFlight::Transfer { .. }))
    }

    /// What is to be sent next, nothing once the frame is done. The memory stays valid until [`Self::advanced`] says
    /// that it is.
    pub(crate) fn piece(&mut self) -> Piece<'_> {
        let region = self.region.as_ref().filter(|_| self.lends);
        let buffers = self.subchannel.buffers();
        let in_file = |buffer: &iovec| match buffer.iov_len {
            len @ FILE_LEN_BYTES_MIN.. => {
                region.and_then(|region| region.in_file(buffer.iov_base.addr(), len))
            }
            _ => None,
        };
        match buffers.iter().position(|buffer| in_file(buffer).is_some()) {
            Some(0) => {
                let (file, offset_bytes) = in_file(&buffers[0]).expect("it was just found there");
                Piece::File { file, offset_bytes, len_bytes: buffers[0].iov_len }
            }
            Some(at) => Piece::Memory { buffers: &mut buffers[..at], more: true },
            None => Piece::Memory { buffers, more: false },
        }
    }

    /// This medium cannot be lent pages: everything goes by gather list from now on.
    pub(crate) fn lend_no_more(&mut self) {
        self.lends = false;
    }

    /// The next frame that is loaded is this segment.
    pub(crate) fn set_segment(&mut self, segment: u16, ack_now: bool) {
        self.segment = (segment, ack_now);
    }

    /// The peer is to acknowledge the next frame as soon as it has it.
    pub(crate) fn ack_at_once(&mut self) {
        self.segment.1 = true;
    }

    /// Bytes behind the header of the frame that [`Self::load_transfer`] will lay out.
    pub(crate) fn transfer_len_bytes(&self, transfer: &Transfer, fetch: bool) -> u64 {
        let payload = if fetch && !transfer.staged { 0 } else { transfer.payload_len_bytes() };
        (transfer.extents.len().saturating_sub(1) * EXTENT_LEN_BYTES) as u64 + payload
    }

    /// A frame without a body: [`FrameKind::Ping`] or [`FrameKind::Dvx`].
    pub(crate) fn load_bare(&mut self, kind: FrameKind) {
        let header = Header::new(kind, self.device);
        self.load(&header, InFlight::Control);
        self.subchannel.start();
    }

    pub(crate) fn load_segment_ack(&mut self, ack: &SegmentAck) {
        let mut header = Header::new(FrameKind::SegmentAck, self.device);
        header.sequence = u64::from(ack.highest);
        header.digest = ack.before;
        header.extents = ack.credit;
        self.load(&header, InFlight::Control);
        self.subchannel.start();
    }

    pub(crate) fn load_idx(&mut self, name: &str) {
        let mut header = Header::new(FrameKind::Idx, self.device);
        header.body_len_bytes = name.len() as u64;
        header.digest = xxh3_64(name.as_bytes());
        self.body = name.as_bytes().into();
        self.load(&header, InFlight::Control);
        self.subchannel.push(self.body.as_ptr(), self.body.len());
        self.subchannel.start();
    }

    pub(crate) fn load_control(&mut self, frame: &Outgoing) {
        let mut header = Header::new(frame.kind, self.device);
        header.socket = frame.socket.number();
        header.sequence = frame.sequence;
        header.body_len_bytes = frame.body.len() as u64;
        header.digest = xxh3_64(&frame.body);
        self.body = frame.body.clone();
        self.load(&header, InFlight::Control);
        self.subchannel.push(self.body.as_ptr(), self.body.len());
        self.subchannel.start();
    }

    /// Lays out `transfer`; `fetch` leaves the payload for the receiver to fetch. A staged payload always
    /// travels in the frame: the receiver would fetch what is in the region by then, not what was staged.
    ///
    /// An extent outside the region is a defect of the transfer's source, not of a peer.
    pub(crate) fn load_transfer(&mut self, transfer: &Transfer, region: &Region, fetch: bool) {
        assert!((1..=EXTENTS_MAX).contains(&transfer.extents.len()), "1 to 256 extents per transfer");
        debug_assert!(transfer.packed_len_bytes.is_none() || (transfer.staged && transfer.digest.is_some()));
        let fetch = fetch && !transfer.staged;
        let mut header = Header::new(FrameKind::Transfer, self.device);
        header.sequence = transfer.tag;
        header.epoch = transfer.epoch;
        header.region = transfer.region;
        header.extents = transfer.extents.len() as u16;
        header.first_extent = transfer.extents[0].to_wire();
        header.flags = if fetch { FLAG_FETCH } else { 0 };
        if let Some(digest) = transfer.digest {
            header.flags |= FLAG_DIGEST;
            header.digest = digest;
        }
        let payload = if fetch { 0 } else { transfer.payload_len_bytes() };
        header.body_len_bytes = header.extents_len_bytes() as u64 + payload;
        self.extents.clear();
        self.extents.extend(transfer.extents[1..].iter().map(|extent| extent.to_wire()));
        header.socket = extents_check(self.extents.as_bytes());
        self.load(&header, InFlight::Transfer { epoch: transfer.epoch, tag: transfer.tag });
        self.subchannel.push(self.extents.as_ptr().cast(), size_of_val(self.extents.as_slice()));
        if transfer.staged {
            self.subchannel.push(transfer.staging.as_ptr(), payload as usize);
        } else if !fetch {
            self.push_raw(transfer, region);
            self.region = Some(region.clone());
        }
        self.subchannel.start();
    }

    fn push_raw(&mut self, transfer: &Transfer, region: &Region) {
        for extent in transfer.extents.iter().filter(|extent| extent.class == ExtentClass::Raw) {
            let base = region
                .at(extent.offset_bytes, u64::from(extent.len_bytes))
                .expect("a transfer's extents lie inside its region");
            self.subchannel.push(base.as_ptr(), extent.len_bytes as usize);
        }
    }

    fn load(&mut self, header: &Header, in_flight: InFlight) {
        debug_assert!(self.is_idle());
        let (segment, ack_now) = std::mem::take(&mut self.segment);
        let mut header = Header { segment, ..*header };
        header.flags |= if ack_now { FLAG_ACK_NOW } else { 0 };
        *self.header = header.encode();
        self.in_flight = Some(in_flight);
        self.region = None;
        self.subchannel.clear();
        self.subchannel.push(self.header.as_ptr(), HEADER_LEN_BYTES);
    }

    /// `count` more bytes are sent. Once all are, says what frame it was and how long.
    pub(crate) fn advanced(&mut self, count: usize) -> Option<(InFlight, u64)> {
        self.subchannel.moved(count)?;
        self.body = Arc::new([]);
        self.in_flight.take().map(|frame| (frame, self.subchannel.len_bytes()))
    }

    /// The device is gone: the status of the program it was running, if it was.
    pub(crate) fn abandon(&mut self) -> Option<SubchannelStatus> {
        self.in_flight.take().map(|_| self.subchannel.abandon())
    }
}
