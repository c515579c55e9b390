//! What two adapter sides say to each other: 32 bytes, and behind a Write its data.
//!
//! Little-endian throughout; zero is never a valid state, so a frame of zeros is none.
//!
//! ```text
//!  0      2         3       4         5       6     8        12        16         24         32
//!  ┌──────┬─────────┬───────┬─────────┬───────┬─────┬────────┬─────────┬──────────┬──────────┐
//!  │ "CT" │ version │ flags │ command │ state │  0  │ count  │ payload │ sequence │   seen   │
//!  └──────┴─────────┴───────┴─────────┴───────┴─────┴────────┴─────────┴──────────┴──────────┘
//! ```
//!
//! `seen` is the sequence number of the last frame the sender had processed when it decided on this
//! one. It is what tells a command that answers from one that crossed on the wire.

use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::table::State;

/// First two bytes of every frame.
pub const MAGIC: [u8; 2] = *b"CT";
/// Version of the layout and of the rules.
pub const VERSION: u8 = 1;
/// Size of a frame without its payload, in bytes.
pub const FRAME_LEN_BYTES: usize = 32;
/// Most bytes one command may read or write.
pub const COUNT_BYTES_MAX: u32 = 1 << 20;

const FLAG_MATCHES: u8 = 0x01;
const FLAG_WAITS: u8 = 0x02;
const FLAG_ATTENTION: u8 = 0x04;
const FLAG_BASIC: u8 = 0x08;
const FLAG_RESET: u8 = 0x10;
const FLAG_REFUSED: u8 = 0x20;
const FLAGS_KNOWN: u8 = 0x3F;

/// What one side did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Number of this frame since the connection was made, from 1.
    pub sequence: u64,
    /// Number of the last frame of the other side this one knows of.
    pub seen: u64,
    /// The command byte; zero in a reset.
    pub command: u8,
    /// The sender's state now.
    pub state: State,
    /// Bytes the command may read or write.
    pub count_bytes: u32,
    /// Bytes that follow: a Write's data.
    pub payload_bytes: u32,
    /// M: completes the receiver's outstanding command.
    pub matches: bool,
    /// w: the sender waits.
    pub waits: bool,
    /// a: Attention to the receiver.
    pub attention: bool,
    /// The sender was in basic mode.
    pub basic: bool,
    /// Not a command: the sender was reset.
    pub reset: bool,
    /// The command ended with unit check, because the sender took the receiver to be not ready.
    pub refused: bool,
}

/// Why bytes are not a frame. Each is the end of the connection they came on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Fewer bytes than a frame has.
    #[error("CTC frame of {0} bytes, {FRAME_LEN_BYTES} expected")]
    Len(usize),
    /// The first two bytes are wrong.
    #[error("not a CTC frame: it starts with {0:02x?}, not with \"CT\"")]
    Magic([u8; 2]),
    /// Another version.
    #[error("CTC frame of version {0}, only {VERSION} is known")]
    Version(u8),
    /// A flag this version does not know, or a reserved byte that is not zero.
    #[error("CTC frame with unknown flags {0:#04x} or reserved bytes")]
    Flags(u8),
    /// No state has this number.
    #[error("CTC frame with unknown state {0}")]
    State(u8),
    /// A count above the limit, or more payload than count.
    #[error("CTC frame counts {count_bytes} bytes and brings {payload_bytes}, at most {COUNT_BYTES_MAX}")]
    Count {
        /// The command's count.
        count_bytes: u32,
        /// What follows.
        payload_bytes: u32,
    },
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct WireFrame {
    magic: [u8; 2],
    version: u8,
    flags: u8,
    command: u8,
    state: u8,
    reserved: U16,
    count: U32,
    payload: U32,
    sequence: U64,
    seen: U64,
}

const _: () = assert!(size_of::<WireFrame>() == FRAME_LEN_BYTES);

fn state_number(state: State) -> u8 {
    match state {
        State::Prepare => 1,
        State::Control => 2,
        State::Read => 3,
        State::Write => 4,
        State::Available => 5,
        State::NotReady => 6,
    }
}

fn state_of(number: u8) -> Option<State> {
    [State::Prepare, State::Control, State::Read, State::Write, State::Available, State::NotReady]
        .into_iter()
        .find(|state| state_number(*state) == number)
}

impl Frame {
    /// The frame as it stands on the wire.
    pub fn encode(&self) -> [u8; FRAME_LEN_BYTES] {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let flags = flag(self.matches, FLAG_MATCHES)
            | flag(self.waits, FLAG_WAITS)
            | flag(self.attention, FLAG_ATTENTION)
            | flag(self.basic, FLAG_BASIC)
            | flag(self.reset, FLAG_RESET)
            | flag(self.refused, FLAG_REFUSED);
        let wire = WireFrame {
            magic: MAGIC,
            version: VERSION,
            flags,
            command: self.command,
            state: state_number(self.state),
            reserved: 0.into(),
            count: self.count_bytes.into(),
            payload: self.payload_bytes.into(),
            sequence: self.sequence.into(),
            seen: self.seen.into(),
        };
        zerocopy::transmute!(wire)
    }

    /// Reads a frame. Whether it makes sense now is for [`Adapter::receive`](super::Adapter::receive).
    ///
    /// # Errors
    /// [`FrameError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        let wire = WireFrame::ref_from_bytes(bytes).map_err(|_| FrameError::Len(bytes.len()))?;
        if wire.magic != MAGIC {
            return Err(FrameError::Magic(wire.magic));
        }
        if wire.version != VERSION {
            return Err(FrameError::Version(wire.version));
        }
        if wire.flags & !FLAGS_KNOWN != 0 || wire.reserved.get() != 0 {
            return Err(FrameError::Flags(wire.flags));
        }
        let state = state_of(wire.state).ok_or(FrameError::State(wire.state))?;
        let (count_bytes, payload_bytes) = (wire.count.get(), wire.payload.get());
        if count_bytes > COUNT_BYTES_MAX || payload_bytes > count_bytes {
            return Err(FrameError::Count { count_bytes, payload_bytes });
        }
        Ok(Self {
            sequence: wire.sequence.get(),
            seen: wire.seen.get(),
            command: wire.command,
            state,
            count_bytes,
            payload_bytes,
            matches: wire.flags & FLAG_MATCHES != 0,
            waits: wire.flags & FLAG_WAITS != 0,
            attention: wire.flags & FLAG_ATTENTION != 0,
            basic: wire.flags & FLAG_BASIC != 0,
            reset: wire.flags & FLAG_RESET != 0,
            refused: wire.flags & FLAG_REFUSED != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_frame() -> Frame {
        Frame {
            sequence: 0x0102,
            seen: 7,
            command: 0x01,
            state: State::Write,
            count_bytes: 4096,
            payload_bytes: 4096,
            matches: false,
            waits: true,
            attention: true,
            basic: false,
            reset: false,
            refused: false,
        }
    }

    #[test]
    fn golden_bytes() {
        let golden = [
            0x43, 0x54, 0x01, 0x06, 0x01, 0x04, 0, 0, 0, 0x10, 0, 0, 0, 0x10, 0, 0, //
            0x02, 0x01, 0, 0, 0, 0, 0, 0, 0x07, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(write_frame().encode(), golden);
        assert_eq!(Frame::decode(&golden), Ok(write_frame()));
    }

    #[test]
    fn bad_bytes_are_errors() {
        let spoilt = |at: usize, value: u8| {
            let mut bytes = write_frame().encode();
            bytes[at] = value;
            Frame::decode(&bytes).unwrap_err()
        };
        assert_eq!(Frame::decode(&[0; 5]), Err(FrameError::Len(5)));
        assert_eq!(spoilt(0, 0), FrameError::Magic([0, b'T']));
        assert_eq!(spoilt(2, 2), FrameError::Version(2));
        assert_eq!(spoilt(3, 0x40), FrameError::Flags(0x40));
        assert_eq!(spoilt(6, 1), FrameError::Flags(6));
        assert_eq!(spoilt(5, 0), FrameError::State(0));
        assert_eq!(spoilt(5, 7), FrameError::State(7));
        assert!(matches!(spoilt(10, 0x20), FrameError::Count { .. }));
        assert!(matches!(spoilt(13, 0x11), FrameError::Count { .. }));
    }
}
