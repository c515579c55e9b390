//! The limit a link is measured against: plain blocking sockets, one thread per connection and side.
//!
//! The sockets are tuned as those of a link are, the chunks are as large, and a connection that is faster carries
//! more, as a device does.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use anyhow::Context;
use isfc::{Address, Medium};
use rustix::net::sockopt::{set_socket_send_buffer_size, set_tcp_nodelay};
use rustix::net::{SendFlags, send, shutdown};

use super::receiving::Arrivals;
use crate::bench::region::Memory;

/// As large as a link makes those of loopback.
const TCP_SEND_BUFFER_BYTES: usize = 256 << 10;
/// As large as a link makes those of its Unix sockets.
const UNIX_SEND_BUFFER_BYTES: usize = 1 << 20;

pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, Address),
}

impl Listener {
    pub(super) fn bind(medium: Medium, dir: &Path) -> anyhow::Result<Self> {
        if medium == Medium::Tcp {
            return Ok(Self::Tcp(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?));
        }
        let path = dir.join("plain");
        Ok(Self::Unix(UnixListener::bind(&path)?, Address::Unix(path)))
    }

    pub(super) fn address(&self) -> std::io::Result<Address> {
        match self {
            Self::Tcp(listener) => Ok(Address::Tcp(listener.local_addr()?)),
            Self::Unix(_, address) => Ok(address.clone()),
        }
    }

    /// Takes `queues` connections that have been made already.
    pub(super) fn accept(&self, queues: u8) -> std::io::Result<Vec<OwnedFd>> {
        let one = |_| match self {
            Self::Tcp(listener) => listener.accept().map(|(socket, _)| OwnedFd::from(socket)),
            Self::Unix(listener, _) => listener.accept().map(|(socket, _)| OwnedFd::from(socket)),
        };
        (0..queues).map(one).collect()
    }
}

pub(super) fn connect(address: &Address, queues: u8) -> anyhow::Result<Vec<OwnedFd>> {
    let one = |_| -> anyhow::Result<OwnedFd> {
        match address {
            Address::Tcp(at) => {
                let socket = TcpStream::connect(at)?;
                set_tcp_nodelay(&socket, true)?;
                set_socket_send_buffer_size(&socket, TCP_SEND_BUFFER_BYTES)?;
                Ok(socket.into())
            }
            Address::Unix(path) | Address::Shm(path) => {
                let socket = UnixStream::connect(path)?;
                set_socket_send_buffer_size(&socket, UNIX_SEND_BUFFER_BYTES)?;
                Ok(socket.into())
            }
        }
    };
    (0..queues).map(one).collect::<anyhow::Result<_>>().with_context(|| format!("connecting to {address}"))
}

/// Sends chunks `first..first + chunks` over all sockets and returns once all are with the kernel.
pub(super) fn stream(sockets: &[OwnedFd], memory: &Memory, first: u64, chunks: u64) -> anyhow::Result<()> {
    let taken = AtomicU64::new(0);
    let run = |socket: &OwnedFd| -> rustix::io::Result<()> {
        loop {
            let index = taken.fetch_add(1, Ordering::Relaxed);
            if index >= chunks {
                return Ok(());
            }
            // SAFETY: the sending process writes its memory only before it connects.
            let mut rest = unsafe { memory.bytes(first + index) };
            while !rest.is_empty() {
                match send(socket, rest, SendFlags::NOSIGNAL) {
                    Ok(count) => rest = &rest[count..],
                    Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = sockets.iter().map(|socket| scope.spawn(move || run(socket))).collect();
        for thread in threads {
            thread.join().map_err(|_| anyhow::anyhow!("a sending thread panicked"))??;
        }
        Ok(())
    })
}

/// Threads that receive chunks until their connection ends.
#[derive(Debug)]
pub(super) struct Receivers {
    sockets: Arc<Vec<OwnedFd>>,
    threads: Vec<JoinHandle<()>>,
}

impl Receivers {
    pub(super) fn start(
        sockets: Vec<OwnedFd>,
        memory: &Memory,
        arrivals: &Arc<Arrivals>,
    ) -> std::io::Result<Self> {
        let sockets = Arc::new(sockets);
        let mut receivers = Self { sockets: sockets.clone(), threads: Vec::new() };
        let threads = sockets.len() as u64;
        // Each thread has places of its own: it takes one before it knows when its bytes come, and must not share it
        // with a thread that is a whole memory ahead.
        let places = (memory.chunks() / threads).max(1);
        for number in 0..sockets.len() {
            let (sockets, memory, arrivals) = (sockets.clone(), memory.clone(), arrivals.clone());
            let receive = move || {
                for turn in 0.. {
                    let chunk = number as u64 + threads * (turn % places);
                    match memory.receive(chunk, sockets[number].as_fd()) {
                        Ok(true) => arrivals.one(chunk),
                        Ok(false) => return,
                        Err(error) => return arrivals.broken(format!("plain socket {number}: {error}")),
                    }
                }
            };
            let name = format!("plain-{number:02}");
            receivers.threads.push(std::thread::Builder::new().name(name).spawn(receive)?);
        }
        Ok(receivers)
    }
}

impl Drop for Receivers {
    fn drop(&mut self) {
        for socket in self.sockets.iter() {
            let _ = shutdown(socket, rustix::net::Shutdown::Both);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
