//! The logical link's cores alone, two ends in virtual time with a seeded wire between them: frames are dropped,
//! doubled, held back and overtaken, devices die and come back. Messages of every socket arrive once and in order,
//! transfers arrive, and both ends come to rest.
//!
//! `LGR_LINK_SIM_SEED=n` replays one seed; `LGR_LINK_SIM_SEEDS=n` runs so many (20,000 in a release build), from
//! `LGR_LINK_SIM_FIRST=n` on.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use isfc::frame::FrameKind;
use isfc::link::{Arrival, Content, Core, Effect, Outgoing, RxSegments, SegmentAck, TxSegments};
use isfc::{DownReason, SocketId};

const DEVICES: u8 = 3;
const SOCKETS: u16 = 3;

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

#[derive(Clone, Debug)]
enum Frame {
    Message(u16, Outgoing),
    Transfer(u16, u64),
    Ping(u16),
    Ack(SegmentAck),
}

/// One end: the core, and the segments of each device.
struct End {
    core: Core,
    tx: Vec<TxSegments>,
    rx: Vec<RxSegments>,
    due: Vec<bool>,
    outgoing: VecDeque<Outgoing>,
    transfers: Vec<u64>,
    given: Vec<BTreeSet<u64>>,
    arrived: BTreeSet<u64>,
    heard: BTreeMap<SocketId, u64>,
}

impl End {
    fn new(transfers: u64) -> Self {
        let devices = usize::from(DEVICES);
        Self {
            core: Core::new(DEVICES),
            tx: (0..devices).map(|_| TxSegments::default()).collect(),
            rx: (0..devices).map(|_| RxSegments::default()).collect(),
            due: vec![false; devices],
            outgoing: VecDeque::new(),
            transfers: (0..transfers).collect(),
            given: vec![BTreeSet::new(); devices],
            arrived: BTreeSet::new(),
            heard: BTreeMap::new(),
        }
    }

    fn apply(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Transmit(frame) => self.outgoing.push_back(frame),
                Effect::Deliver(socket, body) => {
                    let next = self.heard.entry(socket).or_default();
                    assert_eq!(body, next.to_le_bytes(), "out of order or twice on {socket:?}");
                    *next += 1;
                }
                Effect::LinkDown(_) => unreachable!("one device is always left"),
            }
        }
    }

    /// What device `d` sends now.
    fn next_frame(&mut self, d: usize, now: Instant) -> Option<Frame> {
        if std::mem::take(&mut self.due[d]) {
            return self.rx[d].acknowledge(16).map(Frame::Ack);
        }
        if self.tx[d].must_ask(now) {
            return Some(Frame::Ping(self.tx[d].send(Content::Nothing, now).0));
        }
        if !self.tx[d].has_credit() {
            return None;
        }
        if let Some(frame) = self.outgoing.pop_front() {
            let content = match frame.kind {
                FrameKind::Message => {
                    self.core.carried(d as u8, frame.socket, frame.sequence);
                    Content::Message(frame.socket, frame.sequence)
                }
                _ => Content::Ack(frame.socket),
            };
            return Some(Frame::Message(self.tx[d].send(content, now).0, frame));
        }
        let tag = self.transfers.pop()?;
        self.given[d].insert(tag);
        Some(Frame::Transfer(self.tx[d].send(Content::Transfer { epoch: 1, tag }, now).0, tag))
    }

    fn hear(&mut self, d: usize, frame: Frame, now: Instant) {
        let mut effects = Vec::new();
        let segment = match &frame {
            Frame::Ack(ack) => {
                let settled = self.tx[d].acknowledged(ack, now);
                for content in settled.lost {
                    match content {
                        Content::Message(socket, sequence) => {
                            self.core.message_lost(socket, sequence, &mut effects);
                        }
                        Content::Ack(socket) => self.core.ack_lost(socket, &mut effects),
                        Content::Transfer { tag, .. } => {
                            if self.given[d].remove(&tag) {
                                self.transfers.push(tag);
                            }
                        }
                        Content::Idx | Content::Nothing => {}
                    }
                }
                self.apply(effects);
                return;
            }
            Frame::Message(segment, _) | Frame::Transfer(segment, _) | Frame::Ping(segment) => *segment,
        };
        let fresh = self.rx[d].classify(segment) == Arrival::Fresh;
        self.due[d] |= self.rx[d].arrived(segment) || matches!(frame, Frame::Ping(_));
        match frame {
            Frame::Message(_, frame) if fresh && frame.kind == FrameKind::Message => {
                self.core.message(frame.socket, frame.sequence, frame.body.to_vec(), &mut effects).unwrap();
            }
            Frame::Message(_, frame) if fresh => self.core.ack(frame.socket, frame.sequence),
            Frame::Transfer(_, tag) if fresh => {
                self.arrived.insert(tag);
            }
            _ => {}
        }
        self.apply(effects);
    }

    fn device_down(&mut self, d: usize) {
        let mut effects = Vec::new();
        self.core.device_down(d as u8, DownReason::Closed, &mut effects);
        self.apply(effects);
        self.transfers.extend(std::mem::take(&mut self.given[d]));
        (self.tx[d], self.rx[d], self.due[d]) = (TxSegments::default(), RxSegments::default(), false);
    }

    fn rests(&self) -> bool {
        self.outgoing.is_empty() && self.transfers.is_empty() && self.core.unacked() == 0
    }
}

fn run(seed: u64) {
    let mut dice = Dice(seed);
    let (messages, transfers) = (1 + dice.roll(40), dice.roll(40));
    let trouble_ends = dice.roll(400);
    let mut ends = [End::new(transfers), End::new(transfers)];
    let mut wires: Vec<[VecDeque<Frame>; 2]> = (0..DEVICES).map(|_| Default::default()).collect();
    let (mut sent, mut now) = ([0u64; 2], Instant::now());
    for turn in 0u64.. {
        assert!(turn < 20_000, "no rest: {} {}", ends[0].core.unacked(), ends[1].core.unacked());
        now += Duration::from_millis(dice.roll(30));
        let trouble = turn < trouble_ends;
        for side in 0..2 {
            if sent[side] < messages * u64::from(SOCKETS) {
                let socket = SocketId::new((sent[side] % u64::from(SOCKETS)) as u16 * 20).unwrap();
                let body: Arc<[u8]> = (sent[side] / u64::from(SOCKETS)).to_le_bytes().as_slice().into();
                let frame = ends[side].core.send(socket, body).unwrap();
                ends[side].outgoing.push_back(frame);
                sent[side] += 1;
            }
            for (d, wire) in wires.iter_mut().enumerate() {
                if ends[side].core.devices_up() & (1 << d) == 0 {
                    continue;
                }
                // What is left unacknowledged is told after a while of nothing.
                ends[side].due[d] |= ends[side].rx[d].is_due() && dice.roll(4) == 0;
                let Some(frame) = ends[side].next_frame(d, now) else { continue };
                match if trouble { dice.roll(16) } else { 15 } {
                    0 => {}
                    1 => wire[side].extend([frame.clone(), frame]),
                    2 => wire[side].push_front(frame),
                    _ => wire[side].push_back(frame),
                }
            }
        }
        for (d, wire) in wires.iter_mut().enumerate() {
            for side in 0..2 {
                for _ in 0..dice.roll(4) {
                    let Some(frame) = wire[side].pop_front() else { break };
                    ends[1 - side].hear(d, frame, now);
                }
            }
        }
        let d = dice.roll(u64::from(DEVICES)) as usize;
        let up = ends[0].core.devices_up();
        if trouble && dice.roll(40) == 0 && up.count_ones() > 1 && up & (1 << d) != 0 {
            wires[d] = Default::default();
            ends.iter_mut().for_each(|end| end.device_down(d));
        } else if up & (1 << d) == 0 && dice.roll(10) == 0 {
            ends.iter_mut().for_each(|end| end.core.device_up(d as u8));
        }
        let all =
            |end: &End| end.arrived.len() as u64 == transfers && end.heard.values().sum::<u64>() == sent[0];
        if sent == [messages * u64::from(SOCKETS); 2] && ends.iter().all(|end| end.rests() && all(end)) {
            return;
        }
    }
}

#[test]
fn nothing_is_lost_or_doubled_for_any_seed() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("LGR_LINK_SIM_SEED") {
        return run(seed);
    }
    let seeds = number("LGR_LINK_SIM_SEEDS").unwrap_or(if cfg!(debug_assertions) { 2_000 } else { 20_000 });
    let first = number("LGR_LINK_SIM_FIRST").unwrap_or(0);
    for seed in first..first + seeds {
        if let Err(cause) = std::panic::catch_unwind(|| run(seed)) {
            println!("replay: LGR_LINK_SIM_SEED={seed} cargo test --release -p isfc --test sim_link");
            std::panic::resume_unwind(cause);
        }
    }
    println!("{seeds} seeds from {first}");
}
