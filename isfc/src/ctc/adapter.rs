//! One side of a device pair: what the local channel does to it.

use super::command::{Command, Mode};
use super::contention::Role;
use super::effect::{DataHandle, Effect, Ending, Record, Request, Reset, Source};
use super::frame::{COUNT_BYTES_MAX, Frame};
use super::identity::{CONFIGURATION_LEN_BYTES, Identity};
use super::status::{Sense, UnitStatus};
use super::table::{Cell, Column, Row, State, cell};

/// Why a command cannot be given to an adapter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Its count is too large.
    #[error("CTC command for {0} bytes, at most {COUNT_BYTES_MAX} allowed")]
    Count(u32),
}

/// The command this side waits with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outstanding {
    pub(super) command: Command,
    pub(super) count_bytes: u32,
    pub(super) chained: bool,
    pub(super) data: DataHandle,
    /// Status the channel already has.
    pub(super) told: UnitStatus,
}

/// What this side knows of the other one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Partner {
    pub(super) state: State,
    pub(super) command: u8,
    pub(super) count_bytes: u32,
    /// Its Write's data is kept here.
    pub(super) held: bool,
}

impl Partner {
    pub(super) const NOT_READY: Self =
        Self { state: State::NotReady, command: 0, count_bytes: 0, held: false };
}

/// The connection: numbers of frames, from 1; zero is none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connection {
    pub(super) role: Role,
    pub(super) sent: u64,
    pub(super) received: u64,
    /// Highest of our numbers the partner has confirmed.
    pub(super) confirmed: u64,
    pub(super) last_reset: u64,
    pub(super) last_end_of_file: u64,
}

/// One side of a CTC.
///
/// # Attention
/// A Control, Read or Write of the partner raises Attention here if this side is idle. It is not
/// presented while
/// - a command chain runs: the chain's next command normally ends with busy and attention, or
///   matches. If the chain ends without having noticed, and the partner still waits, Attention is
///   presented then, because otherwise nobody would ever answer the partner;
/// - a status is pending at the channel: it follows [`Adapter::status_cleared`];
/// - this side has just lost a collision: its busy and attention says the same.
///
/// An Attention that was kept back is forgotten when the partner no longer waits.
///
/// # Losing the partner
/// A reset tells the partner, which ends what it waits with. A reset that crosses the partner's
/// matching command on the wire comes too late for it: the partner's command has ended well, while
/// this side's ends with unit check. Whoever carries data over a CTC numbers it for that reason.
#[derive(Debug)]
pub struct Adapter {
    identity: Identity,
    pub(super) mode: Mode,
    pub(super) ready: bool,
    pub(super) outstanding: Option<Outstanding>,
    pub(super) partner: Partner,
    pub(super) connection: Option<Connection>,
    /// The partner wrote an end of file: the next Read ends with unit exception.
    pub(super) end_of_file: bool,
    sense: Sense,
    status_pending: bool,
    chain: bool,
    pub(super) attention_due: bool,
    pub(super) device_end_due: bool,
    /// A command was refused because there was no connection: say when there is one.
    owes_device_end: bool,
}

impl Adapter {
    /// A side that is not connected, not ready and in its model's mode.
    pub fn new(identity: Identity) -> Self {
        Self {
            identity,
            mode: identity.model.mode(),
            ready: false,
            outstanding: None,
            partner: Partner::NOT_READY,
            connection: None,
            end_of_file: false,
            sense: Sense::CLEAR,
            status_pending: false,
            chain: false,
            attention_due: false,
            device_end_due: false,
            owes_device_end: false,
        }
    }

    /// Who it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Its mode.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// What it is doing.
    pub fn state(&self) -> State {
        match self.outstanding {
            Some(outstanding) => working_state(outstanding.command),
            None if self.ready => State::Available,
            None => State::NotReady,
        }
    }

    /// What it believes the other side is doing.
    pub fn partner_state(&self) -> State {
        self.partner.state
    }

    /// A status was given to the channel and not cleared.
    pub fn is_status_pending(&self) -> bool {
        self.status_pending
    }

    /// The connection is there, new: both sides start not ready, and number their frames from 1.
    /// The sides' roles must differ.
    pub fn connected(&mut self, role: Role, effects: &mut Vec<Effect>) {
        self.disconnected(effects);
        self.connection =
            Some(Connection { role, sent: 0, received: 0, confirmed: 0, last_reset: 0, last_end_of_file: 0 });
        self.device_end_due = std::mem::take(&mut self.owes_device_end) && self.mode == Mode::Extended;
        self.flush(effects);
    }

    /// The connection is gone: what is outstanding ends with unit check, and so does what follows.
    pub fn disconnected(&mut self, effects: &mut Vec<Effect>) {
        self.connection = None;
        self.ready = false;
        self.end_of_file = false;
        self.device_end_due = false;
        self.partner_left(effects);
        self.partner = Partner::NOT_READY;
        self.flush(effects);
    }

    /// The partner's command is void, and ours with it.
    pub(super) fn partner_left(&mut self, effects: &mut Vec<Effect>) {
        self.attention_due = false;
        self.drop_held(effects);
        if self.outstanding.is_some() {
            self.sense = Sense::NOT_READY;
            self.ready = self.connection.is_some();
            self.end_outstanding_whole(UnitStatus::ENDED_CHECK, effects);
        }
    }

    /// The channel has taken the last status away.
    pub fn status_cleared(&mut self, effects: &mut Vec<Effect>) {
        self.status_pending = false;
        self.flush(effects);
    }

    /// The channel ends a chain by itself and presents a status of its own, which is pending until
    /// [`Adapter::status_cleared`].
    pub fn chain_ended(&mut self) {
        self.chain = false;
        self.status_pending = true;
    }

    /// The side is reset: not ready, in its model's mode; the partner is told.
    pub fn reset(&mut self, kind: Reset, effects: &mut Vec<Effect>) {
        let column = if self.outstanding.is_some() { Column::X } else { self.partner.state.into() };
        let cell = cell(Row::Rst, column);
        self.chain = false;
        if self.outstanding.is_some() {
            self.end_outstanding_whole(cell.status, effects);
        }
        self.status_pending = kind == Reset::Halt;
        self.ready = false;
        self.mode = self.identity.model.mode();
        self.end_of_file = false;
        self.sense = Sense::CLEAR;
        self.attention_due = false;
        self.device_end_due = false;
        self.owes_device_end = false;
        self.drop_held(effects);
        self.partner.command = 0;
        if self.partner.state.is_working() {
            self.partner.state = State::Available;
        }
        if let Some(sequence) = self.transmit_reset(cell, effects)
            && let Some(connection) = &mut self.connection
        {
            connection.last_reset = sequence;
        }
    }

    /// The channel gives a command.
    ///
    /// Ends with one [`Effect::Ended`], now or after the partner's frames. While one is outstanding,
    /// another ends at once, busy, and changes nothing.
    ///
    /// # Errors
    /// [`CommandError::Count`].
    pub fn command(&mut self, request: Request, effects: &mut Vec<Effect>) -> Result<(), CommandError> {
        if request.count_bytes > COUNT_BYTES_MAX {
            return Err(CommandError::Count(request.count_bytes));
        }
        let command = Command::decode(request.code, self.mode);
        let column = self.column();
        let cell = cell(command.into(), column);
        if matches!(column, Column::X | Column::I) {
            let ending = Ending {
                command,
                data: request.data,
                status: cell.status,
                residual_bytes: request.count_bytes,
                moved_bytes: 0,
            };
            effects.push(Effect::Ended(ending));
            return Ok(());
        }
        self.chain = request.chained;
        let accepted = Outstanding {
            command,
            count_bytes: request.count_bytes,
            chained: request.chained,
            data: request.data,
            told: UnitStatus::NONE,
        };
        let end_of_file = std::mem::take(&mut self.end_of_file);
        if end_of_file && command.is_read() && column != Column::N {
            self.end(accepted, UnitStatus::ENDED_EXCEPTION, 0, 0, effects);
        } else {
            self.execute(accepted, request.code, column, cell, effects);
        }
        Ok(())
    }

    fn column(&self) -> Column {
        if self.status_pending {
            return Column::I;
        }
        if self.outstanding.is_some() {
            return Column::X;
        }
        match self.partner.state {
            _ if self.connection.is_none() => Column::N,
            State::NotReady if self.mode == Mode::Basic => Column::A,
            state => state.into(),
        }
    }

    fn execute(
        &mut self,
        accepted: Outstanding,
        code: u8,
        column: Column,
        cell: Cell,
        effects: &mut Vec<Effect>,
    ) {
        let partner = self.partner;
        if cell.status.contains(UnitStatus::ATTENTION) || cell.matches || partner_noticed(accepted.command) {
            self.attention_due = false;
        }
        // Whoever speaks is ready; and a state the table leaves alone is not "not ready" any more.
        self.ready |= cell.send && self.connection.is_some();
        if cell.wait {
            let told = UnitStatus::from_bits(cell.status.bits() & UnitStatus::ENDED.bits());
            self.outstanding = Some(Outstanding { told, ..accepted });
        }
        if cell.send {
            self.transmit(code, accepted, cell, effects);
        }
        if cell.matches {
            self.partner.state = State::Available;
        }
        if cell.wait {
            if cell.status.contains(UnitStatus::CHANNEL_END) {
                effects.push(Effect::ChannelEnd(accepted.data));
            }
            return;
        }
        if cell.status.contains(UnitStatus::UNIT_CHECK) {
            let invalid = accepted.command == Command::Invalid;
            self.sense = if invalid { Sense::INVALID_COMMAND } else { Sense::NOT_READY };
            self.owes_device_end |= !invalid && self.connection.is_none();
        }
        let (residual_bytes, moved_bytes) = self.transfer(accepted, column, cell, partner, effects);
        self.end(accepted, cell.status, residual_bytes, moved_bytes, effects);
    }

    /// Moves the data of a command that ends at once; residual and moved.
    fn transfer(
        &mut self,
        accepted: Outstanding,
        column: Column,
        cell: Cell,
        partner: Partner,
        effects: &mut Vec<Effect>,
    ) -> (u32, u32) {
        let count = accepted.count_bytes;
        if cell.status != UnitStatus::ENDED {
            return (count, 0);
        }
        let record = match accepted.command {
            Command::Write => return (0, count.min(partner.count_bytes)),
            Command::WriteEndOfFile => return (0, 0),
            Command::Read | Command::ReadBackward => {
                let bytes = count.min(partner.count_bytes);
                self.store(accepted.data, bytes, Source::Held, effects);
                return (count - bytes, bytes);
            }
            Command::SenseCommandByte if column == Column::A => Record::CommandByte(0),
            Command::SenseCommandByte => Record::CommandByte(partner.command),
            Command::SenseAdapterState => Record::Sense(std::mem::take(&mut self.sense).bytes()),
            Command::SenseId => Record::SenseId,
            Command::ReadConfigurationData => Record::Configuration,
            Command::SetExtendedMode => {
                self.mode = Mode::Extended;
                return (count, 0);
            }
            Command::SetBasicMode => {
                self.mode = Mode::Basic;
                return (count, 0);
            }
            _ => return (count, 0),
        };
        let bytes = count.min(match record {
            Record::Sense(_) => 2,
            Record::CommandByte(_) => 1,
            Record::SenseId => self.identity.sense_id().1,
            Record::Configuration => CONFIGURATION_LEN_BYTES as u32,
        });
        effects.push(Effect::Reply { to: accepted.data, record, bytes });
        (count - bytes, bytes)
    }

    /// Stores `bytes` of a payload, or drops it if there is nothing to store.
    pub(super) fn store(&mut self, to: DataHandle, bytes: u32, source: Source, effects: &mut Vec<Effect>) {
        if source == Source::Held && !std::mem::take(&mut self.partner.held) {
            return;
        }
        effects.push(if bytes == 0 { Effect::Discard(source) } else { Effect::Store { to, bytes, source } });
    }

    pub(super) fn drop_held(&mut self, effects: &mut Vec<Effect>) {
        if std::mem::take(&mut self.partner.held) {
            effects.push(Effect::Discard(Source::Held));
        }
    }

    fn transmit(&mut self, code: u8, accepted: Outstanding, cell: Cell, effects: &mut Vec<Effect>) {
        let state = self.state();
        let Some(connection) = &mut self.connection else { return };
        connection.sent += 1;
        if accepted.command == Command::WriteEndOfFile && !cell.status.contains(UnitStatus::UNIT_CHECK) {
            connection.last_end_of_file = connection.sent;
        }
        let payload_bytes = match accepted.command {
            Command::Write if cell.wait => accepted.count_bytes,
            Command::Write if cell.matches => accepted.count_bytes.min(self.partner.count_bytes),
            _ => 0,
        };
        let frame = Frame {
            sequence: connection.sent,
            seen: connection.received,
            command: code,
            state,
            count_bytes: accepted.count_bytes,
            payload_bytes,
            matches: cell.matches,
            waits: cell.wait,
            attention: cell.attention,
            basic: self.mode == Mode::Basic,
            reset: false,
            refused: cell.status.contains(UnitStatus::UNIT_CHECK),
        };
        effects.push(Effect::Transmit(frame, accepted.data));
    }

    fn transmit_reset(&mut self, cell: Cell, effects: &mut Vec<Effect>) -> Option<u64> {
        let state = cell.state?;
        let connection = self.connection.as_mut()?;
        connection.sent += 1;
        let frame = Frame {
            sequence: connection.sent,
            seen: connection.received,
            command: 0,
            state,
            count_bytes: 0,
            payload_bytes: 0,
            matches: false,
            waits: false,
            attention: false,
            basic: self.mode == Mode::Basic,
            reset: true,
            refused: false,
        };
        effects.push(Effect::Transmit(frame, DataHandle::default()));
        Some(connection.sent)
    }

    /// The outstanding command ends with nothing moved.
    pub(super) fn end_outstanding_whole(&mut self, status: UnitStatus, effects: &mut Vec<Effect>) {
        let residual_bytes = self.outstanding.map_or(0, |outstanding| outstanding.count_bytes);
        self.end_outstanding(status, residual_bytes, 0, effects);
    }

    /// The outstanding command ends.
    pub(super) fn end_outstanding(
        &mut self,
        status: UnitStatus,
        residual_bytes: u32,
        moved_bytes: u32,
        effects: &mut Vec<Effect>,
    ) {
        let Some(outstanding) = self.outstanding.take() else { return };
        let rest = if status.is_usual() {
            UnitStatus::from_bits(status.bits() & !outstanding.told.bits())
        } else {
            status
        };
        self.end(outstanding, rest, residual_bytes, moved_bytes, effects);
    }

    fn end(
        &mut self,
        ended: Outstanding,
        status: UnitStatus,
        residual_bytes: u32,
        moved_bytes: u32,
        effects: &mut Vec<Effect>,
    ) {
        if !status.contains(UnitStatus::UNIT_CHECK) {
            self.sense.after_command();
        }
        self.chain = ended.chained && status.is_usual();
        self.status_pending = !self.chain;
        let (command, data) = (ended.command, ended.data);
        effects.push(Effect::Ended(Ending { command, data, status, residual_bytes, moved_bytes }));
    }

    /// Presents what was kept back, if it may be presented now.
    pub(super) fn flush(&mut self, effects: &mut Vec<Effect>) {
        if self.status_pending || self.chain || self.outstanding.is_some() {
            return;
        }
        let mut status = UnitStatus::NONE;
        if std::mem::take(&mut self.attention_due) {
            status |= UnitStatus::ATTENTION;
        }
        if std::mem::take(&mut self.device_end_due) {
            status |= UnitStatus::DEVICE_END;
        }
        if status != UnitStatus::NONE {
            self.status_pending = true;
            effects.push(Effect::Unsolicited(status));
        }
    }
}

/// A command whose issuer knows afterwards that the partner waits.
const fn partner_noticed(command: Command) -> bool {
    matches!(command, Command::SenseCommandByte)
}

const fn working_state(command: Command) -> State {
    match command {
        Command::Control => State::Control,
        Command::Read | Command::ReadBackward => State::Read,
        Command::Write => State::Write,
        _ => State::Prepare,
    }
}
