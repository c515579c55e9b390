//! The listening side of a link: takes calls, hears each hello, and puts one complete link together.
//!
//! What can go wrong here is mostly somebody else: a port scanner that says nothing or garbage, a
//! caller of another version, half a link that never completes. None of them may hold up a good
//! caller, so all half-open connections are polled in one loop with a deadline each; it answers what it
//! can and drops the rest.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::address::{Address, Medium};
use crate::forming::{Forming, Reception};
use crate::hello::Offer;
use crate::medium::{Carrier, Endpoints, MediumError, new_socket};
use crate::tls::Tls;

/// Links whose ids a listener remembers, so that a hello of theirs cannot be played back.
const SERVED_MAX: usize = 4096;

/// Takes calls at one address.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    medium: Medium,
    address: Address,
    /// The socket file to remove on drop.
    path: Option<PathBuf>,
    tls: Option<Tls>,
    /// Ids of the last links that were served.
    served: Mutex<VecDeque<u128>>,
    /// Its clones count the tunnels that are alive.
    tunnels: Arc<()>,
}

impl Listener {
    /// Listens on `address`. A Unix socket is made with mode 0600, in place of one left behind by a
    /// listener that is gone.
    ///
    /// # Errors
    /// [`MediumError::Listen`].
    pub fn bind(address: &Address) -> Result<Self, MediumError> {
        let failed = |source| MediumError::Listen { address: address.to_string(), source };
        let (socket, target) = new_socket(address).map_err(failed)?;
        let path = match address {
            Address::Tcp(_) => {
                socket.set_reuse_address(true)?;
                None
            }
            Address::Unix(path) | Address::Shm(path) => {
                remove_stale(path).map_err(failed)?;
                Some(path.clone())
            }
        };
        socket.bind(&target).map_err(failed)?;
        if let Some(path) = &path {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        }
        socket.listen(128).map_err(failed)?;
        socket.set_nonblocking(true)?;
        let address = match address {
            Address::Tcp(_) => {
                Address::Tcp(socket.local_addr()?.as_socket().expect("a TCP socket has an internet address"))
            }
            other => other.clone(),
        };
        Ok(Self {
            socket,
            medium: address.medium(),
            address,
            path,
            tls: None,
            served: Mutex::default(),
            tunnels: Arc::default(),
        })
    }

    /// Takes callers over mutual TLS 1.3 only.
    ///
    /// # Errors
    /// [`MediumError::TlsMedium`] unless it listens on tcp.
    pub fn with_tls(mut self, tls: Tls) -> Result<Self, MediumError> {
        if self.medium != Medium::Tcp {
            return Err(MediumError::TlsMedium(self.address.to_string()));
        }
        self.tls = Some(tls);
        Ok(self)
    }

    /// Where it listens, with the port the kernel chose if 0 was asked for.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Waits for one complete link. `stop` is asked ten times a second; `refused` is told of every
    /// caller that was turned away, and why.
    ///
    /// # Errors
    /// [`MediumError::Stopped`], [`MediumError::NobodyCalled`], or a failing kernel.
    pub fn accept(
        &self,
        patience: Option<Duration>,
        stop: &dyn Fn() -> bool,
        refused: &dyn Fn(String),
    ) -> Result<Endpoints, MediumError> {
        let started = Instant::now();
        let mut forming = Forming::new(self.reception(self.tls.as_ref())?, None);
        loop {
            if stop() {
                return Err(MediumError::Stopped);
            }
            if let Some(patience) = patience.filter(|patience| started.elapsed() > *patience) {
                return Err(MediumError::NobodyCalled(patience));
            }
            self.poll_once(&mut forming)?;
            forming.take_new(&self.socket, refused);
            if let Some(endpoints) = forming.serve(&|id| self.has_served(id), refused) {
                self.remember(endpoints.link_id);
                return Ok(endpoints);
            }
        }
    }

    /// Takes devices of the link of `offer` back as they call, until `stop`. `refuses` says which may not come back;
    /// over TLS, only `member` may call.
    pub(crate) fn take_back(
        &self,
        offer: &Offer,
        member: Option<&str>,
        stop: &dyn Fn() -> bool,
        refuses: &dyn Fn(u8) -> bool,
        back: &dyn Fn(u8, Carrier),
    ) {
        let tls = self.tls.as_ref().map(|tls| match member {
            Some(member) => tls.clone().expecting(member),
            None => tls.clone(),
        });
        let Ok(reception) = self.reception(tls.as_ref()) else { return };
        let mut forming = Forming::new(reception, Some(*offer));
        while !stop() {
            if self.poll_once(&mut forming).is_err() {
                return;
            }
            forming.take_new(&self.socket, &|_| {});
            forming.keep_away((0..offer.devices).filter(|device| refuses(*device)));
            forming.serve(&|id| self.has_served(id), &|_| {});
            for (device, carrier) in forming.take_returned() {
                back(device, carrier);
            }
        }
    }

    fn reception(&self, tls: Option<&Tls>) -> Result<Reception, MediumError> {
        let failed = |source| MediumError::Tls { address: self.address.to_string(), source };
        let side = tls.map(Tls::listening).transpose().map_err(failed)?;
        Ok(Reception { medium: self.medium, side, tunnels: self.tunnels.clone() })
    }

    fn has_served(&self, link_id: u128) -> bool {
        self.served.lock().expect("no thread panics while it holds this").contains(&link_id)
    }

    fn remember(&self, link_id: Option<u128>) {
        let mut served = self.served.lock().expect("no thread panics while it holds this");
        served.extend(link_id);
        if served.len() > SERVED_MAX {
            served.pop_front();
        }
    }

    fn poll_once(&self, forming: &mut Forming) -> Result<(), MediumError> {
        let mut fds = vec![PollFd::new(&self.socket, PollFlags::IN)];
        fds.extend(forming.sockets().map(|socket| PollFd::new(socket, PollFlags::IN)));
        let tick = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        match poll(&mut fds, Some(&tick)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(MediumError::Io(error.into())),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Removes a socket file nobody listens on any more.
fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::other("the path exists and is not a socket"));
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Ok(()) => Err(io::Error::from(io::ErrorKind::AddrInUse)),
        Err(_) => std::fs::remove_file(path),
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
