//! Channel programs: lists of channel command words, and the one a link writes all its data with.

use super::frame::COUNT_BYTES_MAX;

/// Size of a channel command word, by which addresses in a program count.
pub const CCW_LEN_BYTES: u32 = 8;
/// Most words a program may have, and most that one start may run through.
pub const CCWS_MAX: usize = 1024;
/// Payload of one [`WriteProgram`]: 185 pages. IBM measured 342 MB/s at 450 start-subchannels a second.
pub const PROGRAM_PAYLOAD_BYTES: u32 = crate::frame::PROGRAM_PAYLOAD_BYTES as u32;
/// Most segments of one [`WriteProgram`].
pub const PROGRAM_SEGMENTS_MAX: usize = 256;
/// The longest stretch of one data-chained word: 15 pages, the most whole ones its 16-bit count can say.
const SEGMENT_BYTES_MAX: u32 = 15 * 4096;

const _: () = assert!(PROGRAM_PAYLOAD_BYTES <= COUNT_BYTES_MAX && PROGRAM_SEGMENTS_MAX < CCWS_MAX);
const _: () = assert!(2 * crate::frame::EXTENTS_MAX < CCWS_MAX);

const WRITE: u8 = 0x01;
const PREPARE: u8 = 0xE3;

/// Flags of a channel command word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CcwFlags(pub u8);

impl CcwFlags {
    /// None.
    pub const NONE: Self = Self(0);
    /// Data chaining: the next word goes on with this command's data.
    pub const CD: Self = Self(0x80);
    /// Command chaining: the next word is the next command.
    pub const CC: Self = Self(0x40);
    /// Suppress the incorrect-length indication.
    pub const SLI: Self = Self(0x20);
    /// Skip: a read's bytes go nowhere.
    pub const SKIP: Self = Self(0x10);
    /// Program-controlled interruption when this word is reached.
    pub const PCI: Self = Self(0x08);

    /// Both sets of flags.
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// All flags of `other` are set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// A channel command word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ccw {
    /// Command byte; `xxxx1000` is transfer in channel, whose `address` is 8 times a word's index.
    pub command: u8,
    /// Its flags.
    pub flags: CcwFlags,
    /// Bytes; never zero, except in a transfer in channel.
    pub count_bytes: u16,
    /// Where the data is, in whatever way the caller counts.
    pub address: u64,
}

impl Ccw {
    /// A word.
    pub const fn new(command: u8, flags: CcwFlags, count_bytes: u16, address: u64) -> Self {
        Self { command, flags, count_bytes, address }
    }

    /// Transfer in channel: go on at word `index`.
    pub const fn transfer(index: u32) -> Self {
        Self::new(0x08, CcwFlags::NONE, 0, index as u64 * CCW_LEN_BYTES as u64)
    }

    /// It is a transfer in channel.
    pub const fn is_transfer(&self) -> bool {
        self.command & 0x0F == 0x08
    }
}

/// Why a segment does not fit into a [`WriteProgram`]: start this one and begin the next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// More payload than a program may have.
    #[error("{len_bytes} bytes do not fit, the program has room for {room_bytes}")]
    Full {
        /// The segment's length.
        len_bytes: u32,
        /// What is left.
        room_bytes: u32,
    },
    /// More segments than a program may have.
    #[error("the program has no room for another segment")]
    Segments,
    /// A segment of no bytes.
    #[error("empty segment")]
    Empty,
}

/// The program a link's queue writes with: `PREPARE` chained to a `WRITE` over all segments.
///
/// The Prepare keeps the Write back until the partner reads, so that its data goes straight to that Read.
/// It does not prevent collisions: two sides that both prepare free each other, both write, and one of
/// them ends with busy and attention. Allocates when it is made and never again.
///
/// ```text
///  PREPARE CC │ WRITE CD segment 0 │ CD segment 1 │ … │ segment n
/// ```
#[derive(Debug)]
pub struct WriteProgram {
    ccws: Vec<Ccw>,
    len_bytes: u32,
    len_bytes_max: u32,
    segments_max: usize,
}

impl Default for WriteProgram {
    fn default() -> Self {
        Self::new()
    }
}

impl WriteProgram {
    /// An empty program, for as much payload as IBM's.
    pub fn new() -> Self {
        Self::with_room(PROGRAM_PAYLOAD_BYTES, PROGRAM_SEGMENTS_MAX)
    }

    /// An empty program with room for the longest frame of a link: header, extents and all they cover. Pages fill it no
    /// further than [`Self::new`] would allow; a long message may.
    pub(crate) fn for_frames() -> Self {
        use crate::frame::{BODY_LEN_BYTES_MAX, EXTENT_LEN_BYTES, EXTENTS_MAX, HEADER_LEN_BYTES};
        let len_bytes = HEADER_LEN_BYTES + EXTENTS_MAX * EXTENT_LEN_BYTES + BODY_LEN_BYTES_MAX as usize;
        let split = len_bytes / SEGMENT_BYTES_MAX as usize;
        Self::with_room(len_bytes as u32, 2 + EXTENTS_MAX + split)
    }

    fn with_room(len_bytes_max: u32, segments_max: usize) -> Self {
        let mut ccws = Vec::with_capacity(1 + segments_max);
        ccws.push(Ccw::new(PREPARE, CcwFlags::CC.with(CcwFlags::SLI), 1, 0));
        Self { ccws, len_bytes: 0, len_bytes_max, segments_max }
    }

    /// Most data-chained words it takes.
    pub fn segments_max(&self) -> usize {
        self.segments_max
    }

    /// Empties it for the next start.
    pub fn clear(&mut self) {
        self.ccws.truncate(1);
        self.len_bytes = 0;
    }

    /// Adds `len_bytes` at `address`; nothing is added on error.
    ///
    /// # Errors
    /// [`ProgramError`].
    pub fn push(&mut self, address: u64, len_bytes: u32) -> Result<(), ProgramError> {
        let room_bytes = self.room_bytes();
        if len_bytes == 0 {
            return Err(ProgramError::Empty);
        }
        if len_bytes > room_bytes {
            return Err(ProgramError::Full { len_bytes, room_bytes });
        }
        let words = len_bytes.div_ceil(SEGMENT_BYTES_MAX) as usize;
        if self.ccws.len() + words > 1 + self.segments_max {
            return Err(ProgramError::Segments);
        }
        let (mut at, mut left_bytes) = (address, len_bytes);
        while left_bytes > 0 {
            let count = left_bytes.min(SEGMENT_BYTES_MAX);
            if self.ccws.len() > 1
                && let Some(last) = self.ccws.last_mut()
            {
                last.flags = CcwFlags::CD;
            }
            self.ccws.push(Ccw::new(WRITE, CcwFlags::NONE, count as u16, at));
            at = at.wrapping_add(u64::from(count));
            left_bytes -= count;
        }
        self.len_bytes += len_bytes;
        Ok(())
    }

    /// Payload so far, in bytes.
    pub fn len_bytes(&self) -> u32 {
        self.len_bytes
    }

    /// It has no payload, and cannot be started: its Prepare would chain to nothing.
    pub fn is_empty(&self) -> bool {
        self.len_bytes == 0
    }

    /// Payload it still takes, in bytes.
    pub fn room_bytes(&self) -> u32 {
        self.len_bytes_max - self.len_bytes
    }

    /// The program.
    pub fn ccws(&self) -> &[Ccw] {
        &self.ccws
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_chained_by_data_and_the_last_ends_the_program() {
        let mut program = WriteProgram::new();
        program.push(0x1000, 4096).unwrap();
        program.push(0x9000, 8192).unwrap();
        let words = [
            Ccw::new(0xE3, CcwFlags(0x60), 1, 0),
            Ccw::new(0x01, CcwFlags::CD, 4096, 0x1000),
            Ccw::new(0x01, CcwFlags::NONE, 8192, 0x9000),
        ];
        assert_eq!(program.ccws(), words);
        program.clear();
        assert!(program.is_empty() && program.ccws() == &words[..1]);
    }

    #[test]
    fn it_takes_185_pages_and_never_allocates_again() {
        let mut program = WriteProgram::new();
        let place = program.ccws().as_ptr();
        for _ in 0..3 {
            program.clear();
            program.push(0, PROGRAM_PAYLOAD_BYTES).unwrap();
            assert_eq!(program.ccws().len(), 1 + 13);
            assert_eq!(program.push(0, 1), Err(ProgramError::Full { len_bytes: 1, room_bytes: 0 }));
            program.clear();
            for page in 0..185 {
                program.push(page * 8192, 4096).unwrap();
            }
            program.clear();
            for byte in 0..PROGRAM_SEGMENTS_MAX as u64 {
                program.push(byte * 2, 1).unwrap();
            }
            assert_eq!(program.push(0, 1), Err(ProgramError::Segments));
            assert_eq!(program.push(0, 0), Err(ProgramError::Empty));
        }
        assert_eq!(program.ccws().as_ptr(), place);
    }
}
