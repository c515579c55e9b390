//! What goes over the link under test: pages in epochs, and numbered messages.

use std::collections::BTreeSet;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use isfc::frame::PROGRAM_PAYLOAD_BYTES;
use isfc::{
    Admission, Extent, ExtentClass, Link, LinkEvent, Next, Placed, Region, SocketId, Transfer, TransferSink,
    TransferSource,
};
use memmap2::MmapMut;

use super::wire::Dice;

/// Programs of one epoch.
pub(crate) const PROGRAMS: u64 = 170;
/// Length of the region, in bytes: what an epoch moves.
pub(crate) const REGION_BYTES: u64 = PROGRAM_PAYLOAD_BYTES * PROGRAMS;
/// Sockets of each priority.
const SOCKETS: [SocketId; 3] =
    [SocketId::new(3).unwrap(), SocketId::new(20).unwrap(), SocketId::new(40).unwrap()];

/// Epoch after epoch, the whole region in programs of the usual size; every one has a digest.
struct Programs {
    memory: Arc<MmapMut>,
    work: Mutex<Work>,
}

/// Of the epoch that is under way, and only of that: what is still said of an earlier one changes nothing.
#[derive(Debug, Default)]
struct Work {
    epoch: u32,
    left: Vec<u64>,
    /// What each device was given.
    given: [BTreeSet<u64>; 16],
}

impl Programs {
    fn begin(&self, epoch: u64) {
        let left = (0..PROGRAMS).rev().collect();
        *self.work.lock().unwrap() = Work { epoch: epoch as u32, left, ..Work::default() };
    }
}

impl TransferSource for Programs {
    fn next(&self, device: u8, transfer: &mut Transfer) -> Next {
        {
            let mut work = self.work.lock().unwrap();
            let Some(tag) = work.left.pop() else { return Next::Nothing };
            work.given[usize::from(device)].insert(tag);
            (transfer.tag, transfer.epoch) = (tag, work.epoch);
        }
        let at = transfer.tag * PROGRAM_PAYLOAD_BYTES;
        let bytes = &self.memory[at as usize..(at + PROGRAM_PAYLOAD_BYTES) as usize];
        transfer.digest = Some(xxhash_rust::xxh3::xxh3_64(bytes));
        let len_bytes = PROGRAM_PAYLOAD_BYTES as u32;
        transfer.extents.push(Extent { offset_bytes: at, len_bytes, class: ExtentClass::Raw });
        Next::Ready
    }

    fn sent(&self, _: u8, _: u32, _: u64, _: u64) {}

    fn lost(&self, device: u8, epoch: u32, tag: u64) {
        let mut work = self.work.lock().unwrap();
        // A late word about the last epoch's program of this number must not take away this epoch's.
        if epoch == work.epoch && work.given[usize::from(device)].remove(&tag) {
            work.left.push(tag);
        }
    }

    fn device_down(&self, device: u8) {
        let mut work = self.work.lock().unwrap();
        let lost = std::mem::take(&mut work.given[usize::from(device)]);
        work.left.extend(lost);
    }
}

#[derive(Default)]
struct Arrived {
    epoch: AtomicU64,
    seen: Mutex<BTreeSet<u64>>,
    placing: Mutex<[Option<u64>; 16]>,
    spoiled: AtomicU64,
}

impl Arrived {
    fn begin(&self, epoch: u64) {
        self.epoch.store(epoch, Ordering::SeqCst);
        self.seen.lock().unwrap().clear();
    }

    fn is_complete(&self) -> bool {
        self.seen.lock().unwrap().len() as u64 == PROGRAMS
            && self.placing.lock().unwrap().iter().all(Option::is_none)
    }
}

impl TransferSink for Arrived {
    fn admit(&self, device: u8, epoch: u32, tag: u64, _: &[Extent]) -> Result<Admission, String> {
        let fresh = u64::from(epoch) == self.epoch.load(Ordering::SeqCst)
            && !self.seen.lock().unwrap().contains(&tag);
        self.placing.lock().unwrap()[usize::from(device)] = fresh.then_some(tag);
        Ok(if fresh { Admission::Place } else { Admission::Discard })
    }

    fn placed(&self, device: u8, placed: &Placed<'_>) {
        assert!(placed.intact);
        self.seen.lock().unwrap().insert(placed.tag);
        self.placing.lock().unwrap()[usize::from(device)] = None;
    }

    fn damaged(&self, device: u8) {
        let mut placing = self.placing.lock().unwrap();
        let tag = placing[usize::from(device)].take().unwrap();
        // Beside another copy nobody knows whose bytes stayed: the caller would repeat the pass.
        let beside = placing.contains(&Some(tag)) || self.seen.lock().unwrap().contains(&tag);
        self.spoiled.fetch_add(u64::from(beside), Ordering::SeqCst);
    }

    fn device_down(&self, device: u8) {
        self.placing.lock().unwrap()[usize::from(device)] = None;
    }
}

/// Pages that go from one end of a link to the other.
pub(crate) struct Pages {
    source: Arc<MmapMut>,
    target: Arc<MmapMut>,
    programs: Arc<Programs>,
    arrived: Arc<Arrived>,
    epoch: u64,
}

impl Pages {
    pub(crate) fn new(seed: u64, from: &Link, to: &Link) -> Self {
        let source = memory(|bytes| {
            let mut dice = Dice(seed);
            bytes
                .chunks_exact_mut(8)
                .for_each(|word| word.copy_from_slice(&dice.roll(u64::MAX).to_le_bytes()));
        });
        let target = memory(|_| ());
        from.register(region(&source)).unwrap();
        to.register(region(&target)).unwrap();
        let programs = Arc::new(Programs { memory: source.clone(), work: Mutex::default() });
        let arrived = Arc::new(Arrived::default());
        to.set_sink(arrived.clone());
        from.set_source(programs.clone());
        Self { source, target, programs, arrived, epoch: 0 }
    }

    /// The next epoch begins: the whole region is to be sent.
    pub(crate) fn begin(&mut self, from: &Link) {
        self.epoch += 1;
        // In this order: what comes late from the epoch before must find it closed.
        self.arrived.begin(self.epoch);
        self.programs.begin(self.epoch);
        from.kick(16);
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.arrived.is_complete()
    }

    /// Programs that have arrived.
    pub(crate) fn arrived(&self) -> usize {
        self.arrived.seen.lock().unwrap().len()
    }

    /// Where what has not arrived is now, for a message.
    pub(crate) fn missing(&self) -> String {
        let missing: Vec<u64> = {
            let seen = self.arrived.seen.lock().unwrap();
            (0..PROGRAMS).filter(|tag| !seen.contains(tag)).collect()
        };
        format!("{missing:?} have not arrived, {:?}", self.programs.work.lock().unwrap())
    }

    /// The epoch is complete: compares all of it. False if it must be repeated, as a relocation repeats a pass.
    pub(crate) fn check(&self) -> bool {
        if self.arrived.spoiled.swap(0, Ordering::SeqCst) > 0 {
            return false;
        }
        assert!(self.source[..] == self.target[..], "epoch {} did not arrive bit for bit", self.epoch);
        // SAFETY: between epochs nothing is placed, and nobody else looks.
        unsafe { self.target.as_ptr().cast_mut().write_bytes(0, REGION_BYTES as usize) };
        true
    }
}

fn region(memory: &Arc<MmapMut>) -> Region {
    let base = NonNull::new(memory.as_ptr().cast_mut()).unwrap();
    // SAFETY: the mapping lives as long as the Arc, and is read only when nothing moves.
    unsafe { Region::new(0, base, REGION_BYTES, memory.clone()) }
}

fn memory(fill: impl FnOnce(&mut [u8])) -> Arc<MmapMut> {
    let mut memory = MmapMut::map_anon(REGION_BYTES as usize).unwrap();
    fill(&mut memory);
    Arc::new(memory)
}

/// Message `number`: itself, and a tail of some length.
fn body(number: u64) -> Vec<u8> {
    let mut body = number.to_le_bytes().to_vec();
    let len_bytes = 8 + Dice(number).roll(if number.is_multiple_of(64) { 100_000 } else { 300 });
    body.resize(len_bytes as usize, number as u8);
    body
}

/// Messages in one direction, over sockets of every priority; each has an order of its own.
#[derive(Default)]
pub(crate) struct Talk {
    sent: u64,
    heard: [u64; SOCKETS.len()],
}

impl Talk {
    /// Sends up to message `due`, as far as the link takes them.
    pub(crate) fn send(&mut self, from: &Link, due: u64) {
        let socket = |number: u64| SOCKETS[number as usize % SOCKETS.len()];
        while self.sent < due && from.send(socket(self.sent), &body(self.sent)).is_ok() {
            self.sent += 1;
        }
    }

    /// Takes what has come: in order, each once, bit for bit. Other events are given back.
    pub(crate) fn hear(&mut self, to: &Link) -> Vec<LinkEvent> {
        let mut others = Vec::new();
        while let Ok(event) = to.recv(Duration::ZERO) {
            let LinkEvent::Message(socket, found) = event else {
                others.push(event);
                continue;
            };
            let at = SOCKETS.iter().position(|known| *known == socket).unwrap();
            let number = self.heard[at] * SOCKETS.len() as u64 + at as u64;
            assert!(found == body(number), "message {number} of {socket:?}");
            self.heard[at] += 1;
        }
        others
    }

    pub(crate) fn heard(&self) -> u64 {
        self.heard.iter().sum()
    }
}
