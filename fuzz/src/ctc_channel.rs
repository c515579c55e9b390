//! Two subchannels that run any programs against each other, or one whose partner says what it likes.

use std::collections::VecDeque;

use isfc::ctc::frame::COUNT_BYTES_MAX;
use isfc::ctc::program::{CCW_LEN_BYTES, CCWS_MAX};
use isfc::ctc::{
    Adapter, Ccw, CcwFlags, Channel, ChannelEffect, DataHandle, Effect, Frame, Identity, Reset, Role, Source,
    StartError,
};

use super::choices::Choices;
use super::ctc_adapter::{code, hostile_frame};

/// A Write's payload on its way: how many bytes came, and how many its program wrote.
type Payload = (u32, u64);

struct Pair {
    channels: [Channel; 2],
    under_way: [VecDeque<(Frame, u64)>; 2],
    sent: [u64; 2],
    held: [Option<Payload>; 2],
    pending: [bool; 2],
    words: [usize; 2],
    /// Both sides keep the rules.
    honest: bool,
}

pub fn run(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let mut pair = Pair::new(choices.byte() & 1 == 0);
    let mut sequence = 0;
    while !choices.is_over() {
        let choice = choices.byte();
        let side = usize::from(choice >> 7);
        match choice % 8 {
            0..2 => {
                let program = program(&mut choices);
                pair.start(side, &program);
            }
            2 => pair.test(side),
            3 if choice & 0x70 == 0 => pair.lose(side, choices.byte()),
            _ if pair.honest => pair.deliver(side),
            _ => sequence += u64::from(pair.hostile(&mut choices, sequence + 1)),
        }
    }
    if pair.honest {
        pair.rest();
    }
}

fn program(choices: &mut Choices<'_>) -> Vec<Ccw> {
    let words = choices.byte() % 12;
    let mut program: Vec<Ccw> = Vec::new();
    for _ in 0..words {
        let choice = choices.byte();
        if choice % 16 == 15 {
            program.push(Ccw::transfer(u32::from(choices.byte() % 16)));
            continue;
        }
        // Mostly one of the two chainings, so that programs have some length.
        let flags = match choice % 4 {
            0 => CcwFlags::NONE,
            1 => CcwFlags::CC.with(CcwFlags::SLI),
            2 => CcwFlags::CD,
            _ => CcwFlags(choices.byte()),
        };
        let count = if choice & 0x40 == 0 { u16::from(choices.byte()) } else { choices.u16() };
        program.push(Ccw::new(code(choices, true), flags, count, u64::from(choice) << 32));
    }
    if choices.byte() == 255 {
        program.resize(CCWS_MAX + usize::from(choices.flag()), Ccw::new(0x03, CcwFlags::CC, 1, 0));
    }
    program
}

fn written(channel: &Channel, data: DataHandle) -> u64 {
    channel.areas(data).iter().map(|area| u64::from(area.len_bytes)).sum()
}

impl Pair {
    fn new(honest: bool) -> Self {
        let mut pair = Self {
            channels: [0, 1].map(|_| Channel::new(Adapter::new(Identity::default()))),
            under_way: Default::default(),
            sent: [0; 2],
            held: [None; 2],
            pending: [false; 2],
            words: [0; 2],
            honest,
        };
        pair.connect();
        pair
    }

    fn call<T>(
        &mut self,
        side: usize,
        arriving: Option<Payload>,
        step: impl FnOnce(&mut Channel, &mut Vec<ChannelEffect>) -> T,
    ) -> T {
        let mut effects = Vec::new();
        let result = step(&mut self.channels[side], &mut effects);
        self.take(side, &effects, arriving);
        result
    }

    fn connect(&mut self) {
        (self.under_way, self.sent) = (Default::default(), [0; 2]);
        self.call(0, None, |channel, out| channel.connected(Role::Winner, out));
        self.call(1, None, |channel, out| channel.connected(Role::Loser, out));
    }

    fn start(&mut self, side: usize, program: &[Ccw]) {
        let (pending, running) = (self.pending[side], self.channels[side].is_running());
        let before = std::mem::replace(&mut self.words[side], program.len());
        let started = self.call(side, None, |channel, out| channel.start(program, out));
        let expected = match () {
            () if pending => Err(StartError::StatusPending),
            () if running => Err(StartError::Busy),
            () if program.len() > CCWS_MAX => Err(StartError::Words(program.len())),
            () => Ok(()),
        };
        if expected.is_err() {
            self.words[side] = before;
        }
        assert_eq!(started, expected);
    }

    fn test(&mut self, side: usize) {
        let pending = std::mem::take(&mut self.pending[side]);
        let status = self.call(side, None, Channel::test);
        assert_eq!(status.is_some(), pending);
        let Some(status) = status else { return };
        assert!(status.residual_bytes <= COUNT_BYTES_MAX);
        assert!(
            status.unsolicited || status.ccw_address as usize <= self.words[side] * CCW_LEN_BYTES as usize
        );
    }

    fn deliver(&mut self, to: usize) {
        let Some((frame, whole)) = self.under_way[to].pop_front() else { return };
        let arriving = (frame.payload_bytes > 0).then_some((frame.payload_bytes, whole));
        self.call(to, arriving, |channel, out| {
            channel.receive(&frame, out).unwrap_or_else(|error| panic!("{error}: {frame:?}"));
        });
    }

    /// Side 1's partner says something; true if it was taken.
    fn hostile(&mut self, choices: &mut Choices<'_>, sequence: u64) -> bool {
        let Some(frame) = hostile_frame(choices, sequence, self.sent[1]) else { return false };
        let mut effects = Vec::new();
        if self.channels[1].receive(&frame, &mut effects).is_err() {
            assert!(effects.is_empty(), "an error changes nothing");
            return false;
        }
        let arriving =
            (frame.payload_bytes > 0).then_some((frame.payload_bytes, u64::from(frame.count_bytes)));
        self.take(1, &effects, arriving);
        true
    }

    fn lose(&mut self, side: usize, how: u8) {
        let kind = [Reset::Halt, Reset::Clear, Reset::Selective, Reset::System][usize::from(how % 4)];
        if how & 0x80 != 0 && self.honest {
            self.under_way = Default::default();
            for side in [0, 1] {
                self.call(side, None, Channel::disconnected);
            }
            return self.connect();
        }
        let left = kind == Reset::Halt && self.channels[side].is_running();
        // What was pending goes, unless a halted program leaves its status.
        self.pending[side] = false;
        self.call(side, None, |channel, out| channel.reset(kind, out));
        assert!(self.pending[side] || !left, "halt leaves a status");
        assert!(!self.channels[side].is_running());
    }

    fn take(&mut self, side: usize, effects: &[ChannelEffect], mut arriving: Option<Payload>) {
        assert!(effects.len() <= 4 * CCWS_MAX, "{} effects", effects.len());
        for effect in effects {
            match *effect {
                ChannelEffect::StatusPending => {
                    assert!(!std::mem::replace(&mut self.pending[side], true), "one status at a time");
                }
                ChannelEffect::Intermediate(word) => assert!((word as usize) < self.words[side]),
                ChannelEffect::Device(Effect::Transmit(frame, data)) => {
                    self.sent[side] += 1;
                    let whole = written(&self.channels[side], data);
                    assert!(u64::from(frame.payload_bytes) <= whole);
                    self.under_way[1 - side].push_back((frame, whole));
                }
                ChannelEffect::Device(Effect::Hold) => {
                    assert!(self.held[side].replace(arriving.take().unwrap()).is_none());
                }
                ChannelEffect::Device(Effect::Discard(Source::Arriving)) => {
                    assert!(arriving.take().is_some())
                }
                ChannelEffect::Device(Effect::Discard(Source::Held)) => {
                    assert!(self.held[side].take().is_some());
                }
                ChannelEffect::Device(Effect::Store { to, bytes, source }) => {
                    let slot = if source == Source::Held { &mut self.held[side] } else { &mut arriving };
                    let (came, whole) = slot.take().unwrap();
                    assert!(bytes <= came);
                    let moved = whole.min(written(&self.channels[side], to));
                    assert_eq!(u64::from(bytes), moved, "the lesser of both counts");
                }
                ChannelEffect::Device(Effect::Reply { to, bytes, .. }) => {
                    assert!(u64::from(bytes) <= written(&self.channels[side], to));
                }
                ChannelEffect::Device(other) => panic!("{other:?} is the channel's own affair"),
            }
        }
        assert_eq!(arriving, None, "what became of the payload?");
    }

    /// Both channels come to rest, and what runs on waits for its partner.
    fn rest(&mut self) {
        // What is under way, and a frame for each word that still runs.
        let frames: usize = self.under_way.iter().map(VecDeque::len).sum();
        for _ in 0..frames + 4 * CCWS_MAX {
            if self.under_way.iter().all(VecDeque::is_empty) && self.pending == [false; 2] {
                let running = [0, 1].map(|side| self.channels[side].is_running());
                assert_ne!(running, [true; 2], "both wait");
                return;
            }
            for side in [0, 1] {
                self.deliver(side);
                self.test(side);
            }
        }
        panic!("no rest");
    }
}
