//! The relocation engine: it moves a running guest's memory between two members, pass by pass.
//!
//! ```text
//!              policy   when to stop the guest              owner    who runs it
//!                │      (another pass? quiesce?)              │      (one atomic change)
//!                ▼                                            ▼
//!  source ── pass 1 ── pass 2 … n ── quiesce ── final pass ── commit ── resumed at the destination
//!                ▲                                                          │
//!              limit    bytes per second for all queues                     ▼
//!                                                                        report   what happened
//! ```
//!
//! What decides has no I/O and no clock: [`source::Source`], [`destination::Destination`] and
//! [`policy::PassPolicy`]. What acts is the [`driver`], with the data plane in [`feed`] (passes the
//! devices pull from) and [`arrivals`] (what the devices have placed).
//!
//! - [`guest`]: what can be relocated; [`workload`]: the workload guest as one;
//! - [`message`]: what the two sides say to each other;
//! - [`owner`]: the record on the shared volume that says who runs a guest;
//! - [`policy`]: the rule that decides between another pass, quiesce and giving up;
//! - [`codec`]: packed pages where the link is the limit;
//! - [`limit`]: one rate limit for all queues together;
//! - [`event`]: progress while it goes on; [`report`]: what it leaves behind, as JSON and as a table;
//! - [`fault`]: faults on purpose, for tests.

pub mod arrivals;
pub mod codec;
pub mod destination;
pub mod driver;
pub mod event;
pub mod fault;
pub mod feed;
pub mod guest;
pub mod limit;
pub mod message;
pub mod owner;
pub mod policy;
pub mod report;
pub mod source;
pub mod workload;
