//! The link that is coming together at a listener, and the callers whose hello has not come yet.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use socket2::Socket;
use zerocopy::{FromZeros, IntoBytes};

use crate::address::Medium;
use crate::hello::{
    Agreement, FEATURE_FETCH, FEATURES, HELLO_LEN_BYTES, Hello, Offer, Refusal, SHARED_REGIONS_MAX, Welcome,
    negotiate,
};
use crate::medium::{Carrier, Endpoints, HELLO_DEADLINE, tune, versions};
use crate::region::SharedRegion;
use crate::tls::{BINDING_LEN_BYTES, Session, Side, TlsFailure, Tunnel};

/// Half-open connections a listener keeps; further ones are dropped at once.
const PENDING_MAX: usize = 64;
/// Calls taken in one turn: a flood of them must not keep those waiting that have called already.
const CALLS_PER_TURN_MAX: usize = 128;
/// Tunnels a listener keeps, each with a thread: those of the callers above, those of a link, and those that are just
/// ending.
const TUNNELS_MAX: usize = PENDING_MAX + 64;
/// A caller over TLS has so much longer: its tunnel looks at the time itself, and knows better what is missing.
const TLS_GRACE: Duration = Duration::from_secs(1);

/// How callers are taken.
#[derive(Debug)]
pub(crate) struct Reception {
    pub(crate) medium: Medium,
    /// How TLS is spoken, if it is.
    pub(crate) side: Option<Side>,
    /// A clone goes to each tunnel.
    pub(crate) tunnels: Arc<()>,
}

impl Reception {
    /// Makes a caller's connection ready for its hello.
    fn take(&self, socket: Socket) -> io::Result<Carrier> {
        tune(&socket, self.medium)?;
        let Some(side) = &self.side else {
            socket.set_nonblocking(true)?;
            return Ok(Carrier { socket, tunnel: None });
        };
        let (socket, tunnel) = Tunnel::open(socket, side, HELLO_DEADLINE, Some(self.tunnels.clone()))?;
        socket.set_nonblocking(true)?;
        Ok(Carrier { socket, tunnel: Some(tunnel) })
    }

    fn is_full(&self) -> bool {
        Arc::strong_count(&self.tunnels) > TUNNELS_MAX
    }

    fn hello_len_bytes(&self) -> usize {
        HELLO_LEN_BYTES + if self.side.is_some() { BINDING_LEN_BYTES } else { 0 }
    }
}

/// A connection whose hello has not come yet, or not whole.
#[derive(Debug)]
struct Call {
    carrier: Carrier,
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
    session: Option<Session>,
    carriers: Vec<Option<Carrier>>,
    remote: Vec<SharedRegion>,
}

/// A hello that is good: what it offers, what was agreed, and who says it.
type Good = (Offer, Agreement, Option<Session>);

/// All callers of a listener, and the link they make.
#[derive(Debug)]
pub(crate) struct Forming {
    reception: Reception,
    link: Option<HalfLink>,
    /// Only devices of this link may call: those that come back.
    resume: Option<Offer>,
    /// Of those, the ones that this side took out.
    stays_away: Vec<u8>,
    pending: Vec<Call>,
    /// Devices that came back, and their new connections.
    back: Vec<(u8, Carrier)>,
}

impl Forming {
    /// Nobody has called yet. With `resume`, only devices of that link may.
    pub(crate) fn new(reception: Reception, resume: Option<Offer>) -> Self {
        let (pending, back, stays_away) = (Vec::new(), Vec::new(), Vec::new());
        Self { reception, link: None, resume, stays_away, pending, back }
    }

    /// The sockets on which a hello may come.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = &Socket> {
        self.pending.iter().map(|call| &call.carrier.socket)
    }

    /// From now on these devices may not come back.
    pub(crate) fn keep_away(&mut self, devices: impl Iterator<Item = u8>) {
        self.stays_away = devices.collect();
    }

    /// Devices that have come back since this was asked last.
    pub(crate) fn take_returned(&mut self) -> Vec<(u8, Carrier)> {
        std::mem::take(&mut self.back)
    }

    /// Takes the calls that wait at `listener`, and gives up a link of which only a part came.
    pub(crate) fn take_new(&mut self, listener: &Socket, refused: &dyn Fn(String)) {
        for (socket, from) in std::iter::from_fn(|| listener.accept().ok()).take(CALLS_PER_TURN_MAX) {
            let peer = from.as_socket().map_or_else(|| "a local caller".to_owned(), |at| at.to_string());
            if self.pending.len() >= PENDING_MAX || self.reception.is_full() {
                refused(format!("{peer}: dropped, {PENDING_MAX} callers have not finished their hello"));
                continue;
            }
            let Ok(carrier) = self.reception.take(socket) else { continue };
            let bytes = Vec::with_capacity(self.reception.hello_len_bytes());
            self.pending.push(Call { carrier, peer, since: Instant::now(), bytes, fds: Vec::new() });
        }
        if self.link.as_ref().is_some_and(|half| half.since.elapsed() > 2 * HELLO_DEADLINE) {
            let half = self.link.take().expect("just looked at");
            refused(format!("{}: gave up, only part of its devices called", half.peer));
        }
    }

    /// Hears what has come, and answers it. `served` knows the ids of earlier links. Gives the link once it is whole.
    pub(crate) fn serve(
        &mut self,
        served: &dyn Fn(u128) -> bool,
        refused: &dyn Fn(String),
    ) -> Option<Endpoints> {
        let whole = self.reception.hello_len_bytes();
        let patience =
            HELLO_DEADLINE + if self.reception.side.is_some() { TLS_GRACE } else { Duration::ZERO };
        for mut call in std::mem::take(&mut self.pending) {
            match call.read(whole) {
                Ok(true) => self.answer(call, served, refused),
                Ok(false) if call.since.elapsed() > patience => {
                    refused(format!("{}: no whole hello came in {HELLO_DEADLINE:?}", call.peer));
                }
                Ok(false) => self.pending.push(call),
                Err(error) => refused(format!("{}: {}", call.peer, call.why_gone(&error))),
            }
        }
        let complete = self.link.as_ref().is_some_and(|half| half.carriers.iter().all(Option::is_some));
        let half = if complete { self.link.take()? } else { return None };
        Some(Endpoints {
            carriers: half.carriers.into_iter().flatten().collect(),
            session: half.session,
            remote: half.remote,
            shares: false,
            dialing: false,
            rejoin: None,
            link_id: Some(half.link_id),
            medium: self.reception.medium,
            agreement: half.agreement,
            peer: half.peer,
        })
    }

    fn answer(&mut self, call: Call, served: &dyn Fn(u128) -> bool, refused: &dyn Fn(String)) {
        let peer = call.peer.clone();
        let verdict = self.judge(&call, served);
        let welcome = Welcome::new(verdict.as_ref().map(|good| good.1).map_err(|refusal| *refusal));
        let sent = call.carrier.socket.send(welcome.as_bytes());
        match verdict {
            Err(Refusal::NotAHello) => refused(format!("{peer}: {}", not_a_hello(&call.bytes))),
            Err(refusal) => refused(format!("{peer}: {refusal}")),
            Ok(_) if sent.is_err() || call.carrier.socket.set_nonblocking(false).is_err() => {
                refused(format!("{peer}: hung up during the hello"));
            }
            Ok(good) => self.admit(call, good),
        }
    }

    fn judge(&self, call: &Call, served: &dyn Fn(u128) -> bool) -> Result<Good, Refusal> {
        let (bytes, binding) = call.bytes.split_at(HELLO_LEN_BYTES);
        let mut hello = Hello::new_zeroed();
        hello.as_mut_bytes().copy_from_slice(bytes);
        let offer = Offer::from_hello(&hello)?;
        let session = self.judge_binding(call, binding)?;
        let ours = versions(self.reception.side.is_some());
        let agreement = negotiate(ours, FEATURES, offer.versions, offer.features)?;
        let fetches = offer.features & FEATURE_FETCH != 0;
        if !offer.resume && served(offer.link_id) {
            return Err(Refusal::UsedLinkId);
        }
        self.judge_resume(&offer)?;
        let shm = self.reception.medium == Medium::Shm;
        if fetches != shm || usize::from(offer.shared_regions) != call.fds.len() {
            return Err(Refusal::Medium);
        }
        if let Some(half) = &self.link {
            if half.link_id != offer.link_id {
                return Err(Refusal::Busy);
            }
            if half.carriers.len() != usize::from(offer.devices) {
                return Err(Refusal::Devices);
            }
            if half.session.as_ref().map(|session| &session.peer) != session.as_ref().map(|shown| &shown.peer)
            {
                return Err(Refusal::Identity);
            }
            if half.carriers[usize::from(offer.device)].is_some() {
                return Err(Refusal::Duplicate);
            }
        }
        Ok((offer, agreement, session))
    }

    /// Over TLS a hello says whose session it belongs to.
    fn judge_binding(&self, call: &Call, binding: &[u8]) -> Result<Option<Session>, Refusal> {
        if self.reception.side.is_none() {
            return Ok(None);
        }
        // Bytes came through the tunnel, so its handshake is over.
        let established = call.carrier.tunnel.as_ref().and_then(Tunnel::established);
        match established {
            Some(established) if established.binding == *binding => Ok(Some(established.session)),
            _ => Err(Refusal::Replayed),
        }
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

    fn admit(&mut self, call: Call, (offer, agreement, session): Good) {
        if self.resume.is_some() {
            self.back.push((offer.device, call.carrier));
            return;
        }
        let half = self.link.get_or_insert_with(|| HalfLink {
            link_id: offer.link_id,
            since: Instant::now(),
            agreement,
            peer: call.peer,
            session,
            carriers: (0..offer.devices).map(|_| None).collect(),
            remote: Vec::new(),
        });
        for (number, memfd) in call.fds.into_iter().enumerate() {
            half.remote.push(SharedRegion { number: number as u16, memfd });
        }
        half.carriers[usize::from(offer.device)] = Some(call.carrier);
    }
}

/// What a caller said in place of a hello.
fn not_a_hello(bytes: &[u8]) -> String {
    match bytes {
        // A TLS record: a handshake of version 3.x.
        [22, 3, ..] => "it speaks TLS, and this side was started without: give --tls DIR".to_owned(),
        _ => format!("not an ISFC hello, it starts with {:02x?}", &bytes[..8]),
    }
}

impl Call {
    /// Reads on; true once the hello and what follows it, `whole` bytes, are complete.
    fn read(&mut self, whole: usize) -> io::Result<bool> {
        let mut bytes = [0u8; HELLO_LEN_BYTES + BINDING_LEN_BYTES];
        let want = whole - self.bytes.len();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SHARED_REGIONS_MAX as usize))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut buffers = [io::IoSliceMut::new(&mut bytes[..want])];
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let received = match recvmsg(&self.carrier.socket, &mut buffers, &mut control, flags) {
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
        Ok(self.bytes.len() == whole)
    }

    /// Why no hello came: over TLS, what the tunnel says.
    fn why_gone(&self, error: &io::Error) -> String {
        let failure = self.carrier.tunnel.as_ref().and_then(Tunnel::wait_failure);
        match failure {
            Some(TlsFailure::Truncated) | None => format!("hung up before its hello ({error})"),
            Some(failure) => failure.to_string(),
        }
    }
}
