//! Lending a file's pages to a socket: `sendfile`, with what can come of it.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use socket2::Socket;

use crate::link::DownReason;

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lent {
    /// So many bytes went, perhaps not all.
    Bytes(usize),
    /// The socket has no room now.
    NoRoom,
    /// This socket or file cannot be used so; nothing went.
    Cannot,
}

/// Sends `len_bytes` bytes of `file` from `offset_bytes`, as far as the socket takes them.
pub(super) fn lend(
    socket: &Socket,
    file: &OwnedFd,
    mut offset_bytes: u64,
    len_bytes: usize,
) -> Result<Lent, DownReason> {
    match rustix::fs::sendfile(socket, file, Some(&mut offset_bytes), len_bytes) {
        Ok(0) => Err(DownReason::Io("sendfile: the file behind the region has ended".to_owned())),
        Ok(count) => Ok(Lent::Bytes(count)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(Lent::NoRoom),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(Lent::Cannot),
        Err(Errno::CONNRESET | Errno::PIPE) => Err(DownReason::Closed),
        Err(errno) => Err(DownReason::Io(format!("sendfile: {errno}"))),
    }
}

/// Keeps the calling thread, and those it will start, from being killed when a peer has hung up: unlike `send`,
/// `sendfile` cannot be told to only return the error.
pub(crate) fn survive_hangups() {
    // SAFETY: the set is made by `sigemptyset` before it is read, and only this thread's mask changes.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGPIPE);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, memfd_create};
    use socket2::{Domain, Type};
    use std::io::Read;

    #[test]
    fn a_hangup_a_full_socket_and_the_end_of_the_file_are_told_apart() {
        std::thread::spawn(|| {
            survive_hangups();
            let file = memfd_create("lent", MemfdFlags::CLOEXEC).unwrap();
            rustix::fs::ftruncate(&file, 1 << 20).unwrap();
            rustix::io::pwrite(&file, b"here", 4096).unwrap();
            let (near, mut far) = Socket::pair(Domain::UNIX, Type::STREAM, None).unwrap();
            near.set_nonblocking(true).unwrap();
            assert_eq!(lend(&near, &file, 4096, 4), Ok(Lent::Bytes(4)));
            let mut bytes = [0; 4];
            far.read_exact(&mut bytes).unwrap();
            assert_eq!(&bytes, b"here");
            let mut sent = 0;
            while let Lent::Bytes(count) = lend(&near, &file, 0, 1 << 20).unwrap() {
                sent += count;
            }
            assert_eq!(lend(&near, &file, 0, 1), Ok(Lent::NoRoom), "after {sent} bytes");
            assert!(matches!(lend(&near, &file, 1 << 20, 1), Err(DownReason::Io(_))));
            drop(far);
            assert_eq!(lend(&near, &file, 0, 1), Err(DownReason::Closed));
        })
        .join()
        .unwrap();
    }
}
