//! Which pages did the guest write since I last asked? One trait, two answers.
//!
//! ```text
//!              guest writes                           harvest = clear, then tell
//!   uffd      page table loses its write-protect bit   PAGEMAP_SCAN: read + protect again, in one step per page
//!   software  writer sets a bit after its write        swap each word of the bitmap with zero
//! ```
//!
//! The mark is cleared **before** the page is read, so a write in between shows up in the next harvest. What was
//! harvested and then not delivered is the caller's to remember (`Runs::union`). Writes from before
//! [`DirtyTracker::start`] are not reported: the first pass sends [`Storage::touched`](crate::Storage::touched),
//! read *after* `start`.

mod pick;
mod scan;
mod second;
mod software;
mod uffd;
mod uffd_sys;
mod writer;

pub use pick::{PickedTracker, TrackerChoice, pick_tracker, probe};
pub use scan::ScanMode;
pub(crate) use scan::{huge_runs, present_runs};
pub use second::SecondMapping;
pub use software::{SoftwareBitmap, SoftwareTracker};
pub use uffd::UffdTracker;
pub use writer::TrackedWriter;

use crate::page::PageCount;
use crate::runs::{Run, Runs};
use crate::storage::StorageError;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;

/// The ways to track writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrackerKind {
    /// userfaultfd write-protect-async with `PAGEMAP_SCAN` (Linux 6.7): sees every write through the mapping, and none through
    /// another ([`SecondMapping`]).
    UffdAsync,
    /// A bitmap that cooperating writers mark: works on any kernel, sees nothing else.
    Software,
}

impl fmt::Display for TrackerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UffdAsync => "uffd-async",
            Self::Software => "software",
        })
    }
}

/// What one harvest found and what it took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HarvestStats {
    /// Pages reported.
    pub pages: PageCount,
    /// Runs they came in.
    pub runs: u64,
    /// Slices the walk was cut into (system calls for uffd, summary words read for software).
    pub slices: u64,
}

/// Records which pages are written.
pub trait DirtyTracker: Send {
    /// Which way this one goes.
    fn kind(&self) -> TrackerKind;

    /// The most bytes that may be reported for one written byte: 4096 when exact.
    fn granule_bytes(&self) -> u64;

    /// Starts to record. No write that happens after the return is lost; some from before may be reported.
    ///
    /// # Errors
    /// [`TrackerError`] if the kernel refuses; nothing is recorded then.
    fn start(&mut self) -> Result<(), TrackerError>;

    /// Clears the marks, then puts the pages written since the last harvest (or start) into `out`, replacing
    /// what was there.
    ///
    /// # Errors
    /// [`TrackerError::NotStarted`], or what the kernel says. After an error the marks are in doubt: treat every
    /// touched page as written.
    fn harvest(&mut self, out: &mut Runs) -> Result<HarvestStats, TrackerError>;

    /// As [`Self::harvest`], for a guest that stands still and whose writes are not recorded any further: marks need not be
    /// cleared, so the next harvest may report the same pages again.
    ///
    /// # Errors
    /// As for [`Self::harvest`].
    fn harvest_last(&mut self, out: &mut Runs) -> Result<HarvestStats, TrackerError> {
        self.harvest(out)
    }

    /// Stops to record and gives back what that took. Does nothing if not started.
    fn stop(&mut self);
}

/// Refuses what a tracker has found if some of it is outside of the `storage_pages` pages that can be written.
///
/// # Errors
/// [`TrackerError::OutsideStorage`].
pub fn check_inside(found: &Runs, storage_pages: PageCount) -> Result<(), TrackerError> {
    // Each run, not the last alone: numbers that wrap would be out of order unseen.
    let end_of =
        |run: &Run| run.start.0.checked_add(run.pages.get()).filter(|&end| end <= storage_pages.get());
    let Some(outside) = found.iter().find(|run| end_of(run).is_none()) else { return Ok(()) };
    let page = outside.start.0.max(storage_pages.get());
    Err(TrackerError::OutsideStorage { page, storage_pages: storage_pages.get() })
}

/// Failures of dirty tracking.
#[derive(Debug, thiserror::Error)]
pub enum TrackerError {
    /// No userfaultfd can be had.
    #[error(
        "userfaultfd is not available ({source}): a container or seccomp filter may forbid it, \
         or run as root or with access to /dev/userfaultfd"
    )]
    UffdMissing {
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel lacks what the tracker needs.
    #[error("this kernel has no {what} ({source}): Linux 6.7 or newer is needed for userfaultfd tracking")]
    KernelTooOld {
        /// The missing feature.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The mapping could not be put under tracking.
    #[error("cannot track guest storage: {step}: {source}")]
    Register {
        /// System call that failed.
        step: &'static str,
        /// Its error.
        source: io::Error,
    },
    /// The page tables could not be read.
    #[error("cannot harvest dirty pages: PAGEMAP_SCAN at byte {offset_bytes:#x}: {source}")]
    Scan {
        /// Where in guest storage.
        offset_bytes: u64,
        /// What the kernel said.
        source: io::Error,
    },
    /// A tracker of somebody's own, or one for another storage, has named pages that there are none of.
    #[error(
        "the dirty tracker names page {page}, and guest storage has {storage_pages} pages: is it a tracker of this storage?"
    )]
    OutsideStorage {
        /// The first of them.
        page: u64,
        /// Pages of the storage.
        storage_pages: u64,
    },
    /// A harvest was asked for before the start or after the stop.
    #[error("the dirty tracker was not started: call start first")]
    NotStarted,
    /// Memory for the bitmap could not be had.
    #[error("cannot reserve a dirty bitmap: {source}")]
    Bitmap {
        /// What `mmap` said.
        source: io::Error,
    },
    /// The touched pages could not be found.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

#[cfg(test)]
mod tests;
