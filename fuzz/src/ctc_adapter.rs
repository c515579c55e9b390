//! Two CTC adapters on a wire that takes its time, or one whose partner says what it likes.

use std::collections::{BTreeMap, VecDeque};

use isfc::ctc::{
    Adapter, Command, DataHandle, Effect, Ending, Frame, Identity, Request, Reset, Role, Source, State,
    UnitStatus,
};

use super::choices::Choices;

const CODES: [u8; 16] =
    [0x01, 0x02, 0x01, 0x02, 0x07, 0xE3, 0x14, 0x81, 0x0C, 0x03, 0x04, 0xE4, 0xC4, 0x00, 0xC3, 0x43];

/// A command byte; one in sixteen is any.
pub fn code(choices: &mut Choices<'_>, modes: bool) -> u8 {
    let choice = choices.byte();
    match CODES[usize::from(choice % 16)] {
        0 => choices.byte(),
        0xC3 | 0x43 if !modes => 0x02,
        code => code,
    }
}

/// A frame such as a partner might send that follows no rules.
pub fn hostile_frame(choices: &mut Choices<'_>, sequence: u64, sent: u64) -> Option<Frame> {
    let mut bytes = [0u8; 32];
    bytes[..3].copy_from_slice(b"CT\x01");
    bytes[3] = choices.byte() & 0x3F;
    bytes[4] = code(choices, true);
    bytes[5] = 1 + choices.byte() % 6;
    let count = choices.byte() % 8;
    (bytes[8], bytes[12]) = (count, if choices.flag() { count } else { choices.byte() % 8 });
    let odd = choices.byte();
    let (sequence, seen) = (sequence + u64::from(odd == 255), sent.saturating_sub(u64::from(odd % 3)));
    bytes[16..24].copy_from_slice(&sequence.to_le_bytes());
    bytes[24..].copy_from_slice(&seen.to_le_bytes());
    Frame::decode(&bytes).ok()
}

pub fn run(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let mode = choices.byte();
    let mut wire = Wire::ready();
    match mode % 4 {
        0 => wire.hostile(choices),
        mode => wire.honest(choices, mode >= 2, mode == 3),
    }
}

/// Two sides, what is under way between them, and what either side's channel was told.
struct Wire {
    sides: [Adapter; 2],
    under_way: [VecDeque<(Frame, DataHandle)>; 2],
    /// Frames each side has sent on this connection.
    sent: [u64; 2],
    /// Commands not yet ended, with their counts.
    open: [BTreeMap<DataHandle, u32>; 2],
    counts: BTreeMap<DataHandle, u32>,
    good: [Vec<Ending>; 2],
    held: [Option<(DataHandle, u32)>; 2],
    stored: BTreeMap<(usize, DataHandle), (DataHandle, u32)>,
}

impl Wire {
    fn ready() -> Self {
        let mut wire = Self {
            sides: [0, 1].map(|_| Adapter::new(Identity::default())),
            under_way: Default::default(),
            sent: [0; 2],
            open: Default::default(),
            counts: BTreeMap::new(),
            good: Default::default(),
            held: [None; 2],
            stored: BTreeMap::new(),
        };
        wire.connect();
        for side in [0, 1, 0] {
            wire.command(side, 0x03, 1, false);
            wire.settle();
        }
        wire
    }

    fn connect(&mut self) {
        self.under_way = Default::default();
        self.sent = [0; 2];
        for (side, role) in [Role::Winner, Role::Loser].into_iter().enumerate() {
            self.call(side, None, |adapter, effects| adapter.connected(role, effects));
        }
    }

    fn call(
        &mut self,
        side: usize,
        arriving: Option<(DataHandle, u32)>,
        step: impl FnOnce(&mut Adapter, &mut Vec<Effect>),
    ) {
        let mut effects = Vec::new();
        step(&mut self.sides[side], &mut effects);
        self.take(side, &effects, arriving);
    }

    fn command(&mut self, side: usize, code: u8, count_bytes: u32, chained: bool) {
        let data = DataHandle(self.counts.len() as u64 + 1);
        self.counts.insert(data, count_bytes);
        self.open[side].insert(data, count_bytes);
        let request = Request { code, count_bytes, chained, data };
        self.call(side, None, |adapter, effects| adapter.command(request, effects).unwrap());
    }

    fn deliver(&mut self, to: usize) -> bool {
        let Some((frame, data)) = self.under_way[to].pop_front() else { return false };
        let arriving = (frame.payload_bytes > 0).then_some((data, frame.payload_bytes));
        self.call(to, arriving, |adapter, effects| {
            adapter.receive(&frame, effects).unwrap_or_else(|error| panic!("{error}: {frame:?}"));
        });
        true
    }

    fn settle(&mut self) {
        for _ in 0..4 {
            while self.deliver(0) | self.deliver(1) {}
            for side in [0, 1] {
                self.call(side, None, Adapter::status_cleared);
            }
        }
    }

    /// A payload is stored, held or dropped, once; a command ends once.
    fn take(&mut self, side: usize, effects: &[Effect], mut arriving: Option<(DataHandle, u32)>) {
        assert!(effects.len() <= 8, "{effects:?}");
        for effect in effects {
            match *effect {
                Effect::Transmit(frame, data) => {
                    self.sent[side] += 1;
                    assert_eq!(Frame::decode(&frame.encode()), Ok(frame));
                    assert_eq!(frame.sequence, self.sent[side]);
                    self.under_way[1 - side].push_back((frame, data));
                }
                Effect::Hold => assert!(self.held[side].replace(arriving.take().unwrap()).is_none()),
                Effect::Discard(Source::Arriving) => assert!(arriving.take().is_some()),
                Effect::Discard(Source::Held) => assert!(self.held[side].take().is_some()),
                Effect::Store { to, bytes, source } => {
                    let slot = if source == Source::Held { &mut self.held[side] } else { &mut arriving };
                    let (from, len_bytes) = slot.take().unwrap();
                    assert!(bytes <= len_bytes && bytes <= self.counts[&to]);
                    assert!(self.stored.insert((side, to), (from, bytes)).is_none());
                }
                Effect::Reply { to, bytes, .. } => assert!(bytes <= self.counts[&to]),
                Effect::ChannelEnd(data) => assert!(self.open[side].contains_key(&data)),
                Effect::Ended(ending) => self.ended(side, ending),
                Effect::Unsolicited(_) => {
                    assert!(self.open[side].is_empty() && self.sides[side].is_status_pending());
                }
            }
        }
        assert_eq!(arriving, None, "what became of the payload?");
        assert_eq!(self.open[side].len(), usize::from(self.sides[side].state().is_working()));
    }

    fn ended(&mut self, side: usize, ending: Ending) {
        let count = self.open[side].remove(&ending.data).expect("a command ends once");
        assert!(ending.residual_bytes <= count && ending.moved_bytes <= count);
        if ending.status == UnitStatus::ENDED {
            self.good[side].push(ending);
        }
    }

    fn honest(&mut self, mut choices: Choices<'_>, resets: bool, modes: bool) {
        let mut lost = false;
        while !choices.is_over() {
            let choice = choices.byte();
            let side = usize::from(choice >> 7);
            match choice % 16 {
                0..6 => {
                    let code = code(&mut choices, modes);
                    let (count, chained) = (u32::from(choices.byte()), choice & 0x40 != 0);
                    self.command(side, code, count, chained);
                }
                6..11 => drop(self.deliver(side)),
                11..15 => self.call(side, None, Adapter::status_cleared),
                _ if !resets => self.settle(),
                _ => {
                    lost = true;
                    self.lose(side, choices.byte());
                }
            }
            if self.under_way.iter().all(VecDeque::is_empty) {
                self.check_quiet();
            }
        }
        while self.deliver(0) | self.deliver(1) {}
        self.check_quiet();
        if !lost && !modes {
            self.check_data();
        }
        if !modes {
            self.check_freed();
        }
    }

    fn lose(&mut self, side: usize, how: u8) {
        let kinds = [Reset::Halt, Reset::Clear, Reset::Selective, Reset::System];
        match how % 8 {
            kind @ 0..4 => {
                self.call(side, None, |adapter, effects| adapter.reset(kinds[usize::from(kind)], effects));
            }
            4 => self.connect(),
            _ => {
                self.under_way = Default::default();
                for side in [0, 1] {
                    self.call(side, None, Adapter::disconnected);
                }
                self.command(side, 0x01, 5, false);
                self.connect();
            }
        }
    }

    /// The wire is empty: both sides know the same, and not both wait.
    fn check_quiet(&self) {
        let states = [0, 1].map(|side| self.sides[side].state());
        assert_eq!([1, 0].map(|side| self.sides[side].partner_state()), states);
        assert!(!(states[0].is_working() && states[1].is_working()), "both wait: {states:?}");
    }

    /// Reads and Writes that ended well belong together, and moved the lesser of their counts.
    fn check_data(&self) {
        for writer in [0, 1] {
            let of = |side: usize, of: fn(Command) -> bool| {
                self.good[side].iter().filter(move |ending| of(ending.command))
            };
            let writes = of(writer, |command| command == Command::Write);
            let reads = of(1 - writer, Command::is_read);
            assert_eq!(writes.clone().count(), reads.clone().count());
            for (write, read) in writes.zip(reads) {
                let moved = self.counts[&write.data].min(self.counts[&read.data]);
                assert_eq!((write.moved_bytes, write.residual_bytes), (moved, 0));
                assert_eq!((read.moved_bytes, read.residual_bytes), (moved, self.counts[&read.data] - moved));
                let stored = self.stored.get(&(1 - writer, read.data)).copied();
                assert_eq!(stored, (moved > 0).then_some((write.data, moved)));
            }
        }
    }

    /// Whoever still waits is freed by the one command of the other side that can do it.
    fn check_freed(&mut self) {
        self.settle();
        for side in [0, 1, 0, 1, 0, 1] {
            let code = match self.sides[side].state() {
                State::Prepare => 0xE3,
                State::Control => 0x14,
                State::Read => 0x01,
                State::Write => 0x02,
                State::Available | State::NotReady => continue,
            };
            self.command(1 - side, code, 1, false);
            self.settle();
            self.check_quiet();
        }
        assert!(self.open.iter().all(BTreeMap::is_empty), "somebody waits for ever");
    }

    /// Side 1's partner follows no rules: its frames are errors, or their payloads are accounted for.
    fn hostile(&mut self, mut choices: Choices<'_>) {
        let mut sequence = self.sent[0];
        while !choices.is_over() {
            let choice = choices.byte();
            match choice % 8 {
                0..2 => {
                    let code = code(&mut choices, true);
                    self.command(1, code, u32::from(choices.byte() % 8), choice & 0x40 != 0);
                }
                2 => self.call(1, None, Adapter::status_cleared),
                3 if choice & 0x40 != 0 => {
                    self.call(1, None, |adapter, effects| adapter.reset(Reset::Halt, effects));
                }
                _ => {
                    let Some(frame) = hostile_frame(&mut choices, sequence + 1, self.sent[1]) else {
                        continue;
                    };
                    let mut effects = Vec::new();
                    if self.sides[1].receive(&frame, &mut effects).is_ok() {
                        sequence = frame.sequence;
                        let arriving =
                            (frame.payload_bytes > 0).then_some((DataHandle(0), frame.payload_bytes));
                        self.take(1, &effects, arriving);
                    } else {
                        assert!(effects.is_empty(), "an error changes nothing");
                    }
                }
            }
        }
    }
}
