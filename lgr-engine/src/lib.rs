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
//! - [`trace`]: what a guest wrote and when, recorded; [`replay`]: any rule tried on it, in virtual time;
//! - [`limit`]: one rate limit for all queues together;
//! - [`event`]: progress while it goes on; [`report`]: what it leaves behind, as JSON and as a table;
//! - [`fault`]: faults on purpose, for tests.
//!
//! A guest that writes 100 MB in a second moves from one thread to another; between two machines, the same is done by
//! [`driver::relocate`] on one and [`driver::receive`] on the other:
//!
//! ```
//! use std::sync::Arc;
//! use guest_mem::{ContentMix, Pattern, Storage, StorageOptions, TrackerChoice, WorkloadOptions};
//! use lgr_engine::driver::{SourceOptions, relocate_in_process};
//! use lgr_engine::event::Silent;
//! use lgr_engine::guest::Guest;
//! use lgr_engine::owner::MemberName;
//! use lgr_engine::report::RunsOn;
//! use lgr_engine::workload::{Workload, WorkloadFactory};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let options = WorkloadOptions {
//!     pattern: Pattern::Uniform,
//!     dirty_rate_bytes_per_s: 100_000_000,
//!     working_set_bytes: None,
//!     touched_bytes: 16 << 20,
//!     content: ContentMix::Realistic,
//!     seed: 1,
//!     vcpus: 1,
//! };
//! let storage = Arc::new(Storage::create(&StorageOptions::small(16 << 20))?);
//! let mut guest = Workload::build(storage, options, TrackerChoice::Auto, &|_| ())?;
//! guest.resume()?;
//! let options = SourceOptions::new(MemberName::new("HERE")?);
//! let report = relocate_in_process(&mut guest, &mut WorkloadFactory::new(false), options, &Silent)?;
//! assert_eq!(report.runs_on, RunsOn::Destination);
//! assert_eq!(report.verified, Some(true), "every page was compared");
//! # Ok(())
//! # }
//! ```

pub mod arrivals;
mod calm;
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
pub mod replay;
pub mod report;
pub mod source;
pub mod trace;
pub mod workload;
