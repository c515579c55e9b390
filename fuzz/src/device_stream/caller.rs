//! The caller of the link under test: its region, what it sends, and what it is told of what comes.

use std::collections::BTreeSet;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU8;
use std::sync::{Arc, Mutex};

use isfc::{
    Admission, Extent, ExtentClass, Next, Placed, Region, Transfer, TransferSink, TransferSource,
    len_bytes_of,
};
use lgr_engine::codec::packer::Unpacker;

/// Length of the only region.
pub const REGION_LEN_BYTES: u64 = 4096;
const UNTOUCHED: u8 = 0xEE;

/// The region, and where a transfer may have changed it.
pub struct Memory {
    bytes: Box<[AtomicU8]>,
    admitted: Mutex<Vec<Extent>>,
}

impl Memory {
    pub fn new() -> Self {
        let bytes = [const { AtomicU8::new(UNTOUCHED) }; REGION_LEN_BYTES as usize];
        Self { bytes: Box::new(bytes), admitted: Mutex::default() }
    }

    pub fn region(self: &Arc<Self>) -> Region {
        let base = NonNull::from(&*self.bytes).cast();
        // SAFETY: atomic bytes may be written through a shared pointer; they live as long as the Arc.
        unsafe { Region::new(0, base, REGION_LEN_BYTES, self.clone()) }
    }

    /// What the region holds now.
    pub fn snapshot(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.bytes.len()];
        // SAFETY: the device under test runs in this thread, so nobody writes now.
        unsafe { std::ptr::copy_nonoverlapping(self.bytes.as_ptr().cast(), bytes.as_mut_ptr(), bytes.len()) };
        bytes
    }

    /// Writes one byte after the other where the extents of `class` are.
    fn write(&self, extents: &[Extent], class: ExtentClass, bytes: &[u8]) {
        let places = extents.iter().filter(|extent| extent.class == class).flat_map(range);
        for (place, byte) in places.zip(bytes) {
            self.bytes[place].store(*byte, std::sync::atomic::Ordering::Relaxed);
        }
    }

    /// No byte was written that no transfer was admitted for.
    pub fn check_untouched(&self) {
        let mut bytes = self.snapshot();
        for extent in &*self.admitted.lock().unwrap() {
            bytes[range(extent)].fill(UNTOUCHED);
        }
        assert!(bytes == [UNTOUCHED; REGION_LEN_BYTES as usize], "written outside of every transfer");
    }
}

/// Where an extent lies in the region.
pub fn range(extent: &Extent) -> std::ops::Range<usize> {
    let from = extent.offset_bytes as usize;
    from..from + extent.len_bytes as usize
}

/// Told of what is placed.
pub struct Sink {
    memory: Arc<Memory>,
    level2: bool,
    state: Mutex<Sunk>,
}

#[derive(Default)]
struct Sunk {
    placing: Option<(u32, u64, Vec<Extent>)>,
    placed: usize,
    down: bool,
}

impl Sink {
    pub fn new(memory: Arc<Memory>, level2: bool) -> Self {
        Self { memory, level2, state: Mutex::default() }
    }

    /// Transfers that are in place.
    pub fn placed(&self) -> usize {
        self.state.lock().unwrap().placed
    }

    pub fn check_ended(&self) {
        assert!(self.state.lock().unwrap().down, "the sink was not told that the device is gone");
    }
}

impl TransferSink for Sink {
    fn admit(&self, _: u8, epoch: u32, tag: u64, extents: &[Extent]) -> Result<Admission, String> {
        let mut state = self.state.lock().unwrap();
        assert!(!state.down && state.placing.is_none(), "one transfer at a time");
        let inside = |extent: &Extent| extent.offset_bytes + u64::from(extent.len_bytes) <= REGION_LEN_BYTES;
        assert!((1..=256).contains(&extents.len()) && extents.iter().all(inside));
        match epoch % 8 {
            7 => Err("refused".to_owned()),
            6 => Ok(Admission::Discard),
            _ => {
                let data = [ExtentClass::Raw, ExtentClass::Packed];
                let written = extents.iter().filter(|extent| data.contains(&extent.class));
                self.memory.admitted.lock().unwrap().extend(written);
                state.placing = Some((epoch, tag, extents.to_vec()));
                Ok(Admission::Place)
            }
        }
    }

    fn unpack(&self, _: u8, extents: &[Extent], payload: &[u8]) -> Result<(), String> {
        let state = self.state.lock().unwrap();
        assert!(self.level2 && state.placing.as_ref().unwrap().2 == extents, "unpacked, and not admitted");
        let len = len_bytes_of(ExtentClass::Packed, extents);
        assert!(!payload.is_empty() && (payload.len() as u64) < len);
        let mut unpacker = Unpacker::new().unwrap();
        self.memory.write(extents, ExtentClass::Packed, unpacker.unpack(payload, len)?);
        Ok(())
    }

    fn placed(&self, _: u8, placed: &Placed<'_>) {
        let mut state = self.state.lock().unwrap();
        let admitted = state.placing.take().unwrap();
        assert_eq!((placed.epoch, placed.tag, placed.extents), (admitted.0, admitted.1, &admitted.2[..]));
        assert!(placed.intact || !self.level2);
        state.placed += usize::from(placed.intact);
    }

    fn damaged(&self, _: u8) {
        assert!(self.level2, "nobody sends it again");
        assert!(self.state.lock().unwrap().placing.take().is_some());
    }

    fn device_down(&self, _: u8) {
        let mut state = self.state.lock().unwrap();
        state.placing = None;
        assert!(!std::mem::replace(&mut state.down, true));
    }
}

/// What this side sends: a few transfers, each told to have arrived, or to be lost, once each time it is given out.
pub struct Pages(Mutex<Given>);

struct Given {
    left: Vec<u64>,
    out: BTreeSet<u64>,
    ends: bool,
}

impl Pages {
    pub fn new() -> Self {
        Self(Mutex::new(Given { left: (0..40).collect(), out: BTreeSet::new(), ends: false }))
    }

    /// From now on what is out is given back.
    pub fn ends(&self) {
        self.0.lock().unwrap().ends = true;
    }
}

impl TransferSource for Pages {
    fn next(&self, _: u8, transfer: &mut Transfer) -> Next {
        let mut given = self.0.lock().unwrap();
        let Some(tag) = given.left.pop() else { return Next::Nothing };
        given.out.insert(tag);
        (transfer.tag, transfer.epoch, transfer.region) = (tag, 1, 0);
        for part in 0..=tag % 3 {
            let class = if part == 1 { ExtentClass::Zero } else { ExtentClass::Raw };
            transfer.extents.push(Extent { offset_bytes: part * 64, len_bytes: 32, class });
        }
        Next::Ready
    }

    fn sent(&self, _: u8, epoch: u32, tag: u64, _: u64) {
        assert!(epoch == 1 && self.0.lock().unwrap().out.contains(&tag));
    }

    fn delivered(&self, _: u8, epoch: u32, tag: u64) {
        assert!(epoch == 1 && self.0.lock().unwrap().out.remove(&tag), "settled twice");
    }

    fn lost(&self, _: u8, epoch: u32, tag: u64) {
        let mut given = self.0.lock().unwrap();
        assert!(epoch == 1 && given.out.remove(&tag), "settled twice");
        given.left.push(tag);
    }

    fn device_down(&self, _: u8) {
        assert!(self.0.lock().unwrap().ends);
    }
}
