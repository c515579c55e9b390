//! How long FICON takes: the timing of channel programs on channels of several generations.
//!
//! ```text
//!   device 0 ─┐                                  one channel: an engine that handles frames one after the
//!   device 1 ─┤   ┌──────────┐    ┌─────────┐    other, and a fibre for each direction; its devices share
//!   device 2 ─┼──▶│  engine  │───▶│  fibre  │──▶ both. A device runs one program at a time.
//!   device 3 ─┘   └──────────┘    └─────────┘
//! ```
//!
//! The model is used twice: [`Simulation`] runs a logical link in virtual time, and a [`Pacer`] holds real devices
//! to it.

mod generation;
mod layout;
mod pacer;
mod simulation;

pub use generation::{Generation, Timing};
pub use layout::{Layout, LayoutError};
pub use pacer::Pacer;
pub use simulation::{DeviceFigures, Simulation};
