//! Packed and kept extents as a receiver takes them, from peers that keep the rules and from others.

use std::ptr::NonNull;
use std::sync::{Arc, Mutex};

use xxhash_rust::xxh3::xxh3_64;
use zerocopy::IntoBytes;

use super::{Incoming, Placement, Receiver};
use crate::frame::{
    Extent, ExtentClass, FLAG_DIGEST, FLAG_FETCH, FrameError, FrameKind, Header, extents_check,
};
use crate::region::{Region, RemoteRegion};
use crate::transfer::{Admission, Placed, TransferSink};

const REGION_LEN_BYTES: usize = 1 << 20;

/// Unpacks by repeating: a payload becomes its bytes, over and over. One of zeros cannot be unpacked.
#[derive(Default)]
struct Sink {
    unpacked: Mutex<Vec<(Vec<Extent>, Vec<u8>)>>,
    placed: Mutex<Vec<u64>>,
    damaged: Mutex<u32>,
}

impl TransferSink for Sink {
    fn admit(&self, _: u8, epoch: u32, _: u64, _: &[Extent]) -> Result<Admission, String> {
        Ok(if epoch == 1 { Admission::Place } else { Admission::Discard })
    }

    fn unpack(&self, _: u8, extents: &[Extent], payload: &[u8]) -> Result<(), String> {
        if payload.iter().all(|byte| *byte == 0) {
            return Err("zeros".to_owned());
        }
        self.unpacked.lock().unwrap().push((extents.to_vec(), payload.to_vec()));
        Ok(())
    }

    fn placed(&self, _: u8, placed: &Placed<'_>) {
        self.placed.lock().unwrap().push(placed.tag);
    }

    fn damaged(&self, _: u8) {
        *self.damaged.lock().unwrap() += 1;
    }

    fn device_down(&self, _: u8) {}
}

struct Place {
    region: Region,
    sink: Arc<dyn TransferSink>,
    packs: bool,
}

impl Placement for Place {
    fn region(&self, number: u16) -> Option<&Region> {
        (number == 0).then_some(&self.region)
    }

    fn remote(&self, _: u16) -> Option<&RemoteRegion> {
        None
    }

    fn sink(&self) -> Option<&Arc<dyn TransferSink>> {
        Some(&self.sink)
    }

    fn was_here(&self, _: u8, _: u16) -> bool {
        false
    }

    fn resends(&self) -> bool {
        true
    }

    fn packs(&self) -> bool {
        self.packs
    }
}

fn place(packs: bool) -> (Place, Arc<Sink>) {
    let memory: Arc<Mutex<Vec<u8>>> = Arc::new(Mutex::new(vec![0; REGION_LEN_BYTES]));
    let base = NonNull::new(memory.lock().unwrap().as_mut_ptr()).unwrap();
    // SAFETY: the vector lives as long as the region, is never resized, and nobody else looks into it.
    let region = unsafe { Region::new(0, base, REGION_LEN_BYTES as u64, memory) };
    let sink = Arc::new(Sink::default());
    (Place { region, sink: sink.clone(), packs }, sink)
}

fn extent(offset_bytes: u64, class: ExtentClass) -> Extent {
    Extent { offset_bytes, len_bytes: 4096, class }
}

/// A transfer of these extents with this payload, as a peer would send it.
fn frame(extents: &[Extent], payload: &[u8], change: impl FnOnce(&mut Header)) -> Vec<u8> {
    let rest: Vec<_> = extents[1..].iter().map(|extent| extent.to_wire()).collect();
    let rest = rest.as_bytes();
    let mut header = Header {
        epoch: 1,
        sequence: 7,
        flags: FLAG_DIGEST,
        digest: xxh3_64(payload),
        extents: extents.len() as u16,
        first_extent: extents[0].to_wire(),
        socket: extents_check(rest),
        body_len_bytes: (rest.len() + payload.len()) as u64,
        ..Header::new(FrameKind::Transfer, 0)
    };
    change(&mut header);
    [&header.encode()[..], rest, payload].concat()
}

/// What a receiver makes of these bytes: the last frame that became complete, or why there is none.
fn receive(bytes: &[u8], place: &Place) -> Result<Option<Incoming>, FrameError> {
    let (mut receiver, mut left, mut last) = (Receiver::new(0), bytes, None);
    while !left.is_empty() {
        let mut count = 0;
        for buffer in receiver.buffers() {
            let part = buffer.iov_len.min(left.len());
            // SAFETY: the receiver's buffers are writable until it is told that they are filled.
            unsafe { std::ptr::copy_nonoverlapping(left.as_ptr(), buffer.iov_base.cast(), part) };
            (left, count) = (&left[part..], count + part);
        }
        if let Some(complete) = receiver.filled(count, place)? {
            last = Some(complete.incoming);
        }
    }
    Ok(last)
}

#[test]
fn a_packed_payload_is_handed_to_the_owner_of_the_region() {
    let (place, sink) = place(true);
    let extents = [
        extent(4096, ExtentClass::Packed),
        extent(8192, ExtentClass::Zero),
        extent(12288, ExtentClass::Kept),
        extent(65536, ExtentClass::Packed),
    ];
    let taken = receive(&frame(&extents, b"payload", |_| {}), &place);
    assert_eq!(taken, Ok(Some(Incoming::Transfer)));
    assert_eq!(*sink.unpacked.lock().unwrap(), [(extents.to_vec(), b"payload".to_vec())]);
    assert_eq!(*sink.placed.lock().unwrap(), [7]);
    // One that is only kept has no payload.
    let kept = [extent(4096, ExtentClass::Kept)];
    assert_eq!(receive(&frame(&kept, b"", |_| {}), &place), Ok(Some(Incoming::Transfer)));
    assert_eq!(sink.unpacked.lock().unwrap().len(), 1);
}

#[test]
fn a_damaged_payload_is_not_unpacked_and_comes_again() {
    let (place, sink) = place(true);
    let bytes = frame(&[extent(0, ExtentClass::Packed)], b"payload", |header| header.digest ^= 1);
    assert_eq!(receive(&bytes, &place), Ok(Some(Incoming::Nothing { damaged: true })));
    assert_eq!((sink.unpacked.lock().unwrap().len(), *sink.damaged.lock().unwrap()), (0, 1));
}

#[test]
fn a_payload_that_comes_too_late_is_thrown_away_unseen() {
    let (place, sink) = place(true);
    let bytes = frame(&[extent(0, ExtentClass::Packed)], b"payload", |header| header.epoch = 0);
    assert_eq!(receive(&bytes, &place), Ok(Some(Incoming::Transfer)));
    assert!(sink.unpacked.lock().unwrap().is_empty() && sink.placed.lock().unwrap().is_empty());
}

#[test]
fn a_peer_that_did_not_agree_to_it_is_refused() {
    let (place, _) = place(false);
    for class in [ExtentClass::Packed, ExtentClass::Kept] {
        let bytes = frame(&[extent(0, class)], b"", |_| {});
        assert_eq!(receive(&bytes, &place), Err(FrameError::NotAgreed), "{class:?}");
    }
}

#[test]
fn a_packed_transfer_that_breaks_a_rule_ends_its_device() {
    let (place, sink) = place(true);
    let packed = [extent(0, ExtentClass::Packed)];
    let no_digest = frame(&packed, b"payload", |header| header.flags = 0);
    assert_eq!(receive(&no_digest, &place), Err(FrameError::Packed));
    let elsewhere = frame(&packed, b"payload", |header| header.flags |= FLAG_FETCH);
    assert_eq!(receive(&elsewhere, &place), Err(FrameError::Packed));
    let mixed = [extent(0, ExtentClass::Packed), extent(4096, ExtentClass::Raw)];
    assert_eq!(receive(&frame(&mixed, b"payload", |_| {}), &place), Err(FrameError::Packed));
    for payload in [&b""[..], &[1; 4096], &[1; 5000]] {
        let error = receive(&frame(&packed, payload, |_| {}), &place).unwrap_err();
        assert!(matches!(error, FrameError::BodyMismatch { .. }), "{error}");
    }
    // Its body ends before its extents do.
    let short = frame(&[packed[0], packed[0]], b"payload", |header| header.body_len_bytes = 3);
    assert!(matches!(receive(&short, &place), Err(FrameError::BodyMismatch { .. })));
    let wrong = frame(&packed, &[0; 9], |_| {});
    assert_eq!(receive(&wrong, &place), Err(FrameError::Refused("zeros".to_owned())));
    assert!(sink.placed.lock().unwrap().is_empty());
}
