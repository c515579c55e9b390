//! 64 bytes off a device, as any peer may send them.

use isfc::frame::{BODY_LEN_BYTES_MAX, EXTENTS_MAX, FrameKind, HEADER_LEN_BYTES, Header, IDX_LEN_BYTES};

/// The one reserved byte: whatever it is, it is not looked at.
const RESERVED: usize = 6;

pub fn run(bytes: &[u8]) {
    let Some(header) = bytes.first_chunk::<HEADER_LEN_BYTES>() else { return };
    let _ = Header::decode(header);
    // Once more with a checksum that lets it through.
    let sound = sealed(*header);
    let Ok(header) = Header::decode(&sound) else { return };
    check_limits(&header);
    assert_eq!(Header::decode(&header.encode()), Ok(header));
    let mut bare = sound;
    bare[RESERVED] = 0;
    assert_eq!(header.encode(), sealed(bare), "nothing that was sent is lost");
    // A header that was damaged on its way is not taken.
    let bit = usize::from(bytes[bytes.len() - 1]) * 2 % (HEADER_LEN_BYTES * 8);
    let mut damaged = sound;
    damaged[bit / 8] ^= 1 << (bit % 8);
    assert!(Header::decode(&damaged).is_err(), "bit {bit}");
}

/// With the first four bytes and the checksum of a header.
pub fn sealed(mut header: [u8; HEADER_LEN_BYTES]) -> [u8; HEADER_LEN_BYTES] {
    header[..4].copy_from_slice(b"ISFC");
    let crc = crc32c::crc32c(&header[..HEADER_LEN_BYTES - 4]);
    header[HEADER_LEN_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
    header
}

fn check_limits(header: &Header) {
    let extents = usize::from(header.extents);
    let max_bytes = match header.kind {
        FrameKind::Message => BODY_LEN_BYTES_MAX,
        FrameKind::Transfer => {
            assert!((1..=EXTENTS_MAX).contains(&extents));
            assert_eq!(header.extents_len_bytes(), (extents - 1) * 16);
            BODY_LEN_BYTES_MAX + header.extents_len_bytes() as u64
        }
        FrameKind::Idx => IDX_LEN_BYTES as u64,
        FrameKind::Ack | FrameKind::Ping | FrameKind::SegmentAck | FrameKind::Dvx => 0,
    };
    assert!(header.body_len_bytes <= max_bytes);
    if matches!(header.kind, FrameKind::Message | FrameKind::Ack) {
        assert!(header.socket < isfc::link::SOCKETS_MAX);
    }
}
