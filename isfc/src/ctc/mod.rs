//! The FICON channel-to-channel adapter (CTC): two systems' channels, back to back, without any I/O.
//!
//! Each side of a device pair is an [`Adapter`]. A command of the local channel goes in; an ending status
//! for the channel and a [`Frame`] for the other side come out. A Write here completes against a Read there.
//!
//! ```text
//!      system A                                                      system B
//!  ┌───────────────┐ command  ┌─────────┐    Frame    ┌─────────┐ command ┌───────────────┐
//!  │ Channel       ├─────────>│ Adapter ├────────────>│ Adapter │<────────┤       Channel │
//!  │ runs programs │<─────────┤ state x │<────────────┤ state y ├────────>│ runs programs │
//!  └───────────────┘  status  └─────────┘ any medium  └─────────┘ status  └───────────────┘
//!   PREPARE -CC-> WRITE         [table]     [frame]                          READ
//! ```
//!
//! What a command does stands in [`table`], as data. Two commands may cross on the wire, each side
//! believing itself first; how both sides then come to the same end is told at [`Adapter::receive`].
//!
//! A Write's data travels behind its frame and is kept by the other side until it reads. The program of
//! [`WriteProgram`] prepares first, so that its data only leaves when a Read is there to take it.
//!
//! # Where the manuals' facts leave a choice
//! - **X'34'** is given as a code of Sense Command Byte, but does not fit its pattern: invalid.
//! - **Prepare in basic mode** is invalid; it belongs to extended mode.
//! - **A mode setting** that ends with unit check or busy and attention changes nothing.
//! - **A new connection** starts with both sides not ready; a side is ready when it first says something.
//!   A channel whose command was refused for want of a connection gets device end when there is one.
//! - **An end of file** is forgotten at a reset of either side, and by a command that is accepted, not by
//!   one that is refused as busy. It does not outlive the connection.
//! - **A reset that crosses commands** of the partner makes them void, whichever side is the winner.
//! - **Attention held back by a command chain** is presented at the chain's end, if the chain has not
//!   noticed and the partner still waits: dropped, it would leave the partner waiting for ever.
//! - **A Write that ended well** has no residual count, however little was read. How much was is in
//!   [`Ending::moved_bytes`].

mod adapter;
pub mod channel;
pub mod command;
mod contention;
mod effect;
pub mod frame;
mod identity;
pub mod program;
mod receive;
pub mod status;
pub mod table;

pub use adapter::{Adapter, CommandError};
pub use channel::{Area, Channel, ChannelEffect, StartError, SubchannelStatus};
pub use command::{Command, Mode};
pub use contention::{Endpoint, Role};
pub use effect::{DataHandle, Effect, Ending, Record, Request, Reset, Source};
pub use frame::{Frame, FrameError};
pub use identity::{CONFIGURATION_LEN_BYTES, Identity, Model, SENSE_ID_LEN_BYTES};
pub use program::{Ccw, CcwFlags, PROGRAM_PAYLOAD_BYTES, ProgramError, WriteProgram};
pub use receive::PartnerError;
pub use status::{Sense, UnitStatus};
pub use table::State;
