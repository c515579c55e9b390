//! The receiving half of a device, without I/O: says which bytes it wants where, and makes sense of
//! them. Raw payload is wanted straight in the region it belongs to.

use std::ptr::NonNull;
use std::sync::Arc;

use libc::iovec;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};
use zerocopy::FromBytes;

use crate::copy::{populate_for_read, streaming_copy};
use crate::frame::{
    EXTENT_LEN_BYTES, EXTENTS_MAX, Extent, ExtentClass, FLAG_ACK_NOW, FLAG_DIGEST, FLAG_FETCH, FrameError,
    FrameKind, HEADER_LEN_BYTES, Header, IDX_LEN_BYTES, WireExtent, extents_check,
};
use crate::link::SegmentAck;
use crate::region::{Region, RemoteRegion};
use crate::transfer::{Admission, Placed, TransferSink, len_bytes_of};

/// What the receiver needs to know of its link.
pub(crate) trait Placement {
    fn region(&self, number: u16) -> Option<&Region>;
    fn remote(&self, number: u16) -> Option<&RemoteRegion>;
    fn sink(&self) -> Option<&Arc<dyn TransferSink>>;
    /// Has this segment of `device` been here before? Never where the link has no segments.
    fn was_here(&self, device: u8, segment: u16) -> bool;
    /// What is damaged is sent again; without segments it is the end of the device, or of the pass.
    fn resends(&self) -> bool;
    /// Extents may be packed or kept.
    fn packs(&self) -> bool;
}

/// A frame that is complete. Transfers have been reported to the sink already.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    Message {
        socket: u16,
        sequence: u64,
        body: Vec<u8>,
    },
    Ack {
        socket: u16,
        sequence: u64,
    },
    Ping,
    Transfer,
    SegmentAck(SegmentAck),
    Idx([u8; IDX_LEN_BYTES]),
    Dvx,
    /// It was here before, or came damaged and will come again.
    Nothing {
        damaged: bool,
    },
}

/// A complete frame and what its header said of its segment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Complete {
    pub(crate) incoming: Incoming,
    pub(crate) segment: u16,
    pub(crate) ack_now: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Header,
    Extents,
    Payload,
    Message,
}

pub(crate) struct Receiver {
    device: u8,
    state: State,
    header_bytes: Box<[u8; HEADER_LEN_BYTES]>,
    header: Header,
    extent_bytes: Vec<u8>,
    extents: Vec<Extent>,
    message: Vec<u8>,
    /// Where bytes go that nobody wants any more, and packed ones until they are whole; empty until some come.
    scratch: Vec<u8>,
    discarding: bool,
    buffers: Vec<iovec>,
    first: usize,
}

impl Receiver {
    pub(crate) fn new(device: u8) -> Self {
        let mut receiver = Self {
            device,
            state: State::Header,
            header_bytes: Box::new([0; HEADER_LEN_BYTES]),
            header: Header::new(FrameKind::Ping, device),
            extent_bytes: vec![0; (EXTENTS_MAX - 1) * EXTENT_LEN_BYTES],
            extents: Vec::with_capacity(EXTENTS_MAX),
            message: Vec::new(),
            scratch: Vec::new(),
            discarding: false,
            buffers: Vec::with_capacity(EXTENTS_MAX),
            first: 0,
        };
        receiver.want_header();
        receiver
    }

    /// Where the next bytes go: never empty. The memory stays valid until [`Self::filled`].
    pub(crate) fn buffers(&mut self) -> &mut [iovec] {
        &mut self.buffers[self.first..]
    }

    fn want_header(&mut self) {
        self.state = State::Header;
        let base = self.header_bytes.as_mut_ptr();
        self.want_one(base, HEADER_LEN_BYTES);
    }

    fn want_one(&mut self, base: *mut u8, len: usize) {
        self.buffers.clear();
        self.first = 0;
        self.buffers.push(iovec { iov_base: base.cast(), iov_len: len });
    }

    /// `count` more bytes are in the buffers. A frame that thereby became complete is returned.
    pub(crate) fn filled(
        &mut self,
        count: usize,
        place: &dyn Placement,
    ) -> Result<Option<Complete>, FrameError> {
        advance(&mut self.buffers, &mut self.first, count);
        if self.first < self.buffers.len() {
            return Ok(None);
        }
        let incoming = match self.state {
            State::Header => self.on_header(place),
            State::Extents => self.on_extents(place),
            State::Payload => self.on_payload(place),
            State::Message => self.on_message(place),
        }?;
        let Header { segment, flags, .. } = self.header;
        let ack_now = flags & FLAG_ACK_NOW != 0;
        Ok(incoming.map(|incoming| Complete { incoming, segment, ack_now }))
    }

    /// Pages of a transfer are coming in.
    pub(crate) fn is_mid_transfer(&self) -> bool {
        self.state == State::Payload
    }

    fn on_header(&mut self, place: &dyn Placement) -> Result<Option<Incoming>, FrameError> {
        self.header = Header::decode(&self.header_bytes)?;
        let header = self.header;
        match header.kind {
            FrameKind::Ping => {
                self.want_header();
                Ok(Some(Incoming::Ping))
            }
            FrameKind::Ack => {
                self.want_header();
                Ok(Some(Incoming::Ack { socket: header.socket, sequence: header.sequence }))
            }
            FrameKind::SegmentAck => {
                self.want_header();
                let credit = header.extents;
                let (highest, before) = (header.sequence as u16, header.digest);
                Ok(Some(Incoming::SegmentAck(SegmentAck { highest, before, credit })))
            }
            FrameKind::Dvx => {
                self.want_header();
                Ok(Some(Incoming::Dvx))
            }
            FrameKind::Message | FrameKind::Idx if header.body_len_bytes == 0 => self.on_message(place),
            FrameKind::Message | FrameKind::Idx => {
                self.state = State::Message;
                self.message.resize(header.body_len_bytes as usize, 0);
                let (base, len) = (self.message.as_mut_ptr(), self.message.len());
                self.want_one(base, len);
                Ok(None)
            }
            FrameKind::Transfer if header.extents == 1 => self.on_extents(place),
            FrameKind::Transfer => {
                self.state = State::Extents;
                let base = self.extent_bytes.as_mut_ptr();
                self.want_one(base, header.extents_len_bytes());
                Ok(None)
            }
        }
    }

    fn on_message(&mut self, place: &dyn Placement) -> Result<Option<Incoming>, FrameError> {
        let Header { socket, sequence, digest, segment, .. } = self.header;
        let body = std::mem::take(&mut self.message);
        self.want_header();
        if xxh3_64(&body) != digest {
            if place.resends() {
                return Ok(Some(Incoming::Nothing { damaged: true }));
            }
            return Err(FrameError::MessageDigest { socket, sequence });
        }
        if self.header.kind == FrameKind::Idx {
            let mut name = [0; IDX_LEN_BYTES];
            name[..body.len()].copy_from_slice(&body);
            return Ok(Some(Incoming::Idx(name)));
        }
        if place.was_here(self.device, segment) {
            return Ok(Some(Incoming::Nothing { damaged: false }));
        }
        Ok(Some(Incoming::Message { socket, sequence, body }))
    }

    fn on_extents(&mut self, place: &dyn Placement) -> Result<Option<Incoming>, FrameError> {
        let header = self.header;
        let rest = &self.extent_bytes[..header.extents_len_bytes()];
        let (found, computed) = (header.socket, extents_check(rest));
        if place.resends() && found != computed {
            return Err(FrameError::ExtentsCheck { found, computed });
        }
        let region = place.region(header.region).ok_or(FrameError::Region(header.region))?;
        self.extents.clear();
        self.extents.push(Extent::from_wire(&header.first_extent, region.len_bytes())?);
        for bytes in rest.chunks_exact(EXTENT_LEN_BYTES) {
            let wire = WireExtent::read_from_bytes(bytes).expect("a chunk has the size of an extent");
            self.extents.push(Extent::from_wire(&wire, region.len_bytes())?);
        }
        self.check_body(place.packs())?;
        let sink = place.sink().ok_or(FrameError::Region(header.region))?;
        self.discarding = place.was_here(self.device, header.segment) || {
            let admission = sink.admit(self.device, header.epoch, header.sequence, &self.extents);
            admission.map_err(FrameError::Refused)? == Admission::Discard
        };
        let fetched = header.flags & FLAG_FETCH != 0;
        if fetched && !self.discarding {
            self.fetch(place, region)?;
        }
        if fetched {
            return self.on_payload(place);
        }
        self.want_payload(region);
        if self.buffers.is_empty() {
            return self.on_payload(place);
        }
        self.state = State::Payload;
        Ok(None)
    }

    fn has(&self, class: ExtentClass) -> bool {
        self.extents.iter().any(|extent| extent.class == class)
    }

    /// Bytes behind the extents.
    fn payload_len_bytes(&self) -> u64 {
        self.header.body_len_bytes.saturating_sub(self.header.extents_len_bytes() as u64)
    }

    fn check_body(&self, packs: bool) -> Result<(), FrameError> {
        let covered: u64 = self.extents.iter().map(|extent| u64::from(extent.len_bytes)).sum();
        let max_bytes = crate::frame::BODY_LEN_BYTES_MAX;
        if covered > max_bytes {
            return Err(FrameError::BodyLen { len_bytes: covered, max_bytes });
        }
        let packed = self.has(ExtentClass::Packed);
        if !packs && (packed || self.has(ExtentClass::Kept)) {
            return Err(FrameError::NotAgreed);
        }
        let fetched = self.header.flags & FLAG_FETCH != 0;
        let raw = if fetched { 0 } else { len_bytes_of(ExtentClass::Raw, &self.extents) };
        if packed {
            let odd = fetched || self.header.flags & FLAG_DIGEST == 0 || self.has(ExtentClass::Raw);
            if odd {
                return Err(FrameError::Packed);
            }
            // What is packed is shorter than what it becomes: its sender would have sent it raw.
            let most = len_bytes_of(ExtentClass::Packed, &self.extents) - 1;
            return match self.payload_len_bytes() {
                0 => Err(self.mismatch(1)),
                len if len > most => Err(self.mismatch(most)),
                _ => Ok(()),
            };
        }
        if self.header.body_len_bytes != self.header.extents_len_bytes() as u64 + raw {
            return Err(self.mismatch(raw));
        }
        Ok(())
    }

    /// The body is not as long as `payload` bytes behind the extents.
    fn mismatch(&self, payload: u64) -> FrameError {
        FrameError::BodyMismatch {
            extents: self.extents.len(),
            len_bytes: self.header.body_len_bytes,
            expected_bytes: self.header.extents_len_bytes() as u64 + payload,
        }
    }

    fn want_payload(&mut self, region: &Region) {
        self.buffers.clear();
        self.first = 0;
        if self.discarding || self.has(ExtentClass::Packed) {
            self.scratch.resize(self.payload_len_bytes() as usize, 0);
            let (base, len) = (self.scratch.as_mut_ptr(), self.scratch.len());
            if len > 0 {
                self.want_one(base, len);
            }
            return;
        }
        for extent in self.extents.iter().filter(|extent| extent.class == ExtentClass::Raw) {
            let base = inside(region, extent);
            self.buffers.push(iovec { iov_base: base.as_ptr().cast(), iov_len: extent.len_bytes as usize });
        }
    }

    /// Copies the raw extents from the sender's region, as a channel's DMA engine would.
    fn fetch(&self, place: &dyn Placement, region: &Region) -> Result<(), FrameError> {
        let number = self.header.region;
        let remote = place.remote(number).ok_or(FrameError::NotShared(number))?;
        for extent in self.extents.iter().filter(|extent| extent.class == ExtentClass::Raw) {
            let len_bytes = extent.len_bytes as usize;
            let from = remote
                .at(extent.offset_bytes, u64::from(extent.len_bytes))
                .ok_or(FrameError::NotShared(number))?;
            if !remote.is_populated() {
                populate_for_read(from, len_bytes);
            }
            // SAFETY: both ranges are inside their mappings; the mappings are distinct.
            unsafe { streaming_copy(from, inside(region, extent), len_bytes) };
        }
        Ok(())
    }

    fn on_payload(&mut self, place: &dyn Placement) -> Result<Option<Incoming>, FrameError> {
        let header = self.header;
        if self.discarding {
            self.want_header();
            return Ok(Some(Incoming::Transfer));
        }
        let intact = header.flags & FLAG_DIGEST == 0 || {
            let region = place.region(header.region).ok_or(FrameError::Region(header.region))?;
            self.payload_digest(region) == header.digest
        };
        if !intact && place.resends() {
            place.sink().inspect(|sink| sink.damaged(self.device));
            self.want_header();
            return Ok(Some(Incoming::Nothing { damaged: true }));
        }
        if let Some(sink) = place.sink() {
            if self.has(ExtentClass::Packed) {
                let unpacked = sink.unpack(self.device, &self.extents, &self.scratch);
                unpacked.map_err(FrameError::Refused)?;
            }
            let placed = Placed { epoch: header.epoch, tag: header.sequence, extents: &self.extents, intact };
            sink.placed(self.device, &placed);
        }
        self.want_header();
        Ok(Some(Incoming::Transfer))
    }

    fn payload_digest(&self, region: &Region) -> u64 {
        if self.has(ExtentClass::Packed) {
            return xxh3_64(&self.scratch);
        }
        let mut hash = Xxh3::new();
        for extent in self.extents.iter().filter(|extent| extent.class == ExtentClass::Raw) {
            // SAFETY: inside the region. The sender set a digest because the content is stable, and
            // the receiving guest does not run, so nobody writes these bytes now.
            let bytes = unsafe {
                std::slice::from_raw_parts(inside(region, extent).as_ptr(), extent.len_bytes as usize)
            };
            hash.update(bytes);
        }
        hash.digest()
    }
}

fn inside(region: &Region, extent: &Extent) -> NonNull<u8> {
    region
        .at(extent.offset_bytes, u64::from(extent.len_bytes))
        .expect("extents were checked against this region when they came in")
}

/// Moves the start of `buffers[*first..]` on by `count` bytes.
pub(crate) fn advance(buffers: &mut [iovec], first: &mut usize, mut count: usize) {
    while count > 0 {
        let buffer = &mut buffers[*first];
        if count < buffer.iov_len {
            buffer.iov_base = buffer.iov_base.wrapping_byte_add(count);
            buffer.iov_len -= count;
            return;
        }
        count -= buffer.iov_len;
        *first += 1;
    }
}
