//! Two ends of a link in one process, over every medium and engine.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use isfc::frame::{FrameKind, Header};
use isfc::{
    Address, Admission, DownReason, Engine, Extent, ExtentClass, Link, LinkEvent, LinkOptions, Listener,
    Medium, Next, Placed, Region, Share, SocketId, Transfer, TransferSink, TransferSource,
};
use memmap2::MmapRaw;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};

const PATIENCE: Duration = Duration::from_secs(20);
const CHUNK_BYTES: u64 = 1 << 20;

struct Memory {
    fd: OwnedFd,
    map: Arc<MmapRaw>,
    len_bytes: u64,
}

impl Memory {
    fn new(len_bytes: u64) -> Self {
        let fd = memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&fd, len_bytes).unwrap();
        fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW).unwrap();
        let map = Arc::new(MmapRaw::map_raw(&fd).unwrap());
        Self { fd, map, len_bytes }
    }

    fn region(&self) -> Region {
        self.region_numbered(0)
    }

    fn region_numbered(&self, number: u16) -> Region {
        let base = NonNull::new(self.map.as_mut_ptr()).unwrap();
        // SAFETY: the mapping is owned by the Arc that the region keeps.
        unsafe { Region::new(number, base, self.len_bytes, self.map.clone()) }
    }

    fn fill(&self, seed: u8) {
        for offset in 0..self.len_bytes as usize {
            // SAFETY: inside the mapping, nobody else uses it yet.
            unsafe { *self.map.as_mut_ptr().add(offset) = seed.wrapping_add((offset / 4096 + offset) as u8) };
        }
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: the tests look only when nothing moves any more.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr(), self.len_bytes as usize) }
    }
}

/// Hands out `chunks` chunks of the region, again when a device that had some dies.
struct Chunks {
    left: Mutex<Vec<u64>>,
    given: Mutex<Vec<Vec<u64>>>,
    extents_per_chunk: u32,
}

impl Chunks {
    fn new(len_bytes: u64, extents_per_chunk: u32) -> Arc<Self> {
        let left = (0..len_bytes / CHUNK_BYTES).rev().collect();
        Arc::new(Self { left: Mutex::new(left), given: Mutex::new(vec![vec![]; 16]), extents_per_chunk })
    }
}

impl TransferSource for Chunks {
    fn next(&self, device: u8, transfer: &mut Transfer) -> Next {
        let Some(tag) = self.left.lock().unwrap().pop() else { return Next::Nothing };
        self.given.lock().unwrap()[usize::from(device)].push(tag);
        transfer.tag = tag;
        transfer.epoch = 1;
        let len_bytes = CHUNK_BYTES as u32 / self.extents_per_chunk;
        for number in 0..self.extents_per_chunk {
            let offset_bytes = tag * CHUNK_BYTES + u64::from(number * len_bytes);
            transfer.extents.push(Extent { offset_bytes, len_bytes, class: ExtentClass::Raw });
        }
        Next::Ready
    }

    fn sent(&self, _: u8, _: u32, _: u64, wire_bytes: u64) {
        assert!(wire_bytes > 0);
    }

    fn lost(&self, device: u8, _: u32, tag: u64) {
        self.given.lock().unwrap()[usize::from(device)].retain(|given| *given != tag);
        self.left.lock().unwrap().push(tag);
    }

    fn device_down(&self, device: u8) {
        let lost = std::mem::take(&mut self.given.lock().unwrap()[usize::from(device)]);
        self.left.lock().unwrap().extend(lost);
    }
}

#[derive(Default)]
struct Sink {
    seen: Mutex<std::collections::BTreeSet<u64>>,
    damaged: AtomicU64,
}

impl TransferSink for Sink {
    fn admit(&self, _: u8, epoch: u32, _: u64, _: &[Extent]) -> Result<Admission, String> {
        if epoch == 1 { Ok(Admission::Place) } else { Err(format!("epoch {epoch}")) }
    }

    fn device_down(&self, _: u8) {}

    fn damaged(&self, _: u8) {}

    fn placed(&self, _: u8, placed: &Placed<'_>) {
        self.seen.lock().unwrap().insert(placed.tag);
        self.damaged.fetch_add(u64::from(!placed.intact), Ordering::Relaxed);
    }
}

fn address(medium: Medium, dir: &tempfile::TempDir) -> Address {
    let path = dir.path().join("link");
    match medium {
        Medium::Tcp => "tcp:127.0.0.1:0".parse().unwrap(),
        Medium::Unix => Address::Unix(path),
        Medium::Shm => Address::Shm(path),
    }
}

fn options(engine: Engine) -> LinkOptions {
    LinkOptions { engine: Some(engine), ..LinkOptions::default() }
}

/// Both ends: the dialling one first.
fn pair(medium: Medium, engine: Engine, queues: usize, memory: Option<&Memory>) -> (Link, Link) {
    let dir = tempfile::tempdir().unwrap();
    let listener = Listener::bind(&address(medium, &dir)).unwrap();
    let target = listener.address().clone();
    std::thread::scope(|scope| {
        let taken = scope.spawn(|| listener.accept(Some(PATIENCE), &|| false, &|why| panic!("{why}")));
        let shares: Vec<_> =
            memory.iter().map(|memory| Share { number: 0, memfd: memory.fd.as_fd() }).collect();
        let called = isfc::connect(&target, queues, &shares).unwrap();
        let taken = taken.join().unwrap().unwrap();
        (Link::start(called, options(engine)).unwrap(), Link::start(taken, options(engine)).unwrap())
    })
}

fn all_kinds() -> impl Iterator<Item = (Medium, Engine)> {
    let engines = match isfc::probe_io_uring() {
        Ok(()) => vec![Engine::IoUring, Engine::Blocking],
        Err(reason) => {
            println!("skipped: io_uring ({reason})");
            vec![Engine::Blocking]
        }
    };
    Medium::ALL.into_iter().flat_map(move |medium| engines.clone().into_iter().map(move |e| (medium, e)))
}

fn wait_for(what: &str, done: impl Fn() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn messages_arrive_in_order_on_every_medium_and_engine() {
    let socket = SocketId::new(3).unwrap();
    for (medium, engine) in all_kinds() {
        let (near, far) = pair(medium, engine, 4, None);
        for number in 0..500u32 {
            near.send(socket, &number.to_le_bytes()).unwrap();
        }
        for number in 0..500u32 {
            let LinkEvent::Message(from, body) = far.recv(PATIENCE).unwrap() else { panic!("no message") };
            assert_eq!((from, body), (socket, number.to_le_bytes().to_vec()), "{medium} {engine:?}");
        }
        near.flush(PATIENCE).unwrap();
    }
}

#[test]
fn transfers_land_bit_for_bit_on_every_medium_and_engine() {
    for (medium, engine) in all_kinds() {
        for (queues, extents) in [(1, 1), (16, 256), (5, 7 + 1)] {
            let (from, to) = (Memory::new(24 << 20), Memory::new(24 << 20));
            from.fill(queues as u8);
            let (near, far) = pair(medium, engine, queues, Some(&from));
            let sink = Arc::new(Sink::default());
            far.register(to.region()).unwrap();
            far.set_sink(sink.clone());
            near.register(from.region()).unwrap();
            near.set_source(Chunks::new(from.len_bytes, extents));
            wait_for("the transfer", || sink.seen.lock().unwrap().len() == 24);
            assert!(from.bytes() == to.bytes(), "{medium} {engine:?} {queues} queues");
            // The sender counts a frame once its write has ended: the other side may have it before.
            let sent = || near.counters().iter().map(|device| device.transfers_tx).sum::<u64>();
            wait_for("the count of what was sent", || sent() >= 24);
            assert_eq!(sent(), 24);
        }
    }
}

#[test]
fn with_devices_cut_under_load_everything_still_arrives() {
    for (medium, engine) in all_kinds() {
        let (from, to) = (Memory::new(64 << 20), Memory::new(64 << 20));
        from.fill(9);
        let (near, far) = pair(medium, engine, 8, Some(&from));
        let sink = Arc::new(Sink::default());
        far.register(to.region()).unwrap();
        far.set_sink(sink.clone());
        near.register(from.region()).unwrap();
        near.set_source(Chunks::new(from.len_bytes, 4));
        for device in 0..7 {
            near.cut_device(device);
        }
        wait_for("seven devices down", || near.devices_up() == 1 << 7 && far.devices_up() == 1 << 7);
        near.kick(16);
        wait_for("the transfer", || sink.seen.lock().unwrap().len() == 64);
        assert!(from.bytes() == to.bytes(), "{medium} {engine:?}");
        near.send(SocketId::new(0).unwrap(), b"still here").unwrap();
        near.flush(PATIENCE).unwrap();
    }
}

#[test]
fn a_peer_that_goes_away_is_reported_as_closed() {
    for (medium, engine) in all_kinds() {
        let (near, far) = pair(medium, engine, 3, None);
        drop(far);
        let reason = loop {
            if let LinkEvent::LinkDown(reason) = near.recv(PATIENCE).unwrap() {
                break reason;
            }
        };
        assert_eq!(reason, DownReason::Closed, "{medium} {engine:?}");
        assert!(near.send(SocketId::new(0).unwrap(), b"x").is_err());
    }
}

/// Shakes hands by hand, as the program of one version back does.
fn call_as_level_1(target: std::net::SocketAddr) -> std::net::TcpStream {
    let mut stream = std::net::TcpStream::connect(target).unwrap();
    let offer = isfc::hello::Offer {
        versions: (1, 1),
        features: isfc::hello::FEATURE_DIGEST,
        device: 0,
        devices: 1,
        shared_regions: 0,
        link_id: 1,
        resume: false,
    };
    let hello: [u8; isfc::hello::HELLO_LEN_BYTES] = zerocopy::transmute!(offer.to_hello());
    stream.write_all(&hello).unwrap();
    let mut welcome = [0; isfc::hello::WELCOME_LEN_BYTES];
    stream.read_exact(&mut welcome).unwrap();
    assert_eq!(welcome[8..12], [1, 0, 0, 0], "version 1, no refusal");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A link to a peer of level 1, and that peer's end.
fn link_to_level_1(engine: Engine, silence_limit: Duration) -> (Link, std::net::TcpStream) {
    let listener = Listener::bind(&"tcp:127.0.0.1:0".parse().unwrap()).unwrap();
    let Address::Tcp(target) = listener.address().clone() else { panic!("not TCP") };
    let (taken, stream) = std::thread::scope(|scope| {
        let taken = scope.spawn(|| listener.accept(Some(PATIENCE), &|| false, &|_| ()));
        let stream = call_as_level_1(target);
        (taken.join().unwrap().unwrap(), stream)
    });
    let options = LinkOptions { engine: Some(engine), silence_limit, ..LinkOptions::default() };
    (Link::start(taken, options).unwrap(), stream)
}

/// A peer that shakes hands and then says nothing, sends garbage, or reads nothing.
fn half_a_link(engine: Engine, silence: Duration, act: impl FnOnce(&mut std::net::TcpStream)) -> DownReason {
    let (link, mut stream) = link_to_level_1(engine, silence);
    act(&mut stream);
    loop {
        if let LinkEvent::LinkDown(reason) = link.recv(PATIENCE).unwrap() {
            return reason;
        }
    }
}

/// The next frame that is not a ping: nothing in it that level 1 does not know.
fn read_as_level_1(stream: &mut std::net::TcpStream) -> (Header, Vec<u8>) {
    loop {
        let mut bytes = [0; isfc::frame::HEADER_LEN_BYTES];
        stream.read_exact(&mut bytes).unwrap();
        let header = Header::decode(&bytes).unwrap();
        let known = [FrameKind::Message, FrameKind::Transfer, FrameKind::Ack, FrameKind::Ping];
        assert!(known.contains(&header.kind), "{header:?}");
        assert_eq!((header.segment, header.flags & isfc::frame::FLAG_ACK_NOW), (0, 0), "{header:?}");
        let mut body = vec![0; header.body_len_bytes as usize];
        stream.read_exact(&mut body).unwrap();
        if header.kind != FrameKind::Ping {
            return (header, body);
        }
    }
}

#[test]
fn a_peer_one_version_back_gives_and_gets_messages_and_pages() {
    let socket = SocketId::new(3).unwrap();
    for (_, engine) in all_kinds().take(2) {
        let (from, to) = (Memory::new(2 << 20), Memory::new(1 << 20));
        from.fill(5);
        let (link, mut peer) = link_to_level_1(engine, PATIENCE);
        let sink = Arc::new(Sink::default());
        link.register(to.region_numbered(1)).unwrap();
        link.set_sink(sink.clone());
        // The peer's page and message.
        let page = [0xA7; 4096];
        let extent = Extent { offset_bytes: 8192, len_bytes: 4096, class: ExtentClass::Raw };
        let transfer = Header {
            body_len_bytes: 4096,
            sequence: 9,
            epoch: 1,
            region: 1,
            extents: 1,
            first_extent: extent.to_wire(),
            ..Header::new(FrameKind::Transfer, 0)
        };
        let digest = xxhash_rust::xxh3::xxh3_64(b"from there");
        let message = Header { body_len_bytes: 10, socket: 3, digest, ..Header::new(FrameKind::Message, 0) };
        let said = [&transfer.encode()[..], &page, &message.encode(), b"from there"].concat();
        peer.write_all(&said).unwrap();
        let heard = link.recv(PATIENCE).unwrap();
        assert_eq!(heard, LinkEvent::Message(socket, b"from there".to_vec()), "{engine:?}");
        assert_eq!(sink.seen.lock().unwrap().iter().collect::<Vec<_>>(), [&9]);
        assert!(to.bytes()[8192..12288] == page && to.bytes()[..8192].iter().all(|byte| *byte == 0));
        let (header, _) = read_as_level_1(&mut peer);
        assert_eq!((header.kind, header.socket, header.sequence), (FrameKind::Ack, 3, 0));
        // This side's, in whichever order.
        link.send(socket, b"from here").unwrap();
        link.register(from.region()).unwrap();
        link.set_source(Chunks::new(from.len_bytes, 4));
        let (mut messages, mut tags) = (0, std::collections::BTreeSet::new());
        while messages < 1 || tags.len() < 2 {
            let (header, body) = read_as_level_1(&mut peer);
            match header.kind {
                FrameKind::Message => {
                    assert_eq!((header.socket, header.sequence, &body[..]), (3, 0, &b"from here"[..]));
                    messages += 1;
                }
                FrameKind::Transfer => {
                    let at = (header.sequence * CHUNK_BYTES) as usize;
                    let payload = &body[header.extents_len_bytes()..];
                    assert!(payload == &from.bytes()[at..at + CHUNK_BYTES as usize], "{engine:?}");
                    assert!(tags.insert(header.sequence), "{header:?} came twice");
                }
                other => panic!("{other:?}"),
            }
        }
        let ack = Header { socket: 3, ..Header::new(FrameKind::Ack, 0) };
        peer.write_all(&ack.encode()).unwrap();
        link.flush(PATIENCE).unwrap();
        assert_eq!((link.islink().level, link.peer_name()), (1, None));
        assert!(matches!(link.activate_device(0), Err(isfc::LinkError::NoRejoin)));
    }
}

#[test]
fn a_silent_peer_is_noticed_within_the_limit() {
    for (_, engine) in all_kinds().take(2) {
        let silence = Duration::from_millis(300);
        let reason = half_a_link(engine, silence, |_| ());
        assert_eq!(reason, DownReason::Silent { limit_ms: 300 });
    }
}

#[test]
fn garbage_after_the_hello_ends_the_link_with_a_protocol_error() {
    for (_, engine) in all_kinds().take(2) {
        let reason = half_a_link(engine, PATIENCE, |stream| stream.write_all(&[7; 64]).unwrap());
        assert!(matches!(&reason, DownReason::Protocol(text) if text.contains("not a frame")), "{reason}");
    }
}

#[test]
fn a_transfer_nobody_asked_for_ends_the_link() {
    let mut header = isfc::frame::Header::new(isfc::frame::FrameKind::Transfer, 0);
    header.extents = 1;
    let reason =
        half_a_link(Engine::Blocking, PATIENCE, |stream| stream.write_all(&header.encode()).unwrap());
    assert!(matches!(&reason, DownReason::Protocol(text) if text.contains("not registered")), "{reason}");
}

#[test]
fn strangers_at_the_port_do_not_disturb_a_good_caller() {
    let listener = Listener::bind(&"tcp:127.0.0.1:0".parse().unwrap()).unwrap();
    let target = listener.address().clone();
    let Address::Tcp(at) = target.clone() else { panic!("not TCP") };
    let mut garbage = std::net::TcpStream::connect(at).unwrap();
    garbage.write_all(&[b'G'; 64]).unwrap();
    let _silent = std::net::TcpStream::connect(at).unwrap();
    drop(std::net::TcpStream::connect(at).unwrap());
    let refusals = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        let taken = scope
            .spawn(|| listener.accept(Some(PATIENCE), &|| false, &|why| refusals.lock().unwrap().push(why)));
        let called = isfc::connect(&target, 16, &[]).unwrap();
        assert_eq!(called.devices(), 16);
        assert_eq!(taken.join().unwrap().unwrap().devices(), 16);
    });
    let refusals = refusals.into_inner().unwrap();
    assert!(refusals.iter().any(|why| why.contains("not an ISFC hello")), "{refusals:?}");
}

#[test]
fn an_address_nobody_listens_on_is_one_clear_error() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = isfc::connect(&Address::Tcp(free), 4, &[]).unwrap_err().to_string();
    assert!(error.contains("cannot connect to tcp:127.0.0.1:") && error.contains("refused"), "{error}");
    for queues in [0, 17] {
        assert!(isfc::connect(&Address::Tcp(free), queues, &[]).unwrap_err().to_string().contains("1 to 16"));
    }
}

#[test]
fn a_server_that_speaks_something_else_is_named_as_such() {
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = server.local_addr().unwrap();
    let answer = std::thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        stream
    });
    let error = isfc::connect(&Address::Tcp(at), 1, &[]).unwrap_err().to_string();
    assert!(error.contains("does not speak ISFC"), "{error}");
    drop(answer.join().unwrap());
}

#[test]
fn many_devices_do_not_swap_messages() {
    let socket = SocketId::new(32).unwrap();
    for (medium, engine) in all_kinds().take(2) {
        let (near, far) = pair(medium, engine, 16, None);
        for number in 0..20_000u32 {
            while near.send(socket, &number.to_le_bytes()).is_err() {
                std::thread::yield_now();
            }
            if number >= 500 {
                let LinkEvent::Message(_, body) = far.recv(PATIENCE).unwrap() else { panic!("no message") };
                assert_eq!(body, (number - 500).to_le_bytes(), "{medium} {engine:?}");
            }
        }
    }
}
