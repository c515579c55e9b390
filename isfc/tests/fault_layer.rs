//! A seeded fault layer between the two ends of a link: frames are dropped, doubled, delayed, overtaken and damaged,
//! and connections cut, under full load. Everything must arrive exactly once, bit for bit.
//!
//! `LGR_LINK_SEED=n` replays one seed. It moves 1 GiB; with `LGR_LONG=1` 10 GiB.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "fault_layer/load.rs"]
mod load;
#[path = "fault_layer/wire.rs"]
mod wire;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use isfc::{Address, DownReason, Engine, Link, LinkError, LinkEvent, LinkOptions, Listener, SocketId};
use load::{Pages, REGION_BYTES, Talk};
use wire::FaultLayer;

const MESSAGES: u64 = 10_000;
const PATIENCE: Duration = Duration::from_secs(600);
/// So long that no machine is slow enough to take a device for dead.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);

fn seed() -> u64 {
    let seed = std::env::var("LGR_LINK_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    println!("seed {seed} (LGR_LINK_SEED={seed} replays it)");
    seed
}

/// Two ends of a link whose frames go through a fault layer.
fn pair(seed: u64, devices: usize, engine: Option<Engine>, faults: bool) -> (FaultLayer, Link, Link) {
    let listener = Listener::bind(&"tcp:127.0.0.1:0".parse().unwrap()).unwrap();
    let Address::Tcp(target) = listener.address().clone() else { panic!("not TCP") };
    let layer = FaultLayer::start(target, seed, faults);
    let options = |name: &str| LinkOptions {
        name: name.to_owned(),
        engine,
        silence_limit: SILENCE_LIMIT,
        ..LinkOptions::default()
    };
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

/// Both directions of messages.
#[derive(Default)]
struct Talks {
    there: Talk,
    back: Talk,
}

impl Talks {
    /// Sends up to message `due` each way and takes what has come; nothing may have ended.
    fn go_on(&mut self, a: &Link, b: &Link, due: u64) {
        self.there.send(a, due);
        self.back.send(b, due);
        for (talk, link) in [(&mut self.there, b), (&mut self.back, a)] {
            for event in talk.hear(link) {
                assert!(!matches!(event, LinkEvent::LinkDown(_)), "{event:?}");
            }
        }
    }

    fn all_heard(&self, count: u64) -> bool {
        self.there.heard() == count && self.back.heard() == count
    }
}

/// Calls `step` until `done`, however long the machine takes.
fn until<S>(
    state: &mut S,
    what: &str,
    step: impl Fn(&mut S),
    done: impl Fn(&S) -> bool,
    stuck: impl Fn() -> String,
) {
    let started = Instant::now();
    loop {
        step(state);
        if done(state) {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{what} is stuck: {}", stuck());
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn everything_arrives(seed: u64, engine: Option<Engine>, goal_bytes: u64, messages: u64) {
    let epochs = goal_bytes.div_ceil(REGION_BYTES);
    let (layer, a, b) = pair(seed, 16, engine, true);
    let stuck = || format!("{:?} {:?}", layer.done, a.counters());
    let (mut pages, mut talks, started) = (Pages::new(seed, &a, &b), Talks::default(), Instant::now());
    let (mut epoch, mut repeated) = (0, 0);
    while epoch < epochs {
        pages.begin(&a);
        let due = messages * (epoch + 1) / epochs;
        let step = |talks: &mut Talks| {
            talks.go_on(&a, &b, due);
            // What a device gave back waits for somebody to ask.
            a.kick(16);
        };
        let stuck = || format!("{}, {}", pages.missing(), stuck());
        until(&mut talks, "an epoch", step, |_| pages.is_complete(), stuck);
        // A pass whose pages came damaged beside another copy is repeated, as a relocation does it.
        let sound = pages.check();
        epoch += u64::from(sound);
        repeated += u64::from(!sound);
    }
    let step = |talks: &mut Talks| talks.go_on(&a, &b, messages);
    until(&mut talks, "a message", step, |talks| talks.all_heard(messages), stuck);
    // Nothing comes twice either: whatever is still under way has been dealt with when all is acknowledged.
    a.flush(PATIENCE).unwrap();
    b.flush(PATIENCE).unwrap();
    talks.go_on(&a, &b, messages);
    assert!(talks.all_heard(messages));
    layer.done.check_all_happened();
    let resends: u64 = a.counters().iter().chain(&b.counters()).map(|device| device.resends).sum();
    assert!(resends > 0, "nothing was sent again");
    println!("{:?}, {resends} resends, {repeated} epochs repeated, {:?}", layer.done, started.elapsed());
    drop((a, b));
}

#[test]
fn everything_arrives_once_and_bit_for_bit_whatever_the_wire_does() {
    let goal_bytes = if std::env::var_os("LGR_LONG").is_some() { 10 << 30 } else { 1 << 30 };
    everything_arrives(seed(), None, goal_bytes, MESSAGES);
}

#[test]
fn so_it_does_with_two_threads_per_device() {
    let goal_bytes = if std::env::var_os("LGR_LONG").is_some() { 1 << 30 } else { 256 << 20 };
    everything_arrives(seed() ^ 0x5EED, Some(Engine::Blocking), goal_bytes, MESSAGES);
}

/// The reason that a link gives for being down, once it does.
fn down_reason(talk: &mut Talk, link: &Link) -> DownReason {
    let started = Instant::now();
    loop {
        for event in talk.hear(link) {
            if let LinkEvent::LinkDown(reason) = event {
                return reason;
            }
        }
        // The silence limit is longer: it is not what brings the link down.
        assert!(started.elapsed() < SILENCE_LIMIT / 2, "still up: {:#06b}", link.devices_up());
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn with_15_of_16_devices_dead_the_link_goes_on_and_ends_with_the_last() {
    let seed = seed();
    let survivor = (seed % 16) as u8;
    let (layer, a, b) = pair(seed, 16, None, false);
    let stuck = || format!("{:#06x} {:#06x} {:?}", a.devices_up(), b.devices_up(), layer.done);
    let (mut pages, mut talks) = (Pages::new(seed, &a, &b), Talks::default());
    let kick = |talks: &mut Talks, due| {
        talks.go_on(&a, &b, due);
        a.kick(16);
    };
    // They die one after another in the middle of an epoch, and in the middle of messages.
    pages.begin(&a);
    for (order, device) in (0..16).filter(|device| *device != survivor).enumerate() {
        let (due, wanted) = (order as u64 * 20, order * 8);
        until(&mut talks, "an epoch", |talks| kick(talks, due), |_| pages.arrived() >= wanted, stuck);
        layer.kill(device);
    }
    let alone = |link: &Link| link.devices_up() == 1 << survivor;
    until(&mut talks, "a death", |talks| kick(talks, 300), |_| alone(&a) && alone(&b), stuck);
    until(&mut talks, "an epoch", |talks| kick(talks, 300), |_| pages.is_complete(), stuck);
    assert!(pages.check());
    // From here on the last one carries everything, also while the dead call in vain.
    let refused = layer.done.refused.load(Ordering::Relaxed);
    pages.begin(&a);
    until(&mut talks, "an epoch", |talks| kick(talks, 1000), |_| pages.is_complete(), stuck);
    assert!(pages.check());
    until(&mut talks, "a message", |talks| kick(talks, 1000), |talks| talks.all_heard(1000), stuck);
    let again = |_: &Talks| layer.done.refused.load(Ordering::Relaxed) > refused;
    until(&mut talks, "a call", |talks| kick(talks, 1000), again, stuck);
    assert!(alone(&a) && alone(&b));
    // The last one.
    layer.kill(survivor);
    for (talk, link) in [(&mut talks.back, &a), (&mut talks.there, &b)] {
        let reason = down_reason(talk, link);
        assert!(matches!(reason, DownReason::Closed | DownReason::Io(_)), "{reason:?}");
        assert!(!reason.to_string().is_empty());
        let sent = link.send(SocketId::new(0).unwrap(), b"late");
        assert!(matches!(sent, Err(LinkError::Down(_))), "{sent:?}");
        assert_eq!(link.devices_up(), 0);
    }
    assert!(talks.all_heard(1000), "nothing came a second time");
}

#[test]
fn a_device_that_was_cut_comes_back_by_itself() {
    let (_layer, a, b) = pair(7, 4, None, true);
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
    let (_layer, a, b) = pair(8, 3, None, true);
    b.close_device(1);
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(b.devices_up() & 0b010, 0);
    let mut talk = Talk::default();
    talk.send(&a, 1);
    let started = Instant::now();
    while talk.heard() == 0 {
        assert!(started.elapsed() < PATIENCE);
        talk.hear(&b);
        std::thread::sleep(Duration::from_millis(1));
    }
}
