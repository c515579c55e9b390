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
//! - [`owner`]: the record on the shared volume that says who runs a guest;
//! - [`policy`]: the rule that decides between another pass, quiesce and giving up;
//! - [`limit`]: one rate limit for all queues together;
//! - [`report`]: what a relocation leaves behind, as JSON with a schema and as a table.

pub mod limit;
pub mod owner;
pub mod policy;
pub mod report;
