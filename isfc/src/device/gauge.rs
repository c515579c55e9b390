//! What the kernel tells of bytes that a device has handed to its medium, or not yet got from it.
//!
//! A frame that is half across is seen nowhere else: the ring completes a receive when all of it is there. Asked only
//! while something waits for long.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Weak};

use socket2::Socket;

use crate::link::Moved;

/// Of `struct tcp_info`: where the counters of the stream's bytes stand, and how much of it must be there for them.
const BYTES_ACKED_AT: usize = 120;
const BYTES_RECEIVED_AT: usize = 128;
const TCP_INFO_LEN_BYTES: usize = 136;

/// Looks at the sockets of one device.
pub(crate) struct Gauge {
    near: Arc<Socket>,
    /// The connection behind a TLS tunnel.
    network: Option<Weak<Socket>>,
}

impl Gauge {
    pub(crate) fn new(near: Arc<Socket>, network: Option<Weak<Socket>>) -> Self {
        Self { near, network }
    }

    /// Of `handed_bytes` that have gone into the device's socket.
    pub(crate) fn sent(&self, handed_bytes: u64) -> Moved {
        let network = self.network();
        let far = network.as_deref().unwrap_or(&self.near).as_raw_fd();
        let mut unreached = unreached_bytes(far);
        if network.is_some() {
            unreached += unreached_bytes(self.near.as_raw_fd());
        }
        // A tunnel holds what neither socket shows for as long as the network takes nothing more.
        let all = if network.is_some() && unreached > 0 { u64::MAX } else { unreached };
        let reached_bytes = handed_bytes.saturating_sub(all);
        Moved { mark: tcp_counter(far, BYTES_ACKED_AT).unwrap_or(reached_bytes), reached_bytes }
    }

    /// Changes whenever bytes of the peer have come.
    pub(crate) fn received_mark(&self) -> u64 {
        let network = self.network();
        let far = network.as_deref().unwrap_or(&self.near).as_raw_fd();
        tcp_counter(far, BYTES_RECEIVED_AT).unwrap_or(0)
    }

    fn network(&self) -> Option<Arc<Socket>> {
        self.network.as_ref().and_then(Weak::upgrade)
    }
}

/// Bytes in the socket that the peer's end has not got.
fn unreached_bytes(socket: RawFd) -> u64 {
    let mut count: libc::c_int = 0;
    // SAFETY: the descriptor is open for as long as the caller has its socket, and the kernel writes one int.
    let done = unsafe { libc::ioctl(socket, libc::TIOCOUTQ, &raw mut count) };
    if done == 0 { u64::try_from(count).unwrap_or(0) } else { 0 }
}

fn tcp_counter(socket: RawFd, at: usize) -> Option<u64> {
    let mut info = [0u8; TCP_INFO_LEN_BYTES];
    let mut len = info.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes, which are there.
    let done = unsafe {
        libc::getsockopt(socket, libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &raw mut len)
    };
    let bytes = info[..(len as usize).min(TCP_INFO_LEN_BYTES)].get(at..at + 8).filter(|_| done == 0)?;
    Some(u64::from_ne_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    use super::*;

    fn wait_for(what: &str, seen: impl Fn() -> bool) {
        let began = Instant::now();
        while !seen() {
            assert!(began.elapsed() < Duration::from_secs(10), "{what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn bytes_that_reach_the_peer_are_seen_before_the_frame_is_whole() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, _) = listener.accept().unwrap();
        near.set_nonblocking(true).unwrap();
        let near = Arc::new(Socket::from(near));
        let gauge = Gauge::new(near.clone(), None);
        let there = Gauge::new(Arc::new(Socket::from(far.try_clone().unwrap())), None);
        let quiet = there.received_mark();
        let mut handed = 0u64;
        while let Ok(count) = (&*near).write(&[0; 1 << 20]) {
            handed += count as u64;
        }
        wait_for("some of it is there", || {
            let moved = gauge.sent(handed);
            moved.reached_bytes > 0 && moved.reached_bytes < handed && there.received_mark() != quiet
        });
        let before = gauge.sent(handed);
        assert_eq!(gauge.sent(handed), before, "nothing moves while nobody reads");
        let mut reader = far;
        let mut left = handed;
        let mut bytes = vec![0; 1 << 20];
        while left > 0 {
            left -= reader.read(&mut bytes).unwrap() as u64;
        }
        wait_for("all of it is there", || gauge.sent(handed).reached_bytes == handed);
        assert_ne!(gauge.sent(handed).mark, before.mark);
    }

    #[test]
    fn a_socket_of_this_machine_tells_what_was_read() {
        let (near, far) = Socket::pair(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        let gauge = Gauge::new(Arc::new(near.try_clone().unwrap()), None);
        (&near).write_all(&[0; 1000]).unwrap();
        assert!(gauge.sent(1000).reached_bytes < 1000);
        (&far).read_exact(&mut [0; 1000]).unwrap();
        assert_eq!(gauge.sent(1000).reached_bytes, 1000);
    }
}
