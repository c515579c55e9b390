//! Memory that transfers are gathered from or placed into, known to a link by number and length.
//!
//! **Racy memory.** A region is written by others while the link reads it (a guest that runs) and
//! read by others while the link writes it. The link therefore never makes a `&[u8]` of it: it hands
//! raw pointers to the kernel, or copies by raw pointer. Only where content is known to be stable
//! (its sender said so) is it hashed in place.

use std::any::Any;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::copy::populate_for_read;
use rustix::fs::{SealFlags, SeekFrom, fcntl_get_seals, fstat, seek};
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

/// Memory of this process that a link may read and write.
#[derive(Clone)]
pub struct Region {
    number: u16,
    base: NonNull<u8>,
    len_bytes: u64,
    file: Option<Arc<OwnedFd>>,
    /// Holds the mapping for as long as any device may still touch it.
    _keep: Arc<dyn Any + Send + Sync>,
}

// SAFETY: the memory is valid from any thread while `_keep` lives, and every access to it is by raw
// pointer under the racy-memory rule above.
unsafe impl Send for Region {}
// SAFETY: as for Send; no method gives out a reference to the memory.
unsafe impl Sync for Region {}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "region {} of {} bytes", self.number, self.len_bytes)
    }
}

impl Region {
    /// Registers `len_bytes` bytes at `base` under `number`; `keep` owns them.
    ///
    /// # Safety
    /// `base` must be valid for reads and writes of `len_bytes` bytes for as long as `keep` lives, and
    /// nobody may hold a Rust reference into it while the link is up.
    pub unsafe fn new(
        number: u16,
        base: NonNull<u8>,
        len_bytes: u64,
        keep: Arc<dyn Any + Send + Sync>,
    ) -> Self {
        Self { number, base, len_bytes, file: None, _keep: keep }
    }

    /// Says that the region maps `file`, whole and shared: byte *n* of the one is byte *n* of the other. Long stretches
    /// are then sent by `sendfile`, which lends the file's pages to the socket in place of copying them.
    #[must_use]
    pub fn backed_by(mut self, file: Arc<OwnedFd>) -> Self {
        self.file = Some(file);
        self
    }

    /// The number peers address it by.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Its length, in bytes.
    pub fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// The file behind the region, and where in it `len_bytes` bytes at `address` lie, if they are in the region.
    pub(crate) fn in_file(&self, address: usize, len_bytes: usize) -> Option<(&Arc<OwnedFd>, u64)> {
        let file = self.file.as_ref()?;
        let offset_bytes = address.checked_sub(self.base.addr().get())? as u64;
        self.at(offset_bytes, len_bytes as u64).map(|_| (file, offset_bytes))
    }

    /// The address of `offset_bytes`, if `len_bytes` bytes from there are inside.
    pub(crate) fn at(&self, offset_bytes: u64, len_bytes: u64) -> Option<NonNull<u8>> {
        let end = offset_bytes.checked_add(len_bytes)?;
        if end > self.len_bytes {
            return None;
        }
        // SAFETY: the offset is at most the length of one allocation, checked above.
        Some(unsafe { self.base.add(offset_bytes as usize) })
    }
}

/// A region of the sending side, as handed to the receiver of a shared-memory link.
#[derive(Debug)]
pub struct SharedRegion {
    /// Its number on the sending side.
    pub number: u16,
    /// The memory file behind it.
    pub memfd: OwnedFd,
}

/// Why a peer's memory file cannot be mapped.
#[derive(Debug, thiserror::Error)]
pub enum RemoteRegionError {
    /// Reading its size or seals failed, or mapping it.
    #[error("cannot map the peer's memory: {0}")]
    Map(#[from] rustix::io::Errno),
    /// It could shrink under us, and touching it would kill this process.
    #[error("the peer's memory file is not sealed against shrinking")]
    NotSealed,
    /// Size zero or beyond the address space.
    #[error("the peer's memory file has {0} bytes")]
    Size(i64),
}

/// Size and alignment of what the kernel can map with one entry.
const HUGE_PAGE_SIZE: usize = 2 << 20;

/// Maps `len` bytes of the file for reading, at a multiple of [`HUGE_PAGE_SIZE`], so that memory that lies in such
/// pieces is mapped by them; gives all that was reserved for it, too.
fn map_aligned(file: BorrowedFd<'_>, len: usize) -> Result<(NonNull<u8>, NonNull<u8>), rustix::io::Errno> {
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    let whole = len.checked_add(HUGE_PAGE_SIZE).ok_or(rustix::io::Errno::NOMEM)?;
    // SAFETY: a fresh mapping at an address of the kernel's choice, of which nobody knows yet.
    let reserved = unsafe { mmap_anonymous(std::ptr::null_mut(), whole, ProtFlags::empty(), flags)? };
    let base = reserved.map_addr(|address| address.next_multiple_of(HUGE_PAGE_SIZE));
    let flags = MapFlags::SHARED | MapFlags::FIXED | MapFlags::NORESERVE;
    // SAFETY: inside what has just been reserved; the file cannot shrink.
    let mapped = unsafe { mmap(base, len, ProtFlags::READ, flags, file, 0) };
    if let Err(errno) = mapped {
        // SAFETY: exactly what was reserved, and nobody uses it.
        let _ = unsafe { munmap(reserved, whole) };
        return Err(errno);
    }
    let known =
        |address: *mut std::ffi::c_void| NonNull::new(address.cast()).expect("a mapping is not at zero");
    Ok((known(reserved), known(base)))
}

/// The peer's region, mapped read-only.
#[derive(Debug)]
pub(crate) struct RemoteRegion {
    pub(crate) number: u16,
    /// All that was mapped, of which [`HUGE_PAGE_SIZE`] bytes are there for the alignment only.
    reserved: NonNull<u8>,
    base: NonNull<u8>,
    len_bytes: u64,
    memfd: OwnedFd,
    populated: AtomicBool,
}

// SAFETY: read-only shared memory, valid until drop, only ever read by raw pointer.
unsafe impl Send for RemoteRegion {}
// SAFETY: as for Send.
unsafe impl Sync for RemoteRegion {}

impl RemoteRegion {
    pub(crate) fn map(shared: SharedRegion) -> Result<Self, RemoteRegionError> {
        let fd = shared.memfd.as_fd();
        if !fcntl_get_seals(fd)?.contains(SealFlags::SHRINK) {
            return Err(RemoteRegionError::NotSealed);
        }
        let size = fstat(fd)?.st_size;
        let len = usize::try_from(size).ok().filter(|len| *len > 0).ok_or(RemoteRegionError::Size(size))?;
        let (reserved, base) = map_aligned(fd, len)?;
        let populated = AtomicBool::new(false);
        Ok(Self {
            number: shared.number,
            reserved,
            base,
            len_bytes: len as u64,
            memfd: shared.memfd,
            populated,
        })
    }

    /// Maps all memory the peer has touched into this process's page tables, so that fetching it later does
    /// not fault. Holes are left alone: a look at one would make the kernel allocate it.
    pub(crate) fn populate(&self) {
        let mut at = 0;
        while let Ok(start) = seek(&self.memfd, SeekFrom::Data(at)) {
            let end = seek(&self.memfd, SeekFrom::Hole(start)).unwrap_or(self.len_bytes).min(self.len_bytes);
            let Some(first) = self.at(start, end.saturating_sub(start)).filter(|_| end > start) else {
                break;
            };
            populate_for_read(first, (end - start) as usize);
            at = end;
        }
        self.populated.store(true, Ordering::Release);
    }

    /// Whether [`Self::populate`] has been here.
    pub(crate) fn is_populated(&self) -> bool {
        self.populated.load(Ordering::Acquire)
    }

    /// The address of `offset_bytes`, if `len_bytes` bytes from there are inside.
    pub(crate) fn at(&self, offset_bytes: u64, len_bytes: u64) -> Option<NonNull<u8>> {
        let end = offset_bytes.checked_add(len_bytes)?;
        if end > self.len_bytes {
            return None;
        }
        // SAFETY: inside the mapping, checked above.
        Some(unsafe { self.base.add(offset_bytes as usize) })
    }
}

impl Drop for RemoteRegion {
    fn drop(&mut self) {
        // SAFETY: exactly what was mapped in `map`; no device thread is left that could read it,
        // since they hold the link that owns this.
        let unmapped =
            unsafe { munmap(self.reserved.as_ptr().cast(), self.len_bytes as usize + HUGE_PAGE_SIZE) };
        debug_assert!(unmapped.is_ok());
    }
}
