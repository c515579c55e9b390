//! Guest storage: one sealed memfd, mapped shared, sparse until touched.
//!
//! **The rule for racy memory.** While a guest may run, its storage changes at any moment under every reader. So
//! no `&[u8]` or `&mut [u8]` to it is ever formed while the guest may run: it is read and written through raw
//! pointers only (copies, vector loads, or by the kernel on our behalf). What was read that way may be torn, and is
//! believed only after the dirty tracker says the page was not written since. Whoever has stopped the
//! guest may look at storage in place.
//!
//! ```text
//!   memfd  ├──── data ────┤........ hole ........├─ data ─┤....     1 MiB … 1 TiB, sealed: never grows, never shrinks
//!            ▲ touched()     costs nothing          ▲ prefault() fills, release() punches
//! ```

mod arrival;
mod error;
mod fit;
mod join;
mod prefault;
mod touched;

pub use error::StorageError;
pub use fit::{MemoryAvailable, MemoryNeed, check_fits};

use crate::page::{PAGE_SIZE, PageCount, PageNumber};
use crate::runs::{Run, Runs};
use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use rustix::mm::{Advice, MapFlags, ProtFlags};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Smallest storage that can be created.
pub const STORAGE_BYTES_MIN: u64 = 1 << 20;
/// Largest storage that can be created.
pub const STORAGE_BYTES_MAX: u64 = 1 << 40;
/// Size of a huge page, by THP or from hugetlb.
pub const HUGE_PAGE_SIZE: u64 = 2 << 20;

/// What pages the kernel is asked to back storage with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backing {
    /// 4 KiB pages: dirty tracking is exact.
    #[default]
    Small,
    /// 4 KiB pages which the kernel may join into transparent huge pages (`MADV_HUGEPAGE`).
    Thp,
    /// 2 MiB pages from the hugetlb pool, reserved when storage is created.
    HugeTlb,
}

impl Backing {
    /// Whether the kernel is set up to give these pages now.
    ///
    /// # Errors
    /// Why not, and how to change that. Storage on [`Backing::Thp`] then still works, with 4 KiB pages.
    pub fn available(self) -> Result<(), String> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        match self {
            Self::Small => Ok(()),
            Self::Thp => {
                let path = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
                let setting = read(path);
                let off = setting.is_empty() || setting.contains("[never]") || setting.contains("[deny]");
                if off {
                    Err(format!("huge pages for shared memory are off: write 'advise' to {path}"))
                } else {
                    Ok(())
                }
            }
            Self::HugeTlb => {
                let path = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
                let free: u64 = read(path).trim().parse().unwrap_or(0);
                if free == 0 {
                    Err("no free huge pages of 2 MiB: set vm.nr_hugepages with sysctl".to_owned())
                } else {
                    Ok(())
                }
            }
        }
    }
}

impl fmt::Display for Backing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Small => "small",
            Self::Thp => "thp",
            Self::HugeTlb => "hugetlb",
        })
    }
}

impl FromStr for Backing {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "small" => Ok(Self::Small),
            "thp" => Ok(Self::Thp),
            "hugetlb" => Ok(Self::HugeTlb),
            other => Err(format!("unknown page backing '{other}': use small, thp or hugetlb")),
        }
    }
}

/// How big storage shall be and on what pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageOptions {
    /// Size in bytes: [`STORAGE_BYTES_MIN`] to [`STORAGE_BYTES_MAX`], a multiple of 4 KiB (2 MiB for hugetlb).
    pub len_bytes: u64,
    /// Kind of pages.
    pub backing: Backing,
}

impl StorageOptions {
    /// Storage of `len_bytes` on 4 KiB pages.
    #[must_use]
    pub const fn small(len_bytes: u64) -> Self {
        Self { len_bytes, backing: Backing::Small }
    }

    fn check(&self) -> Result<(), StorageError> {
        let len_bytes = self.len_bytes;
        if !(STORAGE_BYTES_MIN..=STORAGE_BYTES_MAX).contains(&len_bytes) {
            return Err(StorageError::SizeOutOfRange { len_bytes });
        }
        let unit_bytes = if self.backing == Backing::HugeTlb { HUGE_PAGE_SIZE } else { PAGE_SIZE as u64 };
        if !len_bytes.is_multiple_of(unit_bytes) {
            return Err(StorageError::SizeNotMultiple { len_bytes, unit_bytes });
        }
        Ok(())
    }
}

/// The memory of one guest. Shared between threads as `Arc<Storage>`.
#[derive(Debug)]
pub struct Storage {
    map: MmapRaw,
    /// Where storage begins in the mapping.
    start: usize,
    memfd: OwnedFd,
    options: StorageOptions,
    releases: AtomicU64,
    /// Page tables may be of 2 MiB although 4 KiB were asked for: nothing tracks yet. Locked while that changes, since what
    /// is mapped anew under a tracker would be lost to it.
    by_pieces: Mutex<bool>,
}

impl Storage {
    /// Creates storage that is all zero and takes no memory yet (hugetlb reserves its pages here).
    ///
    /// # Errors
    /// [`StorageError::SizeOutOfRange`] and [`StorageError::SizeNotMultiple`] for a size that is not offered,
    /// [`StorageError::NoHugePages`] if the pool is too small, [`StorageError::Create`] if the kernel refuses.
    pub fn create(options: &StorageOptions) -> Result<Self, StorageError> {
        let storage = Self::create_unadvised(options)?;
        match options.backing {
            // Else a kernel set to "always" would blur dirty tracking. A kernel built without huge pages does not know the
            // advice, which then is not needed either.
            Backing::Small => {
                let _ = storage.advise_huge(false);
            }
            Backing::Thp => storage.advise_huge(true).map_err(|errno| StorageError::Create {
                step: "madvise(MADV_HUGEPAGE)",
                source: errno.into(),
            })?,
            Backing::HugeTlb => {}
        }
        Ok(storage)
    }

    fn create_unadvised(options: &StorageOptions) -> Result<Self, StorageError> {
        options.check()?;
        let memfd = sealed_memfd(options)?;
        let (map, start) = map_storage(&memfd, options)?;
        let (releases, by_pieces) = (AtomicU64::new(0), Mutex::new(false));
        Ok(Self { map, start, memfd, options: *options, releases, by_pieces })
    }

    /// Advises the kernel to map storage by huge pages, or not to.
    fn advise_huge(&self, wanted: bool) -> rustix::io::Result<()> {
        let advice = if wanted { Advice::LinuxHugepage } else { Advice::LinuxNoHugepage };
        // SAFETY: the range is exactly our own mapping, and the advice changes no content.
        unsafe { rustix::mm::madvise(self.as_ptr().cast(), self.options.len_bytes as usize, advice) }
    }

    /// Address of the first byte, for raw pointers only (the rule for racy memory).
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.map.as_mut_ptr().wrapping_add(self.start)
    }

    /// Size in bytes.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        self.options.len_bytes
    }

    /// Size in pages of 4 KiB.
    #[must_use]
    pub fn pages(&self) -> PageCount {
        PageCount::holding(self.options.len_bytes)
    }

    /// The whole of storage as one run.
    #[must_use]
    pub fn whole(&self) -> Run {
        Run { start: PageNumber(0), pages: self.pages() }
    }

    /// The memfd behind the mapping, to be passed to another process that **reads** the same storage.
    ///
    /// **Writes through another mapping of it are not seen** by the kernel's tracking, which looks at the page tables of this
    /// mapping alone: a page written so after it was sent stays behind, and **is lost without a word** when the guest moves.
    /// Who must write through a mapping of its own takes
    /// [`PickedTracker::with_second_mapping`](crate::PickedTracker::with_second_mapping), and marks what it has written.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.memfd.as_fd()
    }

    /// All of storage at another address; gives the mapping and where in it storage begins.
    pub(crate) fn map_once_more(&self) -> io::Result<(MmapRaw, usize)> {
        let len = self.options.len_bytes as usize;
        if self.options.backing == Backing::HugeTlb {
            return MmapOptions::new().len(len).map_raw(&self.memfd).map(|map| (map, 0));
        }
        let (map, start) = aligned_map(self.memfd.as_fd(), 0, len)?;
        if self.options.backing == Backing::Small {
            // As for the first mapping: a kernel without huge pages does not know the advice, and needs none.
            // SAFETY: exactly the new mapping, and the advice changes no content.
            let _ = unsafe {
                let base = map.as_mut_ptr().wrapping_add(start).cast();
                rustix::mm::madvise(base, len, Advice::LinuxNoHugepage)
            };
        }
        Ok((map, start))
    }

    /// Kind of pages asked for.
    #[must_use]
    pub fn backing(&self) -> Backing {
        self.options.backing
    }

    /// Largest page in bytes that may back a byte of storage: 4096, or 2 MiB with huge pages.
    #[must_use]
    pub fn granule_bytes(&self) -> u64 {
        match self.options.backing {
            Backing::Small => PAGE_SIZE as u64,
            Backing::Thp | Backing::HugeTlb => HUGE_PAGE_SIZE,
        }
    }

    /// Address of a page.
    ///
    /// # Panics
    /// If the page is outside storage; runs that came from a peer are checked with [`Storage::check_run`] first.
    #[must_use]
    pub fn page_ptr(&self, page: PageNumber) -> *mut u8 {
        assert!(page.0 < self.pages().0, "{page} is inside storage of {}", self.pages());
        // SAFETY: the page is inside the mapping, so the offset is in bounds of it.
        unsafe { self.as_ptr().add(page.offset_bytes() as usize) }
    }

    /// Confirms that a run lies inside storage.
    ///
    /// # Errors
    /// [`StorageError::OutOfRange`] if any of it does not.
    pub fn check_run(&self, run: &Run) -> Result<(), StorageError> {
        match run.start.0.checked_add(run.pages.0) {
            Some(end) if end <= self.pages().0 => Ok(()),
            _ => Err(StorageError::OutOfRange { run: *run, pages: self.pages() }),
        }
    }

    /// Copies bytes of a page out, from `offset`. If its guest runs, the copy may be torn.
    ///
    /// # Panics
    /// If the page is outside storage or the bytes cross its end.
    pub fn read_bytes(&self, page: PageNumber, offset: usize, into: &mut [u8]) {
        assert!(into.len() <= PAGE_SIZE && offset <= PAGE_SIZE - into.len(), "a read stays inside its page");
        // SAFETY: `page_ptr` checked the page and the assert the range; `into` is a Rust slice, which never is
        // guest storage (the rule for racy memory), so the two do not overlap.
        unsafe {
            std::ptr::copy_nonoverlapping(self.page_ptr(page).add(offset), into.as_mut_ptr(), into.len())
        }
    }

    /// Copies a whole page out, as [`Storage::read_bytes`].
    ///
    /// # Panics
    /// If the page is outside storage.
    pub fn read_page(&self, page: PageNumber, into: &mut [u8; PAGE_SIZE]) {
        self.read_bytes(page, 0, into);
    }

    /// Writes `bytes` into a page at `offset`, as a guest's store does: readers at the same time may see a part.
    ///
    /// # Panics
    /// If the page is outside storage or the bytes cross its end.
    pub fn write_bytes(&self, page: PageNumber, offset: usize, bytes: &[u8]) {
        assert!(
            bytes.len() <= PAGE_SIZE && offset <= PAGE_SIZE - bytes.len(),
            "a write stays inside its page"
        );
        // SAFETY: `page_ptr` checked the page and the assert the range; `bytes` is a Rust slice, which never is
        // guest storage (the rule for racy memory), so the two do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.page_ptr(page).add(offset), bytes.len()) }
    }

    /// Writes a whole page.
    ///
    /// # Panics
    /// If the page is outside storage.
    pub fn write_page(&self, page: PageNumber, bytes: &[u8; PAGE_SIZE]) {
        self.write_bytes(page, 0, bytes);
    }

    /// Writes zeroes over a whole page (it stays touched; [`Storage::release`] gives memory back).
    ///
    /// # Panics
    /// If the page is outside storage.
    pub fn zero_page(&self, page: PageNumber) {
        // SAFETY: `page_ptr` checked that the whole page is inside the mapping.
        unsafe { std::ptr::write_bytes(self.page_ptr(page), 0, PAGE_SIZE) }
    }

    /// Gives the memory of `runs` back to the kernel; they read as zero and count as never touched.
    ///
    /// With hugetlb only whole huge pages are given back, and the rest is zeroed. Not for use under a
    /// dirty tracker: a released page is not reported as written.
    ///
    /// # Errors
    /// [`StorageError::OutOfRange`], or [`StorageError::Release`] if the kernel refuses.
    pub fn release(&self, runs: &Runs) -> Result<(), StorageError> {
        self.releases.fetch_add(1, Ordering::SeqCst);
        for run in runs {
            self.check_run(run)?;
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            rustix::fs::fallocate(&self.memfd, flags, run.offset_bytes(), run.bytes())
                .map_err(|errno| StorageError::Release { source: errno.into() })?;
        }
        Ok(())
    }

    /// How often [`Storage::release`] was called. Unchanged, and with [`Storage::resident_bytes`] unchanged, the
    /// touched pages are still the same.
    pub(crate) fn releases(&self) -> u64 {
        self.releases.load(Ordering::SeqCst)
    }

    /// Bytes of memory (or swap) that storage takes now.
    ///
    /// # Errors
    /// [`StorageError::Inspect`] if the kernel refuses.
    pub fn resident_bytes(&self) -> Result<u64, StorageError> {
        let stat = rustix::fs::fstat(&self.memfd)
            .map_err(|errno| StorageError::Inspect { step: "fstat", source: errno.into() })?;
        Ok(u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512))
    }
}

/// A memfd of the right size which nobody, not even the peer it is passed to, can make shorter under a mapping.
fn sealed_memfd(options: &StorageOptions) -> Result<OwnedFd, StorageError> {
    let mut flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    if options.backing == Backing::HugeTlb {
        flags |= MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
    }
    let create = |step| move |errno: rustix::io::Errno| StorageError::Create { step, source: errno.into() };
    let memfd = rustix::fs::memfd_create("guest-storage", flags).map_err(create("memfd_create"))?;
    rustix::fs::ftruncate(&memfd, options.len_bytes).map_err(create("ftruncate"))?;
    rustix::fs::fcntl_add_seals(&memfd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
        .map_err(create("fcntl(F_ADD_SEALS)"))?;
    Ok(memfd)
}

/// Maps all of the memfd; gives the mapping and where in it storage begins.
fn map_storage(memfd: &OwnedFd, options: &StorageOptions) -> Result<(MmapRaw, usize), StorageError> {
    let len = options.len_bytes as usize;
    match options.backing {
        Backing::Small | Backing::Thp => {
            aligned_map(memfd.as_fd(), 0, len).map_err(|source| StorageError::Create { step: "mmap", source })
        }
        Backing::HugeTlb => {
            MmapOptions::new().len(len).map_raw(memfd).map(|map| (map, 0)).map_err(|source| {
                StorageError::NoHugePages { pages: options.len_bytes / HUGE_PAGE_SIZE, source }
            })
        }
    }
}

/// Maps `len` bytes of the memfd from `offset_bytes`, a multiple of 2 MiB, at an address that is one, too; gives the
/// mapping and where in it they begin.
///
/// The kernel joins pages, and maps joined ones at one go, only where file and memory are aligned alike, and does not see
/// to that itself. So a stretch of addresses is reserved first, and its aligned part is used.
fn aligned_map(memfd: BorrowedFd<'_>, offset_bytes: u64, len: usize) -> io::Result<(MmapRaw, usize)> {
    let huge = HUGE_PAGE_SIZE as usize;
    let reserved = MmapOptions::new().len(len + huge).no_reserve_swap().map_anon()?;
    let reserved = MmapRaw::from(reserved);
    let start = reserved.as_ptr().addr().next_multiple_of(huge) - reserved.as_ptr().addr();
    // SAFETY: the target lies inside our own reservation, of which nothing was handed out yet, and which unmaps it
    // when it is dropped.
    unsafe {
        rustix::mm::mmap(
            reserved.as_mut_ptr().add(start).cast(),
            len,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED | MapFlags::FIXED,
            memfd,
            offset_bytes,
        )?;
    }
    Ok((reserved, start))
}

#[cfg(test)]
mod tests;
