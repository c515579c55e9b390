//! What carries a link's devices: sockets, with or without TLS. The calling side brings them up with
//! [`crate::connect`] and [`crate::connect_tls`], the listening side with [`crate::Listener`].

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::address::{Address, Medium};
use crate::hello::{Agreement, DEVICES_MAX, Offer, VERSIONS, WelcomeError};
use crate::listener::Listener;
use crate::region::SharedRegion;
use crate::rejoin::Rejoin;
use crate::tls::{Session, TlsFailure, Tunnel};

/// How long either side of a hello waits for the other.
pub const HELLO_DEADLINE: Duration = Duration::from_secs(5);

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
    /// TLS with the peer failed, or showed that it is somebody else.
    #[error("{address}: {source}")]
    Tls {
        /// Address called.
        address: String,
        /// Why, in words about the peer.
        source: TlsFailure,
    },
    /// This side's certificate is another member's.
    #[error(
        "this member is called {name}, and its certificate is that of {certificate}: the two must be the same"
    )]
    OwnName {
        /// As it calls itself.
        name: String,
        /// As its certificate says.
        certificate: String,
    },
    /// TLS over a socket file.
    #[error(
        "TLS is for tcp: {0} never leaves this machine, and its socket has mode 0600, so only the same user can call"
    )]
    TlsMedium(String),
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

/// What a device reads from and writes to. Over TLS the socket leads to a tunnel, else to the peer.
#[derive(Debug)]
pub(crate) struct Carrier {
    pub(crate) socket: Socket,
    pub(crate) tunnel: Option<Tunnel>,
}

/// The devices of a link, connected and agreed, not yet running.
#[derive(Debug)]
pub struct Endpoints {
    pub(crate) carriers: Vec<Carrier>,
    /// Who is at the other end; `None` without TLS.
    pub(crate) session: Option<Session>,
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
        self.carriers.len() as u8
    }

    /// What carries them.
    pub fn medium(&self) -> Medium {
        self.medium
    }

    /// Version and features both sides speak.
    pub fn agreement(&self) -> Agreement {
        self.agreement
    }

    /// How the link is encrypted, and who is at the other end by its certificate; `None` without TLS.
    pub fn tls(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    /// Where the other end is, for messages.
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

/// The versions spoken over a medium: over TLS none in which a side does not say its name.
pub(crate) fn versions(tls: bool) -> (u16, u16) {
    if tls { (VERSIONS.0.max(2), VERSIONS.1) } else { VERSIONS }
}

/// 128 random bits from the kernel.
pub(crate) fn random_id() -> io::Result<u128> {
    let mut bytes = [0u8; 16];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    if filled < bytes.len() {
        return Err(io::Error::other("the kernel gave too few random bytes"));
    }
    Ok(u128::from_le_bytes(bytes))
}
