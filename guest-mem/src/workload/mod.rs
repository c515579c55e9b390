//! A guest made for measuring: writer threads as virtual CPUs, pages that can prove themselves, a clock of its own.
//!
//! ```text
//!   WorkloadOptions ──▶ fill ──▶ Storage ◀── write ── vcpu-0 … vcpu-N ── tick every 500 µs ──▶ WorkloadStats
//!                                   │                    │ state ≤ 64 KiB
//!   source: Manifest (version, hash per page)            ▼
//!                   └────────────▶ Verifier ◀── ledger of the vCPUs at the destination ──▶ PageFault: lost, stale, torn, …
//! ```
//!
//! The vCPUs write at a rate asked for, whatever the relocation does to them (open loop); intended and achieved
//! bytes are both counted. Each writes its own share of the working set, so a page has one writer and its
//! version only grows.

mod alone;
mod clock;
mod control;
mod error;
mod fill;
mod generate;
mod guest;
mod layout;
mod ledger;
mod machine;
mod manifest;
mod meter;
mod options;
mod page_format;
mod pattern;
mod state;
mod text;
mod vcpu;
mod verify;

pub use error::WorkloadError;
pub use fill::fill;
pub use guest::WorkloadGuest;
pub use manifest::{BATCH_BYTES_MAX, BATCH_PAGES_MAX, Manifest, ManifestBatch, ManifestError};
pub use meter::{Gap, Phase, PhaseStats, WorkloadStats};
pub use options::{ContentMix, DIRTY_RATE_MAX_BYTES_PER_S, Pattern, VCPUS_MAX, WorkloadOptions};
pub use state::STATE_BYTES_MAX;
pub use verify::{FaultKind, PageFault, Verifier};

#[cfg(test)]
mod guest_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod vcpu_tests;
#[cfg(test)]
mod verify_tests;
