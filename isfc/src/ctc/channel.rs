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

#[cfg(test)]
mod tests {
    use super::super::effect::Source;
    use super::super::program::WriteProgram;
    use super::*;

    const NOP: Ccw = Ccw::new(0x03, CcwFlags::SLI, 1, 0);

    /// Two channels and what each was told; frames arrive at once, in order.
    struct Pair {
        channels: [Channel; 2],
        effects: [Vec<ChannelEffect>; 2],
    }

    impl Pair {
        fn ready() -> Self {
            let mut pair = Self {
                channels: [0, 1].map(|_| Channel::new(Adapter::new(Default::default()))),
                effects: Default::default(),
            };
            pair.channels[0].connected(Role::Winner, &mut Vec::new());
            pair.channels[1].connected(Role::Loser, &mut Vec::new());
            for side in [0, 1, 0] {
                pair.start(side, &[NOP]);
                pair.clear();
            }
            pair
        }

        fn start(&mut self, side: usize, program: &[Ccw]) {
            let mut out = Vec::new();
            self.channels[side].start(program, &mut out).unwrap();
            self.pass_on(side, out);
        }

        fn pass_on(&mut self, side: usize, effects: Vec<ChannelEffect>) {
            let mut answers = Vec::new();
            for effect in &effects {
                if let ChannelEffect::Device(Effect::Transmit(frame, _)) = effect {
                    self.channels[1 - side].receive(frame, &mut answers).unwrap();
                }
            }
            self.effects[side].extend(effects);
            if !answers.is_empty() {
                self.pass_on(1 - side, answers);
            }
        }

        fn test(&mut self, side: usize) -> Option<SubchannelStatus> {
            let mut out = Vec::new();
            let status = self.channels[side].test(&mut out);
            self.pass_on(side, out);
            status
        }

        fn clear(&mut self) {
            while self.test(0).is_some() | self.test(1).is_some() {}
            self.effects = Default::default();
        }

        /// Runs a program that ends without the partner.
        fn run(&mut self, side: usize, program: &[Ccw]) -> SubchannelStatus {
            self.start(side, program);
            self.test(side).unwrap()
        }
    }

    fn usual(status: SubchannelStatus) -> bool {
        status.unit == UnitStatus::ENDED && status.subchannel == 0
    }

    #[test]
    fn a_write_program_waits_for_the_read_and_moves_all_its_segments() {
        let mut pair = Pair::ready();
        let mut program = WriteProgram::new();
        program.push(0x1000, 100_000).unwrap();
        program.push(0x90000, 5).unwrap();
        pair.start(0, program.ccws());
        assert!(pair.channels[0].is_running(), "the Prepare waits");
        assert!(pair.test(1).is_none(), "a Prepare raises no attention");
        let read = [
            Ccw::new(0x02, CcwFlags::CD, 60_000, 0),
            Ccw::new(0, CcwFlags::CD, 60_000, 0x20000),
            Ccw::new(0, CcwFlags::SLI, 10, 0x50000),
        ];
        pair.start(1, &read);
        let (write, read) = (pair.test(0).unwrap(), pair.test(1).unwrap());
        assert!(usual(write) && usual(read));
        assert_eq!((write.residual_bytes, read.residual_bytes), (0, 120_010 - 100_005));
        assert_eq!((write.ccw_address, read.ccw_address), (8 * 4, 8 * 3));
        let sent = pair.effects[0].iter().find_map(|effect| match effect {
            ChannelEffect::Device(Effect::Transmit(frame, data)) if frame.payload_bytes > 0 => {
                Some((frame.payload_bytes, pair.channels[0].areas(*data)))
            }
            _ => None,
        });
        let (payload_bytes, areas) = sent.unwrap();
        assert_eq!(payload_bytes, 100_005);
        assert_eq!(areas.iter().map(|area| area.len_bytes).collect::<Vec<_>>(), [61_440, 38_560, 5]);
        let stored = pair.effects[1].iter().any(|effect| {
            matches!(
                effect,
                ChannelEffect::Device(Effect::Store { bytes: 100_005, source: Source::Arriving, .. })
            )
        });
        assert!(stored, "straight from the wire to the Read's areas");
    }

    #[test]
    fn incorrect_length_ends_a_chain_unless_it_is_suppressed() {
        let mut pair = Pair::ready();
        let sense = |flags| [Ccw::new(0x04, flags, 5, 0), NOP];
        let status = pair.run(0, &sense(CcwFlags::CC));
        assert_eq!((status.subchannel, status.residual_bytes), (SUBCHANNEL_INCORRECT_LENGTH, 3));
        assert_eq!(status.ccw_address, 8);
        let status = pair.run(0, &sense(CcwFlags::CC.with(CcwFlags::SLI)));
        assert!(usual(status) && status.ccw_address == 16);
    }

    #[test]
    fn an_unusual_status_ends_a_chain() {
        let mut pair = Pair::ready();
        pair.start(1, &[Ccw::new(0x02, CcwFlags::NONE, 9, 0)]);
        assert_eq!(
            pair.test(0).map(|status| (status.unit, status.unsolicited)),
            Some((UnitStatus::ATTENTION, true))
        );
        let status = pair.run(0, &[Ccw::new(0x02, CcwFlags::CC, 9, 0), NOP]);
        assert_eq!((status.unit, status.ccw_address), (UnitStatus::COLLISION, 8));
    }

    #[test]
    fn bad_programs_end_with_program_check() {
        let mut pair = Pair::ready();
        let chained = Ccw::new(0x03, CcwFlags::CC, 1, 0);
        let programs: [&[Ccw]; 8] = [
            &[],
            &[chained],
            &[Ccw::new(0x10, CcwFlags::NONE, 1, 0)],
            &[Ccw::new(0x02, CcwFlags::NONE, 0, 0)],
            &[Ccw::new(0x02, CcwFlags::CD, 1, 0)],
            &[Ccw::transfer(0)],
            &[chained, Ccw::transfer(9)],
            &[chained, Ccw::transfer(1)],
        ];
        for program in programs {
            let status = pair.run(0, program);
            assert_eq!(status.subchannel, SUBCHANNEL_PROGRAM_CHECK, "{program:?}");
        }
        assert!(usual(pair.run(0, &[NOP])), "and the subchannel works on");
    }

    #[test]
    fn a_loop_of_transfers_ends_and_a_jump_goes_on() {
        let mut pair = Pair::ready();
        let chained = Ccw::new(0x03, CcwFlags::CC, 1, 0);
        let status = pair.run(0, &[chained, Ccw::transfer(0)]);
        assert_eq!(status.subchannel, SUBCHANNEL_PROGRAM_CHECK);
        assert!(usual(pair.run(0, &[chained, Ccw::transfer(3), NOP, NOP])));
        let looped = Ccw::new(0x02, CcwFlags::CD, 1, 0);
        let status = pair.run(0, &[looped, Ccw::transfer(0)]);
        assert_eq!(status.subchannel, SUBCHANNEL_PROGRAM_CHECK);
    }

    #[test]
    fn a_start_while_running_or_pending_is_refused() {
        let mut pair = Pair::ready();
        let read = [Ccw::new(0x02, CcwFlags::NONE, 9, 0)];
        pair.start(0, &read);
        assert_eq!(pair.channels[0].start(&read, &mut Vec::new()), Err(StartError::Busy));
        assert_eq!(pair.channels[1].start(&read, &mut Vec::new()), Err(StartError::StatusPending));
        assert_eq!(
            Pair::ready().channels[0].start(&[NOP; CCWS_MAX + 1], &mut Vec::new()),
            Err(StartError::Words(CCWS_MAX + 1))
        );
    }

    #[test]
    fn halt_leaves_a_status_and_clear_does_not() {
        for (kind, left) in [(Reset::Halt, true), (Reset::Clear, false)] {
            let mut pair = Pair::ready();
            pair.start(0, &[Ccw::new(0x02, CcwFlags::CC, 9, 0), NOP]);
            let mut out = Vec::new();
            pair.channels[0].reset(kind, &mut out);
            pair.pass_on(0, out);
            assert!(!pair.channels[0].is_running());
            assert_eq!(pair.test(0).is_some(), left, "{kind:?}");
            assert!(pair.channels[0].start(&[NOP], &mut Vec::new()).is_ok());
        }
    }

    #[test]
    fn a_program_controlled_interruption_is_told_with_its_word() {
        let mut pair = Pair::ready();
        pair.run(0, &[Ccw::new(0x03, CcwFlags::CC, 1, 0), Ccw::new(0x03, CcwFlags::PCI, 1, 0)]);
        assert!(pair.effects[0].contains(&ChannelEffect::Intermediate(1)));
    }
}
