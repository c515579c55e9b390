//! The extents of a transfer, and the digest of what they cover.

use isfc::frame::{EXTENT_LEN_BYTES, EXTENTS_MAX, Extent, ExtentClass, WireExtent, coverage_digest};
use isfc::raw_len_bytes;
use zerocopy::FromBytes;

pub fn run(bytes: &[u8]) {
    let Some((head, rest)) = bytes.split_first_chunk::<EXTENT_LEN_BYTES>() else { return };
    let (region_len_bytes, tag) = (number(&head[..8]) >> (head[15] % 64), number(&head[8..]));
    let mut extents = Vec::new();
    for wire in rest.chunks_exact(EXTENT_LEN_BYTES).take(EXTENTS_MAX) {
        check(wire, region_len_bytes, &mut extents);
        // Once more where and as what it fits.
        let mut sound = [0; EXTENT_LEN_BYTES];
        sound.copy_from_slice(wire);
        (sound[6], sound[7], sound[11]) = (0, 0, 0);
        sound[12..].copy_from_slice(&[1 + (wire[12] & 3), 0, 0, 0]);
        check(&sound, 1 << 49, &mut extents);
    }
    let raw: u64 = extents.iter().filter(|extent| extent.class == ExtentClass::Raw).map(len).sum();
    assert_eq!(raw_len_bytes(&extents), raw);
    coverage(tag, &extents);
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn len(extent: &Extent) -> u64 {
    u64::from(extent.len_bytes)
}

fn check(wire: &[u8], region_len_bytes: u64, extents: &mut Vec<Extent>) {
    let wire = WireExtent::read_from_bytes(wire).unwrap();
    let Ok(extent) = Extent::from_wire(&wire, region_len_bytes) else { return };
    assert!(extent.len_bytes > 0 && extent.offset_bytes + len(&extent) <= region_len_bytes);
    assert!(extent.to_wire() == wire);
    extents.push(extent);
}

/// However ranges that touch are split, the digest stays; what is left out changes it.
fn coverage(tag: u64, extents: &[Extent]) {
    let ranges = || extents.iter().map(|extent| (extent.offset_bytes, len(extent)));
    let whole = coverage_digest(tag, 1, ranges());
    let halves = extents.iter().flat_map(|extent| {
        let half = len(extent) / 2;
        [(extent.offset_bytes, half), (extent.offset_bytes + half, len(extent) - half)]
    });
    assert_eq!(coverage_digest(tag, 1, halves.filter(|(_, len)| *len > 0)), whole);
    if !extents.is_empty() {
        assert_ne!(coverage_digest(tag, 1, ranges().skip(1)), whole);
    }
}
