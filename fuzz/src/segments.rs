//! The numbered segments of a device: any acknowledgements, any arrivals, and both ends on a bad wire.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use isfc::link::{Arrival, CREDIT_MAX, Content, PATIENCE, RxSegments, SegmentAck, Settled, TxSegments};

use super::choices::Choices;

pub fn run(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    match choices.byte() % 3 {
        0 => any_acknowledgements(choices),
        1 => any_arrivals(choices),
        _ => bad_wire(choices),
    }
}

/// A sender and what it must know: each content is settled once, and no more is under way than was granted.
struct Sender {
    tx: TxSegments,
    open: BTreeSet<u64>,
    last: (u64, u16),
    asked: usize,
    now: Instant,
}

impl Sender {
    fn new() -> Self {
        let (tx, open) = (TxSegments::default(), BTreeSet::new());
        Self { tx, open, last: (0, 0), asked: 0, now: Instant::now() }
    }

    fn send(&mut self) -> Option<(u16, u64)> {
        let asks = self.tx.must_ask(self.now);
        if !asks && !self.tx.has_credit() {
            return None;
        }
        self.asked += usize::from(asks);
        let tag = self.last.0 + 1;
        let (segment, _) = self.tx.send(Content::Transfer { epoch: 0, tag }, self.now);
        assert_eq!(segment, self.last.1.wrapping_add(1), "numbers follow each other");
        self.last = (tag, segment);
        self.open.insert(tag);
        assert!(self.open.len() <= usize::from(CREDIT_MAX) + self.asked);
        Some(self.last).map(|(tag, segment)| (segment, tag))
    }

    fn acknowledged(&mut self, ack: &SegmentAck) -> Vec<u64> {
        let Settled { delivered, lost, latencies, lens_bytes, lost_bytes } =
            self.tx.acknowledged(ack, self.now);
        assert_eq!((delivered.len(), delivered.len()), (latencies.len(), lens_bytes.len()));
        assert_eq!(lost_bytes, 0, "nothing was said of lengths");
        let mut tags = Vec::new();
        for content in delivered.iter().chain(&lost) {
            let Content::Transfer { tag, .. } = content else { panic!("{content:?} was never sent") };
            assert!(self.open.remove(tag), "settled twice");
            tags.push(*tag);
        }
        assert_eq!(self.tx.depth(), self.open.len());
        tags.truncate(delivered.len());
        tags
    }
}

fn any_acknowledgements(mut choices: Choices<'_>) {
    let mut sender = Sender::new();
    while !choices.is_over() {
        match choices.byte() % 4 {
            0 => {
                for _ in 0..choices.byte() % 20 {
                    sender.send();
                }
            }
            1 => sender.now += Duration::from_millis(u64::from(choices.byte()) * 4),
            kind => {
                let near = sender.last.1.wrapping_add(2).wrapping_sub(u16::from(choices.byte() % 80));
                let highest = if kind == 2 { near } else { choices.u16() };
                let ack = SegmentAck { highest, before: choices.u64(), credit: choices.u16() };
                sender.acknowledged(&ack);
                let granted = usize::from(ack.credit.clamp(1, CREDIT_MAX));
                if sender.tx.depth() < granted.min(1) {
                    assert!(sender.tx.has_credit(), "a sender with nothing under way may always send");
                }
            }
        }
    }
}

/// What a receiver must know, in numbers that do not wrap.
#[derive(Default)]
struct Window {
    highest: Option<i64>,
    have: BTreeSet<i64>,
    since: usize,
}

impl Window {
    fn place(&self, segment: u16) -> i64 {
        let Some(highest) = self.highest else { return i64::from(segment) };
        let behind = i64::from((highest as u16).wrapping_sub(segment));
        if behind <= 0x8000 { highest - behind } else { highest - behind + 0x1_0000 }
    }

    fn classify(&self, segment: u16) -> Arrival {
        let (place, Some(highest)) = (self.place(segment), self.highest) else { return Arrival::Fresh };
        let again = self.have.contains(&place) || place < highest - 64;
        if again { Arrival::Again } else { Arrival::Fresh }
    }

    fn arrived(&mut self, segment: u16) {
        let place = self.place(segment);
        self.highest = self.highest.max(Some(place));
        self.have.insert(place);
        let oldest = self.highest.map_or(place, |highest| highest - 64);
        self.have = self.have.split_off(&oldest);
    }

    fn check(&self, ack: &SegmentAck) {
        let highest = self.highest.unwrap();
        assert_eq!(ack.highest, highest as u16);
        for bit in 0..64 {
            assert_eq!(ack.before >> bit & 1 == 1, self.have.contains(&(highest - 1 - bit)), "bit {bit}");
        }
    }
}

fn any_arrivals(mut choices: Choices<'_>) {
    let (mut rx, mut window, mut next) = (RxSegments::default(), Window::default(), 1u16);
    let mut flooded = false;
    while !choices.is_over() {
        let (first, count) = match choices.byte() % 8 {
            0 => (choices.u16(), 1),
            1 => (next.wrapping_sub(u16::from(choices.byte() % 80)), 1),
            2 => (next.wrapping_add(u16::from(choices.byte() % 80)), 1),
            3 => (next, 1 + choices.byte() % 8),
            4 if choices.byte() == 255 && !flooded => {
                flooded = true;
                next = flood(&mut rx, &mut window, next);
                continue;
            }
            4 | 5 => {
                let ack = rx.acknowledge(16);
                assert_eq!(ack.is_some(), window.highest.is_some());
                ack.inspect(|ack| window.check(ack));
                assert!(!rx.is_due());
                window.since = 0;
                continue;
            }
            _ => (next, 1),
        };
        for step in 0..count {
            let segment = first.wrapping_add(u16::from(step));
            assert_eq!(rx.classify(segment), window.classify(segment), "{segment}");
            let due = rx.arrived(segment);
            window.arrived(segment);
            window.since += 1;
            assert!(due || window.since < 4, "acknowledged at the latest after four");
            assert!(rx.is_due());
            assert_eq!(rx.classify(segment), Arrival::Again);
            next = segment.wrapping_add(1);
        }
    }
}

/// A peer that takes no acknowledgement for as many segments as there are numbers; the next number.
fn flood(rx: &mut RxSegments, window: &mut Window, first: u16) -> u16 {
    for step in 0..u16::MAX {
        rx.arrived(first.wrapping_add(step));
    }
    // Of those before the last 65 no trace is left.
    for step in (0..u16::MAX).step_by(1000).chain(u16::MAX - 65..u16::MAX) {
        window.arrived(first.wrapping_add(step));
    }
    window.since += 4;
    first.wrapping_sub(1)
}

/// Frames are dropped, doubled and overtaken; what is said to be delivered has arrived.
fn bad_wire(mut choices: Choices<'_>) {
    let (mut sender, mut rx) = (Sender::new(), RxSegments::default());
    let mut wire: Vec<(u16, u64)> = Vec::new();
    let (mut acks, mut arrived) = (Vec::new(), BTreeSet::new());
    while !choices.is_over() {
        let choice = choices.byte();
        let at = |len: usize| usize::from(choice >> 3) % len;
        match choice % 8 {
            0 | 1 => wire.extend(sender.send()),
            2 if !wire.is_empty() => drop(wire.remove(at(wire.len()))),
            3 if !wire.is_empty() && wire.len() < 100 => wire.push(wire[at(wire.len())]),
            4 if acks.len() < 100 => acks.extend(rx.acknowledge(u16::from(choice >> 3))),
            5 if !acks.is_empty() => {
                let delivered = sender.acknowledged(&acks.remove(at(acks.len())));
                assert!(delivered.iter().all(|tag| arrived.contains(tag)), "delivered, but not here");
            }
            6 => sender.now += PATIENCE / 8 * u32::from(choice >> 3),
            _ if !wire.is_empty() => {
                let (segment, tag) = wire.remove(at(wire.len()));
                if rx.classify(segment) == Arrival::Fresh {
                    assert!(arrived.insert(tag), "a number is fresh once");
                }
                rx.arrived(segment);
            }
            _ => {}
        }
    }
}
