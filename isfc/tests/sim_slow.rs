//! A link whose path is slow, stalls, or takes no long frames: the cores that decide what may be under way, what is alive
//! and what is given up, in virtual time. Frames cross byte by byte, so one may be half across for long.
//!
//! ```text
//!  transfers ─▶ Flow: room? ─▶ device: TxSegments ─▶ socket ─▶ ▒▒▒ path, so many bytes a second ▒▒▒ ─▶ frame whole ─▶ ack
//!                                  └─ Life: does a byte of the oldest move? ─ no ─▶ dies, is called again
//!                                                                             └─▶ Fruitless: given up?
//! ```
//!
//! The same runs by the rules of before (whole frames only, no limit to what is under way) show that the model sees the
//! fault. `LGR_SLOW_SIM_SEED=n` replays one seed, `LGR_SLOW_SIM_SEEDS=n` runs so many.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use isfc::link::{Content, Death, Flow, Fruitless, Hole, Life, Moved, RxSegments, Span, TxSegments};

const LIMIT: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_millis(10);
/// Until a device that died is up again.
const AWAY: Duration = Duration::from_millis(200);
const HEADER: u64 = 64;
const PACKET: u64 = 1448;
/// What a transfer holds where nobody asks for less.
const WHOLE: u64 = 185 * 4096;

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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rules {
    Now,
    /// A device is dead when no whole frame is acknowledged, and takes whatever its socket takes.
    Before,
}

/// What the path is like.
#[derive(Clone, Copy, Debug)]
struct Path {
    devices: usize,
    bytes_per_s: u64,
    socket_bytes: u64,
    /// Frames longer than this never arrive, and nothing behind them.
    hole_bytes: Option<u64>,
    /// From when to when nothing crosses, in seconds.
    stall_s: Option<(u64, u64)>,
    memory_bytes: u64,
}

struct Frame {
    segment: u16,
    span: Span,
}

/// One device: its sending end, its socket, and what has come out at the other end.
struct Device {
    tx: TxSegments,
    rx: RxSegments,
    life: Life,
    frames: VecDeque<Frame>,
    /// Bytes that were given to the connection, that went into its socket, and that are at the peer.
    loaded: u64,
    handed: u64,
    reached: u64,
    progress: Instant,
    weight: u64,
    given: Vec<u64>,
    away_until: Option<Instant>,
}

impl Device {
    fn new(now: Instant, weight: u64) -> Self {
        Self {
            tx: TxSegments::default(),
            rx: RxSegments::default(),
            life: Life::new(now),
            frames: VecDeque::new(),
            loaded: 0,
            handed: 0,
            reached: 0,
            progress: now,
            weight,
            given: Vec::new(),
            away_until: None,
        }
    }

    fn load(&mut self, content: Content, len_bytes: u64, now: Instant) {
        let span = Span { len_bytes, end_bytes: self.loaded + len_bytes };
        self.loaded = span.end_bytes;
        let (segment, _) = self.tx.send_span(content, span, now);
        self.frames.push_back(Frame { segment, span });
        self.progress = now;
    }

    fn is_idle(&self) -> bool {
        self.loaded == self.handed
    }

    /// Lets up to a packet cross; how much did.
    fn cross(&mut self, path: &Path) -> u64 {
        let blocked = |frame: &Frame| path.hole_bytes.is_some_and(|hole| frame.span.len_bytes > hole);
        let wall = self.frames.iter().find(|frame| blocked(frame));
        let end =
            wall.map_or(self.handed, |frame| (frame.span.end_bytes - frame.span.len_bytes).min(self.handed));
        let count = end.saturating_sub(self.reached).min(PACKET);
        self.reached += count;
        count
    }

    fn death(&mut self, rules: Rules, now: Instant) -> Option<Death> {
        match rules {
            Rules::Now => {
                if self.is_idle() && self.tx.depth() == 0 {
                    self.life.moved(now);
                    return None;
                }
                if !self.is_idle() {
                    self.life.moved(self.progress);
                }
                let moved = Moved { mark: self.reached, reached_bytes: self.reached };
                self.life.judge(moved, self.tx.oldest_end_bytes(), LIMIT, now)
            }
            Rules::Before => {
                let stalled = !self.is_idle() && now - self.progress > LIMIT;
                (stalled || self.tx.oldest(now) > LIMIT).then_some(Death::Stalled)
            }
        }
    }
}

#[derive(Debug)]
struct End {
    deaths: u32,
    sent_bytes: u64,
    seconds: f64,
    hole: Option<Hole>,
    longest_message_s: f64,
}

struct Sim {
    path: Path,
    rules: Rules,
    flow: Flow,
    fruitless: Fruitless,
    devices: Vec<Device>,
    /// Transfers to send, by their length.
    waiting: Vec<(u64, u64)>,
    unsent: u64,
    next_tag: u64,
    arrived: u64,
    turn: usize,
    began: Instant,
    end: End,
}

impl Sim {
    fn take(&mut self, d: usize, now: Instant) -> bool {
        let most = match self.rules {
            Rules::Before => WHOLE,
            Rules::Now => {
                let Some(room) = self.flow.reserve() else { return false };
                let asked = room.len_bytes_max.min(WHOLE);
                let len = self.waiting.last().map_or(self.unsent.min(asked), |(_, len)| *len);
                let wire = if len == 0 { 0 } else { len + HEADER };
                self.flow.settle(room, wire, len);
                if len == 0 {
                    return false;
                }
                asked
            }
        };
        let (tag, len) = match self.waiting.pop() {
            Some(again) => again,
            None if self.unsent == 0 => return false,
            None => {
                let len = self.unsent.min(most);
                self.unsent -= len;
                self.next_tag += 1;
                (self.next_tag, len)
            }
        };
        self.end.sent_bytes += len;
        self.devices[d].given.push(tag << 32 | len);
        self.devices[d].load(Content::Transfer { epoch: 1, tag: tag << 32 | len }, len + HEADER, now);
        true
    }

    fn send(&mut self, d: usize, now: Instant) {
        loop {
            let device = &mut self.devices[d];
            let room = self.path.socket_bytes.saturating_sub(device.handed - device.reached);
            let count = (device.loaded - device.handed).min(room);
            if count > 0 {
                device.handed += count;
                device.progress = now;
            }
            if !device.is_idle() {
                return;
            }
            if device.tx.must_ask(now) {
                device.load(Content::Nothing, HEADER, now);
            } else if !device.tx.has_credit() || !self.take(d, now) {
                return;
            }
        }
    }

    /// What has come whole is acknowledged, a round trip later to the tick.
    fn acknowledge(&mut self, d: usize, now: Instant) {
        let device = &mut self.devices[d];
        let mut came = false;
        while device.frames.front().is_some_and(|frame| frame.span.end_bytes <= device.reached) {
            device.rx.arrived(device.frames.pop_front().unwrap().segment);
            came = true;
        }
        if !came {
            return;
        }
        let settled = device.tx.acknowledged(&device.rx.acknowledge(16).unwrap(), now);
        assert!(settled.lost.is_empty());
        for ((content, latency), len) in
            settled.delivered.iter().zip(&settled.latencies).zip(&settled.lens_bytes)
        {
            self.flow.heard(*latency);
            self.fruitless.passed(*len);
            match content {
                Content::Transfer { tag, .. } => {
                    device.given.retain(|given| given != tag);
                    self.arrived += len - HEADER;
                    self.flow.delivered(*len, *latency, now - self.began);
                }
                Content::Message(..) => {
                    self.end.longest_message_s = self.end.longest_message_s.max(latency.as_secs_f64());
                }
                _ => {}
            }
        }
    }

    fn die(&mut self, d: usize, now: Instant) {
        self.end.deaths += 1;
        let weight = self.devices[d].weight;
        let dead = std::mem::replace(&mut self.devices[d], Device::new(now, weight));
        self.flow.give_back(dead.tx.transfer_bytes());
        self.waiting.extend(dead.given.iter().map(|given| (given >> 32, given & 0xFFFF_FFFF)));
        self.devices[d].away_until = Some(now + AWAY);
        if let Some((len, sent)) = dead.tx.oldest_frame()
            && self.rules == Rules::Now
        {
            self.end.hole = self.fruitless.died(len, sent, LIMIT, now);
        }
    }

    /// Ends when all has arrived, when the link is given up, or after so many seconds.
    fn run(mut self, seconds_max: u64) -> End {
        let mut now = self.began;
        let mut message_at = now;
        let count = self.devices.len();
        // The last device carries messages and no pages.
        let writers = if count > 1 { count - 1 } else { 1 };
        let mut carry = 0;
        while self.arrived < self.path.memory_bytes && self.end.hole.is_none() {
            now += TICK;
            let second = (now - self.began).as_secs();
            if second >= seconds_max {
                break;
            }
            for d in 0..count {
                if self.devices[d].away_until.is_some_and(|until| until > now) {
                    continue;
                }
                if self.devices[d].away_until.take().is_some() {
                    self.devices[d] = Device::new(now, self.devices[d].weight);
                    self.devices[d].load(Content::Idx, HEADER + 8, now);
                }
                if d + 1 == count && now >= message_at && self.devices[d].is_idle() {
                    let socket = isfc::SocketId::new(0).unwrap();
                    self.devices[d].load(Content::Message(socket, second), 200, now);
                    message_at = now + Duration::from_millis(500);
                }
                if d < writers {
                    self.send(d, now);
                } else {
                    let device = &mut self.devices[d];
                    device.handed = device.loaded;
                }
            }
            let stalled = self.path.stall_s.is_some_and(|(from, to)| (from..to).contains(&second));
            let mut bytes = if stalled { 0 } else { carry + self.path.bytes_per_s / 100 };
            let mut idle = 0;
            while idle < count && bytes >= PACKET {
                // They take turns, each with as many packets as the path favours it.
                let device = &mut self.devices[self.turn % count];
                let crossed: u64 =
                    (0..device.weight.min(bytes / PACKET)).map(|_| device.cross(&self.path)).sum();
                bytes -= crossed;
                idle = if crossed == 0 { idle + 1 } else { 0 };
                self.turn += 1;
            }
            carry = bytes.min(PACKET);
            for d in 0..count {
                self.acknowledge(d, now);
                if self.devices[d].away_until.is_none() && self.devices[d].death(self.rules, now).is_some() {
                    self.die(d, now);
                }
            }
        }
        self.end.seconds = (now - self.began).as_secs_f64();
        self.end
    }
}

fn run(path: Path, rules: Rules, dice: &mut Dice, seconds_max: u64) -> End {
    let began = Instant::now();
    let devices = (0..path.devices).map(|_| Device::new(began, 1 + dice.roll(4))).collect();
    let end = End { deaths: 0, sent_bytes: 0, seconds: 0.0, hole: None, longest_message_s: 0.0 };
    let sim = Sim {
        path,
        rules,
        flow: Flow::default(),
        fruitless: Fruitless::default(),
        devices,
        waiting: Vec::new(),
        unsent: path.memory_bytes,
        next_tag: 0,
        arrived: 0,
        turn: 0,
        began,
        end,
    };
    sim.run(seconds_max)
}

fn a_path(dice: &mut Dice) -> Path {
    let bytes_per_s = 125_000 << dice.roll(9);
    Path {
        devices: 1 + dice.roll(16) as usize,
        bytes_per_s,
        // No less than what crosses between two looks of the model.
        socket_bytes: (16u64 << 10 << dice.roll(9)).max(bytes_per_s / 25),
        hole_bytes: None,
        stall_s: None,
        memory_bytes: bytes_per_s * (10 + dice.roll(20)),
    }
}

/// What the memory takes at least, in seconds.
fn ideal_s(path: &Path) -> f64 {
    path.memory_bytes as f64 / path.bytes_per_s as f64
}

fn one_seed(seed: u64) {
    let mut dice = Dice(seed);
    let path = a_path(&mut dice);
    let kind = dice.roll(4);
    match kind {
        0 => {
            let hole_bytes = 200 + dice.roll(9000);
            let end = run(Path { hole_bytes: Some(hole_bytes), ..path }, Rules::Now, &mut dice, 600);
            let hole = end.hole.unwrap_or_else(|| panic!("no end of a hole: {path:?} {end:?}"));
            assert!(end.seconds <= 4.0 * LIMIT.as_secs_f64(), "{path:?} {end:?}");
            assert!(hole.passed_bytes <= hole_bytes && hole.failed_bytes > hole_bytes);
        }
        1 => {
            // Shorter than the time-out: nobody dies. Longer: everything arrives all the same.
            let from = 1 + dice.roll(8);
            let long = 1 + dice.roll(9);
            let path = Path { stall_s: Some((from, from + long)), ..path };
            let end = run(path, Rules::Now, &mut dice, 600);
            assert!(long >= 5 || end.deaths == 0, "{path:?} {end:?}");
            assert!(end.seconds < ideal_s(&path) * 1.15 + long as f64 * 2.0 + 3.0, "{path:?} {end:?}");
        }
        _ => {
            let end = run(path, Rules::Now, &mut dice, 600);
            assert_eq!(end.deaths, 0, "a device died on a link on which bytes move: {path:?} {end:?}");
            assert!(end.seconds < ideal_s(&path) * 1.1 + 1.0, "{path:?} {end:?}");
            assert_eq!(end.sent_bytes, path.memory_bytes, "{path:?}");
            assert!(end.longest_message_s < 1.5, "{path:?} {end:?}");
        }
    }
}

#[test]
fn slow_stalled_and_narrow_paths_end_well_for_any_seed() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("LGR_SLOW_SIM_SEED") {
        return one_seed(seed);
    }
    let seeds = number("LGR_SLOW_SIM_SEEDS").unwrap_or(if cfg!(debug_assertions) { 20 } else { 5_000 });
    for seed in 0..seeds {
        if let Err(cause) = std::panic::catch_unwind(|| one_seed(seed)) {
            println!("replay: LGR_SLOW_SIM_SEED={seed} cargo test --release -p isfc --test sim_slow");
            std::panic::resume_unwind(cause);
        }
    }
    println!("{seeds} seeds");
}

/// The link on which the fault was found: 5 Mb/s, 16 queues, 16 MiB. The model sees it.
#[test]
fn by_the_rules_of_before_the_same_link_never_ends() {
    let path = Path {
        devices: 16,
        bytes_per_s: 625_000,
        socket_bytes: 256 << 10,
        hole_bytes: None,
        stall_s: None,
        memory_bytes: 16 << 20,
    };
    let before = run(path, Rules::Before, &mut Dice(1), 120);
    assert!(before.deaths > 20 && before.seconds >= 119.0, "{before:?}");
    assert!(before.sent_bytes > path.memory_bytes * 2, "{before:?}");
    let now = run(path, Rules::Now, &mut Dice(1), 120);
    assert!(now.deaths == 0 && now.seconds < ideal_s(&path) * 1.1 + 1.0, "{now:?}");
    let hole = Path { hole_bytes: Some(1400), ..path };
    let before = run(hole, Rules::Before, &mut Dice(1), 300);
    assert!(before.seconds >= 299.0 && before.hole.is_none(), "{before:?}");
}
