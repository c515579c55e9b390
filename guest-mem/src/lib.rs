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
//!
//! ```
//! use std::sync::Arc;
//! use guest_mem::{PageNumber, Runs, Storage, StorageOptions, TrackerChoice, pick_tracker};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let storage = Arc::new(Storage::create(&StorageOptions::small(64 << 20))?);
//! // userfaultfd where this machine has it, else a bitmap that the writer marks.
//! let mut picked = pick_tracker(&storage, TrackerChoice::Auto)?;
//! let memory = picked.writer(&storage);
//! picked.tracker.start()?;
//! for page in [7, 8, 9, 4000] {
//!     memory.write(PageNumber(page), 0, b"written");
//! }
//! let mut written = Runs::new();
//! picked.tracker.harvest(&mut written)?;
//! assert_eq!((written.pages().get(), written.iter().count()), (4, 2));
//! // Cut for sending, into chunks of at most 256 pages in at most 64 runs each.
//! for chunk in written.plan_chunks(256, 64) {
//!     let stretches: Vec<_> = written.chunk(&chunk).map(|run| (run.offset_bytes(), run.bytes())).collect();
//!     assert_eq!(stretches, [(7 * 4096, 3 * 4096), (4000 * 4096, 4096)]);
//! }
//! # Ok(())
//! # }
//! ```

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
    PREFETCH_RUN_PAGES_MAX, PageContent, any_zero_of, copy_zero, copy_zero_hash, copy_zero_hash_pages,
    hash_page, hash_pages, is_zero, prefetch_scattered, zero_mask, zero_page_hash, zero_pages,
};
pub use page::{PAGE_SIZE, PageCount, PageNumber};
pub use runs::{ChunkPlan, Run, Runs};
pub use storage::{
    Backing, HUGE_PAGE_SIZE, MemoryAvailable, MemoryNeed, STORAGE_BYTES_MAX, STORAGE_BYTES_MIN, Storage,
    StorageError, StorageOptions, check_fits,
};
pub use tracker::{
    DirtyTracker, HarvestStats, PickedTracker, ScanMode, SecondMapping, SoftwareBitmap, SoftwareTracker,
    TrackedWriter, TrackerChoice, TrackerError, TrackerKind, UffdTracker, check_inside, pick_tracker, probe,
};
pub use workload::{
    BATCH_BYTES_MAX, BATCH_PAGES_MAX, ContentMix, DIRTY_RATE_MAX_BYTES_PER_S, FaultKind, Gap, Manifest,
    ManifestBatch, ManifestError, PageFault, Pattern, Phase, PhaseStats, STATE_BYTES_MAX, VCPUS_MAX,
    Verifier, WorkloadError, WorkloadGuest, WorkloadOptions, WorkloadStats, fill,
};
