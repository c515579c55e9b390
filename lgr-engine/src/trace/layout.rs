//! The bytes of a trace file. The picture is in `docs/trace.md`.

use std::time::Duration;

use guest_mem::{PAGE_SIZE, PageCount, Run, Runs, TrackerKind};
use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{
    BLOCK_RUNS_MAX, DESCRIPTION_BYTES_MAX, DURATION_MAX, FORMAT_VERSION, Header, PAGES_MAX, TraceError,
};
use crate::owner::GuestName;

/// First bytes of every trace.
pub(super) const MAGIC: [u8; 8] = *b"LGRTRACE";
pub(super) const HEADER_LEN_BYTES: usize = 512;
pub(super) const BLOCK_LEN_BYTES: usize = 32;
pub(super) const RUN_LEN_BYTES: usize = 8;
const TRACKER_UFFD: u32 = 1;
const TRACKER_SOFTWARE: u32 = 2;
const TRACKER_NONE: u32 = 3;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct WireHeader {
    magic: [u8; 8],
    format_version: U32,
    header_len_bytes: U32,
    page_size_bytes: U32,
    granule_bytes: U32,
    pages: U64,
    every_ns: U64,
    began_unix_s: U64,
    guest: [u8; 8],
    tracker: U32,
    description_len_bytes: U32,
    description: [u8; DESCRIPTION_BYTES_MAX],
    reserved: [u8; 184],
    crc32c: U32,
    reserved_end: U32,
}

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BlockKind {
    Touched,
    Written,
    End,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct WireBlock {
    kind: U32,
    runs: U32,
    time_ns: U64,
    number: U64,
    crc32c: U32,
    reserved: U32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct WireRun {
    start: U32,
    pages: U32,
}

const _: () =
    assert!(size_of::<WireHeader>() == HEADER_LEN_BYTES && size_of::<WireBlock>() == BLOCK_LEN_BYTES);
const _: () = assert!(size_of::<WireRun>() == RUN_LEN_BYTES && PAGES_MAX <= u32::MAX as u64);

/// A block's header, checked; its runs follow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    pub(super) kind: BlockKind,
    pub(super) runs: u32,
    pub(super) time: Duration,
    pub(super) number: u64,
    crc32c: u32,
}

/// Refuses what the format cannot hold.
pub(super) fn check_header(header: &Header) -> Result<(), TraceError> {
    let limits = [
        ((1..=PAGES_MAX).contains(&header.pages.get()), "a guest of no page, or of more than 1 TiB"),
        (
            !header.every.is_zero() && header.every <= DURATION_MAX,
            "an interval of zero, or longer than a day",
        ),
        (
            header.granule_bytes >= PAGE_SIZE as u32 && header.granule_bytes.is_power_of_two(),
            "a granule that is no power of two, or smaller than a page",
        ),
    ];
    limits.iter().try_for_each(|(holds, what)| if *holds { Ok(()) } else { Err(TraceError::Limit(what)) })
}

pub(super) fn encode_header(header: &Header) -> Result<[u8; HEADER_LEN_BYTES], TraceError> {
    check_header(header)?;
    let mut wire = WireHeader::new_zeroed();
    wire.magic = MAGIC;
    wire.format_version = FORMAT_VERSION.into();
    wire.header_len_bytes = (HEADER_LEN_BYTES as u32).into();
    wire.page_size_bytes = (PAGE_SIZE as u32).into();
    wire.granule_bytes = header.granule_bytes.into();
    wire.pages = header.pages.get().into();
    wire.every_ns = (header.every.as_nanos() as u64).into();
    wire.began_unix_s = header.began_unix_s.into();
    wire.guest = header.guest.to_padded();
    wire.tracker = U32::new(match header.tracker {
        Some(TrackerKind::UffdAsync) => TRACKER_UFFD,
        Some(TrackerKind::Software) => TRACKER_SOFTWARE,
        None => TRACKER_NONE,
    });
    let longest = DESCRIPTION_BYTES_MAX.min(header.description.len());
    let len = (0..=longest).rev().find(|&len| header.description.is_char_boundary(len)).unwrap_or(0);
    wire.description[..len].copy_from_slice(&header.description.as_bytes()[..len]);
    wire.description_len_bytes = (len as u32).into();
    wire.crc32c = crc32c::crc32c(wire.as_bytes()).into();
    Ok(zerocopy::transmute!(wire))
}

pub(super) fn decode_header(bytes: &[u8; HEADER_LEN_BYTES]) -> Result<Header, TraceError> {
    let mut wire: WireHeader = zerocopy::transmute!(*bytes);
    let damaged = |what| TraceError::Damaged { offset_bytes: 0, what };
    if wire.magic != MAGIC {
        return Err(TraceError::Foreign);
    }
    if wire.format_version.get() != FORMAT_VERSION {
        return Err(TraceError::UnknownVersion(wire.format_version.get()));
    }
    let crc32c = std::mem::replace(&mut wire.crc32c, U32::ZERO);
    if crc32c.get() != crc32c::crc32c(wire.as_bytes()) {
        return Err(damaged("the header's checksum is wrong"));
    }
    if wire.header_len_bytes.get() as usize != HEADER_LEN_BYTES
        || wire.page_size_bytes.get() as usize != PAGE_SIZE
        || wire.reserved != [0; 184]
        || wire.reserved_end.get() != 0
    {
        return Err(damaged("the header has lengths or fields that this version does not have"));
    }
    let tracker = match wire.tracker.get() {
        TRACKER_UFFD => Some(TrackerKind::UffdAsync),
        TRACKER_SOFTWARE => Some(TrackerKind::Software),
        TRACKER_NONE => None,
        _ => return Err(damaged("the header names an unknown tracker")),
    };
    let len = wire.description_len_bytes.get() as usize;
    let (text, rest) =
        wire.description.split_at_checked(len).ok_or(damaged("the description is too long"))?;
    let description = std::str::from_utf8(text).map_err(|_| damaged("the description is no UTF-8"))?;
    if rest.iter().any(|byte| *byte != 0) {
        return Err(damaged("the description does not end with zeros"));
    }
    let header = Header {
        pages: PageCount(wire.pages.get()),
        every: Duration::from_nanos(wire.every_ns.get()),
        granule_bytes: wire.granule_bytes.get(),
        tracker,
        guest: GuestName::from_padded(wire.guest).ok_or(damaged("the header names no guest"))?,
        began_unix_s: wire.began_unix_s.get(),
        description: description.to_owned(),
    };
    check_header(&header)?;
    Ok(header)
}

/// One block with its runs.
pub(super) fn encode_block(kind: BlockKind, number: u64, time: Duration, runs: &[Run], out: &mut Vec<u8>) {
    debug_assert!(runs.len() <= BLOCK_RUNS_MAX as usize, "the writer splits longer sets");
    let mut block = WireBlock {
        kind: U32::new(match kind {
            BlockKind::Touched => 1,
            BlockKind::Written => 2,
            BlockKind::End => 3,
        }),
        runs: (runs.len() as u32).into(),
        time_ns: (time.as_nanos() as u64).into(),
        number: number.into(),
        crc32c: U32::ZERO,
        reserved: U32::ZERO,
    };
    out.clear();
    out.extend_from_slice(block.as_bytes());
    for run in runs {
        // Page numbers end far below 2^32, as is asserted above.
        let wire = WireRun { start: (run.start.get() as u32).into(), pages: (run.pages.get() as u32).into() };
        out.extend_from_slice(wire.as_bytes());
    }
    block.crc32c = crc32c::crc32c(out).into();
    out[..BLOCK_LEN_BYTES].copy_from_slice(block.as_bytes());
}

/// What is wrong with a block, to be told with its offset.
type Fault = &'static str;

/// A block's header; its checksum covers the runs too, see [`decode_runs`].
pub(super) fn decode_block(bytes: &[u8; BLOCK_LEN_BYTES]) -> Result<Block, Fault> {
    let wire: WireBlock = zerocopy::transmute!(*bytes);
    let kind = match wire.kind.get() {
        1 => BlockKind::Touched,
        2 => BlockKind::Written,
        3 => BlockKind::End,
        _ => return Err("an unknown kind of block"),
    };
    let (runs, time) = (wire.runs.get(), Duration::from_nanos(wire.time_ns.get()));
    if runs > BLOCK_RUNS_MAX {
        return Err("a block of more than 65536 runs");
    }
    if time > DURATION_MAX {
        return Err("a time of more than a day");
    }
    if wire.reserved.get() != 0 {
        return Err("a reserved field is not zero");
    }
    Ok(Block { kind, runs, time, number: wire.number.get(), crc32c: wire.crc32c.get() })
}

/// The runs that follow `header`, once the checksum of both holds.
pub(super) fn decode_runs(
    block: &Block,
    header: &[u8; BLOCK_LEN_BYTES],
    bytes: &[u8],
    pages: PageCount,
) -> Result<Runs, Fault> {
    let mut wire: WireBlock = zerocopy::transmute!(*header);
    wire.crc32c = U32::ZERO;
    if block.crc32c != crc32c::crc32c_append(crc32c::crc32c(wire.as_bytes()), bytes) {
        return Err("the block's checksum is wrong");
    }
    let wire = <[WireRun]>::ref_from_bytes(bytes).map_err(|_| "the runs end inside one")?;
    let mut runs = Runs::new();
    let mut free_from = 0;
    for run in wire {
        let run = Run::new(run.start.get().into(), run.pages.get().into());
        if run.pages.is_zero() || run.start.get() < free_from || run.end().get() > pages.get() {
            return Err("a run that is empty, out of order or outside the guest's memory");
        }
        // Neighbours would be one run: each set has exactly one form.
        free_from = run.end().get() + 1;
        runs.push(run);
    }
    Ok(runs)
}
