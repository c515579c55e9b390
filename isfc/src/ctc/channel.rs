//! A subchannel: runs channel programs against its adapter, word by word.

use super::adapter::Adapter;
use super::command::Command;
use super::contention::Role;
use super::effect::{DataHandle, Effect, Ending, Request, Reset};
use super::frame::{COUNT_BYTES_MAX, Frame};
use super::program::{CCW_LEN_BYTES, CCWS_MAX, Ccw, CcwFlags};
use super::receive::PartnerError;
use super::status::UnitStatus;

/// Incorrect length: the data was not as long as the program said.
pub const SUBCHANNEL_INCORRECT_LENGTH: u8 = 0x40;
/// Program check: the program is not one.
pub const SUBCHANNEL_PROGRAM_CHECK: u8 = 0x20;

/// A stretch of the caller's storage, one per data-chained word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    /// Where.
    pub address: u64,
    /// How many bytes.
    pub len_bytes: u32,
    /// Bytes that are read go nowhere.
    pub skip: bool,
}

/// What became of a program, as the subchannel status words say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubchannelStatus {
    /// The device's status; all of the last command's, also what it gave first.
    pub unit: UnitStatus,
    /// [`SUBCHANNEL_INCORRECT_LENGTH`], [`SUBCHANNEL_PROGRAM_CHECK`].
    pub subchannel: u8,
    /// Bytes of the last command's whole data (all its chained words) that were not used.
    pub residual_bytes: u32,
    /// 8 behind the last word used.
    pub ccw_address: u32,
    /// It belongs to no program: attention, or device end.
    pub unsolicited: bool,
}

/// Why a program cannot be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// Condition code 1: fetch the pending status first.
    #[error("a status is pending at the subchannel")]
    StatusPending,
    /// Condition code 2: a program runs.
    #[error("the subchannel runs a program")]
    Busy,
    /// The program has too many words.
    #[error("channel program of {0} words, at most {CCWS_MAX} allowed")]
    Words(usize),
}

/// What a subchannel wants done, in this order, before it is called again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelEffect {
    /// Move or send something. Data handles are read by [`Channel::areas`]. Never
    /// [`Effect::Ended`], [`Effect::ChannelEnd`] or [`Effect::Unsolicited`].
    Device(Effect),
    /// A word with PCI was reached; its index.
    Intermediate(u32),
    /// A status waits for [`Channel::test`].
    StatusPending,
}

/// A subchannel and its adapter.
#[derive(Debug)]
pub struct Channel {
    adapter: Adapter,
    program: Vec<Ccw>,
    areas: Vec<Area>,
    running: bool,
    /// The next word.
    next: usize,
    /// Words run through since the start, so that a transfer in channel cannot go on for ever.
    steps: usize,
    /// Flags of the last word of the command that runs.
    flags: CcwFlags,
    told: UnitStatus,
    pending: Option<SubchannelStatus>,
    device: Vec<Effect>,
}

/// A bad program.
struct ProgramCheck;

impl Channel {
    /// A subchannel for `adapter`.
    pub fn new(adapter: Adapter) -> Self {
        Self {
            adapter,
            program: Vec::with_capacity(CCWS_MAX),
            areas: Vec::with_capacity(CCWS_MAX),
            running: false,
            next: 0,
            steps: 0,
            flags: CcwFlags::NONE,
            told: UnitStatus::NONE,
            pending: None,
            device: Vec::with_capacity(16),
        }
    }

    /// Its adapter.
    pub fn adapter(&self) -> &Adapter {
        &self.adapter
    }

    /// A program runs.
    pub fn is_running(&self) -> bool {
        self.running
    }

    /// Starts a program; its words are copied, its data is not.
    ///
    /// # Errors
    /// [`StartError`]. A bad program starts, and ends with program check.
    pub fn start(&mut self, program: &[Ccw], out: &mut Vec<ChannelEffect>) -> Result<(), StartError> {
        if self.pending.is_some() {
            return Err(StartError::StatusPending);
        }
        if self.running {
            return Err(StartError::Busy);
        }
        if program.len() > CCWS_MAX {
            return Err(StartError::Words(program.len()));
        }
        self.program.clear();
        self.program.extend_from_slice(program);
        self.areas.clear();
        (self.running, self.next, self.steps) = (true, 0, 0);
        self.step(out);
        self.drain(out);
        Ok(())
    }

    /// A frame of the partner.
    ///
    /// # Errors
    /// [`PartnerError`]: give up the connection.
    pub fn receive(&mut self, frame: &Frame, out: &mut Vec<ChannelEffect>) -> Result<(), PartnerError> {
        let result = self.adapter.receive(frame, &mut self.device);
        self.drain(out);
        result
    }

    /// See [`Adapter::connected`].
    pub fn connected(&mut self, role: Role, out: &mut Vec<ChannelEffect>) {
        self.adapter.connected(role, &mut self.device);
        self.drain(out);
    }

    /// See [`Adapter::disconnected`].
    pub fn disconnected(&mut self, out: &mut Vec<ChannelEffect>) {
        self.adapter.disconnected(&mut self.device);
        self.drain(out);
    }

    /// Resets the device. Halt leaves a status if a program ran; the others leave nothing.
    pub fn reset(&mut self, kind: Reset, out: &mut Vec<ChannelEffect>) {
        let was_running = self.running;
        self.adapter.reset(kind, &mut self.device);
        self.drain(out);
        self.running = false;
        if kind == Reset::Halt && was_running {
            return;
        }
        self.pending = None;
        out.retain(|effect| *effect != ChannelEffect::StatusPending);
        self.adapter.status_cleared(&mut self.device);
        self.drain(out);
    }

    /// Test subchannel: takes the pending status.
    pub fn test(&mut self, out: &mut Vec<ChannelEffect>) -> Option<SubchannelStatus> {
        let status = self.pending.take()?;
        self.adapter.status_cleared(&mut self.device);
        self.drain(out);
        Some(status)
    }

    /// The storage a data handle stands for; valid until the next [`Channel::start`].
    pub fn areas(&self, handle: DataHandle) -> &[Area] {
        let (first, end) = (handle.0 as u32 as usize, (handle.0 >> 32) as usize);
        self.areas.get(first..end).unwrap_or(&[])
    }

    fn drain(&mut self, out: &mut Vec<ChannelEffect>) {
        let mut at = 0;
        while let Some(&effect) = self.device.get(at) {
            at += 1;
            match effect {
                Effect::ChannelEnd(_) => self.told |= UnitStatus::CHANNEL_END,
                Effect::Ended(ending) => self.command_ended(ending, out),
                Effect::Unsolicited(unit) => {
                    let (subchannel, residual_bytes, ccw_address) = (0, 0, 0);
                    self.present(
                        SubchannelStatus { unit, subchannel, residual_bytes, ccw_address, unsolicited: true },
                        out,
                    );
                }
                effect => out.push(ChannelEffect::Device(effect)),
            }
        }
        self.device.clear();
    }

    /// Gives the adapter the next command.
    fn step(&mut self, out: &mut Vec<ChannelEffect>) {
        self.told = UnitStatus::NONE;
        match self.gather(out) {
            Ok(request) => {
                if self.adapter.command(request, &mut self.device).is_err() {
                    self.end_program(UnitStatus::NONE, SUBCHANNEL_PROGRAM_CHECK, request.count_bytes, out);
                }
            }
            Err(ProgramCheck) => {
                self.end_program(UnitStatus::NONE, SUBCHANNEL_PROGRAM_CHECK, 0, out);
            }
        }
    }

    /// Reads one command and all of its data-chained words.
    fn gather(&mut self, out: &mut Vec<ChannelEffect>) -> Result<Request, ProgramCheck> {
        let first_area = self.areas.len();
        let mut word = self.fetch(self.next == 0, out)?;
        let code = word.command;
        if code & 0x0F == 0 {
            return Err(ProgramCheck);
        }
        let mut count_bytes = 0;
        loop {
            let len_bytes = u32::from(word.count_bytes);
            count_bytes += len_bytes;
            if len_bytes == 0 || count_bytes > COUNT_BYTES_MAX {
                return Err(ProgramCheck);
            }
            let skip = word.flags.has(CcwFlags::SKIP);
            self.areas.push(Area { address: word.address, len_bytes, skip });
            if !word.flags.has(CcwFlags::CD) {
                break;
            }
            word = self.fetch(false, out)?;
        }
        self.flags = word.flags;
        let data = DataHandle(first_area as u64 | (self.areas.len() as u64) << 32);
        Ok(Request { code, count_bytes, chained: word.flags.has(CcwFlags::CC), data })
    }

    /// The next word, behind at most one transfer in channel.
    fn fetch(&mut self, first: bool, out: &mut Vec<ChannelEffect>) -> Result<Ccw, ProgramCheck> {
        let mut word = self.word_at(self.next)?;
        if word.is_transfer() {
            let index = word.address / u64::from(CCW_LEN_BYTES);
            if first || word.address % u64::from(CCW_LEN_BYTES) != 0 || index >= self.program.len() as u64 {
                return Err(ProgramCheck);
            }
            self.next = index as usize;
            word = self.word_at(self.next)?;
            if word.is_transfer() {
                return Err(ProgramCheck);
            }
        }
        if word.flags.has(CcwFlags::PCI) {
            out.push(ChannelEffect::Intermediate(self.next as u32));
        }
        self.next += 1;
        Ok(word)
    }

    fn word_at(&mut self, index: usize) -> Result<Ccw, ProgramCheck> {
        self.steps += 1;
        if self.steps > CCWS_MAX {
            return Err(ProgramCheck);
        }
        self.program.get(index).copied().ok_or(ProgramCheck)
    }

    fn command_ended(&mut self, ending: Ending, out: &mut Vec<ChannelEffect>) {
        let unit = ending.status | self.told;
        let indicates_length = ending.residual_bytes > 0
            && !self.flags.has(CcwFlags::SLI)
            && !ending.command.is_immediate()
            && moves_data(ending.command)
            && unit.is_usual();
        let subchannel = if indicates_length { SUBCHANNEL_INCORRECT_LENGTH } else { 0 };
        if unit.is_usual() && subchannel == 0 && self.flags.has(CcwFlags::CC) {
            self.step(out);
        } else {
            self.end_program(unit, subchannel, ending.residual_bytes, out);
        }
    }

    fn end_program(
        &mut self,
        unit: UnitStatus,
        subchannel: u8,
        residual_bytes: u32,
        out: &mut Vec<ChannelEffect>,
    ) {
        self.running = false;
        self.adapter.chain_ended();
        let ccw_address = self.next as u32 * CCW_LEN_BYTES;
        self.present(
            SubchannelStatus { unit, subchannel, residual_bytes, ccw_address, unsolicited: false },
            out,
        );
    }

    fn present(&mut self, status: SubchannelStatus, out: &mut Vec<ChannelEffect>) {
        debug_assert!(self.pending.is_none());
        self.pending = Some(status);
        out.push(ChannelEffect::StatusPending);
    }
}

/// A command whose count says how much data it moves.
const fn moves_data(command: Command) -> bool {
    !matches!(command, Command::WriteEndOfFile | Command::Invalid)
}
