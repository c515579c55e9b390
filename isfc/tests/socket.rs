//! Endpoints over real links: two hubs in one process, loopback TCP and Unix sockets.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use isfc::frame::{FrameKind, Header};
use isfc::link::{Priority, UNACKED_MAX};
use isfc::socket::wire::PeerMessage;
use isfc::socket::{
    EVENTS_BYTES_MAX, EVENTS_MAX, Endpoint, EndpointName, Hub, Receipt, RecvError, Refusal, SendError,
    Ticket, WaitError, socket_of,
};
use isfc::{Address, DownReason, Link, LinkEvent, LinkOptions, Listener, Medium, SocketId};

const PATIENCE: Duration = Duration::from_secs(20);
const MEDIA: [Medium; 2] = [Medium::Tcp, Medium::Unix];

fn links(medium: Medium, queues: usize) -> (Arc<Link>, Arc<Link>) {
    links_in(&tempfile::tempdir().unwrap(), medium, queues)
}

/// Links whose devices come back as long as the directory is there.
fn links_in(dir: &tempfile::TempDir, medium: Medium, queues: usize) -> (Arc<Link>, Arc<Link>) {
    let address = match medium {
        Medium::Tcp => "tcp:127.0.0.1:0".parse().unwrap(),
        _ => Address::Unix(dir.path().join("link")),
    };
    let listener = Listener::bind(&address).unwrap();
    let target = listener.address().clone();
    std::thread::scope(|scope| {
        let called = scope.spawn(|| isfc::connect(&target, queues, &[]).unwrap());
        let taken = listener.accept(Some(PATIENCE), &|| false, &|why| panic!("{why}")).unwrap();
        let (called, taken) = (called.join().unwrap(), taken.rejoin_through(listener));
        let start = |end| Arc::new(Link::start(end, LinkOptions::default()).unwrap());
        (start(called), start(taken))
    })
}

/// Two hubs over a link.
fn hubs(medium: Medium, queues: usize) -> (Hub, Hub) {
    hubs_over(links(medium, queues))
}

fn hubs_over((near_link, far_link): (Arc<Link>, Arc<Link>)) -> (Hub, Hub) {
    let (near, far) = (Hub::new().unwrap(), Hub::new().unwrap());
    near.attach(near_link).unwrap();
    far.attach(far_link).unwrap();
    (near, far)
}

fn name(text: &str) -> EndpointName {
    text.parse().unwrap()
}

fn open(hub: &Hub, text: &str, window: u16) -> Endpoint {
    hub.open(name(text), Priority::High, window).unwrap()
}

/// The same endpoint on both sides; each knows of the other.
fn both(near: &Hub, far: &Hub, text: &str, window: u16) -> (Endpoint, Endpoint) {
    let (here, there) = (open(near, text, window), open(far, text, window));
    here.wait_for_peer(PATIENCE).unwrap();
    there.wait_for_peer(PATIENCE).unwrap();
    (here, there)
}

/// Cuts every device until the link has noticed.
fn cut(link: &Link) {
    while link.devices_up() != 0 {
        (0..link.devices()).for_each(|device| link.cut_device(device));
        std::thread::yield_now();
    }
}

/// Cuts a device once all are there (again). One is always left.
fn cut_one(link: &Link, device: u8) {
    let started = Instant::now();
    while link.devices_up().count_ones() < u32::from(link.devices()) {
        assert!(started.elapsed() < PATIENCE, "the devices do not come back");
        std::thread::sleep(Duration::from_millis(1));
    }
    link.cut_device(device);
}

fn next_link_down(hub: &Hub) -> DownReason {
    loop {
        if let LinkEvent::LinkDown(reason) = hub.recv(PATIENCE).unwrap() {
            return reason;
        }
    }
}

fn is_gone(receipt: Option<Receipt>) -> bool {
    matches!(receipt, Some(Receipt::PeerGone { .. }))
}

#[test]
fn a_message_is_delivered_when_it_is_taken() {
    for medium in MEDIA {
        let (near, far) = hubs(medium, 3);
        let (here, there) = both(&near, &far, "SSILOCK", 8);
        let ticket = here.send(b"hold", PATIENCE).unwrap();
        assert_eq!(ticket.wait(Duration::ZERO), None);
        assert_eq!(there.recv(PATIENCE).unwrap().body, b"hold");
        assert_eq!(ticket.wait(PATIENCE), Some(Receipt::Delivered));
        let large = vec![7; isfc::socket::BODY_LEN_BYTES_MAX];
        let back = there.send(&large, PATIENCE).unwrap();
        assert_eq!(here.recv(PATIENCE).unwrap().body, large);
        assert_eq!(back.wait(PATIENCE), Some(Receipt::Delivered));
        assert_eq!(back.wait(Duration::ZERO), Some(Receipt::Delivered), "asked again");
        let short = Duration::from_millis(1);
        assert_eq!(here.recv(short), Err(RecvError::TimedOut(short)));
    }
}

#[test]
fn a_message_is_refused_if_nobody_is_there_or_goes_before_taking_it() {
    for medium in MEDIA {
        let (near, far) = hubs(medium, 2);
        let lonely = open(&near, "NOBODY", 8);
        let ticket = lonely.send(b"x", PATIENCE).unwrap();
        assert_eq!(ticket.wait(PATIENCE), Some(Receipt::Refused(Refusal::NoSuchEndpoint)));
        let short = Duration::from_millis(1);
        assert_eq!(lonely.wait_for_peer(short), Err(WaitError::TimedOut(short)));

        let (here, there) = both(&near, &far, "SSILOCK", 8);
        let tickets: Vec<_> = (0..5).map(|_| here.send(b"x", PATIENCE).unwrap()).collect();
        there.recv(PATIENCE).unwrap();
        drop(there);
        assert_eq!(tickets[0].wait(PATIENCE), Some(Receipt::Delivered));
        for ticket in &tickets[1..] {
            assert_eq!(ticket.wait(PATIENCE), Some(Receipt::Refused(Refusal::Closed)));
        }
    }
}

#[test]
fn a_receiver_that_takes_nothing_stops_only_its_own_senders() {
    for medium in MEDIA {
        let (near, far) = hubs(medium, 2);
        let (here, there) = both(&near, &far, "SLOW", 4);
        let (quick, brisk) = both(&near, &far, "QUICK", 4);
        let mut tickets: Vec<_> = (0..4u8).map(|n| here.try_send(&[n]).unwrap()).collect();
        assert_eq!(here.try_send(b"x").unwrap_err(), SendError::WouldBlock);
        // As many that the link itself would be full if it were not read.
        for number in 0..2 * EVENTS_MAX as u32 {
            let ticket = quick.send(&number.to_le_bytes(), PATIENCE).unwrap();
            assert_eq!(brisk.recv(PATIENCE).unwrap().body, number.to_le_bytes());
            assert_eq!(ticket.wait(PATIENCE), Some(Receipt::Delivered));
        }
        assert_eq!(here.try_send(b"x").unwrap_err(), SendError::WouldBlock);
        assert!(tickets.iter().all(|ticket| ticket.wait(Duration::ZERO).is_none()));
        std::thread::scope(|scope| {
            let blocked = scope.spawn(|| here.send(&[4], PATIENCE).unwrap());
            for number in 0..5 {
                assert_eq!(there.recv(PATIENCE).unwrap().body, [number]);
            }
            tickets.push(blocked.join().unwrap());
        });
        assert!(tickets.iter().all(|ticket| ticket.wait(PATIENCE) == Some(Receipt::Delivered)));
    }
}

/// Somebody waits in each call there is; `end` ends what they wait for.
fn everybody_is_released(near: Hub, far: Hub, end: impl FnOnce(Hub, Hub) -> Vec<Hub>) {
    let (here, there) = both(&near, &far, "SSIMEMB", 2);
    let taken = here.send(b"taken", PATIENCE).unwrap();
    there.recv(PATIENCE).unwrap();
    assert_eq!(taken.wait(PATIENCE), Some(Receipt::Delivered));
    let tickets = [here.send(b"1", PATIENCE).unwrap(), here.send(b"2", PATIENCE).unwrap()];
    std::thread::scope(|scope| {
        let receives = scope.spawn(|| here.recv(PATIENCE));
        let sends = scope.spawn(|| here.send(b"3", PATIENCE));
        let waits = scope.spawn(|| tickets[1].wait(PATIENCE));
        let _kept = end(near, far);
        assert_eq!(receives.join().unwrap(), Err(RecvError::PeerGone));
        assert_eq!(sends.join().unwrap().unwrap_err(), SendError::PeerGone);
        assert!(is_gone(waits.join().unwrap()));
    });
    assert!(is_gone(tickets[0].wait(PATIENCE)));
    assert_eq!(taken.wait(Duration::ZERO), Some(Receipt::Delivered));
    assert_eq!(here.try_send(b"4").unwrap_err(), SendError::PeerGone);
    assert_eq!(there.recv(Duration::ZERO), Err(RecvError::PeerGone));
}

#[test]
fn a_link_whose_devices_are_all_cut_releases_everybody_who_waits() {
    for medium in MEDIA {
        let (near, far) = hubs(medium, 3);
        everybody_is_released(near, far, |near, far| {
            cut(&near.link().unwrap());
            next_link_down(&near);
            next_link_down(&far);
            assert!(near.link().is_none());
            vec![near, far]
        });
    }
}

#[test]
fn a_hub_that_is_dropped_releases_everybody_who_waits() {
    for medium in MEDIA {
        let (near, far) = hubs(medium, 3);
        everybody_is_released(near, far, |near, far| {
            drop(near);
            next_link_down(&far);
            vec![far]
        });
    }
}

#[test]
fn the_other_side_hears_that_a_hub_is_gone_while_the_link_stays() {
    for medium in MEDIA {
        let (near, far) = hubs(medium, 2);
        let (here, there) = both(&near, &far, "SSIMEMB", 2);
        let link = far.link().unwrap();
        let ticket = here.send(b"never taken", PATIENCE).unwrap();
        drop(far);
        assert_eq!(ticket.wait(PATIENCE), Some(Receipt::Refused(Refusal::Closed)));
        assert_eq!(there.wait_for_peer(PATIENCE), Err(WaitError::HubGone));
        // The link is its owner's again.
        link.send(SocketId::new(0).unwrap(), b"raw").unwrap();
        let event = near.recv(PATIENCE).unwrap();
        assert_eq!(event, LinkEvent::Message(SocketId::new(0).unwrap(), b"raw".to_vec()));
    }
}

#[test]
fn a_link_that_is_dropped_at_the_other_side_settles_what_is_under_way() {
    for medium in MEDIA {
        let (near, far) = hubs(medium, 3);
        let (here, there) = both(&near, &far, "SSIMEMB", 2);
        let ticket = here.send(b"never taken", PATIENCE).unwrap();
        drop((far, there));
        // The word of the closing may or may not get through before the link ends.
        let receipt = ticket.wait(PATIENCE).unwrap();
        let told = receipt == Receipt::Refused(Refusal::Closed);
        assert!(told || receipt == Receipt::PeerGone { may_have_been_delivered: true }, "{receipt:?}");
        next_link_down(&near);
        assert_eq!(here.recv(PATIENCE), Err(RecvError::PeerGone));
    }
}

#[test]
fn endpoints_go_on_over_the_next_link() {
    for medium in MEDIA {
        let (near, far) = hubs(medium, 2);
        let (here, there) = both(&near, &far, "SSIMEMB", 2);
        here.send(b"old", PATIENCE).unwrap();
        let before = there.recv(PATIENCE).unwrap().epoch;
        let lost = here.send(b"lost with the link", PATIENCE).unwrap();
        let instance = near.peer_instance();
        assert!(instance.is_some());
        let (near_link, far_link) = links(medium, 2);
        // One side loses the link, the other has the new one put in its place.
        cut(&near.link().unwrap());
        next_link_down(&near);
        let epoch = far.attach(far_link).unwrap();
        near.attach(near_link).unwrap();
        assert_eq!(lost.wait(PATIENCE), Some(Receipt::PeerGone { may_have_been_delivered: true }));
        here.wait_for_peer(PATIENCE).unwrap();
        assert_eq!(near.peer_instance(), instance);
        let ticket = here.send(b"new", PATIENCE).unwrap();
        let received = there.recv(PATIENCE).unwrap();
        assert!(received.epoch > before && received.epoch == epoch);
        assert_eq!(received.body, b"new");
        assert_eq!(ticket.wait(PATIENCE), Some(Receipt::Delivered));
    }
}

#[test]
fn ten_thousand_messages_on_three_endpoints_arrive_once_while_devices_are_cut() {
    const COUNT: u32 = 10_000;
    const DEVICES: u8 = 4;
    let endpoints = [("SSIMEMB", Priority::High), ("SSILOCK", Priority::Normal), ("LGR", Priority::Low)];
    for medium in MEDIA {
        let dir = tempfile::tempdir().unwrap();
        let (near, far) = hubs_over(links_in(&dir, medium, usize::from(DEVICES)));
        let link = near.link().unwrap();
        let received = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for (text, priority) in endpoints {
                let here = near.open(name(text), priority, 1).unwrap();
                let there = far.open(name(text), priority, 64).unwrap();
                scope.spawn(move || {
                    here.wait_for_peer(PATIENCE).unwrap();
                    let mut tickets = VecDeque::<Ticket>::new();
                    for number in 0..COUNT {
                        tickets.push_back(here.send(&number.to_le_bytes(), PATIENCE).unwrap());
                        if tickets.len() > 64 {
                            let ticket = tickets.pop_front().unwrap();
                            assert_eq!(ticket.wait(PATIENCE), Some(Receipt::Delivered));
                        }
                    }
                    assert!(tickets.iter().all(|ticket| ticket.wait(PATIENCE) == Some(Receipt::Delivered)));
                });
                let (received, link) = (&received, &link);
                scope.spawn(move || {
                    for number in 0..COUNT {
                        assert_eq!(there.recv(PATIENCE).unwrap().body, number.to_le_bytes(), "{medium}");
                        let sum = received.fetch_add(1, Ordering::Relaxed);
                        if sum.is_multiple_of(4_000) {
                            cut_one(link, 1 + (sum / 4_000 % usize::from(DEVICES - 1)) as u8);
                        }
                    }
                    // Nothing came twice.
                    assert!(there.recv(Duration::from_millis(1)).is_err());
                });
            }
        });
        let went_down = |event: &LinkEvent| matches!(event, LinkEvent::DeviceDown(..));
        let events = std::iter::from_fn(|| near.recv(PATIENCE).ok());
        assert_eq!(events.filter(went_down).take(4).count(), 4, "{medium}: devices went down and came back");
        assert_eq!(received.into_inner(), 3 * COUNT as usize);
    }
}

#[test]
fn other_sockets_and_notices_of_the_same_link_reach_the_owner_in_order() {
    for medium in MEDIA {
        let (near, far) = hubs(medium, 2);
        let (here, there) = both(&near, &far, "LGR", 8);
        let (near_link, raw) = (near.link().unwrap(), SocketId::new(0).unwrap());
        for number in 0..100u8 {
            near_link.send(raw, &[number]).unwrap();
            here.send(&[number], PATIENCE).unwrap();
            assert_eq!(there.recv(PATIENCE).unwrap().body, [number]);
        }
        far.link().unwrap().notifier().notify(42);
        let messages = (0..100u8).map(|number| LinkEvent::Message(raw, vec![number]));
        let mut expected = messages.collect::<Vec<_>>();
        let mut came: Vec<_> = (0..101).map(|_| far.recv(PATIENCE).unwrap()).collect();
        let notice = came.iter().position(|event| *event == LinkEvent::Notice(42)).unwrap();
        came.remove(notice);
        expected.truncate(came.len());
        assert_eq!(came, expected);
    }
}

#[test]
fn a_peer_that_floods_a_socket_nobody_reads_loses_the_link_and_the_owner_is_told_why() {
    let many = format!("{EVENTS_MAX} messages wait untaken");
    let long = format!("messages of {EVENTS_BYTES_MAX} bytes wait untaken");
    for (len_bytes, expected) in [(1, many), (1 << 20, long)] {
        let (near, far) = hubs(Medium::Tcp, 2);
        let link = near.link().unwrap();
        let body = vec![0; len_bytes];
        while link.devices_up() != 0 {
            let _ = link.send(SocketId::new(0).unwrap(), &body);
        }
        let DownReason::Protocol(why) = next_link_down(&far) else { panic!("not a protocol error") };
        assert_eq!(why, expected);
    }
}

#[test]
fn an_owner_that_takes_its_messages_gets_any_number_of_bytes() {
    let (near, far) = hubs(Medium::Tcp, 2);
    let (link, body) = (near.link().unwrap(), vec![7; 1 << 20]);
    let count = 2 * EVENTS_BYTES_MAX / body.len();
    for _ in 0..count {
        link.send(SocketId::new(0).unwrap(), &body).unwrap();
        assert_eq!(far.recv(PATIENCE).unwrap(), LinkEvent::Message(SocketId::new(0).unwrap(), body.clone()));
    }
}

#[test]
fn a_peer_that_breaks_the_rules_loses_the_link_and_everybody_is_told() {
    for medium in MEDIA {
        let (near_link, far_link) = links(medium, 2);
        let near = Hub::new().unwrap();
        near.attach(near_link).unwrap();
        let here = open(&near, "SSILOCK", 2);
        let high = socket_of(Priority::High);
        let hello = PeerMessage::Open { name: name("SSILOCK"), incarnation: 9, window: 2 };
        far_link.send(high, &hello.encode()).unwrap();
        far_link.send(high, &PeerMessage::Ready { instance: 5 }.encode()).unwrap();
        let ticket = here.send(b"x", PATIENCE).unwrap();
        far_link.send(high, b"what is this?").unwrap();
        let DownReason::Protocol(why) = next_link_down(&near) else { panic!("not a protocol error") };
        assert_eq!(why, "endpoints: a message of 13 bytes is shorter than its header of 32");
        assert_eq!(ticket.wait(PATIENCE), Some(Receipt::PeerGone { may_have_been_delivered: true }));
        loop {
            if let LinkEvent::LinkDown(_) = far_link.recv(PATIENCE).unwrap() {
                break;
            }
        }
    }
}

/// A peer of level 1 by hand, so that it can leave everything unacknowledged.
struct Peer {
    stream: std::net::TcpStream,
    sent: u64,
}

impl Peer {
    fn connect(target: std::net::SocketAddr) -> Self {
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
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream, sent: 0 }
    }

    fn send(&mut self, message: &PeerMessage) {
        let body = message.encode();
        let header = Header {
            body_len_bytes: body.len() as u64,
            sequence: self.sent,
            socket: socket_of(Priority::High).number(),
            digest: xxhash_rust::xxh3::xxh3_64(&body),
            flags: isfc::frame::FLAG_DIGEST,
            ..Header::new(FrameKind::Message, 0)
        };
        self.sent += 1;
        self.stream.write_all(&[&header.encode()[..], &body].concat()).unwrap();
    }

    fn ack(&mut self, sequence: u64) {
        let socket = socket_of(Priority::High).number();
        let header = Header { sequence, socket, ..Header::new(FrameKind::Ack, 0) };
        self.stream.write_all(&header.encode()).unwrap();
    }

    /// The next message on the sockets of endpoints.
    fn recv(&mut self) -> (u64, Vec<u8>) {
        loop {
            let mut header = [0; isfc::frame::HEADER_LEN_BYTES];
            self.stream.read_exact(&mut header).unwrap();
            let header = Header::decode(&header).unwrap();
            let mut body = vec![0; header.body_len_bytes as usize];
            self.stream.read_exact(&mut body).unwrap();
            if header.kind == FrameKind::Message && header.socket == socket_of(Priority::High).number() {
                return (header.sequence, body);
            }
        }
    }
}

#[test]
fn a_link_that_is_full_holds_endpoints_back_and_they_go_on_when_it_is_not() {
    let listener = Listener::bind(&"tcp:127.0.0.1:0".parse().unwrap()).unwrap();
    let Address::Tcp(target) = listener.address().clone() else { panic!("not TCP") };
    let caller = std::thread::spawn(move || Peer::connect(target));
    let end = listener.accept(Some(PATIENCE), &|| false, &|_| ()).unwrap();
    let link = Arc::new(
        Link::start(end, LinkOptions { silence_limit: PATIENCE, ..LinkOptions::default() }).unwrap(),
    );
    let mut peer = caller.join().unwrap();
    let near = Hub::new().unwrap();
    near.attach(link.clone()).unwrap();
    let here = open(&near, "SSILOCK", 8);
    peer.send(&PeerMessage::Open { name: name("SSILOCK"), incarnation: 1, window: 8 });
    peer.send(&PeerMessage::Ready { instance: 1 });
    here.wait_for_peer(PATIENCE).unwrap();
    // Ready and Open of this side, and then as much as the link takes.
    while link.send(socket_of(Priority::High), b"filler").is_ok() {}
    let tickets: Vec<_> = (0..8).map(|_| here.send(b"waits", PATIENCE).unwrap()).collect();
    for _ in 0..UNACKED_MAX {
        assert!(!peer.recv().1.ends_with(b"waits"));
    }
    peer.ack(UNACKED_MAX as u64 - 1);
    for number in 1..=8 {
        let body = b"waits".to_vec();
        let expected = PeerMessage::Data { name: name("SSILOCK"), incarnation: 1, number, body };
        let (sequence, bytes) = peer.recv();
        assert_eq!((sequence, PeerMessage::decode(&bytes)), (UNACKED_MAX as u64 + number - 1, Ok(expected)));
    }
    peer.send(&PeerMessage::Taken { name: name("SSILOCK"), incarnation: 1, number: 8 });
    assert!(tickets.iter().all(|ticket| ticket.wait(PATIENCE) == Some(Receipt::Delivered)));
}

#[test]
fn what_never_left_this_side_is_told_as_never_delivered() {
    let listener = Listener::bind(&"tcp:127.0.0.1:0".parse().unwrap()).unwrap();
    let Address::Tcp(target) = listener.address().clone() else { panic!("not TCP") };
    let caller = std::thread::spawn(move || Peer::connect(target));
    let end = listener.accept(Some(PATIENCE), &|| false, &|_| ()).unwrap();
    let link = Arc::new(
        Link::start(end, LinkOptions { silence_limit: PATIENCE, ..LinkOptions::default() }).unwrap(),
    );
    let mut peer = caller.join().unwrap();
    let near = Hub::new().unwrap();
    near.attach(link.clone()).unwrap();
    let here = open(&near, "SSILOCK", 8);
    peer.send(&PeerMessage::Open { name: name("SSILOCK"), incarnation: 1, window: 8 });
    peer.send(&PeerMessage::Ready { instance: 1 });
    here.wait_for_peer(PATIENCE).unwrap();
    let left = here.send(b"x", PATIENCE).unwrap();
    while link.send(socket_of(Priority::High), b"filler").is_ok() {}
    let kept = here.send(b"x", PATIENCE).unwrap();
    drop(peer);
    assert_eq!(left.wait(PATIENCE), Some(Receipt::PeerGone { may_have_been_delivered: true }));
    assert_eq!(kept.wait(PATIENCE), Some(Receipt::PeerGone { may_have_been_delivered: false }));
}
