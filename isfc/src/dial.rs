//! The calling side of a link: a connection per device, TLS on it if asked for, and the hello.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use socket2::Socket;
use zerocopy::IntoBytes;

use crate::address::{Address, Medium};
use crate::hello::{
    Agreement, DEVICES_MAX, FEATURE_FETCH, FEATURES, HELLO_LEN_BYTES, Offer, Refusal, SHARED_REGIONS_MAX,
    WELCOME_LEN_BYTES, Welcome,
};
use crate::medium::{
    Carrier, Endpoints, HELLO_DEADLINE, MediumError, Share, new_socket, random_id, tune, versions,
};
use crate::rejoin::Rejoin;
use crate::tls::{BINDING_LEN_BYTES, Session, Side, Tls, TlsFailure, Tunnel};

/// How long a device that comes back waits for each answer. A link that is dropped waits for it.
const REDIAL_DEADLINE: Duration = Duration::from_secs(1);

/// Calls `address` and brings up `queues` devices. `shares` travel on device 0 of an shm link; their
/// numbers must be 0, 1, … in order. Nothing is encrypted, and nobody shows who they are.
///
/// # Errors
/// See [`MediumError`]; no device is left open.
pub fn connect(address: &Address, queues: usize, shares: &[Share<'_>]) -> Result<Endpoints, MediumError> {
    bring_up(Dialer { address: address.clone(), tls: None }, queues, shares)
}

/// Calls `address` (tcp) and brings up `queues` devices, each over mutual TLS 1.3.
///
/// # Errors
/// See [`MediumError`]; no device is left open. [`MediumError::Tls`] says who the peer is not, or why it refuses.
pub fn connect_tls(address: &Address, queues: usize, tls: &Tls) -> Result<Endpoints, MediumError> {
    if address.medium() != Medium::Tcp {
        return Err(MediumError::TlsMedium(address.to_string()));
    }
    bring_up(Dialer { address: address.clone(), tls: Some(tls.clone()) }, queues, &[])
}

fn bring_up(dialer: Dialer, queues: usize, shares: &[Share<'_>]) -> Result<Endpoints, MediumError> {
    if queues == 0 || queues > usize::from(DEVICES_MAX) {
        return Err(MediumError::Queues(queues));
    }
    let medium = dialer.address.medium();
    let shares = if medium == Medium::Shm { shares } else { &[] };
    debug_assert!(shares.len() <= usize::from(SHARED_REGIONS_MAX));
    let features = if medium == Medium::Shm { FEATURES } else { FEATURES & !FEATURE_FETCH };
    let first = Offer {
        versions: versions(dialer.tls.is_some()),
        features,
        device: 0,
        devices: queues as u8,
        shared_regions: shares.len() as u8,
        link_id: random_id()?,
        resume: false,
    };
    let side = dialer.side()?;
    let open = |_| dialer.open(side.as_ref(), HELLO_DEADLINE);
    // All handshakes go on at the same time.
    let carriers = (0..queues).map(open).collect::<Result<Vec<_>, _>>()?;
    let mut session = None;
    for (device, carrier) in (0..).zip(&carriers) {
        let shared_regions = if device == 0 { first.shared_regions } else { 0 };
        let shown = dialer.say_hello(carrier, &Offer { device, shared_regions, ..first }, shares)?;
        dialer.check_same(&mut session, shown)?;
    }
    let mut agreement = None;
    // One deadline for all: a listener that answers drop by drop holds up nobody for longer.
    let deadline = Instant::now() + HELLO_DEADLINE;
    for (device, carrier) in (0..).zip(&carriers) {
        agreement = Some(dialer.hear_welcome(carrier, &Offer { device, ..first }, deadline)?);
    }
    let agreement = agreement.expect("at least one device was called");
    let peer = dialer.address.to_string();
    let again = Offer { shared_regions: 0, resume: true, ..first };
    let rejoin =
        (agreement.version >= 2).then(|| Rejoin::Dial(dialer.expecting_again(session.as_ref()), again));
    Ok(Endpoints {
        carriers,
        session,
        remote: Vec::new(),
        shares: !shares.is_empty() && agreement.features & FEATURE_FETCH != 0,
        dialing: true,
        rejoin,
        link_id: None,
        medium,
        agreement,
        peer,
    })
}

/// Calls one address.
#[derive(Clone, Debug)]
pub(crate) struct Dialer {
    address: Address,
    tls: Option<Tls>,
}

impl Dialer {
    /// Calls once more for a device of a link that is up; `offer` names both.
    pub(crate) fn call_again(&self, offer: &Offer) -> Result<Carrier, MediumError> {
        let carrier = self.open(self.side()?.as_ref(), REDIAL_DEADLINE)?;
        self.say_hello(&carrier, offer, &[])?;
        self.hear_welcome(&carrier, offer, Instant::now() + REDIAL_DEADLINE)?;
        Ok(carrier)
    }

    /// The same, but for devices that come back: only to who was there before.
    fn expecting_again(self, session: Option<&Session>) -> Self {
        match (self.tls, session) {
            (Some(tls), Some(session)) => {
                Self { tls: Some(tls.expecting(session.peer.member())), address: self.address }
            }
            (tls, _) => Self { tls, ..self },
        }
    }

    fn side(&self) -> Result<Option<Side>, MediumError> {
        self.tls.as_ref().map(Tls::calling).transpose().map_err(|failure| self.tls_failed(failure))
    }

    fn tls_failed(&self, source: TlsFailure) -> MediumError {
        MediumError::Tls { address: self.address.to_string(), source }
    }

    fn open(&self, side: Option<&Side>, patience: Duration) -> Result<Carrier, MediumError> {
        let failed = |source| MediumError::Connect { address: self.address.to_string(), source };
        let (mut socket, target) = new_socket(&self.address).map_err(failed)?;
        match self.address {
            Address::Tcp(_) => socket.connect_timeout(&target, patience).map_err(failed)?,
            Address::Unix(_) | Address::Shm(_) => {
                // It waits while the listener's queue of callers is full, for as long as a write may.
                socket.set_write_timeout(Some(patience))?;
                socket.connect(&target).map_err(|error| failed(no_place(error)))?;
            }
        }
        tune(&socket, self.address.medium()).map_err(failed)?;
        let mut tunnel = None;
        if let Some(side) = side {
            let opened = Tunnel::open(socket, side, patience, None)?;
            (socket, tunnel) = (opened.0, Some(opened.1));
        }
        socket.set_write_timeout(Some(patience))?;
        Ok(Carrier { socket, tunnel })
    }

    /// Sends the hello, over TLS as soon as the peer has shown who it is; gives what it has shown.
    fn say_hello(
        &self,
        carrier: &Carrier,
        offer: &Offer,
        shares: &[Share<'_>],
    ) -> Result<Option<Session>, MediumError> {
        let failed = |source| self.no_welcome(carrier, source);
        let Some(tunnel) = &carrier.tunnel else {
            send_hello(&carrier.socket, offer, &[], shares).map_err(failed)?;
            return Ok(None);
        };
        let established = tunnel.wait().map_err(|failure| self.tls_failed(failure))?;
        send_hello(&carrier.socket, offer, &established.binding, &[]).map_err(failed)?;
        Ok(Some(established.session))
    }

    /// All devices lead to the same member.
    fn check_same(&self, known: &mut Option<Session>, shown: Option<Session>) -> Result<(), MediumError> {
        let (Some(known), Some(shown)) = (&known, &shown) else {
            *known = shown;
            return Ok(());
        };
        if known.peer != shown.peer {
            let (expected, found) = (known.peer.member().to_owned(), shown.peer.member().to_owned());
            return Err(self.tls_failed(TlsFailure::WrongMember { expected, found }));
        }
        Ok(())
    }

    fn hear_welcome(
        &self,
        carrier: &Carrier,
        offer: &Offer,
        deadline: Instant,
    ) -> Result<Agreement, MediumError> {
        let mut bytes = [0; WELCOME_LEN_BYTES];
        read_exact_by(&carrier.socket, &mut bytes, deadline)
            .map_err(|error| self.no_welcome(carrier, error))?;
        let mut welcome = Welcome::new(Err(Refusal::NotAHello));
        welcome.as_mut_bytes().copy_from_slice(&bytes);
        let agreement = welcome
            .agreement(offer)
            .map_err(|source| MediumError::Welcome { address: self.address.to_string(), source })?;
        carrier.socket.set_read_timeout(None)?;
        carrier.socket.set_write_timeout(None)?;
        Ok(agreement)
    }

    /// A hello that was not taken or not answered. Over TLS the peer may have refused this side's certificate, which it
    /// sees last.
    fn no_welcome(&self, carrier: &Carrier, error: io::Error) -> MediumError {
        let silent = error.kind() == io::ErrorKind::WouldBlock;
        let source = match error.kind() {
            io::ErrorKind::WouldBlock => {
                io::Error::other(format!("no whole answer came in {HELLO_DEADLINE:?}"))
            }
            io::ErrorKind::UnexpectedEof => io::Error::other("it hung up"),
            _ => error,
        };
        let ask = if silent { Tunnel::failure } else { Tunnel::wait_failure };
        match carrier.tunnel.as_ref().and_then(ask) {
            Some(failure) => self.tls_failed(failure),
            None => MediumError::NoWelcome { address: self.address.to_string(), source },
        }
    }
}

/// Fills `bytes` until `deadline`, however they are dealt out.
///
/// # Errors
/// `WouldBlock` if they did not all come, `UnexpectedEof`, or what the kernel says.
fn read_exact_by(mut socket: &Socket, bytes: &mut [u8], deadline: Instant) -> io::Result<()> {
    let mut filled = 0;
    while filled < bytes.len() {
        let left = deadline.saturating_duration_since(Instant::now());
        // What has come already is taken even after the deadline; a time-out of zero would be none.
        socket.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        match io::Read::read(&mut socket, &mut bytes[filled..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) if left.is_zero() && filled + count < bytes.len() => {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A Unix socket says "try again" when the listener's queue stays full.
fn no_place(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => io::Error::other("it takes no calls, and its queue of callers is full"),
        _ => error,
    }
}

fn send_hello(socket: &Socket, offer: &Offer, binding: &[u8], shares: &[Share<'_>]) -> io::Result<()> {
    let hello = offer.to_hello();
    let bytes = [io::IoSlice::new(hello.as_bytes()), io::IoSlice::new(binding)];
    let fds: Vec<BorrowedFd<'_>> = shares.iter().map(|share| share.memfd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SHARED_REGIONS_MAX as usize))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if offer.shared_regions > 0 {
        let fits = control.push(SendAncillaryMessage::ScmRights(&fds));
        debug_assert!(fits, "the space is made for the most regions");
    }
    debug_assert!(binding.is_empty() || binding.len() == BINDING_LEN_BYTES);
    let sent = sendmsg(socket, &bytes, &mut control, SendFlags::NOSIGNAL)?;
    if sent < HELLO_LEN_BYTES + binding.len() {
        return Err(io::Error::from(io::ErrorKind::WriteZero));
    }
    Ok(())
}
