//! Frames: a header in and out of its bytes, and the coverage digest of what a transfer carries.

use std::hint::black_box;

use criterion::Criterion;
use isfc::frame::{FrameKind, HEADER_LEN_BYTES, Header, coverage_digest};
use isfc::{Extent, ExtentClass};

use crate::limit::{Limit, against};

const FRAMES: usize = 1024;
/// Most extents of a transfer, and the length of each here.
const EXTENTS: u64 = isfc::frame::EXTENTS_MAX as u64;
const EXTENT_BYTES: u64 = 16 << 10;

pub(crate) fn frame(criterion: &mut Criterion) {
    let extent = Extent { offset_bytes: 1 << 20, len_bytes: 1 << 20, class: ExtentClass::Raw };
    let header = Header {
        body_len_bytes: 1 << 20,
        epoch: 3,
        extents: 1,
        first_extent: extent.to_wire(),
        ..Header::new(FrameKind::Transfer, 5)
    };
    let bytes = header.encode();
    let limit = Limit::cached("reading 1024 headers", (FRAMES * HEADER_LEN_BYTES) as u64);
    let mut group = criterion.benchmark_group("frame");
    against(
        &mut group,
        "encode 1024 headers",
        None,
        &limit,
        || (),
        |()| {
            for _ in 0..FRAMES {
                black_box(black_box(&header).encode());
            }
        },
    );
    against(
        &mut group,
        "decode 1024 headers",
        None,
        &limit,
        || (),
        |()| {
            for _ in 0..FRAMES {
                black_box(Header::decode(black_box(&bytes))).expect("a sound header");
            }
        },
    );
    let ranges: Vec<(u64, u64)> = (0..EXTENTS).map(|n| (n * 2 * EXTENT_BYTES, EXTENT_BYTES)).collect();
    let limit = Limit::cached("reading the extents", size_of_val(&ranges[..]) as u64);
    against(
        &mut group,
        "coverage digest of a full transfer",
        None,
        &limit,
        || (),
        |()| {
            black_box(coverage_digest(7, 3, black_box(&ranges).iter().copied()));
        },
    );
    group.finish();
}
