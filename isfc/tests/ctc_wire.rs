//! Two CTC adapters on a wire, with and without delay, against what a pair of channels must see.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use isfc::ctc::{
    Adapter, Command, DataHandle, Effect, Ending, Frame, Identity, Mode, PartnerError, Record, Request,
    Reset, Role, Source, State, UnitStatus,
};
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    Command { side: usize, code: u8, count_bytes: u32, chained: bool },
    Deliver { to: usize },
    Clear { side: usize },
    Reset { side: usize },
}

/// Two sides, what is under way between them, and all that either side's channel was told.
struct Wire {
    sides: [Adapter; 2],
    under_way: [VecDeque<(Frame, DataHandle)>; 2],
    ended: [Vec<Ending>; 2],
    unsolicited: [Vec<UnitStatus>; 2],
    /// Handles of commands not yet ended, with their counts.
    open: [BTreeMap<DataHandle, u32>; 2],
    /// Ended later than when they were given.
    cancelled: [usize; 2],
    chained: [bool; 2],
    held: [Option<(DataHandle, u32)>; 2],
    /// Which Write's data went to which Read, and how many bytes.
    stored: BTreeMap<(usize, DataHandle), (DataHandle, u32)>,
    resets: usize,
    next_handle: u64,
}

impl Wire {
    fn new() -> Self {
        let mut wire = Self {
            sides: [0, 1].map(|_| Adapter::new(Identity::default())),
            under_way: Default::default(),
            ended: Default::default(),
            unsolicited: Default::default(),
            open: Default::default(),
            cancelled: [0; 2],
            chained: [false; 2],
            held: [None; 2],
            stored: BTreeMap::new(),
            resets: 0,
            next_handle: 1,
        };
        let mut effects = Vec::new();
        wire.sides[0].connected(Role::Winner, &mut effects);
        wire.sides[1].connected(Role::Loser, &mut effects);
        assert!(effects.is_empty());
        wire
    }

    /// Both sides have said something, and no status is pending.
    fn ready() -> Self {
        let mut wire = Self::new();
        for side in [0, 1, 0] {
            wire.command(side, 0x03, 1, false);
            wire.settle();
        }
        wire.ended = Default::default();
        wire.unsolicited = Default::default();
        wire
    }

    fn command(&mut self, side: usize, code: u8, count_bytes: u32, chained: bool) -> DataHandle {
        let data = DataHandle(self.next_handle);
        self.next_handle += 1;
        let refused = self.sides[side].is_status_pending() || self.sides[side].state().is_working();
        self.open[side].insert(data, count_bytes);
        if !refused {
            self.chained[side] = chained;
        }
        let mut effects = Vec::new();
        self.sides[side].command(Request { code, count_bytes, chained, data }, &mut effects).unwrap();
        self.take(side, effects, None, Some(data));
        data
    }

    fn deliver(&mut self, to: usize) -> bool {
        let Some((frame, data)) = self.under_way[to].pop_front() else { return false };
        let frame = Frame::decode(&frame.encode()).unwrap();
        let mut effects = Vec::new();
        self.sides[to].receive(&frame, &mut effects).unwrap_or_else(|error| panic!("{error}: {frame:?}"));
        let arriving = (frame.payload_bytes > 0).then_some((data, frame.payload_bytes));
        self.take(to, effects, arriving, None);
        true
    }

    fn clear(&mut self, side: usize) {
        let mut effects = Vec::new();
        self.sides[side].status_cleared(&mut effects);
        self.take(side, effects, None, None);
    }

    fn reset(&mut self, side: usize) {
        self.resets += 1;
        self.chained[side] = false;
        let mut effects = Vec::new();
        self.sides[side].reset(Reset::Clear, &mut effects);
        self.take(side, effects, None, None);
    }

    fn drain(&mut self) {
        while self.deliver(0) | self.deliver(1) {}
    }

    /// Delivers everything and fetches every status.
    fn settle(&mut self) {
        for _ in 0..4 {
            self.drain();
            self.clear(0);
            self.clear(1);
        }
    }

    fn take(
        &mut self,
        side: usize,
        effects: Vec<Effect>,
        arriving: Option<(DataHandle, u32)>,
        new: Option<DataHandle>,
    ) {
        let mut arriving = arriving;
        for effect in effects {
            match effect {
                Effect::Transmit(frame, data) => self.under_way[1 - side].push_back((frame, data)),
                Effect::Hold => {
                    let before = self.held[side].replace(arriving.take().unwrap());
                    assert_eq!(before, None, "one Write at a time");
                }
                Effect::Discard(Source::Arriving) => assert!(arriving.take().is_some()),
                Effect::Discard(Source::Held) => assert!(self.held[side].take().is_some()),
                Effect::Store { to, bytes, source } => {
                    let slot = if source == Source::Held { &mut self.held[side] } else { &mut arriving };
                    let (from, len_bytes) = slot.take().unwrap();
                    assert!(bytes <= len_bytes);
                    assert!(self.stored.insert((side, to), (from, bytes)).is_none());
                }
                Effect::Reply { .. } | Effect::ChannelEnd(_) => {}
                Effect::Ended(ending) => {
                    let count = self.open[side].remove(&ending.data).expect("a command ends once");
                    assert!(ending.residual_bytes <= count);
                    if ending.status == UnitStatus::COLLISION && new != Some(ending.data) {
                        self.cancelled[side] += 1;
                    }
                    if !ending.status.is_usual() && ending.status != UnitStatus::BUSY {
                        self.chained[side] = false;
                    }
                    self.ended[side].push(ending);
                }
                Effect::Unsolicited(status) => self.attention(side, status),
            }
        }
        assert_eq!(arriving, None, "what became of the payload?");
    }

    fn attention(&mut self, side: usize, status: UnitStatus) {
        assert!(!self.chained[side], "no attention in a chain");
        assert_eq!(self.open[side].len(), 0, "no attention while a command is outstanding");
        if status.contains(UnitStatus::ATTENTION) {
            let waits = self.sides[side].partner_state();
            assert!(matches!(waits, State::Control | State::Read | State::Write), "attention for {waits:?}");
        }
        self.unsolicited[side].push(status);
    }

    fn good(&self, side: usize, of: fn(Command) -> bool) -> Vec<Ending> {
        let good = |ending: &&Ending| ending.status == UnitStatus::ENDED && of(ending.command);
        self.ended[side].iter().filter(good).copied().collect()
    }

    /// The wire is empty: both sides must know the same, and nobody may wait in vain.
    fn check_quiet(&mut self) {
        let states = [0, 1].map(|side| self.sides[side].state());
        for side in [0, 1] {
            assert_eq!(self.sides[side].partner_state(), states[1 - side], "side {side} in {states:?}");
            assert_eq!(self.open[side].len(), usize::from(states[side].is_working()));
        }
        assert!(!(states[0].is_working() && states[1].is_working()), "both wait: {states:?}");
        assert_eq!(self.cancelled[0], 0, "the winner is never cancelled");
    }

    /// Whoever still waits is freed by the one command of the other side that can do it.
    fn check_freed(&mut self) {
        self.settle();
        for _ in 0..3 {
            for side in [0, 1] {
                let code = match self.sides[side].state() {
                    State::Prepare => 0xE3,
                    State::Control => 0x14,
                    State::Read => 0x01,
                    State::Write => 0x02,
                    _ => continue,
                };
                self.command(1 - side, code, 1, false);
                self.settle();
                self.check_quiet();
            }
        }
        assert!(self.open.iter().all(BTreeMap::is_empty), "somebody waits for ever");
    }

    /// Reads and Writes that ended well belong together, one to one and in order.
    fn check_data(&self, counts: &BTreeMap<DataHandle, u32>) {
        for writer in [0, 1] {
            let writes = self.good(writer, |command| command == Command::Write);
            let reads = self.good(1 - writer, Command::is_read);
            assert_eq!(writes.len(), reads.len(), "writes of side {writer} and their reads");
            for (write, read) in writes.iter().zip(&reads) {
                let moved = counts[&write.data].min(counts[&read.data]);
                assert_eq!((write.moved_bytes, write.residual_bytes), (moved, 0));
                assert_eq!((read.moved_bytes, read.residual_bytes), (moved, counts[&read.data] - moved));
                let stored = (moved > 0).then_some((write.data, moved));
                assert_eq!(self.stored.get(&(1 - writer, read.data)).copied(), stored);
            }
        }
    }

    /// No more reads met an end of file than were written.
    fn check_ends_of_file(&self) {
        for side in [0, 1] {
            let met = self.ended[side].iter().filter(|end| end.status == UnitStatus::ENDED_EXCEPTION).count();
            let written = self.good(1 - side, |command| command == Command::WriteEndOfFile).len();
            assert!(met <= written, "{met} ends of file met, {written} written");
        }
    }
}

/// What a pair of channels sees if nothing takes time; written from the rules, without the table.
#[derive(Default)]
struct Model {
    work: [Option<(Command, DataHandle, u32, bool)>; 2],
    ready: [bool; 2],
    end_of_file: [bool; 2],
    pending: [bool; 2],
}

type Expected = (usize, DataHandle, UnitStatus, u32);

impl Model {
    fn end(
        &mut self,
        side: usize,
        data: DataHandle,
        status: UnitStatus,
        moved: u32,
        chained: bool,
    ) -> Expected {
        self.pending[side] = !(chained && status.is_usual());
        (side, data, status, moved)
    }

    fn partner_ends(&mut self, side: usize, status: UnitStatus, moved: u32) -> Expected {
        let (_, data, _, chained) = self.work[side].take().unwrap();
        self.end(side, data, status, moved, chained)
    }

    fn command(&mut self, x: usize, code: u8, count: u32, chained: bool, data: DataHandle) -> Vec<Expected> {
        use Command::*;
        let command = Command::decode(code, Mode::Extended);
        let y = 1 - x;
        if self.pending[x] || self.work[x].is_some() {
            return vec![(x, data, UnitStatus::BUSY, 0)];
        }
        let end_of_file = std::mem::take(&mut self.end_of_file[x]);
        let length = |bytes: u32| bytes.min(count);
        match command {
            SenseAdapterState => return vec![self.end(x, data, UnitStatus::ENDED, length(2), chained)],
            SenseId => return vec![self.end(x, data, UnitStatus::ENDED, length(12), chained)],
            ReadConfigurationData => {
                return vec![self.end(x, data, UnitStatus::ENDED, length(132), chained)];
            }
            Invalid => return vec![self.end(x, data, UnitStatus::UNIT_CHECK, 0, chained)],
            _ if !self.ready[y] => {
                self.ready[x] = true;
                return vec![self.end(x, data, UnitStatus::UNIT_CHECK, 0, chained)];
            }
            Read | ReadBackward if end_of_file => {
                return vec![self.end(x, data, UnitStatus::ENDED_EXCEPTION, 0, chained)];
            }
            _ => {}
        }
        let theirs = self.work[y].map(|(command, _, bytes, _)| (command, bytes));
        let mut all = Vec::new();
        let mut waits = false;
        let mut ends = |model: &mut Self, status, moved| all.push(model.end(x, data, status, moved, chained));
        match (command, theirs) {
            (SenseCommandByte, _) => ends(self, UnitStatus::ENDED, length(1)),
            (Prepare, None) => waits = true,
            (Prepare, _) => ends(self, UnitStatus::ENDED, 0),
            (NoOperation | WriteEndOfFile, None | Some((Prepare, _))) => ends(self, UnitStatus::ENDED, 0),
            (WriteEndOfFile, Some((Read | ReadBackward, _))) => ends(self, UnitStatus::ENDED, 0),
            (Write, Some((Read | ReadBackward, bytes))) | (Read | ReadBackward, Some((Write, bytes))) => {
                ends(self, UnitStatus::ENDED, length(bytes));
            }
            (Control | Read | ReadBackward | Write, None | Some((Prepare, _))) => waits = true,
            _ => ends(self, UnitStatus::COLLISION, 0),
        }
        match (command, theirs) {
            (WriteEndOfFile, Some((Prepare, _)) | None) => self.end_of_file[y] = true,
            (Prepare | Control | Read | ReadBackward | Write, Some((Prepare, _)))
            | (SenseCommandByte, Some((Control, _))) => {
                all.push(self.partner_ends(y, UnitStatus::ENDED, 0));
            }
            (WriteEndOfFile, Some((Read | ReadBackward, _))) => {
                all.push(self.partner_ends(y, UnitStatus::ENDED_EXCEPTION, 0));
            }
            (Write, Some((Read | ReadBackward, bytes))) | (Read | ReadBackward, Some((Write, bytes))) => {
                all.push(self.partner_ends(y, UnitStatus::ENDED, length(bytes)));
            }
            _ => {}
        }
        let collided = all.first().is_some_and(|end| end.2 == UnitStatus::COLLISION);
        self.ready[x] |= !collided && command != SenseCommandByte;
        if waits {
            self.work[x] = Some((command, data, count, chained));
        }
        all
    }

    fn reset(&mut self, x: usize) -> Vec<Expected> {
        let mut all = Vec::new();
        for side in [x, 1 - x] {
            if self.work[side].is_some() {
                all.push(self.partner_ends(side, UnitStatus::ENDED_CHECK, 0));
            }
        }
        self.end_of_file = [false; 2];
        self.ready[x] = false;
        all
    }
}

fn command_code() -> impl Strategy<Value = u8> {
    prop_oneof![
        4 => Just(0x01u8), 4 => Just(0x02), 2 => Just(0x07), 3 => Just(0xE3), 2 => Just(0x14),
        2 => Just(0x81), 1 => Just(0x0C), 1 => Just(0x03), 1 => Just(0x04), 1 => Just(0xE4), 1 => Just(0xC4),
        1 => Just(0x00),
    ]
}

fn step(resets: bool, modes: bool) -> impl Strategy<Value = Step> {
    let code = if modes {
        prop_oneof![8 => command_code(), 1 => Just(0xC3u8), 1 => Just(0x43u8)].boxed()
    } else {
        command_code().boxed()
    };
    let command = (0..2usize, code, 0..300u32, prop::bool::weighted(0.3))
        .prop_map(|(side, code, count_bytes, chained)| Step::Command { side, code, count_bytes, chained });
    prop_oneof![
        8 => command,
        6 => (0..2usize).prop_map(|to| Step::Deliver { to }),
        6 => (0..2usize).prop_map(|side| Step::Clear { side }),
        u32::from(resets) => (0..2usize).prop_map(|side| Step::Reset { side }),
    ]
}

fn run_delayed(steps: &[Step]) {
    let mut wire = Wire::ready();
    let mut counts = BTreeMap::new();
    for step in steps {
        match *step {
            Step::Command { side, code, count_bytes, chained } => {
                let data = wire.command(side, code, count_bytes, chained);
                counts.insert(data, count_bytes);
            }
            Step::Deliver { to } => drop(wire.deliver(to)),
            Step::Clear { side } => wire.clear(side),
            Step::Reset { side } => wire.reset(side),
        }
        if wire.under_way.iter().all(VecDeque::is_empty) {
            wire.check_quiet();
        }
    }
    wire.drain();
    wire.check_quiet();
    if wire.resets == 0 {
        wire.check_data(&counts);
        wire.check_ends_of_file();
    }
    // A side whose chain was left open gets its next command without anything pending.
    wire.check_freed();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn without_delay_every_status_is_the_models(
        steps in prop::collection::vec(step(true, false), 1..60)
    ) {
        let mut wire = Wire::new();
        let mut model = Model::default();
        for step in steps {
            let before = [wire.ended[0].len(), wire.ended[1].len()];
            let news = [wire.unsolicited[0].len(), wire.unsolicited[1].len()];
            let idle = [0, 1].map(|side| {
                !wire.sides[side].state().is_working() && !wire.sides[side].is_status_pending() && !wire.chained[side]
            });
            let (actor, expected) = match step {
                Step::Command { side, code, count_bytes, chained } => {
                    let data = wire.command(side, code, count_bytes, chained);
                    (side, model.command(side, code, count_bytes, chained, data))
                }
                Step::Reset { side } => {
                    wire.reset(side);
                    (side, model.reset(side))
                }
                Step::Deliver { to: side } | Step::Clear { side } => {
                    wire.clear(side);
                    model.pending[side] = false;
                    (side, Vec::new())
                }
            };
            wire.drain();
            if let Step::Reset { side } = step {
                wire.clear(side);
                model.pending[side] = false;
            }
            let ends = |side: usize| wire.ended[side][before[side]..].iter().map(move |end| (side, end));
            let found: BTreeSet<_> = ends(0).chain(ends(1))
                .map(|(side, end)| (side, end.data, whole(end), end.moved_bytes)).collect();
            let expected = expected.into_iter().map(|(side, data, status, moved)| (side, data, status.bits(), moved));
            prop_assert_eq!(found, expected.collect::<BTreeSet<_>>());
            for side in [0, 1] {
                if wire.unsolicited[side].len() > news[side] {
                    model.pending[side] = true;
                }
            }
            let waits = model.work[actor].is_some_and(|(command, ..)| command != Command::Prepare);
            if matches!(step, Step::Command { .. }) && waits && wire.ended[actor].len() == before[actor]
                && wire.ended[1 - actor].len() == before[1 - actor] && idle[1 - actor] {
                prop_assert!(wire.unsolicited[1 - actor].len() > news[1 - actor], "no attention");
            }
            wire.check_quiet();
            prop_assert_eq!([wire.cancelled[0], wire.cancelled[1]], [0, 0]);
        }
    }

    #[test]
    fn with_delay_both_sides_come_to_the_same_end(steps in prop::collection::vec(step(false, false), 1..80)) {
        run_delayed(&steps);
    }

    #[test]
    fn with_delay_and_resets_nobody_waits_for_ever(steps in prop::collection::vec(step(true, false), 1..80)) {
        run_delayed(&steps);
    }

    #[test]
    fn with_delay_resets_and_mode_changes_no_correct_frame_is_refused(
        steps in prop::collection::vec(step(true, true), 1..80)
    ) {
        run_modes(&steps);
    }

    #[test]
    fn a_hostile_partner_gets_errors_and_payloads_stay_accounted_for(
        frames in prop::collection::vec(
            (1..7u8, 0..64u8, command_code(), 0..4u32, 0..4u32, 0..4u64, 0..3u64, command_code()), 1..40
        )
    ) {
        let mut wire = Wire::ready();
        let mut sequence = 2;
        for (state, flags, command, count, payload, ahead, seen, own) in frames {
            wire.command(1, own, 100, false);
            let mut bytes = [0u8; 32];
            bytes[..6].copy_from_slice(&[b'C', b'T', 1, flags, command, state]);
            bytes[8] = count as u8;
            bytes[12] = payload as u8;
            bytes[16] = (sequence + 1 + ahead / 3) as u8;
            bytes[24] = (wire.under_way[0].len() as u64 + 1).saturating_sub(seen / 2) as u8;
            let Ok(frame) = Frame::decode(&bytes) else { continue };
            let mut effects = Vec::new();
            let arriving = (frame.payload_bytes > 0).then_some((DataHandle(0), frame.payload_bytes));
            if wire.sides[1].receive(&frame, &mut effects).is_ok() {
                sequence = frame.sequence;
                wire.take(1, effects, arriving, None);
            } else {
                prop_assert!(effects.is_empty(), "an error changes nothing");
            }
            wire.clear(1);
        }
    }
}

/// The status with the channel end that came before it.
fn whole(ending: &Ending) -> u8 {
    let early = ending.status == UnitStatus::DEVICE_END;
    if early { UnitStatus::ENDED.bits() } else { ending.status.bits() }
}

fn run_modes(steps: &[Step]) {
    let mut wire = Wire::ready();
    for step in steps {
        match *step {
            Step::Command { side, code, count_bytes, chained } => {
                wire.command(side, code, count_bytes, chained);
            }
            Step::Deliver { to } => drop(wire.deliver(to)),
            Step::Clear { side } => wire.clear(side),
            Step::Reset { side } => wire.reset(side),
        }
    }
    wire.drain();
    wire.check_quiet();
}

#[test]
fn crossing_writes_end_with_busy_and_attention_on_the_losers_side_alone() {
    let mut wire = Wire::ready();
    let kept = wire.command(0, 0x01, 10, false);
    wire.command(1, 0x01, 20, false);
    wire.drain();
    wire.check_quiet();
    assert!(wire.ended[0].is_empty() && wire.unsolicited == [vec![], vec![]]);
    let [lost] = wire.ended[1][..] else { panic!("one ending") };
    assert_eq!((lost.status, lost.residual_bytes), (UnitStatus::COLLISION, 20));
    wire.clear(1);
    assert!(wire.unsolicited[1].is_empty(), "busy and attention has said it");
    let read = wire.command(1, 0x02, 7, false);
    wire.drain();
    assert_eq!(wire.stored[&(1, read)], (kept, 7));
    assert_eq!(wire.ended[0][0].status, UnitStatus::ENDED);
}

#[test]
fn an_end_of_file_meets_exactly_the_next_read() {
    for crossing in [false, true] {
        let mut wire = Wire::ready();
        wire.command(0, 0x81, 1, false);
        if !crossing {
            wire.settle();
        }
        wire.command(1, 0x02, 50, false);
        wire.settle();
        assert_eq!(wire.ended[1][0].status, UnitStatus::ENDED_EXCEPTION, "crossing: {crossing}");
        assert_eq!(wire.ended[1][0].residual_bytes, 0);
        wire.command(1, 0x02, 50, false);
        wire.drain();
        assert_eq!(wire.ended[1].len(), 1, "the next one waits for data");
        wire.check_quiet();
    }
}

#[test]
fn another_command_than_read_forgets_the_end_of_file() {
    let mut wire = Wire::ready();
    wire.command(0, 0x81, 1, false);
    wire.settle();
    wire.command(1, 0x03, 1, false);
    wire.settle();
    wire.command(1, 0x02, 50, false);
    assert!(wire.sides[1].state() == State::Read);
}

#[test]
fn attention_waits_for_the_pending_status_and_for_the_end_of_a_chain() {
    let mut wire = Wire::ready();
    wire.command(1, 0x04, 2, false);
    wire.command(0, 0x01, 9, false);
    wire.drain();
    assert!(wire.unsolicited[1].is_empty(), "a status is pending");
    wire.clear(1);
    assert_eq!(wire.unsolicited[1], [UnitStatus::ATTENTION]);

    let mut wire = Wire::ready();
    wire.command(1, 0x04, 2, true);
    wire.command(0, 0x01, 9, false);
    wire.drain();
    wire.clear(1);
    assert!(wire.unsolicited[1].is_empty(), "a chain runs");
    wire.command(1, 0x04, 2, false);
    wire.clear(1);
    assert_eq!(wire.unsolicited[1], [UnitStatus::ATTENTION], "the chain did not notice");
}

#[test]
fn a_side_that_becomes_ready_sends_device_end() {
    let mut wire = Wire::new();
    wire.command(0, 0x03, 1, false);
    assert_eq!(wire.ended[0][0].status, UnitStatus::UNIT_CHECK);
    wire.drain();
    assert_eq!(wire.unsolicited[1], [UnitStatus::DEVICE_END]);
}

#[test]
fn a_broken_connection_ends_what_is_outstanding_and_is_reported_by_sense() {
    let mut wire = Wire::ready();
    wire.command(0, 0x02, 9, false);
    let mut effects = Vec::new();
    wire.sides[0].disconnected(&mut effects);
    wire.take(0, effects, None, None);
    assert_eq!(wire.ended[0][0].status, UnitStatus::ENDED_CHECK);
    wire.clear(0);
    let mut effects = Vec::new();
    let request = Request { code: 0x04, count_bytes: 2, chained: false, data: DataHandle(99) };
    wire.sides[0].command(request, &mut effects).unwrap();
    assert!(matches!(effects[0], Effect::Reply { record: Record::Sense([0x41, 0]), bytes: 2, .. }));
}

#[test]
fn a_partner_that_waits_and_sends_another_command_is_an_error() {
    let mut wire = Wire::ready();
    wire.command(0, 0x01, 10, false);
    let (first, _) = wire.under_way[1][0];
    wire.drain();
    let again = Frame { sequence: first.sequence + 1, ..first };
    let mut effects = Vec::new();
    assert!(matches!(wire.sides[1].receive(&again, &mut effects), Err(PartnerError::Step { .. })));
    assert!(effects.is_empty());
}

#[test]
fn frames_out_of_order_or_answering_the_unsent_are_errors() {
    let mut wire = Wire::ready();
    wire.command(0, 0x01, 10, false);
    let (frame, _) = wire.under_way[1][0];
    let mut refused = |frame: Frame| wire.sides[1].receive(&frame, &mut Vec::new()).unwrap_err();
    let late = Frame { sequence: frame.sequence + 1, ..frame };
    assert!(matches!(refused(late), PartnerError::Sequence { .. }));
    assert!(matches!(refused(Frame { seen: 99, ..frame }), PartnerError::Seen { seen: 99, .. }));
    assert!(matches!(refused(Frame { payload_bytes: 3, ..frame }), PartnerError::Payload { .. }));
    assert!(matches!(refused(Frame { attention: false, ..frame }), PartnerError::Step { .. }));
    let alone = Adapter::new(Identity::default()).receive(&frame, &mut Vec::new());
    assert_eq!(alone, Err(PartnerError::NotConnected));
}

#[test]
fn sense_command_byte_tells_the_partners_command_and_frees_a_control() {
    let mut wire = Wire::ready();
    let sensed = |wire: &mut Wire| {
        let mut effects = Vec::new();
        let request = Request { code: 0x14, count_bytes: 3, chained: true, data: DataHandle(0) };
        wire.sides[1].command(request, &mut effects).unwrap();
        let sent = effects.iter().find_map(|effect| match effect {
            Effect::Transmit(frame, data) => Some((*frame, *data)),
            _ => None,
        });
        wire.under_way[0].extend(sent);
        let Some(Effect::Ended(ending)) = effects.last() else { panic!("it ends at once") };
        assert_eq!((ending.residual_bytes, ending.moved_bytes), (2, 1));
        effects.into_iter().find_map(|effect| match effect {
            Effect::Reply { record: Record::CommandByte(byte), bytes: 1, .. } => Some(byte),
            _ => None,
        })
    };
    assert_eq!(sensed(&mut wire), Some(0));
    wire.command(0, 0x17, 1, false);
    wire.drain();
    assert_eq!(sensed(&mut wire), Some(0x17));
    wire.drain();
    assert_eq!(wire.ended[0][0].status, UnitStatus::ENDED);
    wire.check_quiet();
}

#[test]
fn a_reset_goes_back_to_the_models_mode_and_basic_mode_knows_no_not_ready() {
    let mut wire = Wire::ready();
    wire.command(0, 0x43, 1, false);
    wire.settle();
    assert_eq!(wire.sides[0].mode(), Mode::Basic);
    wire.reset(1);
    wire.settle();
    assert_eq!(wire.sides[0].partner_state(), State::NotReady);
    wire.command(0, 0x81, 5, false);
    wire.drain();
    assert_eq!(wire.sides[0].state(), State::Write, "X'81' writes, and the partner looks available");
    assert_eq!(wire.unsolicited[1], [UnitStatus::ATTENTION]);
    wire.reset(0);
    wire.settle();
    assert_eq!(wire.sides[0].mode(), Mode::Extended);
    wire.check_quiet();
}
