//! The listening side of a link: takes calls, hears each hello, and puts one complete link together.
//!
//! What can go wrong here is mostly somebody else: a port scanner that says nothing or garbage, a
//! caller of another version, half a link that never completes. None of them may hold up a good
//! caller, so all half-open connections are polled in one loop with a deadline each; it answers what it
//! can and drops the rest.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use socket2::{Domain, SockAddr, Socket, Type};
use zerocopy::{FromZeros, IntoBytes};

use crate::address::{Address, Medium};
use crate::hello::{
    Agreement, FEATURE_FETCH, FEATURES, HELLO_LEN_BYTES, Hello, Offer, Refusal, SHARED_REGIONS_MAX, VERSIONS,
    Welcome, negotiate,
};
use crate::medium::{Endpoints, HELLO_DEADLINE, MediumError, new_socket, tune};
use crate::region::SharedRegion;

/// Half-open connections a listener keeps; further ones are dropped at once.
const PENDING_MAX: usize = 64;

/// Takes calls at one address.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    medium: Medium,
    address: Address,
    /// The socket file to remove on drop.
    path: Option<PathBuf>,
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
        Ok(Self { socket, medium: address.medium(), address, path })
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
        let mut forming = Forming {
            medium: self.medium,
            link: None,
            resume: None,
            stays_away: Vec::new(),
            pending: Vec::new(),
            back: Vec::new(),
        };
        loop {
            if stop() {
                return Err(MediumError::Stopped);
            }
            if let Some(patience) = patience.filter(|patience| started.elapsed() > *patience) {
                return Err(MediumError::NobodyCalled(patience));
            }
            self.poll_once(&mut forming)?;
            forming.take_new(&self.socket, refused);
            if let Some(endpoints) = forming.serve(refused) {
                return Ok(endpoints);
            }
        }
    }

    /// Takes devices of the link of `offer` back as they call, until `stop`. `refuses` says which may not come back.
    pub(crate) fn take_back(
        &self,
        offer: &Offer,
        stop: &dyn Fn() -> bool,
        refuses: &dyn Fn(u8) -> bool,
        back: &dyn Fn(u8, Socket),
    ) {
        let resume = Some(*offer);
        let mut forming = Forming {
            medium: self.medium,
            link: None,
            resume,
            stays_away: Vec::new(),
            pending: Vec::new(),
            back: Vec::new(),
        };
        while !stop() {
            if self.poll_once(&mut forming).is_err() {
                return;
            }
            forming.take_new(&self.socket, &|_| {});
            forming.stays_away = (0..offer.devices).filter(|device| refuses(*device)).collect();
            forming.serve(&|_| {});
            forming.back.drain(..).for_each(|(device, socket)| back(device, socket));
        }
    }

    fn poll_once(&self, forming: &mut Forming) -> Result<(), MediumError> {
        let mut fds = vec![PollFd::new(&self.socket, PollFlags::IN)];
        fds.extend(forming.pending.iter().map(|call| PollFd::new(&call.socket, PollFlags::IN)));
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

/// A connection whose hello has not come yet, or not whole.
#[derive(Debug)]
struct Call {
    socket: Socket,
    peer: String,
    since: Instant,
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
}

/// The link that is coming together.
#[derive(Debug)]
struct HalfLink {
    link_id: u128,
    since: Instant,
    agreement: Agreement,
    peer: String,
    sockets: Vec<Option<Socket>>,
    remote: Vec<SharedRegion>,
}

#[derive(Debug)]
struct Forming {
    medium: Medium,
    link: Option<HalfLink>,
    /// Only devices of this link may call: those that come back.
    resume: Option<Offer>,
    /// Of those, the ones that this side took out.
    stays_away: Vec<u8>,
    pending: Vec<Call>,
    /// Devices that came back, and their new connections.
    back: Vec<(u8, Socket)>,
}

impl Forming {
    fn take_new(&mut self, listener: &Socket, refused: &dyn Fn(String)) {
        while let Ok((socket, from)) = listener.accept() {
            let peer = from.as_socket().map_or_else(|| "a local caller".to_owned(), |at| at.to_string());
            if self.pending.len() >= PENDING_MAX {
                refused(format!("{peer}: dropped, {PENDING_MAX} callers have said nothing yet"));
                continue;
            }
            if socket.set_nonblocking(true).is_err() || tune(&socket, self.medium).is_err() {
                continue;
            }
            self.pending.push(Call {
                socket,
                peer,
                since: Instant::now(),
                bytes: Vec::with_capacity(HELLO_LEN_BYTES),
                fds: Vec::new(),
            });
        }
        if self.link.as_ref().is_some_and(|half| half.since.elapsed() > 2 * HELLO_DEADLINE) {
            let half = self.link.take().expect("just looked at");
            refused(format!("{}: gave up, only part of its devices called", half.peer));
        }
    }

    fn serve(&mut self, refused: &dyn Fn(String)) -> Option<Endpoints> {
        for mut call in std::mem::take(&mut self.pending) {
            match call.read() {
                Ok(true) => self.answer(call, refused),
                Ok(false) if call.since.elapsed() > HELLO_DEADLINE => {
                    refused(format!("{}: said nothing for {HELLO_DEADLINE:?}", call.peer));
                }
                Ok(false) => self.pending.push(call),
                Err(error) => refused(format!("{}: hung up before its hello ({error})", call.peer)),
            }
        }
        let complete = self.link.as_ref().is_some_and(|half| half.sockets.iter().all(Option::is_some));
        let half = if complete { self.link.take()? } else { return None };
        Some(Endpoints {
            sockets: half.sockets.into_iter().flatten().collect(),
            remote: half.remote,
            shares: false,
            dialing: false,
            rejoin: None,
            link_id: Some(half.link_id),
            medium: self.medium,
            agreement: half.agreement,
            peer: half.peer,
        })
    }

    fn answer(&mut self, call: Call, refused: &dyn Fn(String)) {
        let peer = call.peer.clone();
        let start = format!("{:02x?}", &call.bytes[..8]);
        let verdict = self.judge(&call);
        let welcome = Welcome::new(verdict.map(|(_, agreement)| agreement));
        let sent = call.socket.send(welcome.as_bytes());
        match verdict {
            Err(Refusal::NotAHello) => refused(format!("{peer}: not an ISFC hello, it starts with {start}")),
            Err(refusal) => refused(format!("{peer}: {refusal}")),
            Ok(_) if sent.is_err() || call.socket.set_nonblocking(false).is_err() => {
                refused(format!("{peer}: hung up during the hello"));
            }
            Ok((offer, agreement)) => self.admit(call, &offer, agreement),
        }
    }

    fn judge(&self, call: &Call) -> Result<(Offer, Agreement), Refusal> {
        let mut hello = Hello::new_zeroed();
        hello.as_mut_bytes().copy_from_slice(&call.bytes);
        let offer = Offer::from_hello(&hello)?;
        let agreement = negotiate(VERSIONS, FEATURES, offer.versions, offer.features)?;
        let fetches = offer.features & FEATURE_FETCH != 0;
        self.judge_resume(&offer)?;
        if fetches != (self.medium == Medium::Shm) || usize::from(offer.shared_regions) != call.fds.len() {
            return Err(Refusal::Medium);
        }
        if let Some(half) = &self.link {
            if half.link_id != offer.link_id {
                return Err(Refusal::Busy);
            }
            if half.sockets.len() != usize::from(offer.devices) {
                return Err(Refusal::Devices);
            }
            if half.sockets[usize::from(offer.device)].is_some() {
                return Err(Refusal::Duplicate);
            }
        }
        Ok((offer, agreement))
    }

    fn judge_resume(&self, offer: &Offer) -> Result<(), Refusal> {
        match &self.resume {
            None if offer.resume => Err(Refusal::NoSuchLink),
            Some(_) if !offer.resume => Err(Refusal::Busy),
            Some(link) if (link.link_id, link.devices) != (offer.link_id, offer.devices) => {
                Err(Refusal::NoSuchLink)
            }
            Some(_) if self.stays_away.contains(&offer.device) => Err(Refusal::NoSuchLink),
            _ => Ok(()),
        }
    }

    fn admit(&mut self, call: Call, offer: &Offer, agreement: Agreement) {
        if self.resume.is_some() {
            self.back.push((offer.device, call.socket));
            return;
        }
        let half = self.link.get_or_insert_with(|| HalfLink {
            link_id: offer.link_id,
            since: Instant::now(),
            agreement,
            peer: call.peer,
            sockets: (0..offer.devices).map(|_| None).collect(),
            remote: Vec::new(),
        });
        for (number, memfd) in call.fds.into_iter().enumerate() {
            half.remote.push(SharedRegion { number: number as u16, memfd });
        }
        half.sockets[usize::from(offer.device)] = Some(call.socket);
    }
}

impl Call {
    /// Reads on; true once the hello is complete.
    fn read(&mut self) -> io::Result<bool> {
        let mut bytes = [0u8; HELLO_LEN_BYTES];
        let want = HELLO_LEN_BYTES - self.bytes.len();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SHARED_REGIONS_MAX as usize))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut buffers = [io::IoSliceMut::new(&mut bytes[..want])];
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let received = match recvmsg(&self.socket, &mut buffers, &mut control, flags) {
            Ok(received) => received.bytes,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                self.fds.extend(fds);
            }
        }
        if received == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        self.bytes.extend_from_slice(&bytes[..received]);
        Ok(self.bytes.len() == HELLO_LEN_BYTES)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
