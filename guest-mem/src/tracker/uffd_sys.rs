//! The kernel's side of userfaultfd and `PAGEMAP_SCAN`: numbers, structs and calls, nothing else.
//!
//! Layouts are those of `linux/userfaultfd.h` and `linux/fs.h` (Documentation/admin-guide/mm/userfaultfd.rst and
//! pagemap.rst). No libc crate has `PAGEMAP_SCAN` yet.

use rustix::fs::{Mode, OFlags};
use rustix::mm::UserfaultfdFlags;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const UFFD_API: u64 = 0xAA;
const UFFD_FEATURE_WP_HUGETLBFS_SHMEM: u64 = 1 << 12;
const UFFD_FEATURE_WP_UNPOPULATED: u64 = 1 << 13;
const UFFD_FEATURE_WP_ASYNC: u64 = 1 << 15;
const UFFD_USER_MODE_ONLY: UserfaultfdFlags = UserfaultfdFlags::from_bits_retain(1);
const UFFDIO_REGISTER_MODE_WP: u64 = 1 << 1;

const USERFAULTFD_IOC_NEW: libc::Ioctl = 0xAA00;
const UFFDIO_API: libc::Ioctl = 0xC018_AA3F;
const UFFDIO_REGISTER: libc::Ioctl = 0xC020_AA00;
const UFFDIO_UNREGISTER: libc::Ioctl = 0x8010_AA01;
const PAGEMAP_SCAN: libc::Ioctl = 0xC060_6610;

/// The page was written since it was last write-protected.
pub(super) const PAGE_IS_WRITTEN: u64 = 1 << 1;
/// The page is in memory and mapped here.
pub(super) const PAGE_IS_PRESENT: u64 = 1 << 3;
/// The page table has a swap entry or a marker.
pub(super) const PAGE_IS_SWAPPED: u64 = 1 << 4;
/// The page table maps it as a part of a huge page.
pub(super) const PAGE_IS_HUGE: u64 = 1 << 6;
/// Write-protect each page that matches, in the same step.
pub(super) const PM_SCAN_WP_MATCHING: u64 = 1 << 0;
/// Fail with `EPERM` on memory that is not under write-protect-async.
pub(super) const PM_SCAN_CHECK_WPASYNC: u64 = 1 << 1;

#[repr(C)]
struct UffdioApi {
    api: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
struct UffdioRegister {
    start: u64,
    len: u64,
    mode: u64,
    ioctls: u64,
}

#[repr(C)]
struct UffdioRange {
    start: u64,
    len: u64,
}

/// One answer of `PAGEMAP_SCAN`: addresses in bytes, end excluded.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PageRegion {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) categories: u64,
}

#[repr(C)]
#[derive(Debug, Default)]
struct PmScanArg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

const _: () = assert!(size_of::<PmScanArg>() == 0x60 && size_of::<UffdioRegister>() == 0x20);

/// Which pages a scan is after.
#[derive(Clone, Copy, Debug)]
pub(super) struct Query {
    pub(super) flags: u64,
    pub(super) all_of: u64,
    pub(super) any_of: u64,
}

/// An open userfaultfd that resolves write faults by itself (write-protect-async).
#[derive(Debug)]
pub(super) struct Userfault(OwnedFd);

impl Userfault {
    /// Opens one: by system call, or by `/dev/userfaultfd` where the call is forbidden.
    pub(super) fn open() -> io::Result<Self> {
        // Kernel-mode faults need no handler with write-protect-async, so user mode only is enough, and it is the
        // mode that needs no privilege.
        let flags = UserfaultfdFlags::CLOEXEC | UserfaultfdFlags::NONBLOCK | UFFD_USER_MODE_ONLY;
        // SAFETY: the call only makes a descriptor; what is done to memory with it is safe behind this type.
        match unsafe { rustix::mm::userfaultfd(flags) } {
            Ok(fd) => Ok(Self(fd)),
            Err(errno) => Self::open_device(flags).map_err(|_| errno.into()),
        }
    }

    fn open_device(flags: UserfaultfdFlags) -> io::Result<Self> {
        let device = rustix::fs::open("/dev/userfaultfd", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        // SAFETY: this request takes an integer, no pointer, and returns a new descriptor that nobody else owns.
        unsafe {
            let fd = libc::ioctl(device.as_raw_fd(), USERFAULTFD_IOC_NEW, libc::c_ulong::from(flags.bits()));
            if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(Self(OwnedFd::from_raw_fd(fd))) }
        }
    }

    /// Says which features are used; must come first, and fails where the kernel lacks one.
    pub(super) fn enable_async_write_protect(&self) -> io::Result<()> {
        let features = UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_WP_HUGETLBFS_SHMEM;
        let mut api = UffdioApi { api: UFFD_API, features, ioctls: 0 };
        ioctl(self.0.as_fd(), UFFDIO_API, &mut api).map(drop)
    }

    /// Puts a mapping under write-protect tracking. Its content and its rights do not change.
    pub(super) fn register(&self, start: u64, len: u64) -> io::Result<()> {
        let mut range = UffdioRegister { start, len, mode: UFFDIO_REGISTER_MODE_WP, ioctls: 0 };
        ioctl(self.0.as_fd(), UFFDIO_REGISTER, &mut range).map(drop)
    }

    /// Ends the tracking of a mapping.
    pub(super) fn unregister(&self, start: u64, len: u64) -> io::Result<()> {
        ioctl(self.0.as_fd(), UFFDIO_UNREGISTER, &mut UffdioRange { start, len }).map(drop)
    }
}

/// The page tables of this process.
#[derive(Debug)]
pub(super) struct Pagemap(OwnedFd);

impl Pagemap {
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self(rustix::fs::open("/proc/self/pagemap", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?))
    }

    /// Scans addresses `start..end`; returns how many regions were written to `regions` and where the walk ended,
    /// which is before `end` when `regions` was full.
    pub(super) fn scan(
        &self,
        query: Query,
        start: u64,
        end: u64,
        regions: &mut [PageRegion],
    ) -> io::Result<(usize, u64)> {
        let mut arg = PmScanArg {
            size: size_of::<PmScanArg>() as u64,
            flags: query.flags,
            start,
            end,
            vec: regions.as_mut_ptr() as u64,
            vec_len: regions.len() as u64,
            category_mask: query.all_of,
            category_anyof_mask: query.any_of,
            return_mask: query.all_of | query.any_of,
            ..PmScanArg::default()
        };
        let found = ioctl(self.0.as_fd(), PAGEMAP_SCAN, &mut arg)?;
        Ok((found.min(regions.len()), arg.walk_end))
    }
}

fn ioctl<T>(fd: BorrowedFd<'_>, request: libc::Ioctl, arg: &mut T) -> io::Result<usize> {
    loop {
        // SAFETY: each caller in this file pairs the request with its struct, whose size is part of the request
        // number; a pointer inside one (`vec`) comes with its length from a live exclusive slice.
        let result = unsafe { libc::ioctl(fd.as_raw_fd(), request, std::ptr::from_mut(arg)) };
        match usize::try_from(result) {
            Ok(value) => return Ok(value),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}
