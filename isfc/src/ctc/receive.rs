//! One side of a device pair: what the partner's frames do to it, and what is not to be believed.

use super::adapter::Adapter;
use super::command::{Command, Mode};
use super::contention::Role;
use super::effect::{Effect, Source};
use super::frame::Frame;
use super::status::UnitStatus;
use super::table::{Cell, Column, Row, State, cell};

/// Why a frame of the partner cannot be. The connection is to be given up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PartnerError {
    /// There is no connection.
    #[error("CTC frame on a device that is not connected")]
    NotConnected,
    /// A frame is missing, or came twice.
    #[error("CTC frame {found}, {expected} expected")]
    Sequence {
        /// Its number.
        found: u64,
        /// The number that is next.
        expected: u64,
    },
    /// It answers what was never sent, or takes an answer back.
    #[error("CTC frame answers frame {seen}, not one of {low} to {high}")]
    Seen {
        /// What it answers.
        seen: u64,
        /// What it must at least know.
        low: u64,
        /// The last frame sent to it.
        high: u64,
    },
    /// The state machine has no such step.
    #[error("CTC command {command:#04x} cannot lead to state {state:?} now")]
    Step {
        /// The command byte.
        command: u8,
        /// Where it is said to lead.
        state: State,
    },
    /// Its payload is not what the command moves.
    #[error("CTC command {command:#04x} brings {payload_bytes} bytes")]
    Payload {
        /// The command byte.
        command: u8,
        /// What it brings.
        payload_bytes: u32,
    },
}

impl Adapter {
    /// The partner says something.
    ///
    /// # Commands that cross
    /// The wire keeps each direction's order. A frame whose `seen` is behind our last frame was decided
    /// without knowing it. Both sides see that of the other's frame, and take the same step:
    ///
    /// | crossing | both sides |
    /// |---|---|
    /// | Prepare × Prepare | both Prepares end |
    /// | Prepare × Control, Read, Write | the Prepare ends, the other waits |
    /// | Read × Write | both end, data moves |
    /// | Write End of File × Read | the Read ends with unit exception, the end of file is used up |
    /// | any two others of Control, Read, Write | the loser's ends with busy and attention, the winner's waits |
    /// | anything × reset | as if it had come before the reset |
    /// | no-operations, Write End of File × anything else | no effect on each other |
    ///
    /// # Errors
    /// [`PartnerError`]; nothing has changed then, and the connection is to be given up.
    pub fn receive(&mut self, frame: &Frame, effects: &mut Vec<Effect>) -> Result<(), PartnerError> {
        let command = self.check(frame)?;
        let Some(connection) = &mut self.connection else { return Err(PartnerError::NotConnected) };
        connection.received = frame.sequence;
        connection.confirmed = frame.seen;
        let before_our_reset = frame.seen < connection.last_reset;
        let used_up = command.is_read() && frame.waits && frame.seen < connection.last_end_of_file;

        let was_not_ready = self.partner.state == State::NotReady;
        self.partner.command = frame.command;
        self.partner.count_bytes = frame.count_bytes;
        if frame.reset {
            // What we sent before we knew of it is void over there: no end of file waits any more.
            connection.last_end_of_file = 0;
            self.partner_left(effects);
            self.end_of_file = false;
            self.device_end_due = false;
            self.partner.state = State::NotReady;
        } else {
            self.partner.state = State::Available;
            if before_our_reset || used_up {
                discard_arriving(frame, effects);
            } else if frame.waits {
                self.partner_waits(frame, effects);
            } else if frame.matches {
                self.partner_matches(command, frame, effects);
            } else if command == Command::WriteEndOfFile && !frame.refused {
                self.partner_ended_file(effects);
            }
            self.device_end_due |= was_not_ready && self.mode == Mode::Extended;
        }
        self.flush(effects);
        Ok(())
    }

    /// The frame is one that a correct partner can send now; its command.
    fn check(&self, frame: &Frame) -> Result<Command, PartnerError> {
        let connection = self.connection.as_ref().ok_or(PartnerError::NotConnected)?;
        let expected = connection.received + 1;
        if frame.sequence != expected {
            return Err(PartnerError::Sequence { found: frame.sequence, expected });
        }
        let (seen, low, high) = (frame.seen, connection.confirmed, connection.sent);
        if !(low..=high).contains(&seen) {
            return Err(PartnerError::Seen { seen, low, high });
        }
        let crossed = seen < high;
        let void = seen < connection.last_reset;
        let mode = if frame.basic { Mode::Basic } else { Mode::Extended };
        let command = Command::decode(frame.command, mode);
        let row = if frame.reset { Row::Rst } else { command.into() };
        // While it waits it can only be reset; a second command would be a second payload to keep.
        let free = !self.partner.state.is_working();
        let fits = |column| free && !frame.reset && could_be(frame, cell(row, column));
        let step = if frame.reset {
            frame.state == State::NotReady
                && !(frame.matches || frame.waits || frame.attention || frame.refused)
        } else if void {
            COLUMNS.into_iter().any(fits)
        } else if crossed {
            // Nobody completes a command of ours without knowing what we did after it.
            !frame.matches && COLUMNS.into_iter().any(fits)
        } else {
            match self.state() {
                State::NotReady if frame.basic => fits(Column::A),
                state => fits(state.into()),
            }
        };
        if !step {
            return Err(PartnerError::Step { command: frame.command, state: frame.state });
        }
        let payload = match command {
            _ if frame.reset => 0,
            Command::Write if frame.waits => frame.count_bytes,
            Command::Write if frame.matches && void => frame.payload_bytes,
            Command::Write if frame.matches => frame.count_bytes.min(self.outstanding_count()),
            _ => 0,
        };
        if frame.payload_bytes != payload {
            let (command, payload_bytes) = (frame.command, frame.payload_bytes);
            return Err(PartnerError::Payload { command, payload_bytes });
        }
        Ok(command)
    }

    fn outstanding_count(&self) -> u32 {
        self.outstanding.map_or(0, |outstanding| outstanding.count_bytes)
    }

    /// The partner waits with a command: it found us idle or with a Prepare, or believed so.
    fn partner_waits(&mut self, frame: &Frame, effects: &mut Vec<Effect>) {
        let count = self.outstanding_count();
        let bytes = count.min(frame.count_bytes);
        match (self.state(), frame.state) {
            (State::Available | State::NotReady, _) => {
                self.partner_stays(frame, effects);
                self.attention_due |= frame.attention;
            }
            (State::Prepare, State::Prepare) => {
                self.end_outstanding_whole(UnitStatus::ENDED, effects);
            }
            (State::Prepare, _) => {
                self.partner_stays(frame, effects);
                self.end_outstanding_whole(UnitStatus::ENDED, effects);
            }
            // It ends when our command reaches the partner.
            (_, State::Prepare) => {}
            (State::Read, State::Write) => self.read_ends(frame, bytes, effects),
            (State::Write, State::Read) => {
                self.end_outstanding(UnitStatus::ENDED, 0, bytes, effects);
            }
            _ => self.collide(frame, effects),
        }
    }

    fn collide(&mut self, frame: &Frame, effects: &mut Vec<Effect>) {
        match self.connection.as_ref().map(|connection| connection.role) {
            Some(Role::Loser) => {
                self.partner_stays(frame, effects);
                self.end_outstanding_whole(UnitStatus::COLLISION, effects);
            }
            _ => discard_arriving(frame, effects),
        }
    }

    fn partner_stays(&mut self, frame: &Frame, effects: &mut Vec<Effect>) {
        self.partner.state = frame.state;
        if frame.payload_bytes > 0 {
            self.partner.held = true;
            effects.push(Effect::Hold);
        }
    }

    fn read_ends(&mut self, frame: &Frame, bytes: u32, effects: &mut Vec<Effect>) {
        let Some(read) = self.outstanding else { return };
        if frame.payload_bytes > 0 {
            self.store(read.data, bytes, Source::Arriving, effects);
        }
        self.end_outstanding(UnitStatus::ENDED, read.count_bytes - bytes, bytes, effects);
    }

    /// The partner's command completes ours and is complete itself.
    fn partner_matches(&mut self, command: Command, frame: &Frame, effects: &mut Vec<Effect>) {
        let bytes = self.outstanding_count().min(frame.count_bytes);
        match command {
            Command::Write => self.read_ends(frame, bytes, effects),
            Command::Read | Command::ReadBackward => {
                self.end_outstanding(UnitStatus::ENDED, 0, bytes, effects);
            }
            Command::WriteEndOfFile => self.partner_ended_file(effects),
            _ => self.end_outstanding_whole(UnitStatus::ENDED, effects),
        }
    }

    fn partner_ended_file(&mut self, effects: &mut Vec<Effect>) {
        if self.state() == State::Read {
            self.end_outstanding(UnitStatus::ENDED_EXCEPTION, 0, 0, effects);
        } else {
            self.end_of_file = true;
        }
    }
}

const COLUMNS: [Column; 6] = [Column::P, Column::C, Column::R, Column::W, Column::A, Column::N];

/// The frame is what a sender of this cell sends. A sender whose state the table leaves is available.
fn could_be(frame: &Frame, cell: Cell) -> bool {
    cell.send
        && frame.refused == cell.status.contains(UnitStatus::UNIT_CHECK)
        && frame.state == cell.state.unwrap_or(State::Available)
        && (frame.matches, frame.waits, frame.attention) == (cell.matches, cell.wait, cell.attention)
}

fn discard_arriving(frame: &Frame, effects: &mut Vec<Effect>) {
    if frame.payload_bytes > 0 {
        effects.push(Effect::Discard(Source::Arriving));
    }
}
