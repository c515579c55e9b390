//! A peer that keeps to the format and not to the rules: its device ends with the reason, and nothing grows.

#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use isfc::frame::{Extent, ExtentClass, FrameKind, HEADER_LEN_BYTES, Header, extents_check};
use isfc::hello::{FEATURES, Offer, VERSIONS, WELCOME_LEN_BYTES};
use isfc::{DownReason, Engine, Link, LinkEvent, LinkOptions, Listener};
use zerocopy::IntoBytes;

const PATIENCE: Duration = Duration::from_secs(60);

/// The reason for which a link ended whose only device was at the mercy of `act`.
fn ends(engine: Engine, silence_limit: Duration, act: impl FnOnce(&mut TcpStream) + Send) -> DownReason {
    let listener = Listener::bind(&"tcp:127.0.0.1:0".parse().unwrap()).unwrap();
    let isfc::Address::Tcp(target) = listener.address().clone() else { panic!("not TCP") };
    let mut peer = TcpStream::connect(target).unwrap();
    let offer = Offer {
        versions: VERSIONS,
        features: FEATURES & !isfc::hello::FEATURE_FETCH,
        device: 0,
        devices: 1,
        shared_regions: 0,
        link_id: 77,
        resume: false,
    };
    peer.write_all(offer.to_hello().as_bytes()).unwrap();
    let endpoints = listener.accept(Some(PATIENCE), &|| false, &|why| panic!("{why}")).unwrap();
    let options = LinkOptions { engine: Some(engine), silence_limit, ..LinkOptions::default() };
    let link = Link::start(endpoints, options).unwrap();
    peer.read_exact(&mut [0; WELCOME_LEN_BYTES]).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| act(&mut peer));
        loop {
            if let LinkEvent::LinkDown(why) = link.recv(PATIENCE).unwrap() {
                return why;
            }
        }
    })
}

fn engines() -> impl Iterator<Item = Engine> {
    isfc::probe_io_uring().is_ok().then_some(Engine::IoUring).into_iter().chain([Engine::Blocking])
}

#[test]
fn one_that_acknowledges_nothing_is_as_dead_as_one_that_says_nothing() {
    for engine in engines() {
        let limit = Duration::from_millis(700);
        let why = ends(engine, limit, |peer| {
            let mut segment = 0;
            peer.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            // It reads and pings, so it is neither silent nor stalled.
            loop {
                segment += 1;
                let ping = Header { segment, ..Header::new(FrameKind::Ping, 0) };
                if peer.write_all(&ping.encode()).is_err() {
                    return;
                }
                let _ = peer.read(&mut [0; 4096]);
            }
        });
        assert_eq!(why, DownReason::Unacknowledged { limit_ms: 700 }, "{engine:?}");
    }
}

/// Acknowledges every segment that comes until nothing has come for a second; how many acks of messages there were.
fn hear_acks(peer: &mut TcpStream) -> usize {
    let mut acks = 0;
    peer.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut bytes = [0; HEADER_LEN_BYTES];
    while peer.read_exact(&mut bytes).is_ok() {
        let header = Header::decode(&bytes).unwrap();
        peer.read_exact(&mut vec![0; header.body_len_bytes as usize]).unwrap();
        if header.kind == FrameKind::SegmentAck {
            continue;
        }
        acks += usize::from(header.kind == FrameKind::Ack);
        let sequence = u64::from(header.segment);
        let before =
            Header { sequence, digest: u64::MAX, extents: 16, ..Header::new(FrameKind::SegmentAck, 0) };
        peer.write_all(&before.encode()).unwrap();
    }
    acks
}

#[test]
fn one_that_says_the_same_again_and_again_and_does_not_listen_piles_up_no_answers() {
    const TIMES: u16 = 20_000;
    for engine in engines() {
        let mut acks = 0;
        let why = ends(engine, PATIENCE, |peer| {
            for segment in 1..=TIMES {
                let digest = xxhash_rust::xxh3::xxh3_64(b"");
                let message = Header { segment, digest, ..Header::new(FrameKind::Message, 0) };
                peer.write_all(&message.encode()).unwrap();
            }
            acks = hear_acks(peer);
            peer.shutdown(std::net::Shutdown::Both).unwrap();
        });
        assert!(matches!(why, DownReason::Closed | DownReason::Io(_)), "{why}");
        // What was under way when it stopped listening, and what it brings about by listening.
        assert!((1..100).contains(&acks), "{acks} answers, {engine:?}");
    }
}

#[test]
fn one_whose_extents_came_damaged_places_nothing() {
    let why = ends(Engine::Blocking, PATIENCE, |peer| {
        let extent =
            |offset_bytes| Extent { offset_bytes, len_bytes: 4096, class: ExtentClass::Zero }.to_wire();
        let rest = extent(8192);
        let header = Header {
            segment: 1,
            extents: 2,
            first_extent: extent(0),
            body_len_bytes: size_of_val(&rest) as u64,
            socket: extents_check(rest.as_bytes()) ^ 1,
            ..Header::new(FrameKind::Transfer, 0)
        };
        peer.write_all(&[&header.encode()[..], rest.as_bytes()].concat()).unwrap();
        let _ = peer.read_to_end(&mut Vec::new());
    });
    let DownReason::Protocol(text) = why else { panic!("{why}") };
    assert!(text.starts_with("damaged extents"), "{text}");
}

#[test]
fn one_that_fills_a_reserved_byte_is_of_another_protocol() {
    let why = ends(Engine::Blocking, PATIENCE, |peer| {
        let mut bytes: [u8; HEADER_LEN_BYTES] = Header::new(FrameKind::Ping, 0).encode();
        bytes[6] = 9;
        let crc = crc32c::crc32c(&bytes[..HEADER_LEN_BYTES - 4]);
        bytes[HEADER_LEN_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
        peer.write_all(&bytes).unwrap();
        let _ = peer.read_to_end(&mut Vec::new());
    });
    assert_eq!(why, DownReason::Protocol("frame header with 0x09 in a reserved byte".to_owned()));
}

/// Each byte of its welcome comes well within the deadline of a hello, all 24 of them do not.
#[test]
fn a_listener_that_answers_drop_by_drop_is_given_up_at_the_deadline() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = isfc::Address::Tcp(silent.local_addr().unwrap());
    let dripping = std::thread::spawn(move || {
        let (mut caller, _) = silent.accept().unwrap();
        let mut drops = 0;
        while drops < WELCOME_LEN_BYTES && caller.write_all(b"I").is_ok() {
            drops += 1;
            std::thread::sleep(Duration::from_millis(1500));
        }
        drops
    });
    let started = Instant::now();
    let error = isfc::connect(&address, 1, &[]).unwrap_err().to_string();
    assert!(error.contains("no whole answer came in 5s"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    let drops = dripping.join().unwrap();
    assert!(drops < WELCOME_LEN_BYTES, "the caller heard all {drops}");
}

#[test]
fn a_unix_listener_whose_queue_of_callers_stays_full_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("full");
    let _listener = UnixListener::bind(&path).unwrap();
    let mut waiting = Vec::new();
    let full = loop {
        // A call that would wait: the queue is full.
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        match socket.connect(&socket2::SockAddr::unix(&path).unwrap()) {
            Ok(()) => waiting.push(UnixStream::from(socket)),
            Err(error) => break error,
        }
        assert!(waiting.len() < 1 << 16, "the queue has no end");
    };
    assert_eq!(full.kind(), std::io::ErrorKind::WouldBlock);
    let error = isfc::connect(&isfc::Address::Unix(path), 1, &[]).unwrap_err().to_string();
    assert!(error.contains("its queue of callers is full"), "{error}");
}
