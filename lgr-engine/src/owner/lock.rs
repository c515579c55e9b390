//! A lock on a file that holds across processes and hosts, with a deadline.
//!
//! Open-file-description locks belong to the open file and not to the process, so two threads with
//! their own descriptors exclude each other, and closing another descriptor of the same file does not
//! drop the lock as it does with classic record locks. Over NFS they become the server's byte-range
//! locks, and taking one makes the client forget its cached pages of the file (fcntl_locking(2),
//! nfs(5)).

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// First pause between two attempts; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(1);
/// Longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_millis(10);

/// Whether others may hold the lock at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LockKind {
    /// Readers share it; the file must be open for reading.
    Shared,
    /// One writer alone; the file must be open for writing.
    Exclusive,
}

/// Why there is no lock.
#[derive(Debug)]
pub(super) enum LockFault {
    /// Others held it for the whole time.
    Timeout,
    /// The file system gave an error, often because it has no locks.
    Refused(io::Error),
}

/// Locks the whole of `file`, trying again until `wait` has passed. The lock ends when the last
/// descriptor of this open file is closed, so also when the process dies.
pub(super) fn lock(file: &File, kind: LockKind, wait: Duration) -> Result<(), LockFault> {
    let deadline = Instant::now() + wait;
    let mut pause = PAUSE_MIN;
    loop {
        match try_lock(file, kind) {
            Ok(()) => return Ok(()),
            Err(error) if is_busy(&error) => {}
            Err(error) => return Err(LockFault::Refused(error)),
        }
        let now = Instant::now();
        if now >= deadline {
            return Err(LockFault::Timeout);
        }
        std::thread::sleep(pause.min(deadline - now));
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

fn is_busy(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES | libc::EINTR))
}

fn try_lock(file: &File, kind: LockKind) -> io::Result<()> {
    let lock_type = match kind {
        LockKind::Shared => libc::F_RDLCK,
        LockKind::Exclusive => libc::F_WRLCK,
    };
    set(file, lock_type, WHOLE)
}

/// First byte and length; a length of 0 goes on without an end.
pub(super) type Stretch = (i64, i64);
/// All of a file, whatever its length.
pub(super) const WHOLE: Stretch = (0, 0);

/// Locks a stretch of `file` for this open file alone, if nobody else has any of it.
pub(super) fn try_lock_stretch(file: &File, stretch: Stretch) -> Result<bool, io::Error> {
    match set(file, libc::F_WRLCK, stretch) {
        Ok(()) => Ok(true),
        Err(error) if is_busy(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Gives a stretch up; what of it is not locked stays so.
pub(super) fn unlock_stretch(file: &File, stretch: Stretch) -> io::Result<()> {
    set(file, libc::F_UNLCK, stretch)
}

/// Where the lock begins that keeps this open file from having all of `file`, and the process that has it, if the system
/// knows: locks of open files have none.
pub(super) fn conflict(file: &File) -> Option<(i64, Option<i32>)> {
    let mut request = request(libc::F_WRLCK, WHOLE);
    // SAFETY: as in `set`; this command writes the `struct flock` it is given.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut request) };
    let found = result != -1 && request.l_type != libc::F_UNLCK as libc::c_short;
    found.then_some((request.l_start, (request.l_pid > 0).then_some(request.l_pid)))
}

/// Who keeps this open file from locking `file`, for people.
pub(super) fn holder(file: &File) -> String {
    match conflict(file) {
        Some((_, Some(id))) => match std::fs::read_to_string(format!("/proc/{id}/comm")) {
            Ok(name) => format!("process {id} ({})", name.trim()),
            Err(_) => format!("process {id}"),
        },
        _ => "another process".to_owned(),
    }
}

fn request(lock_type: libc::c_int, (start, len): Stretch) -> libc::flock {
    // l_pid must be zero for these locks.
    libc::flock {
        l_type: lock_type as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: start,
        l_len: len,
        l_pid: 0,
    }
}

fn set(file: &File, lock_type: libc::c_int, stretch: Stretch) -> io::Result<()> {
    let request = request(lock_type, stretch);
    // SAFETY: the descriptor is open for the whole call because `file` is borrowed, and `request` is
    // a valid `struct flock`, which this command only reads.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const request) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
