//! What goes into an adapter from its channel, and what an adapter wants done.

use super::command::Command;
use super::frame::Frame;
use super::status::UnitStatus;

/// The caller's name for where a command's data is; the adapter only hands it back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DataHandle(pub u64);

/// A command as the channel gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The command byte.
    pub code: u8,
    /// Bytes to read or write, at most [`COUNT_BYTES_MAX`](super::frame::COUNT_BYTES_MAX).
    pub count_bytes: u32,
    /// Another command follows when this one ends well (command chaining).
    pub chained: bool,
    /// Its data.
    pub data: DataHandle,
}

/// Why a side is reset. All of them do the same to the pair; halt leaves an ending status that the
/// program has to fetch, the others clear the subchannel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// Halt subchannel.
    Halt,
    /// Clear subchannel.
    Clear,
    /// Selective reset.
    Selective,
    /// System reset.
    System,
}

/// Where a Write's data is when it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// It follows the frame just received.
    Arriving,
    /// It was kept since [`Effect::Hold`].
    Held,
}

/// Bytes an adapter makes itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// The sense bytes.
    Sense([u8; 2]),
    /// The partner's command byte.
    CommandByte(u8),
    /// [`Identity::sense_id`](super::Identity::sense_id).
    SenseId,
    /// [`Identity::configuration`](super::Identity::configuration).
    Configuration,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Which command.
    pub command: Command,
    /// Its data handle.
    pub data: DataHandle,
    /// The last status: device end alone, if channel end came before.
    pub status: UnitStatus,
    /// Count not used. A Write that ended well has none, however little the Read took.
    pub residual_bytes: u32,
    /// Bytes that went across.
    pub moved_bytes: u32,
}

/// What an adapter wants done, in this order.
///
/// A frame with payload brings exactly one of [`Store`](Self::Store) (arriving), [`Hold`](Self::Hold) and
/// [`Discard`](Self::Discard) (arriving); what is held is later stored or discarded, once. At most one
/// Write's data is held at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send the frame, and `payload_bytes` of this data behind it.
    Transmit(Frame, DataHandle),
    /// Put the first `bytes` of the payload there, and drop the rest.
    Store {
        /// The Read's data.
        to: DataHandle,
        /// How many.
        bytes: u32,
        /// Where they are.
        source: Source,
    },
    /// Keep the arriving payload.
    Hold,
    /// Drop the payload.
    Discard(Source),
    /// Put the first `bytes` of the record there.
    Reply {
        /// The command's data.
        to: DataHandle,
        /// What.
        record: Record,
        /// How many.
        bytes: u32,
    },
    /// Channel end, before device end: the command goes on without the channel.
    ChannelEnd(DataHandle),
    /// A command ended.
    Ended(Ending),
    /// A status that belongs to no command: attention, device end, or both.
    Unsolicited(UnitStatus),
}
