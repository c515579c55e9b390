//! Every cell of the CTC's state table, walked by two adapters: each of the 256 command bytes, and a reset, in each state
//! of the other side, in both modes.

#![allow(clippy::unwrap_used)]

use isfc::ctc::table::{Cell, Column, Row, cell};
use isfc::ctc::{
    Adapter, Command, DataHandle, Effect, Ending, Frame, Identity, Mode, Request, Reset, Role, State,
    UnitStatus,
};

const COLUMNS: [Column; 8] =
    [Column::P, Column::C, Column::R, Column::W, Column::A, Column::N, Column::X, Column::I];
const COUNT_BYTES: u32 = 100;

/// Side 0 is walked, side 1 is its partner. Frames arrive at once.
struct Pair {
    sides: [Adapter; 2],
    frames: [usize; 2],
    channel_ends: [usize; 2],
    ended: [Vec<Ending>; 2],
    unsolicited: [Vec<UnitStatus>; 2],
}

impl Pair {
    /// Both sides are ready, side 0 in `mode`, and the pair is in the state that `column` stands for.
    fn in_column(mode: Mode, column: Column) -> Self {
        let mut pair = Self {
            sides: [0, 1].map(|_| Adapter::new(Identity::default())),
            frames: [0; 2],
            channel_ends: [0; 2],
            ended: Default::default(),
            unsolicited: Default::default(),
        };
        pair.act(0, |side, effects| side.connected(Role::Winner, effects));
        pair.act(1, |side, effects| side.connected(Role::Loser, effects));
        let mode_set = if mode == Mode::Basic { 0x43 } else { 0xC3 };
        for (side, code) in [(0, 0x03), (1, 0x03), (0, mode_set)] {
            pair.command(side, code);
            pair.clear();
        }
        match column {
            Column::P => pair.command(1, 0xE3),
            Column::C => pair.command(1, 0x07),
            Column::R => pair.command(1, 0x02),
            Column::W => pair.command(1, 0x01),
            Column::A => {}
            Column::N => pair.act(1, |side, effects| side.reset(Reset::Clear, effects)),
            Column::X => pair.command(0, 0x02),
            Column::I => pair.command(0, 0x04),
        }
        if column != Column::I {
            pair.clear();
        }
        Self {
            frames: [0; 2],
            channel_ends: [0; 2],
            ended: Default::default(),
            unsolicited: Default::default(),
            ..pair
        }
    }

    fn act(&mut self, side: usize, act: impl FnOnce(&mut Adapter, &mut Vec<Effect>)) {
        let mut effects = Vec::new();
        act(&mut self.sides[side], &mut effects);
        self.take(side, effects);
    }

    fn take(&mut self, side: usize, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Transmit(frame, _) => {
                    self.frames[side] += 1;
                    let frame = Frame::decode(&frame.encode()).unwrap();
                    let mut answers = Vec::new();
                    self.sides[1 - side].receive(&frame, &mut answers).unwrap();
                    self.take(1 - side, answers);
                }
                Effect::ChannelEnd(_) => self.channel_ends[side] += 1,
                Effect::Ended(ending) => self.ended[side].push(ending),
                Effect::Unsolicited(status) => self.unsolicited[side].push(status),
                Effect::Store { .. } | Effect::Hold | Effect::Discard(_) | Effect::Reply { .. } => {}
            }
        }
    }

    fn command(&mut self, side: usize, code: u8) {
        let request =
            Request { code, count_bytes: COUNT_BYTES, chained: false, data: DataHandle(side as u64) };
        self.act(side, |side, effects| side.command(request, effects).unwrap());
    }

    /// Both channels take whatever status is pending.
    fn clear(&mut self) {
        for side in [0, 1, 0] {
            self.act(side, Adapter::status_cleared);
        }
    }
}

/// What the command byte does in this column must be what the cell says.
fn check_command(mode: Mode, column: Column, code: u8) {
    let mut pair = Pair::in_column(mode, column);
    let before = [0, 1].map(|side| pair.sides[side].state());
    pair.command(0, code);
    let command = Command::decode(code, mode);
    // A side in basic mode knows no "not ready".
    let seen = if mode == Mode::Basic && column == Column::N { Column::A } else { column };
    let cell = cell(command.into(), seen);
    let at = format!("X'{code:02X}' ({command:?}) in column {column:?}, {mode:?}: {cell:?}");
    assert_eq!(pair.frames, [usize::from(cell.send), 0], "{at}");
    assert_eq!(pair.sides[0].state(), cell.state.unwrap_or(before[0]), "{at}");
    if cell.wait {
        assert!(pair.ended[0].is_empty(), "{at}");
        let told = usize::from(cell.status.contains(UnitStatus::CHANNEL_END));
        assert_eq!(pair.channel_ends[0], told, "{at}");
    } else {
        let [ending] = pair.ended[0][..] else { panic!("{at}: {:?}", pair.ended[0]) };
        assert_eq!((ending.command, ending.status), (command, cell.status), "{at}");
        let nothing_moved = cell.status != UnitStatus::ENDED;
        assert!(
            !nothing_moved || (ending.residual_bytes, ending.moved_bytes) == (COUNT_BYTES, 0),
            "{at}: {ending:?}"
        );
    }
    check_partner(&pair, cell, command, before[1], &at);
}

fn check_partner(pair: &Pair, cell: Cell, command: Command, before: State, at: &str) {
    if cell.matches {
        let [ending] = pair.ended[1][..] else { panic!("{at}: {:?}", pair.ended[1]) };
        let expected = match command {
            Command::WriteEndOfFile => UnitStatus::ENDED_EXCEPTION,
            // Channel end came when it was accepted.
            _ if ending.command == Command::Prepare => UnitStatus::DEVICE_END,
            _ => UnitStatus::ENDED,
        };
        assert_eq!(ending.status, expected, "{at}");
        assert_eq!(pair.sides[1].state(), State::Available, "{at}");
    } else {
        assert!(pair.ended[1].is_empty(), "{at}: {:?}", pair.ended[1]);
        assert_eq!(pair.sides[1].state(), before, "{at}");
    }
    let attention = pair.unsolicited[1].iter().any(|status| status.contains(UnitStatus::ATTENTION));
    assert_eq!(attention, cell.attention, "{at}: {:?}", pair.unsolicited[1]);
    assert!(pair.unsolicited[0].is_empty(), "{at}: {:?}", pair.unsolicited[0]);
    let known = [0, 1].map(|side| pair.sides[side].partner_state());
    let are = [1, 0].map(|side| pair.sides[side].state());
    assert_eq!(known, are, "{at}: both sides know the same");
}

#[test]
fn every_command_byte_does_in_every_state_what_its_cell_says() {
    for mode in [Mode::Extended, Mode::Basic] {
        for column in COLUMNS {
            (0..=255).for_each(|code| check_command(mode, column, code));
        }
    }
}

#[test]
fn a_reset_does_in_every_state_what_its_cell_says() {
    for kind in [Reset::Halt, Reset::Clear, Reset::Selective, Reset::System] {
        for column in COLUMNS {
            let mut pair = Pair::in_column(Mode::Extended, column);
            let works = [0, 1].map(|side| usize::from(pair.sides[side].state().is_working()));
            pair.act(0, |side, effects| side.reset(kind, effects));
            let cell = cell(Row::Rst, column);
            let at = format!("{kind:?} in column {column:?}: {cell:?}");
            assert_eq!(pair.frames, [1, 0], "{at}");
            assert_eq!(Some(pair.sides[0].state()), cell.state, "{at}");
            assert_eq!(pair.sides[1].partner_state(), State::NotReady, "{at}");
            assert_eq!([pair.ended[0].len(), pair.ended[1].len()], works, "{at}");
            for ending in pair.ended.iter().flatten() {
                assert_eq!((ending.status, ending.moved_bytes), (cell.status, 0), "{at}");
            }
            assert_eq!(works[1] == 1, cell.matches, "{at}");
        }
    }
}
