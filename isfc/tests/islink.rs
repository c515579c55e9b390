//! Devices leave and join a link while traffic flows, and the link tells what it and they do.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use isfc::{DownReason, Engine, Link, LinkError, LinkEvent, LinkOptions, Listener, SocketId, connect};

const PATIENCE: Duration = Duration::from_secs(60);

fn pair(engine: Engine, devices: usize) -> (Link, Link) {
    let listener = Listener::bind(&"tcp:127.0.0.1:0".parse().unwrap()).unwrap();
    let target = listener.address().clone();
    let options = |name: &str| LinkOptions {
        engine: Some(engine),
        name: name.to_owned(),
        timeline_every: Some(Duration::from_millis(5)),
        ..LinkOptions::default()
    };
    let (called, taken) = std::thread::scope(|scope| {
        let taken = scope.spawn(|| listener.accept(Some(PATIENCE), &|| false, &|why| panic!("{why}")));
        (connect(&target, devices, &[]).unwrap(), taken.join().unwrap().unwrap())
    });
    let taken = taken.rejoin_through(listener);
    (Link::start(called, options("ALPHA")).unwrap(), Link::start(taken, options("BETA")).unwrap())
}

fn engines() -> Vec<Engine> {
    let ring = isfc::probe_io_uring().is_ok().then_some(Engine::IoUring);
    ring.into_iter().chain([Engine::Blocking]).collect()
}

fn wait_for(what: &str, done: impl Fn() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A frame counts as sent once its write has ended: the other side may have it before.
fn sent_bytes(link: &Link) -> u64 {
    link.islink().devices.iter().map(|device| device.counters.tx_bytes).sum()
}

/// Messages from one end to the other, counted as they come, until `stop` has been seen.
struct Traffic {
    sent: u64,
    heard: u64,
    downs: Vec<(u8, DownReason)>,
}

impl Traffic {
    fn new() -> Self {
        Self { sent: 0, heard: 0, downs: Vec::new() }
    }

    fn run(&mut self, from: &Link, to: &Link, count: u64) {
        let socket = SocketId::new(0).unwrap();
        let goal = self.sent + count;
        let started = Instant::now();
        while self.heard < goal {
            assert!(started.elapsed() < PATIENCE, "stuck at {} of {goal}", self.heard);
            while self.sent < goal && from.send(socket, &self.sent.to_le_bytes()).is_ok() {
                self.sent += 1;
            }
            match to.recv(Duration::from_millis(1)) {
                Ok(LinkEvent::Message(_, body)) => {
                    assert_eq!(body, self.heard.to_le_bytes());
                    self.heard += 1;
                }
                Ok(LinkEvent::DeviceDown(device, why)) => self.downs.push((device, why)),
                Ok(LinkEvent::LinkDown(why)) => panic!("{why}"),
                _ => {}
            }
        }
    }
}

#[test]
fn either_side_takes_devices_out_and_brings_them_back_while_traffic_flows() {
    for engine in engines() {
        let (a, b) = pair(engine, 4);
        let mut traffic = Traffic::new();
        traffic.run(&a, &b, 500);
        for (here, there) in [(&a, &b), (&b, &a)] {
            std::thread::scope(|scope| {
                scope.spawn(|| here.deactivate_device(2));
                traffic.run(&a, &b, 2_000);
            });
            wait_for("the other side hears of it", || there.devices_up() == 0b1011);
            assert_eq!(here.devices_up(), 0b1011);
            assert!(matches!(there.activate_device(2), Err(LinkError::TakenOutByPeer(2))), "{engine:?}");
            // Longer than a cut device would stay away.
            std::thread::sleep(Duration::from_millis(400));
            assert_eq!((here.devices_up(), there.devices_up()), (0b1011, 0b1011), "it stays away");
            here.activate_device(2).unwrap();
            wait_for("it is back on both sides", || a.devices_up() == 0b1111 && b.devices_up() == 0b1111);
            traffic.run(&a, &b, 500);
        }
        assert!(traffic.downs.contains(&(2, DownReason::Deactivated)), "{:?}", traffic.downs);
        assert!(traffic.downs.contains(&(2, DownReason::Local)), "{:?}", traffic.downs);
        assert_eq!(traffic.downs.len(), 2, "and no other went down: {:?}", traffic.downs);
    }
}

/// A device that is down comes back by itself; one that was taken out meanwhile does not, at whichever end.
#[test]
fn a_device_that_is_down_already_is_taken_out_all_the_same() {
    for engine in engines() {
        for end in 0..2 {
            let (a, b) = pair(engine, 3);
            let here = if end == 0 { &a } else { &b };
            wait_for("this side notices", || {
                // Again, where this thread slept while the device was down and came back.
                a.cut_device(1);
                here.devices_up() == 0b101
            });
            here.deactivate_device(1);
            // Longer than a cut device would stay away.
            std::thread::sleep(Duration::from_millis(600));
            assert_eq!(here.devices_up(), 0b101, "{engine:?}, end {end}: it came back");
            here.activate_device(1).unwrap();
            wait_for("it is back on both sides", || a.devices_up() == 0b111 && b.devices_up() == 0b111);
            Traffic::new().run(&a, &b, 100);
        }
    }
}

/// Taking out and coming back meet at every moment: the device is away afterwards.
#[test]
fn a_device_that_is_taken_out_while_it_comes_back_is_out() {
    let (a, b) = pair(Engine::Blocking, 2);
    for round in 0..40 {
        wait_for("it is down", || {
            b.cut_device(1);
            a.devices_up() == 0b01
        });
        std::thread::sleep(Duration::from_millis(90 + round));
        let here = if round % 2 == 0 { &a } else { &b };
        here.deactivate_device(1);
        assert_eq!(here.devices_up(), 0b01, "round {round}");
        assert_eq!(here.counters()[1].state, DownReason::Local.to_string(), "round {round}");
        here.activate_device(1).unwrap();
        wait_for("it is back", || a.devices_up() == 0b11 && b.devices_up() == 0b11);
    }
}

#[test]
fn what_cannot_be_activated_says_why() {
    let (a, b) = pair(Engine::Blocking, 2);
    assert!(matches!(a.activate_device(2), Err(LinkError::NoDevice { device: 2, devices: 2 })));
    a.activate_device(1).unwrap();
    drop(b);
    wait_for("the link is down", || a.devices_up() == 0);
    assert!(matches!(a.activate_device(1), Err(LinkError::Down(_))));
}

#[test]
fn the_link_tells_of_itself_as_data_and_as_a_table() {
    let (a, b) = pair(Engine::Blocking, 3);
    Traffic::new().run(&a, &b, 300);
    wait_for("names are exchanged", || a.peer_name() == Some("BETA") && a.writable() == 0b011);
    b.deactivate_device(1);
    wait_for("device 1 is out", || a.devices_up() == 0b101);
    assert_eq!(b.islink().devices[1].depth, 0, "nothing is under way on a device that is gone");
    let told = a.islink();
    assert_eq!((told.node.as_str(), told.peer.as_deref(), told.level), ("ALPHA", Some("BETA"), 2));
    assert_eq!((told.devices.len(), told.devices_up(), told.state.as_str()), (3, 2, "up"));
    assert_eq!(told.devices[1].counters.state, "deactivated by the peer");
    assert!(!told.devices[1].writes && told.devices[0].writes);
    wait_for("what was sent is counted", || sent_bytes(&a) > 300 * 64);
    let json = serde_json::to_value(&told).unwrap();
    for field in
        ["tx_bytes", "rx_bytes", "tx_frames", "ssch", "collisions", "resends", "depth", "latency", "state"]
    {
        assert!(json["devices"][0].get(field).is_some(), "{field}");
    }
    let table = told.to_string();
    assert!(table.contains("Node: ALPHA  Link to: BETA  Type: FCTC over tcp"), "{table}");
    assert!(table.contains("3 devices, 2 up") && table.contains("deactivated by the peer"), "{table}");
    assert_eq!(table.lines().count(), 3 + 3, "{table}");
}

#[test]
fn the_timeline_shows_a_device_go_and_its_bytes_grow() {
    let (a, b) = pair(Engine::Blocking, 2);
    let mut traffic = Traffic::new();
    traffic.run(&a, &b, 200);
    wait_for("a few samples", || a.timeline().len() > 3);
    wait_for("what was sent is counted", || sent_bytes(&a) > 200 * 64);
    a.deactivate_device(1);
    let samples = a.timeline();
    assert!(samples.is_sorted_by_key(|sample| sample.at));
    assert!(samples.iter().all(|sample| sample.devices.len() == 2));
    assert!(samples.windows(2).all(|pair| pair[0].devices[0].tx_bytes <= pair[1].devices[0].tx_bytes));
    let last = samples.last().unwrap();
    assert!(last.devices[0].up && !last.devices[1].up);
    assert!(last.devices.iter().map(|device| device.tx_bytes).sum::<u64>() > 200 * 64);
}
