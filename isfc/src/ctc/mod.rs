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
