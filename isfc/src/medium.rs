//! Bringing a link's devices up: dialling, and the hello on each. The listening side is [`crate::Listener`]'s.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use socket2::{Domain, SockAddr, Socket, Type};
use zerocopy::IntoBytes;

use crate::address::{Address, Medium};
use crate::hello::{
    Agreement, DEVICES_MAX, FEATURE_FETCH, FEATURES, HELLO_LEN_BYTES, Offer, Refusal, SHARED_REGIONS_MAX,
    VERSIONS, WELCOME_LEN_BYTES, Welcome, WelcomeError,
};
use crate::listener::Listener;
use crate::region::SharedRegion;
use crate::rejoin::Rejoin;

/// How long either side of a hello waits for the other.
pub const HELLO_DEADLINE: Duration = Duration::from_secs(5);

/// How long a device that comes back waits for each answer. A link that is dropped waits for it.
const REDIAL_DEADLINE: Duration = Duration::from_secs(1);

/// Send buffer of TCP sockets that do not leave the machine. The kernel doubles it for its bookkeeping.
const LOOPBACK_SEND_BUFFER_BYTES: usize = 256 << 10;
/// Send buffer of Unix sockets: the default of 208 KiB makes a 1 MiB transfer stop and go five times.
const UNIX_SEND_BUFFER_BYTES: usize = 1 << 20;
/// Send buffer of an shm device. Its frames only name what is to be fetched: with room for thousands, the first
/// device awake takes the whole pass and one core copies it. Less than this would slow messages down.
const SHM_SEND_BUFFER_BYTES: usize = 16 << 10;

/// Why devices did not come up.
#[derive(Debug, thiserror::Error)]
pub enum MediumError {
    /// 0, or more than 16.
    #[error("{0} queues asked for: a link has 1 to {DEVICES_MAX}")]
    Queues(usize),
    /// Nobody listens there, or the network refuses.
    #[error("cannot connect to {address}: {source} (is `lgr receive {address}` running there?)")]
    Connect {
        /// Address called.
        address: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Address asked for.
        address: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The peer took the call but said nothing, or hung up.
    #[error("{address} took the call but did not answer the hello: {source}")]
    NoWelcome {
        /// Address called.
        address: String,
        /// Time-out or end of file.
        source: io::Error,
    },
    /// The peer answered, and it was not a yes.
    #[error("{address}: {source}")]
    Welcome {
        /// Address called.
        address: String,
        /// What it said.
        source: WelcomeError,
    },
    /// The peer's shared memory cannot be used.
    #[error("the peer's shared memory cannot be used: {0}")]
    Remote(#[from] crate::region::RemoteRegionError),
    /// Waiting for a caller was ended by the caller of this function.
    #[error("stopped waiting for a peer")]
    Stopped,
    /// The engine asked for cannot be used here.
    #[error(
        "io_uring was asked for and cannot be used here ({0}): let threads drive the queues (engine blocking)"
    )]
    Engine(String),
    /// Nobody called in time.
    #[error("no peer called within {0:?}")]
    NobodyCalled(Duration),
    /// Anything else the kernel refuses.
    #[error("socket: {0}")]
    Io(#[from] io::Error),
}

/// The devices of a link, connected and agreed, not yet running.
#[derive(Debug)]
pub struct Endpoints {
    pub(crate) sockets: Vec<Socket>,
    pub(crate) remote: Vec<SharedRegion>,
    pub(crate) shares: bool,
    pub(crate) dialing: bool,
    pub(crate) rejoin: Option<Rejoin>,
    /// Of a link that was listened for.
    pub(crate) link_id: Option<u128>,
    pub(crate) medium: Medium,
    pub(crate) agreement: Agreement,
    pub(crate) peer: String,
}

impl Endpoints {
    /// Number of devices.
    pub fn devices(&self) -> u8 {
        self.sockets.len() as u8
    }

    /// What carries them.
    pub fn medium(&self) -> Medium {
        self.medium
    }

    /// Version and features both sides speak.
    pub fn agreement(&self) -> Agreement {
        self.agreement
    }

    /// Who is at the other end, for messages.
    pub fn peer(&self) -> &str {
        &self.peer
    }

    /// Lets devices of this link that go down come back through `listener`, which took them first. It serves no
    /// other link from now on.
    #[must_use]
    pub fn rejoin_through(mut self, listener: Listener) -> Self {
        if let Some(link_id) = self.link_id.filter(|_| self.agreement.version >= 2) {
            let offer = Offer {
                versions: (self.agreement.version, self.agreement.version),
                features: self.agreement.features,
                device: 0,
                devices: self.devices(),
                shared_regions: 0,
                link_id,
                resume: true,
            };
            self.rejoin = Some(Rejoin::Listen(std::sync::Arc::new(listener), offer));
        }
        self
    }
}

/// Memory the dialling side shares over the shm medium.
#[derive(Clone, Copy, Debug)]
pub struct Share<'a> {
    /// Region number.
    pub number: u16,
    /// Its memory file, sealed against shrinking.
    pub memfd: BorrowedFd<'a>,
}

pub(crate) fn new_socket(address: &Address) -> io::Result<(Socket, SockAddr)> {
    let (domain, target) = match address {
        Address::Tcp(at) => (Domain::for_address(*at), SockAddr::from(*at)),
        Address::Unix(path) | Address::Shm(path) => (Domain::UNIX, SockAddr::unix(path)?),
    };
    let socket = Socket::new(domain, Type::STREAM, None)?;
    Ok((socket, target))
}

/// Sizes the socket's buffers for its medium; call it once it is connected.
///
/// Over loopback there is no distance to fill, and a small buffer was measured to be faster than the kernel's own
/// tuning. Across machines that tuning is left alone, as setting a size would turn it off.
pub(crate) fn tune(socket: &Socket, medium: Medium) -> io::Result<()> {
    match medium {
        Medium::Tcp => {
            socket.set_tcp_nodelay(true)?;
            let peer = socket.peer_addr()?.as_socket();
            if peer.is_some_and(|peer| peer.ip().to_canonical().is_loopback()) {
                socket.set_send_buffer_size(LOOPBACK_SEND_BUFFER_BYTES)?;
            }
            Ok(())
        }
        Medium::Unix => socket.set_send_buffer_size(UNIX_SEND_BUFFER_BYTES),
        Medium::Shm => socket.set_send_buffer_size(SHM_SEND_BUFFER_BYTES),
    }
}

/// Calls `address` and brings up `queues` devices. `shares` travel on device 0 of an shm link; their
/// numbers must be 0, 1, … in order.
///
/// # Errors
/// See [`MediumError`]; no device is left open.
pub fn connect(address: &Address, queues: usize, shares: &[Share<'_>]) -> Result<Endpoints, MediumError> {
    if queues == 0 || queues > usize::from(DEVICES_MAX) {
        return Err(MediumError::Queues(queues));
    }
    let medium = address.medium();
    let shares = if medium == Medium::Shm { shares } else { &[] };
    debug_assert!(shares.len() <= usize::from(SHARED_REGIONS_MAX));
    let features = if medium == Medium::Shm { FEATURES } else { FEATURES & !FEATURE_FETCH };
    let link_id = random_id()?;
    let mut calls = Vec::with_capacity(queues);
    for device in 0..queues as u8 {
        let shared_regions = if device == 0 { shares.len() as u8 } else { 0 };
        let offer = Offer {
            versions: VERSIONS,
            features,
            device,
            devices: queues as u8,
            shared_regions,
            link_id,
            resume: false,
        };
        let socket = call(address, HELLO_DEADLINE)
            .map_err(|source| MediumError::Connect { address: address.to_string(), source })?;
        say_hello(&socket, &offer, shares)
            .map_err(|source| MediumError::NoWelcome { address: address.to_string(), source })?;
        calls.push((socket, offer));
    }
    let mut agreement = None;
    let mut sockets = Vec::with_capacity(queues);
    for (socket, offer) in calls {
        agreement = Some(hear_welcome(&socket, &offer, address)?);
        socket.set_read_timeout(None)?;
        socket.set_write_timeout(None)?;
        sockets.push(socket);
    }
    let agreement = agreement.expect("at least one device was called");
    let shares = !shares.is_empty() && agreement.features & FEATURE_FETCH != 0;
    let again = Offer {
        versions: VERSIONS,
        features,
        device: 0,
        devices: queues as u8,
        shared_regions: 0,
        link_id,
        resume: true,
    };
    let rejoin = (agreement.version >= 2).then(|| Rejoin::Dial(address.clone(), again));
    let remote = Vec::new();
    let peer = address.to_string();
    Ok(Endpoints { sockets, remote, shares, dialing: true, rejoin, link_id: None, medium, agreement, peer })
}

/// Calls `address` once more for a device of a link that is up; `offer` names both.
pub(crate) fn call_again(address: &Address, offer: &Offer) -> Result<Socket, MediumError> {
    let failed = |source| MediumError::Connect { address: address.to_string(), source };
    let socket = call(address, REDIAL_DEADLINE).map_err(failed)?;
    say_hello(&socket, offer, &[]).map_err(failed)?;
    hear_welcome(&socket, offer, address)?;
    socket.set_read_timeout(None)?;
    socket.set_write_timeout(None)?;
    Ok(socket)
}

fn call(address: &Address, deadline: Duration) -> io::Result<Socket> {
    let (socket, target) = new_socket(address)?;
    match address {
        Address::Tcp(_) => socket.connect_timeout(&target, deadline)?,
        Address::Unix(_) | Address::Shm(_) => socket.connect(&target)?,
    }
    tune(&socket, address.medium())?;
    socket.set_read_timeout(Some(deadline))?;
    socket.set_write_timeout(Some(deadline))?;
    Ok(socket)
}

fn say_hello(socket: &Socket, offer: &Offer, shares: &[Share<'_>]) -> io::Result<()> {
    let hello = offer.to_hello();
    let bytes = [io::IoSlice::new(hello.as_bytes())];
    let fds: Vec<BorrowedFd<'_>> = shares.iter().map(|share| share.memfd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SHARED_REGIONS_MAX as usize))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if offer.shared_regions > 0 {
        let fits = control.push(SendAncillaryMessage::ScmRights(&fds));
        debug_assert!(fits, "the space is made for the most regions");
    }
    let sent = sendmsg(socket, &bytes, &mut control, SendFlags::NOSIGNAL)?;
    if sent < HELLO_LEN_BYTES {
        return Err(io::Error::from(io::ErrorKind::WriteZero));
    }
    Ok(())
}

fn hear_welcome(socket: &Socket, offer: &Offer, address: &Address) -> Result<Agreement, MediumError> {
    use std::io::Read;
    let mut welcome = Welcome::new(Err(Refusal::NotAHello));
    let mut bytes = [0; WELCOME_LEN_BYTES];
    let mut reader = socket;
    reader.read_exact(&mut bytes).map_err(|error| {
        let source = match error.kind() {
            io::ErrorKind::WouldBlock => io::Error::other(format!("nothing came for {HELLO_DEADLINE:?}")),
            io::ErrorKind::UnexpectedEof => io::Error::other("it hung up"),
            _ => error,
        };
        MediumError::NoWelcome { address: address.to_string(), source }
    })?;
    welcome.as_mut_bytes().copy_from_slice(&bytes);
    welcome.agreement(offer).map_err(|source| MediumError::Welcome { address: address.to_string(), source })
}

/// 128 random bits from the kernel.
fn random_id() -> io::Result<u128> {
    let mut bytes = [0u8; 16];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    if filled < bytes.len() {
        return Err(io::Error::other("the kernel gave too few random bytes"));
    }
    Ok(u128::from_le_bytes(bytes))
}
