//! What can go wrong with guest storage, and what to do about it.

use super::{HUGE_PAGE_SIZE, MemoryNeed, STORAGE_BYTES_MAX, STORAGE_BYTES_MIN};
use crate::page::PageCount;
use crate::runs::Run;
use std::io;

/// Failures of [`Storage`](super::Storage) and of the check whether a guest fits.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The size is not offered.
    #[error(
        "guest storage of {len_bytes} bytes: choose {STORAGE_BYTES_MIN} (1 MiB) to {STORAGE_BYTES_MAX} (1 TiB)"
    )]
    SizeOutOfRange {
        /// Size asked for.
        len_bytes: u64,
    },
    /// The size does not end at a page boundary.
    #[error("guest storage of {len_bytes} bytes is not a multiple of {unit_bytes} bytes: round it")]
    SizeNotMultiple {
        /// Size asked for.
        len_bytes: u64,
        /// Size of the pages that back it.
        unit_bytes: u64,
    },
    /// The kernel refused to make the storage.
    #[error("cannot create guest storage: {step}: {source}")]
    Create {
        /// System call that failed.
        step: &'static str,
        /// Its error.
        source: io::Error,
    },
    /// The hugetlb pool has too few free pages.
    #[error(
        "not enough free huge pages for {pages} of {HUGE_PAGE_SIZE} bytes ({source}): \
         run 'sysctl vm.nr_hugepages={pages}' as root, or use small or thp pages"
    )]
    NoHugePages {
        /// Huge pages needed.
        pages: u64,
        /// What `mmap` said.
        source: io::Error,
    },
    /// The machine ran out of memory while storage was filled.
    #[error(
        "out of memory while filling guest storage at byte {offset_bytes:#x} ({source}): \
         use a smaller guest, free memory, or raise the cgroup limit"
    )]
    OutOfMemory {
        /// Where it happened.
        offset_bytes: u64,
        /// What the kernel said.
        source: io::Error,
    },
    /// Storage could not be filled for another reason.
    #[error("cannot fill guest storage at byte {offset_bytes:#x}: {step}: {source}")]
    Prefault {
        /// System call that failed.
        step: &'static str,
        /// Where it happened.
        offset_bytes: u64,
        /// Its error.
        source: io::Error,
    },
    /// A hole could not be punched.
    #[error("cannot release guest storage: {source}")]
    Release {
        /// What `fallocate` said.
        source: io::Error,
    },
    /// The state of storage could not be read.
    #[error("cannot inspect guest storage: {step}: {source}")]
    Inspect {
        /// System call that failed.
        step: &'static str,
        /// Its error.
        source: io::Error,
    },
    /// A run names pages that storage does not have.
    #[error("pages {}+{} lie outside guest storage of {pages}", run.start.0, run.pages.0)]
    OutOfRange {
        /// The run.
        run: Run,
        /// Size of storage.
        pages: PageCount,
    },
    /// The guest cannot fit on this machine.
    #[error(
        "{need}, but only {room} are left by {limit}: use a smaller guest or touch less of it", room = crate::units::Size(*room_bytes)
    )]
    DoesNotFit {
        /// The sum that says why.
        need: MemoryNeed,
        /// What there is, in bytes.
        room_bytes: u64,
        /// Which limit it is that bites.
        limit: &'static str,
    },
}
