//! Guest storage and everything about its pages: which were touched, which were written, what they hold.
//!
//! ```text
//!                 ┌────────────── Storage: one sparse memfd, mapped ──────────────┐
//!   WorkloadGuest │ writes pages (number, version, checksum in each)              │
//!                 └───┬──────────────────────┬─────────────────────────┬──────────┘
//!            touched()│             harvest()│                  content│
//!                     ▼                      ▼                         ▼
//!             Runs of pages         DirtyTracker: uffd       zero test, copy + hash
//!          (set algebra, chunks)    or software bitmap       at memory speed
//! ```
//!
//! Bookkeeping is by [`Runs`], never by single pages, so a guest of 1 TiB that touched 1 GiB costs what a guest of
//! 1 GiB costs. Nothing here knows of networks or of relocation: the engine above does.

mod content;
mod page;
mod parallel;
mod runs;
mod sparse;
mod storage;
mod tracker;
pub mod units;
mod workload;

pub use content::{
    PageContent, copy_zero, copy_zero_hash, copy_zero_hash_pages, hash_page, hash_pages, is_zero, zero_mask,
    zero_page_hash, zero_pages,
};
pub use page::{PAGE_SIZE, PageCount, PageNumber};
pub use runs::{ChunkPlan, Run, Runs};
pub use storage::{
    Backing, HUGE_PAGE_SIZE, MemoryAvailable, MemoryNeed, STORAGE_BYTES_MAX, STORAGE_BYTES_MIN, Storage,
    StorageError, StorageOptions, check_fits,
};
pub use tracker::{
    DirtyTracker, HarvestStats, PickedTracker, ScanMode, SoftwareBitmap, SoftwareTracker, TrackerChoice,
    TrackerError, TrackerKind, UffdTracker, pick_tracker, probe,
};
pub use workload::{
    BATCH_BYTES_MAX, BATCH_PAGES_MAX, ContentMix, DIRTY_RATE_MAX_BYTES_PER_S, FaultKind, Gap, Manifest,
    ManifestBatch, ManifestError, PageFault, Pattern, Phase, PhaseStats, STATE_BYTES_MAX, VCPUS_MAX,
    Verifier, WorkloadError, WorkloadGuest, WorkloadOptions, WorkloadStats, fill,
};
