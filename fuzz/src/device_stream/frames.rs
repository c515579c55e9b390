//! Frames as a peer might send them: mostly right, so that they get past the first check.

use isfc::frame::{
    BODY_LEN_BYTES_MAX, EXTENT_LEN_BYTES, Extent, ExtentClass, FLAG_ACK_NOW, FLAG_DIGEST, FLAG_FETCH,
    FrameKind, HEADER_LEN_BYTES, Header,
};
use lgr_engine::codec::packer::{Packer, Unpacker};
use xxhash_rust::xxh3::xxh3_64;
use zerocopy::IntoBytes;

use super::super::choices::Choices;
use super::super::frame_header::sealed;
use super::caller::REGION_LEN_BYTES;

/// A frame before it goes out.
pub struct Frame {
    header: Header,
    pub extents: Vec<Extent>,
    pub payload: Vec<u8>,
}

impl Frame {
    fn new(kind: FrameKind) -> Self {
        Self { header: Header::new(kind, 0), extents: Vec::new(), payload: Vec::new() }
    }

    /// Its payload is left to be fetched.
    pub fn is_fetched(&self) -> bool {
        self.header.flags & FLAG_FETCH != 0
    }

    /// What its packed payload becomes; `None` if it has none that becomes its packed extents.
    pub fn unpacked(&self) -> Option<Vec<u8>> {
        let len = isfc::len_bytes_of(ExtentClass::Packed, &self.extents);
        let mut unpacker = Unpacker::new().unwrap();
        (len > 0).then(|| unpacker.unpack(&self.payload, len).map(<[u8]>::to_vec).ok()).flatten()
    }

    /// As it goes over the wire.
    pub fn encode(&self, segment: u16) -> Vec<u8> {
        let mut bytes = Header { segment, ..self.header }.encode().to_vec();
        for extent in self.extents.iter().skip(1) {
            bytes.extend_from_slice(extent.to_wire().as_bytes());
        }
        bytes.extend_from_slice(&self.payload);
        bytes
    }
}

/// A header and a body of any bytes, with a checksum that lets them through.
pub fn raw(choices: &mut Choices<'_>) -> Vec<u8> {
    let mut header: [u8; HEADER_LEN_BYTES] = choices.bytes();
    if choices.flag() {
        // A body of a length that may come.
        header[10..16].fill(0);
    }
    let header = sealed(header);
    let body_len_bytes = Header::decode(&header).map_or(0, |header| header.body_len_bytes as usize);
    let mut frame = header.to_vec();
    frame.extend_from_slice(choices.take(body_len_bytes));
    if body_len_bytes <= 4096 {
        frame.resize(HEADER_LEN_BYTES + body_len_bytes, 0);
    }
    frame
}

/// A message that says its own number.
pub fn message(choices: &mut Choices<'_>) -> Frame {
    let mut frame = Frame::new(FrameKind::Message);
    let choice = choices.byte();
    frame.header.socket = u16::from(choice % 64);
    // Sockets 0 to 3 far more often than any other.
    frame.header.socket &= if choice < 192 { 3 } else { 63 };
    frame.header.sequence = match choices.byte() {
        255 => choices.u64(),
        small => u64::from(small % 32),
    };
    frame.payload = frame.header.sequence.to_le_bytes().to_vec();
    let len = usize::from(choices.byte());
    frame.payload.resize(8 + if len == 255 { 1 << 14 } else { len }, choice);
    frame.header.body_len_bytes = frame.payload.len() as u64;
    frame.header.digest = xxh3_64(&frame.payload).wrapping_add(u64::from(choices.byte() == 255));
    flags(&mut frame, choices.byte() & FLAG_ACK_NOW);
    frame
}

/// A transfer into the region or, now and then, beside it.
pub fn transfer(choices: &mut Choices<'_>) -> Frame {
    let mut frame = Frame::new(FrameKind::Transfer);
    let choice = choices.byte();
    let count = if choice == 255 { 256 } else { 1 + u16::from(choice % 4) };
    let packed = choice & 0x30 == 0x30;
    for _ in 0..count {
        let (offset, len) = (u64::from(choices.u16()), u32::from(choices.byte()));
        let class = match choices.byte() % 16 {
            3 | 7 | 11 => ExtentClass::Zero,
            15 => ExtentClass::Kept,
            _ if packed => ExtentClass::Packed,
            // Seldom where it may not be.
            14 if choice > 0xF0 => ExtentClass::Packed,
            _ => ExtentClass::Raw,
        };
        let stray = choice & 0xC0 == 0x40;
        let offset_bytes = if stray { offset << (choice & 0x0F) } else { offset % (REGION_LEN_BYTES - 256) };
        let len_bytes = if stray { len << (choice & 0x0F) } else { len + 1 };
        frame.extents.push(Extent { offset_bytes, len_bytes, class });
    }
    let flagged = choices.byte() | if packed { FLAG_DIGEST } else { 0 };
    flags(&mut frame, if flagged < 224 { flagged & 7 & !FLAG_FETCH } else { flagged & 7 });
    let raw = isfc::raw_len_bytes(&frame.extents).min(BODY_LEN_BYTES_MAX);
    if !frame.is_fetched() {
        let seed = choices.byte();
        frame.payload = (0..raw).map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed)).collect();
        if packed {
            frame.payload = packed_payload(&frame.extents, seed, choices);
        }
    }
    let wrong = choices.byte();
    if frame.header.flags & FLAG_DIGEST != 0 {
        let zeros = vec![0; if packed { 0 } else { raw as usize }];
        let sent = if frame.is_fetched() { &zeros } else { &frame.payload };
        frame.header.digest = xxh3_64(sent).wrapping_add(u64::from(wrong == 255));
    }
    frame.header.first_extent = frame.extents[0].to_wire();
    frame.header.extents = if wrong == 254 { choices.u16() } else { count };
    frame.header.body_len_bytes =
        ((frame.extents.len() - 1) * EXTENT_LEN_BYTES + frame.payload.len()) as u64 + u64::from(wrong == 253);
    frame.header.region = u16::from(wrong == 252) * choices.u16();
    frame.header.epoch = u32::from(choices.byte());
    frame.header.sequence = u64::from(choices.byte());
    frame
}

/// What becomes the packed extents; or what does not, as its first bytes are the fuzzer's, or it is of another length.
fn packed_payload(extents: &[Extent], seed: u8, choices: &mut Choices<'_>) -> Vec<u8> {
    let len = isfc::len_bytes_of(ExtentClass::Packed, extents).min(BODY_LEN_BYTES_MAX) as usize;
    let wrong = choices.byte();
    let len = if wrong == 255 { len + 1 } else { len };
    let mut packer = Packer::new(1).unwrap();
    packer.copy.resize(len.max(packer.copy.len()), 0);
    packer.copy[..len].fill(seed);
    let mut payload = vec![0; 1 << 12];
    let packed = packer.pack(len, 1, &mut payload).unwrap_or(1);
    payload.truncate(packed);
    if wrong >= 240 {
        let bytes = choices.take(usize::from(wrong - 239));
        payload.iter_mut().zip(bytes).for_each(|(byte, other)| *byte = *other);
    }
    payload
}

fn flags(frame: &mut Frame, flags: u8) {
    frame.header.flags = flags;
}

/// An acknowledgement of what the device sent, or did not send.
pub fn segment_ack(choices: &mut Choices<'_>, heard: u16) -> Frame {
    let mut frame = Frame::new(FrameKind::SegmentAck);
    let choice = choices.byte();
    let behind = if choice == 255 { choices.u16() } else { u16::from(choice % 20) };
    frame.header.sequence = u64::from(heard.wrapping_add(1).wrapping_sub(behind));
    frame.header.digest = if choice & 0x40 != 0 { choices.u64() } else { u64::MAX };
    frame.header.extents = if choice & 0x20 != 0 { choices.u16() } else { 16 };
    frame
}

/// A message was taken, or more than was sent.
pub fn ack(choices: &mut Choices<'_>) -> Frame {
    let mut frame = Frame::new(FrameKind::Ack);
    frame.header.socket = u16::from(choices.byte() % 64);
    frame.header.sequence = if choices.flag() { choices.u64() } else { u64::from(choices.byte()) };
    frame
}

/// A system name, mostly the same.
pub fn idx(choices: &mut Choices<'_>) -> Frame {
    let mut frame = Frame::new(FrameKind::Idx);
    let choice = choices.byte();
    frame.payload = if choice < 224 { b"PEER".to_vec() } else { choices.take(8).to_vec() };
    frame.header.body_len_bytes = frame.payload.len() as u64;
    frame.header.digest = xxh3_64(&frame.payload).wrapping_add(u64::from(choice == 223));
    frame
}

/// A ping, or seldom a farewell.
pub fn bare(choices: &mut Choices<'_>) -> Frame {
    let choice = choices.byte();
    let mut frame = Frame::new(if choice == 255 { FrameKind::Dvx } else { FrameKind::Ping });
    flags(&mut frame, choice & FLAG_ACK_NOW);
    frame
}
