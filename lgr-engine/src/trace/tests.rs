//! The bytes of a trace, and what is refused.
#![allow(clippy::unwrap_used)]

use guest_mem::Run;
use proptest::prelude::*;

use super::*;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn runs(list: &[(u64, u64)]) -> Runs {
    list.iter().map(|&(start, pages)| Run::new(start, pages)).collect()
}

fn small() -> Trace {
    let header = Header {
        tracker: Some(TrackerKind::UffdAsync),
        began_unix_s: 0x6555_5555,
        description: "hotcold".to_owned(),
        ..Header::new(PageCount(4096), ms(10))
    };
    let samples = vec![
        Sample { at: ms(10), written: runs(&[(3, 2), (9, 1)]) },
        Sample { at: ms(20), written: Runs::new() },
        Sample { at: ms(30), written: runs(&[(4095, 1)]) },
    ];
    Trace::new(header, runs(&[(0, 64)]), samples).unwrap()
}

fn bytes_of(trace: &Trace) -> Vec<u8> {
    let mut bytes = Vec::new();
    trace.write(&mut bytes).unwrap();
    bytes
}

#[test]
fn the_bytes_are_these() {
    let bytes = bytes_of(&small());
    assert_eq!(bytes.len(), 512 + (32 + 8) + (32 + 16) + 32 + (32 + 8) + 32);
    assert_eq!(&bytes[..16], b"LGRTRACE\x01\0\0\0\0\x02\0\0");
    // Page size, granule, pages, interval in ns.
    assert_eq!(bytes[16..40], *b"\0\x10\0\0\0\x10\0\0\0\x10\0\0\0\0\0\0\x80\x96\x98\0\0\0\0\0");
    assert_eq!(&bytes[40..72], b"\x55\x55\x55\x65\0\0\0\0TRACED\0\0\x01\0\0\0\x07\0\0\0hotcold\0");
    // The touched block: kind, runs, time, number.
    assert_eq!(bytes[512..536], *b"\x01\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(bytes[544..552], *b"\0\0\0\0\x40\0\0\0");
    assert_eq!(bytes[552..576], *b"\x02\0\0\0\x02\0\0\0\x80\x96\x98\0\0\0\0\0\x01\0\0\0\0\0\0\0");
    assert_eq!(bytes[584..600], *b"\x03\0\0\0\x02\0\0\0\x09\0\0\0\x01\0\0\0");
    let sum = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!(
        [sum(&bytes, 504), sum(&bytes, 536)],
        [0x1D41_27A1, 0x1CF5_46AD],
        "checksums made by another program"
    );
}

#[test]
fn what_was_written_is_read() {
    assert_eq!(Trace::read(&bytes_of(&small())[..]).unwrap(), small());
}

#[test]
fn a_set_of_many_runs_goes_over_several_blocks() {
    let many: Runs = (0..200_000).map(|page| Run::new(page * 2, 1)).collect();
    let trace = Trace::new(
        Header::new(PageCount(400_000), ms(1)),
        many.clone(),
        vec![Sample { at: ms(1), written: many }],
    );
    let trace = trace.unwrap();
    let bytes = bytes_of(&trace);
    assert_eq!(bytes.len(), 512 + 2 * (4 * 32 + 200_000 * 8) + 32);
    assert_eq!(Trace::read(&bytes[..]).unwrap(), trace);
}

#[test]
fn a_trace_cut_off_anywhere_is_refused_with_where_it_ends() {
    let bytes = bytes_of(&small());
    for len in 0..bytes.len() {
        let error = Trace::read(&bytes[..len]).unwrap_err();
        match error {
            TraceError::Foreign if len < 8 => {}
            TraceError::CutOff { offset_bytes, .. } => assert_eq!(offset_bytes, len as u64),
            other => panic!("cut at {len}: {other}"),
        }
    }
}

#[test]
fn a_foreign_file_and_a_later_version_are_named() {
    assert!(matches!(Trace::read(&b"#!/bin/sh"[..]), Err(TraceError::Foreign)));
    let mut later = bytes_of(&small());
    later[8] = 2;
    assert!(matches!(Trace::read(&later[..]), Err(TraceError::UnknownVersion(2))));
    let mut longer = bytes_of(&small());
    longer.push(0);
    let end = longer.len() as u64 - 1;
    let error = Trace::read(&longer[..]).unwrap_err();
    assert!(matches!(error, TraceError::Damaged { offset_bytes, .. } if offset_bytes == end), "{error}");
}

#[test]
fn every_flipped_bit_is_noticed_and_told_with_its_block() {
    let bytes = bytes_of(&small());
    let blocks = [0, 512, 552, 600, 632, 672];
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        let block = *blocks.iter().rfind(|&&block| block <= at).unwrap() as u64;
        match Trace::read(&damaged[..]).unwrap_err() {
            TraceError::Damaged { offset_bytes, .. } => assert_eq!(offset_bytes, block, "byte {at}"),
            // More runs than there are bytes left.
            TraceError::CutOff { .. } => assert!((512..).contains(&at), "byte {at}"),
            TraceError::Foreign => assert!(at < 8),
            TraceError::UnknownVersion(_) => assert!((8..12).contains(&at)),
            other => panic!("byte {at}: {other}"),
        }
    }
}

#[test]
fn what_no_trace_may_hold_is_refused_before_it_is_written() {
    let header = Header::new(PageCount(16), ms(1));
    assert!(Trace::new(header.clone(), runs(&[(10, 7)]), vec![]).is_err());
    assert!(
        Trace::new(Header { pages: PageCount(PAGES_MAX + 1), ..header.clone() }, Runs::new(), vec![])
            .is_err()
    );
    assert!(TraceWriter::new(Vec::new(), &Header { every: Duration::ZERO, ..header.clone() }).is_err());
    let mut writer = TraceWriter::new(Vec::new(), &header).unwrap();
    writer.written(ms(2), &Runs::new()).unwrap();
    assert!(writer.written(ms(1), &Runs::new()).is_err(), "time goes forward");
    assert!(writer.written(ms(3), &runs(&[(16, 1)])).is_err(), "pages end with the guest");
}

#[test]
fn a_long_description_is_cut_at_a_letter() {
    let description = "ü".repeat(200);
    let header = Header { description, ..Header::new(PageCount(16), ms(1)) };
    let trace = Trace::new(header, Runs::new(), vec![]).unwrap();
    assert_eq!(Trace::read(&bytes_of(&trace)[..]).unwrap().header().description, "ü".repeat(128));
}

proptest! {
    #[test]
    fn any_bytes_are_a_trace_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert!(Trace::read(&bytes[..]).is_err());
        let mut sound = bytes_of(&small());
        sound.truncate(512);
        sound.extend(bytes);
        prop_assert!(Trace::read(&sound[..]).is_err());
    }

    #[test]
    fn any_trace_survives(
        sets in prop::collection::vec(prop::collection::vec((0u64..4000, 1u64..64), 0..20), 1..8),
    ) {
        let mut sets: Vec<Runs> = sets.iter().map(|set| runs(set)).collect();
        let touched = sets.remove(0);
        let samples = sets.into_iter().zip(1..).map(|(written, at)| Sample { at: ms(at), written }).collect();
        let trace = Trace::new(Header::new(PageCount(4096), ms(1)), touched, samples).unwrap();
        prop_assert_eq!(Trace::read(&bytes_of(&trace)[..]).unwrap(), trace);
    }
}
