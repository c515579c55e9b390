//! 64 bytes off a device, and the extents after them, as any peer may send them.
#![no_main]

use isfc::frame::{Extent, HEADER_LEN_BYTES, Header, WireExtent};
use libfuzzer_sys::fuzz_target;
use zerocopy::FromBytes;

const REGION_LEN_BYTES: u64 = 1 << 30;

fuzz_target!(|bytes: &[u8]| {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER_LEN_BYTES>() else { return };
    let _ = Header::decode(header);
    // Once more with a checksum that lets it through.
    let mut sound = *header;
    sound[..4].copy_from_slice(b"ISFC");
    let crc = crc32c::crc32c(&sound[..HEADER_LEN_BYTES - 4]);
    sound[HEADER_LEN_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
    if let Ok(header) = Header::decode(&sound) {
        assert_eq!(Header::decode(&header.encode()), Ok(header));
        assert!(header.body_len_bytes <= (1 << 20) + header.extents_len_bytes() as u64);
        check(&header.first_extent);
    }
    for extent in rest.chunks_exact(size_of::<WireExtent>()) {
        check(&WireExtent::read_from_bytes(extent).unwrap());
    }
});

fn check(wire: &WireExtent) {
    if let Ok(extent) = Extent::from_wire(wire, REGION_LEN_BYTES) {
        assert!(extent.offset_bytes + u64::from(extent.len_bytes) <= REGION_LEN_BYTES);
        assert!(extent.to_wire() == *wire);
    }
}
