//! A seeded fault layer between the two ends of a link: frames are dropped, doubled, held back, swapped and damaged,
//! and connections cut, under full load. Everything must arrive exactly once, bit for bit.
//!
//! `LGR_LINK_SEED=n` replays one seed. The release build moves 10 GiB, the debug build 512 MiB.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use isfc::frame::{FLAG_DIGEST, HEADER_LEN_BYTES, PROGRAM_PAYLOAD_BYTES};
use isfc::hello::{HELLO_LEN_BYTES, WELCOME_LEN_BYTES};
use isfc::{
    Address, Admission, Extent, ExtentClass, Link, LinkEvent, LinkOptions, Listener, Next, Placed, Region,
    SocketId, Transfer, TransferSink, TransferSource,
};
use memmap2::MmapMut;

const REGION_BYTES: u64 = PROGRAM_PAYLOAD_BYTES * 170;
const MESSAGES: u64 = 10_000;
const PATIENCE: Duration = Duration::from_secs(300);

/// splitmix64
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % sides
    }
}

#[derive(Default, Debug)]
struct Done {
    /// Directions of connections that are there now, two for each device.
    alive: AtomicU64,
    frames: AtomicU64,
    dropped: AtomicU64,
    doubled: AtomicU64,
    swapped: AtomicU64,
    damaged: AtomicU64,
    cut: AtomicU64,
}

/// Carries calls on to `target`, with faults.
struct FaultLayer {
    address: Address,
    stop: Arc<AtomicBool>,
    done: Arc<Done>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl FaultLayer {
    fn start(target: std::net::SocketAddr, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = format!("tcp:{}", listener.local_addr().unwrap()).parse().unwrap();
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(Done::default()));
        let (stopped, counts) = (stop.clone(), done.clone());
        let thread = std::thread::spawn(move || {
            std::thread::scope(|scope| {
                let mut number = 0;
                while !stopped.load(Ordering::Relaxed) {
                    let Ok((caller, _)) = listener.accept() else {
                        std::thread::sleep(Duration::from_millis(5));
                        continue;
                    };
                    caller.set_nonblocking(false).unwrap();
                    let Ok(called) = TcpStream::connect(target) else { continue };
                    for (from, to, greeting) in [
                        (caller.try_clone().unwrap(), called.try_clone().unwrap(), HELLO_LEN_BYTES),
                        (called, caller, WELCOME_LEN_BYTES),
                    ] {
                        number += 1;
                        let (dice, counts) = (Dice(seed ^ (number << 32)), &counts);
                        scope.spawn(move || {
                            counts.alive.fetch_add(1, Ordering::SeqCst);
                            carry(&from, &to, greeting, dice, counts);
                            counts.alive.fetch_sub(1, Ordering::SeqCst);
                            let _ = from.shutdown(Shutdown::Both);
                            let _ = to.shutdown(Shutdown::Both);
                        });
                    }
                }
            });
        });
        Self { address, stop, done, thread: Some(thread) }
    }
}

impl Drop for FaultLayer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking(), "the fault layer panicked");
    }
}

/// One direction of one connection, frame by frame. Ends when either side hangs up.
fn carry(
    mut from: &TcpStream,
    mut to: &TcpStream,
    greeting: usize,
    mut dice: Dice,
    done: &Done,
) -> Option<()> {
    let _ = to.set_nodelay(true);
    let mut frame = vec![0; greeting];
    from.read_exact(&mut frame).ok()?;
    to.write_all(&frame).ok()?;
    let mut held: Option<Vec<u8>> = None;
    loop {
        frame.resize(HEADER_LEN_BYTES, 0);
        from.read_exact(&mut frame).ok()?;
        let body = u64::from_le_bytes(frame[8..16].try_into().unwrap()) as usize;
        frame.resize(HEADER_LEN_BYTES + body, 0);
        from.read_exact(&mut frame[HEADER_LEN_BYTES..]).ok()?;
        let count = |counter: &AtomicU64| {
            counter.fetch_add(1, Ordering::Relaxed);
        };
        count(&done.frames);
        let (kind, flags) = (frame[4], frame[5]);
        // Content without a digest may change while it is sent: nobody could tell that it was damaged.
        // What ends a device ends the link with the last one, and here that must not come to pass.
        let may_end = done.alive.load(Ordering::SeqCst) > 2 * 5;
        let checked = body > 0 && (kind == 1 || flags & FLAG_DIGEST != 0);
        match dice.roll(512) {
            0..8 => {
                count(&done.dropped);
                continue;
            }
            8..16 => {
                count(&done.doubled);
                to.write_all(&frame).ok()?;
            }
            16..24 if held.is_none() => {
                count(&done.swapped);
                held = Some(std::mem::take(&mut frame));
                continue;
            }
            24..28 if checked => {
                count(&done.damaged);
                let extents = if kind == 2 { (usize::from(frame[30]).max(1) - 1) * 16 } else { 0 };
                let at = HEADER_LEN_BYTES + extents + dice.roll((body - extents) as u64) as usize;
                frame[at] ^= 1 << dice.roll(8);
            }
            28 if may_end => {
                count(&done.damaged);
                frame[dice.roll(HEADER_LEN_BYTES as u64) as usize] ^= 1 << dice.roll(8);
            }
            29 if may_end => {
                count(&done.cut);
                return None;
            }
            30..40 => std::thread::sleep(Duration::from_millis(dice.roll(5))),
            _ => {}
        }
        to.write_all(&frame).ok()?;
        if let Some(late) = held.take() {
            to.write_all(&late).ok()?;
        }
    }
}

/// Epoch after epoch, the whole region in programs of the usual size; every one has a digest.
struct Programs {
    memory: Arc<MmapMut>,
    epoch: AtomicU64,
    left: Mutex<Vec<u64>>,
    given: Mutex<Vec<BTreeSet<u64>>>,
}

impl Programs {
    fn begin(&self, epoch: u64) {
        self.epoch.store(epoch, Ordering::SeqCst);
        *self.left.lock().unwrap() = (0..REGION_BYTES / PROGRAM_PAYLOAD_BYTES).rev().collect();
        self.given.lock().unwrap().iter_mut().for_each(BTreeSet::clear);
    }
}

impl TransferSource for Programs {
    fn next(&self, device: u8, transfer: &mut Transfer) -> Next {
        let Some(tag) = self.left.lock().unwrap().pop() else { return Next::Nothing };
        self.given.lock().unwrap()[usize::from(device)].insert(tag);
        let at = tag * PROGRAM_PAYLOAD_BYTES;
        let bytes = &self.memory[at as usize..(at + PROGRAM_PAYLOAD_BYTES) as usize];
        transfer.tag = tag;
        transfer.epoch = self.epoch.load(Ordering::SeqCst) as u32;
        transfer.digest = Some(xxhash_rust::xxh3::xxh3_64(bytes));
        let len_bytes = PROGRAM_PAYLOAD_BYTES as u32;
        transfer.extents.push(Extent { offset_bytes: at, len_bytes, class: ExtentClass::Raw });
        Next::Ready
    }

    fn sent(&self, _: u8, _: u32, _: u64, _: u64) {}

    fn lost(&self, device: u8, epoch: u32, tag: u64) {
        let known = self.given.lock().unwrap()[usize::from(device)].remove(&tag);
        if known && u64::from(epoch) == self.epoch.load(Ordering::SeqCst) {
            self.left.lock().unwrap().push(tag);
        }
    }

    fn device_down(&self, device: u8) {
        let lost = std::mem::take(&mut self.given.lock().unwrap()[usize::from(device)]);
        self.left.lock().unwrap().extend(lost);
    }
}

#[derive(Default)]
struct Arrived {
    epoch: AtomicU64,
    seen: Mutex<BTreeSet<u64>>,
    placing: Mutex<[Option<u64>; 16]>,
    spoiled: AtomicU64,
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

/// Two ends of a link whose frames go through `layer`.
fn pair(seed: u64, devices: usize) -> (FaultLayer, Link, Link) {
    let listener = Listener::bind(&"tcp:127.0.0.1:0".parse().unwrap()).unwrap();
    let Address::Tcp(target) = listener.address().clone() else { panic!("not TCP") };
    let layer = FaultLayer::start(target, seed);
    let options = |name: &str| LinkOptions { name: name.to_owned(), ..LinkOptions::default() };
    let (called, taken) = std::thread::scope(|scope| {
        let taken = scope.spawn(|| listener.accept(Some(PATIENCE), &|| false, &|why| panic!("{why}")));
        let called = isfc::connect(&layer.address, devices, &[]).unwrap();
        (called, taken.join().unwrap().unwrap())
    });
    let taken = taken.rejoin_through(listener);
    let (a, b) =
        (Link::start(called, options("ALPHA")).unwrap(), Link::start(taken, options("BETA")).unwrap());
    (layer, a, b)
}

/// Takes what has come on `link`; messages must come in order, each once.
fn take_messages(link: &Link, next: &mut u64) {
    while let Ok(event) = link.recv(Duration::ZERO) {
        match event {
            LinkEvent::Message(_, body) => {
                assert_eq!(body, next.to_le_bytes(), "message {next}");
                *next += 1;
            }
            LinkEvent::LinkDown(why) => panic!("the link went down: {why}"),
            _ => {}
        }
    }
}

fn everything_arrives(seed: u64) {
    println!("seed {seed} (LGR_LINK_SEED={seed} replays it)");
    let goal_bytes: u64 = if cfg!(debug_assertions) { 512 << 20 } else { 10 << 30 };
    let epochs = goal_bytes.div_ceil(REGION_BYTES);
    let (layer, a, b) = pair(seed, 16);
    let source = memory(|bytes| {
        let mut dice = Dice(seed);
        bytes.chunks_exact_mut(8).for_each(|word| word.copy_from_slice(&dice.roll(u64::MAX).to_le_bytes()));
    });
    let target = memory(|_| ());
    a.register(region(&source)).unwrap();
    b.register(region(&target)).unwrap();
    let (arrived, started) = (Arc::new(Arrived::default()), Instant::now());
    let programs = Arc::new(Programs {
        memory: source.clone(),
        epoch: AtomicU64::new(0),
        left: Mutex::default(),
        given: Mutex::new(vec![BTreeSet::new(); 16]),
    });
    b.set_sink(arrived.clone());
    a.set_source(programs.clone());
    let socket = SocketId::new(3).unwrap();
    let (mut sent, mut heard, mut answers) = (0, 0, 0);
    let mut epoch = 0;
    while epoch < epochs {
        epoch += 1;
        // In this order: what comes late from the epoch before must find it closed.
        arrived.epoch.store(epoch, Ordering::SeqCst);
        arrived.seen.lock().unwrap().clear();
        programs.begin(epoch);
        a.kick(16);
        let wanted = (REGION_BYTES / PROGRAM_PAYLOAD_BYTES) as usize;
        loop {
            assert!(started.elapsed() < PATIENCE, "stuck: {:?} {:?}", layer.done, a.counters());
            let due = if epoch == epochs { MESSAGES } else { MESSAGES * epoch / epochs };
            while sent < due && a.send(socket, &sent.to_le_bytes()).is_ok() {
                b.send(socket, &sent.to_le_bytes()).unwrap();
                sent += 1;
            }
            take_messages(&b, &mut heard);
            take_messages(&a, &mut answers);
            let complete = arrived.seen.lock().unwrap().len() == wanted;
            if complete && arrived.placing.lock().unwrap().iter().all(Option::is_none) {
                break;
            }
            // What a device gave back waits for somebody to ask.
            a.kick(16);
            std::thread::sleep(Duration::from_millis(1));
        }
        if arrived.spoiled.swap(0, Ordering::SeqCst) > 0 {
            epoch -= 1; // the pass is repeated, as a relocation does it
            continue;
        }
        assert!(source[..] == target[..], "epoch {epoch} did not arrive bit for bit");
        // SAFETY: between epochs nothing is placed, and nobody else looks.
        unsafe { target.as_ptr().cast_mut().write_bytes(0, REGION_BYTES as usize) };
    }
    while heard < MESSAGES || answers < MESSAGES {
        assert!(started.elapsed() < PATIENCE, "messages stuck at {heard} and {answers}: {:?}", layer.done);
        take_messages(&b, &mut heard);
        take_messages(&a, &mut answers);
        std::thread::sleep(Duration::from_millis(1));
    }
    let done = &layer.done;
    let happened = [&done.dropped, &done.doubled, &done.swapped, &done.damaged, &done.cut];
    assert!(happened.iter().all(|count| count.load(Ordering::Relaxed) > 0), "no faults: {done:?}");
    println!("{done:?}, {:?}", started.elapsed());
    drop((a, b));
}

#[test]
fn everything_arrives_once_and_bit_for_bit_whatever_the_wire_does() {
    let seed = std::env::var("LGR_LINK_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    everything_arrives(seed);
}

#[test]
fn a_device_that_was_cut_comes_back_by_itself() {
    let (_layer, a, b) = pair(7, 4);
    a.cut_device(2);
    let started = Instant::now();
    let mut events = Vec::new();
    while !events.contains(&LinkEvent::DeviceUp(2)) || b.devices_up() != 0b1111 {
        assert!(started.elapsed() < PATIENCE, "{events:?}");
        events.extend(a.recv(Duration::from_millis(50)));
    }
    assert!(events.iter().any(|event| matches!(event, LinkEvent::DeviceDown(2, _))), "{events:?}");
}

#[test]
fn a_device_that_this_side_closed_stays_away() {
    let (_layer, a, b) = pair(8, 3);
    b.close_device(1);
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(b.devices_up() & 0b010, 0);
    a.send(SocketId::new(0).unwrap(), &0u64.to_le_bytes()).unwrap();
    let (started, mut next) = (Instant::now(), 0);
    while next == 0 {
        assert!(started.elapsed() < PATIENCE);
        take_messages(&b, &mut next);
        std::thread::sleep(Duration::from_millis(1));
    }
}
