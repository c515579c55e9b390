//! What travels on a device: a fixed 64-byte header, then extents, then payload.
//!
//! Little-endian throughout; zero is never a valid number, so a page of zeros is never a frame.
//!
//! ```text
//!  0        4      5       6     7       8                16               24
//!  ┌────────┬──────┬───────┬─────┬───────┬────────────────┬────────────────┐
//!  │ "ISFC" │ kind │ flags │  0  │ device│ body length    │ sequence / tag │
//!  ├────────┼──────┴┬──────┴─────┼───────┼────────────────┼────────┬───────┤
//!  │ epoch  │region │ extents    │socket │ payload digest │ …      │       │
//!  └────────┴───────┴────────────┴───────┴────────────────┴────────┴───────┘
//!  24       28      30           32  34  36               44               60   64
//!                               segment: 34..36 · first extent: 44..60 · CRC32C of 0..60: 60..64
//! ```
//!
//! The first extent rides in the header, because most transfers have just one; `extents - 1` more
//! follow the header, 16 bytes each, and then the payload: the bytes of all raw extents in their order, or in their
//! place one packed piece that becomes the bytes of all packed extents.

use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

/// First four bytes of every frame.
pub const MAGIC: [u8; 4] = *b"ISFC";
/// Size of the fixed header, in bytes.
pub const HEADER_LEN_BYTES: usize = 64;
/// Size of one extent, in bytes.
pub const EXTENT_LEN_BYTES: usize = 16;
/// Most bytes one transfer may place, and the most a message may hold.
pub const BODY_LEN_BYTES_MAX: u64 = 1 << 20;
/// Payload of one channel program, in bytes, as IBM's ISFC was measured to send it: 342 MB/s in 450 start-subchannels per
/// second are 0.76 MB each; here whole pages.
pub const PROGRAM_PAYLOAD_BYTES: u64 = 185 * 4096;
/// Most extents in one transfer: a 1 MiB transfer of single 4 KiB pages.
pub const EXTENTS_MAX: usize = 256;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// A message of a socket; `sequence` numbers it within the socket.
    Message = 1,
    /// Bytes to place in a region; `sequence` is the sender's tag within the epoch.
    Transfer = 2,
    /// All messages of `socket` up to and including `sequence` have been taken over.
    Ack = 3,
    /// Nothing to say, still alive.
    Ping = 4,
    /// Which of this device's last 64 segments have arrived, and how many more may be under way: the highest is in
    /// `sequence`, bit `n` of `digest` stands for the `n`-th before it, `extents` is the credit. It is no segment
    /// itself.
    SegmentAck = 5,
    /// Link identification exchange: who is calling. The first segment of every device.
    Idx = 6,
    /// Device exchange: the sender takes this device out of the link; nothing follows.
    Dvx = 7,
}

impl FrameKind {
    fn from_wire(value: u8) -> Option<Self> {
        match value {
            1 => Some(Self::Message),
            2 => Some(Self::Transfer),
            3 => Some(Self::Ack),
            4 => Some(Self::Ping),
            5 => Some(Self::SegmentAck),
            6 => Some(Self::Idx),
            7 => Some(Self::Dvx),
            _ => None,
        }
    }
}

/// Flag: the payload does not change while it is sent, and `digest` is its xxh3-64.
pub const FLAG_DIGEST: u8 = 1;
/// Flag: the payload is not in the frame; the receiver fetches it from the sender's shared region.
pub const FLAG_FETCH: u8 = 2;
/// Flag: acknowledge this segment at once.
pub const FLAG_ACK_NOW: u8 = 4;
const FLAGS_KNOWN: u8 = FLAG_DIGEST | FLAG_FETCH | FLAG_ACK_NOW;
/// Length of the body of an [`FrameKind::Idx`] frame, in bytes: a system name, padded with zeros.
pub const IDX_LEN_BYTES: usize = 8;

/// How the bytes of an extent come about at the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ExtentClass {
    /// They are in the payload.
    Raw = 1,
    /// They are all zero and not in the payload.
    Zero = 2,
    /// The payload, unpacked by the owner of the region, is the bytes of all packed extents in their order. Never in
    /// one transfer with raw ones.
    Packed = 3,
    /// The receiver has them already: they are what an earlier transfer placed there.
    Kept = 4,
}

/// A stretch of a region, as it stands on the wire.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, PartialEq, Eq)]
#[repr(C)]
pub struct WireExtent {
    offset: U64,
    len: U32,
    class: U32,
}

/// A stretch of a region: where it starts, how long it is and what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// First byte, as an offset in the region.
    pub offset_bytes: u64,
    /// Length, in bytes; never zero.
    pub len_bytes: u32,
    /// Where its content comes from.
    pub class: ExtentClass,
}

impl Extent {
    /// The same extent as it stands on the wire.
    pub fn to_wire(self) -> WireExtent {
        WireExtent {
            offset: self.offset_bytes.into(),
            len: self.len_bytes.into(),
            class: (self.class as u32).into(),
        }
    }

    /// Reads an extent of a region of `region_len_bytes` bytes.
    ///
    /// # Errors
    /// An unknown class, an empty extent, or one that leaves the region.
    pub fn from_wire(wire: &WireExtent, region_len_bytes: u64) -> Result<Self, FrameError> {
        let class = match wire.class.get() {
            1 => ExtentClass::Raw,
            2 => ExtentClass::Zero,
            3 => ExtentClass::Packed,
            4 => ExtentClass::Kept,
            other => return Err(FrameError::ExtentClass(other)),
        };
        let (offset_bytes, len_bytes) = (wire.offset.get(), wire.len.get());
        let end = offset_bytes.checked_add(u64::from(len_bytes));
        if len_bytes == 0 || end.is_none_or(|end| end > region_len_bytes) {
            return Err(FrameError::ExtentRange { offset_bytes, len_bytes, region_len_bytes });
        }
        Ok(Self { offset_bytes, len_bytes, class })
    }
}

/// Why bytes from a peer are not a frame. Each is the end of the device they came on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A reserved byte that is not zero.
    #[error("frame header with {0:#04x} in a reserved byte")]
    Reserved(u8),
    /// The extents behind the header are not those that were sent.
    #[error("damaged extents: check {found:04x}, computed {computed:04x}")]
    ExtentsCheck {
        /// In the header.
        found: u16,
        /// Of what came.
        computed: u16,
    },
    /// The first four bytes are wrong.
    #[error("not a frame: it starts with {0:02x?}, not with \"ISFC\"")]
    Magic([u8; 4]),
    /// The header's CRC32C does not match.
    #[error("damaged frame header: CRC32C {found:08x}, computed {computed:08x}")]
    HeaderCrc {
        /// In the header.
        found: u32,
        /// Over the header.
        computed: u32,
    },
    /// A kind this version does not know.
    #[error("unknown frame kind {0}")]
    Kind(u8),
    /// A flag this version does not know.
    #[error("unknown frame flags {0:#04x}")]
    Flags(u8),
    /// The body is longer than any frame may be, or than this one can be.
    #[error("frame body of {len_bytes} bytes, at most {max_bytes} allowed")]
    BodyLen {
        /// Announced.
        len_bytes: u64,
        /// Allowed.
        max_bytes: u64,
    },
    /// The extents and the body length of a transfer contradict each other.
    #[error("transfer with {extents} extents announces {len_bytes} bytes, its extents hold {expected_bytes}")]
    BodyMismatch {
        /// Number of extents.
        extents: usize,
        /// Announced body length.
        len_bytes: u64,
        /// Length that follows from the extents.
        expected_bytes: u64,
    },
    /// No extent, or more than [`EXTENTS_MAX`].
    #[error("transfer with {0} extents, 1 to 256 allowed")]
    ExtentCount(usize),
    /// An extent's class is unknown.
    #[error("unknown extent class {0}")]
    ExtentClass(u32),
    /// An extent is empty or leaves its region.
    #[error("extent of {len_bytes} bytes at {offset_bytes} in a region of {region_len_bytes} bytes")]
    ExtentRange {
        /// Its start.
        offset_bytes: u64,
        /// Its length.
        len_bytes: u32,
        /// The region's length.
        region_len_bytes: u64,
    },
    /// A region nobody registered.
    #[error("transfer into region {0}, which is not registered")]
    Region(u16),
    /// A fetch was asked of a device whose medium shares no memory.
    #[error("transfer asks to be fetched, but region {0} is not shared")]
    NotShared(u16),
    /// An extent of a class that was not agreed on in the hello.
    #[error("transfer with packed or kept extents, which were not agreed on")]
    NotAgreed,
    /// A packed transfer with raw extents, without a digest, or to be fetched.
    #[error("a packed transfer has a digest, and neither raw extents nor a payload that is elsewhere")]
    Packed,
    /// A socket number out of range.
    #[error("message for socket {0}, at most {max} exist", max = crate::link::SOCKETS_MAX)]
    Socket(u16),
    /// A payload does not hash to the digest its sender computed.
    #[error("damaged payload of message {sequence} on socket {socket}")]
    MessageDigest {
        /// Socket number.
        socket: u16,
        /// Message number.
        sequence: u64,
    },
    /// A system name that is empty or not printable.
    #[error("the peer's system name {0:02x?} is no name")]
    Name([u8; IDX_LEN_BYTES]),
    /// The owner of the region refused the transfer.
    #[error("transfer refused: {0}")]
    Refused(String),
}

/// The fixed header of every frame. See the module's picture.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct WireHeader {
    magic: [u8; 4],
    kind: u8,
    flags: u8,
    reserved_a: u8,
    device: u8,
    body_len: U64,
    sequence: U64,
    epoch: U32,
    region: U16,
    extents: U16,
    socket: U16,
    segment: U16,
    digest: U64,
    first_extent: WireExtent,
    crc: U32,
}

/// Check of the extents that follow a header, as they stand on the wire: the low half of their CRC32C; zero for none. A
/// damaged one would place pages where they do not belong.
pub fn extents_check(bytes: &[u8]) -> u16 {
    crc32c::crc32c(bytes) as u16
}

/// A header that has been checked, or is about to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the frame is.
    pub kind: FrameKind,
    /// [`FLAG_DIGEST`] and [`FLAG_FETCH`].
    pub flags: u8,
    /// The sender's device number.
    pub device: u8,
    /// Bytes after the header.
    pub body_len_bytes: u64,
    /// Message number or transfer tag.
    pub sequence: u64,
    /// Transfers of different epochs never mix (an epoch is a memory pass).
    pub epoch: u32,
    /// Region the transfer goes to.
    pub region: u16,
    /// Number of extents, the first of them in the header.
    pub extents: u16,
    /// Socket of a message or ack; of a transfer, [`extents_check`] of the extents that follow the header.
    pub socket: u16,
    /// Number of the segment on its device, modulo 65,536; zero where the link has no segments (version 1).
    pub segment: u16,
    /// xxh3-64 of the payload, if [`FLAG_DIGEST`] is set; of the body, for a message.
    pub digest: u64,
    /// First extent of a transfer as it came, not yet checked against its region.
    pub first_extent: WireExtent,
}

impl std::fmt::Debug for WireExtent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}+{} class {}", self.offset, self.len, self.class)
    }
}

impl Header {
    /// A header of `kind` with every other field empty.
    pub fn new(kind: FrameKind, device: u8) -> Self {
        Self {
            kind,
            flags: 0,
            device,
            body_len_bytes: 0,
            sequence: 0,
            epoch: 0,
            region: 0,
            extents: 0,
            socket: 0,
            segment: 0,
            digest: 0,
            first_extent: WireExtent::new_zeroed(),
        }
    }

    /// The 64 bytes that go on the wire.
    pub fn encode(&self) -> [u8; HEADER_LEN_BYTES] {
        let mut wire = WireHeader {
            magic: MAGIC,
            kind: self.kind as u8,
            flags: self.flags,
            reserved_a: 0,
            device: self.device,
            body_len: self.body_len_bytes.into(),
            sequence: self.sequence.into(),
            epoch: self.epoch.into(),
            region: self.region.into(),
            extents: self.extents.into(),
            socket: self.socket.into(),
            segment: self.segment.into(),
            digest: self.digest.into(),
            first_extent: self.first_extent,
            crc: 0.into(),
        };
        wire.crc = crc32c::crc32c(&wire.as_bytes()[..HEADER_LEN_BYTES - 4]).into();
        zerocopy::transmute!(wire)
    }

    /// Reads and checks a header: magic, CRC, kind, flags and every limit, before anything is
    /// allocated for it.
    ///
    /// # Errors
    /// See [`FrameError`]; the device the bytes came on cannot be used any longer.
    pub fn decode(bytes: &[u8; HEADER_LEN_BYTES]) -> Result<Self, FrameError> {
        let wire: WireHeader = zerocopy::transmute!(*bytes);
        if wire.magic != MAGIC {
            return Err(FrameError::Magic(wire.magic));
        }
        let computed = crc32c::crc32c(&bytes[..HEADER_LEN_BYTES - 4]);
        if computed != wire.crc.get() {
            return Err(FrameError::HeaderCrc { found: wire.crc.get(), computed });
        }
        let kind = FrameKind::from_wire(wire.kind).ok_or(FrameError::Kind(wire.kind))?;
        if wire.flags & !FLAGS_KNOWN != 0 {
            return Err(FrameError::Flags(wire.flags));
        }
        if wire.reserved_a != 0 {
            return Err(FrameError::Reserved(wire.reserved_a));
        }
        let header = Self {
            kind,
            flags: wire.flags,
            device: wire.device,
            body_len_bytes: wire.body_len.get(),
            sequence: wire.sequence.get(),
            epoch: wire.epoch.get(),
            region: wire.region.get(),
            extents: wire.extents.get(),
            socket: wire.socket.get(),
            segment: wire.segment.get(),
            digest: wire.digest.get(),
            first_extent: wire.first_extent,
        };
        header.check_limits()?;
        Ok(header)
    }

    /// Bytes of the extents that follow the header.
    pub fn extents_len_bytes(&self) -> usize {
        (usize::from(self.extents).saturating_sub(1)) * EXTENT_LEN_BYTES
    }

    fn check_limits(&self) -> Result<(), FrameError> {
        let max_bytes = match self.kind {
            FrameKind::Message => BODY_LEN_BYTES_MAX,
            FrameKind::Transfer => {
                let extents = usize::from(self.extents);
                if extents == 0 || extents > EXTENTS_MAX {
                    return Err(FrameError::ExtentCount(extents));
                }
                BODY_LEN_BYTES_MAX + self.extents_len_bytes() as u64
            }
            FrameKind::Idx => IDX_LEN_BYTES as u64,
            FrameKind::Ack | FrameKind::Ping | FrameKind::SegmentAck | FrameKind::Dvx => 0,
        };
        if self.body_len_bytes > max_bytes {
            return Err(FrameError::BodyLen { len_bytes: self.body_len_bytes, max_bytes });
        }
        if matches!(self.kind, FrameKind::Message | FrameKind::Ack) && self.socket >= crate::link::SOCKETS_MAX
        {
            return Err(FrameError::Socket(self.socket));
        }
        Ok(())
    }
}

/// Digest of what a transfer covers: its tag, epoch and ranges, however they were classed.
///
/// A transfer that is sent again may split its ranges into zero and raw differently, because the
/// guest wrote in between; so touching extents are hashed as one range. Summing the digests of all
/// transfers of an epoch (wrapping) gives the same number in any order of arrival. The ranges of one transfer come by
/// their starts, whatever order they travelled in.
pub fn coverage_digest(tag: u64, epoch: u32, ranges: impl Iterator<Item = (u64, u64)>) -> u64 {
    let mut hash = tag.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ u64::from(epoch).rotate_left(32);
    let mut fold = |start: u64, len: u64| {
        let mut bytes = [0u8; 24];
        bytes[..8].copy_from_slice(&hash.to_le_bytes());
        bytes[8..16].copy_from_slice(&start.to_le_bytes());
        bytes[16..].copy_from_slice(&len.to_le_bytes());
        hash = xxhash_rust::xxh3::xxh3_64(&bytes);
    };
    let mut open: Option<(u64, u64)> = None;
    for (start, len) in ranges {
        match &mut open {
            Some((from, length)) if *from + *length == start => *length += len,
            Some((from, length)) => {
                fold(*from, *length);
                open = Some((start, len));
            }
            None => open = Some((start, len)),
        }
    }
    if let Some((start, len)) = open {
        fold(start, len);
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Header {
        let extent = Extent { offset_bytes: 0x1000, len_bytes: 0x2000, class: ExtentClass::Raw };
        Header {
            body_len_bytes: 0x2000,
            sequence: 7,
            epoch: 3,
            region: 1,
            extents: 1,
            first_extent: extent.to_wire(),
            ..Header::new(FrameKind::Transfer, 5)
        }
    }

    #[test]
    fn the_header_layout_is_pinned() {
        let bytes = sample().encode();
        let mut expected = Vec::new();
        expected.extend_from_slice(b"ISFC\x02\x00\x00\x05");
        expected.extend_from_slice(&0x2000u64.to_le_bytes());
        expected.extend_from_slice(&7u64.to_le_bytes());
        expected.extend_from_slice(&3u32.to_le_bytes());
        expected.extend_from_slice(&[1, 0, 1, 0, 0, 0, 0, 0]);
        expected.extend_from_slice(&0u64.to_le_bytes());
        expected.extend_from_slice(&0x1000u64.to_le_bytes());
        expected.extend_from_slice(&[0, 0x20, 0, 0, 1, 0, 0, 0]);
        assert_eq!(&bytes[..60], &expected[..]);
        assert_eq!(bytes[60..], crc32c::crc32c(&expected).to_le_bytes());
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let good = sample().encode();
        for bit in 0..HEADER_LEN_BYTES * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_length_of_two_to_the_63_is_refused() {
        let header = Header { body_len_bytes: 1 << 63, ..sample() };
        let error = Header::decode(&header.encode()).unwrap_err();
        assert!(matches!(error, FrameError::BodyLen { len_bytes, .. } if len_bytes == 1 << 63));
    }

    #[test]
    fn an_extent_outside_its_region_is_refused() {
        let extent = Extent { offset_bytes: u64::MAX, len_bytes: 2, class: ExtentClass::Raw };
        assert!(Extent::from_wire(&extent.to_wire(), u64::MAX).is_err());
        let extent = Extent { offset_bytes: 4096, len_bytes: 1, class: ExtentClass::Raw };
        assert!(Extent::from_wire(&extent.to_wire(), 4096).is_err());
    }

    #[test]
    fn coverage_does_not_depend_on_how_ranges_are_split() {
        let whole = coverage_digest(1, 2, [(0, 8192), (20480, 4096)].into_iter());
        let split = coverage_digest(1, 2, [(0, 4096), (4096, 4096), (20480, 4096)].into_iter());
        let other = coverage_digest(1, 2, [(0, 8192), (20480, 8192)].into_iter());
        assert_eq!(whole, split);
        assert_ne!(whole, other);
        assert_ne!(whole, coverage_digest(2, 2, [(0, 8192), (20480, 4096)].into_iter()));
    }

    proptest! {
        #[test]
        fn decode_never_panics_and_accepts_only_what_encode_makes(bytes in any::<[u8; 64]>()) {
            if let Ok(header) = Header::decode(&bytes) {
                prop_assert_eq!(Header::decode(&header.encode()), Ok(header));
            }
        }

        #[test]
        fn a_header_survives_the_wire(sequence: u64, epoch: u32, region: u16, digest: u64, len in 0..=BODY_LEN_BYTES_MAX) {
            let header = Header { sequence, epoch, region, digest, body_len_bytes: len, ..sample() };
            prop_assert_eq!(Header::decode(&header.encode()), Ok(header));
        }
    }
}
