//! Carries bytes between a socket that speaks TLS and one that does not, until either ends.
//!
//! One thread and no locks: both sockets are non-blocking, and the thread sleeps only when neither direction can move.
//! A direction that cannot go on is not read from, so a peer that takes nothing is felt at the other end.

use std::io::{BufRead, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls::pki_types::{IpAddr, Ipv4Addr, ServerName};
use rustls::{ClientConnection, Connection, ServerConnection};
use socket2::Socket;
use zerocopy::IntoBytes;

use super::config::ALPN;
use super::failure::TlsFailure;
use super::name::CertificateName;
use super::tunnel::{Established, Side, Watch};
use super::{BINDING_LABEL, BINDING_LEN_BYTES, Session};
use crate::hello::{HELLO_MAGIC, Refusal, WELCOME_MAGIC, Welcome};
use crate::slice::Slice;

/// Bytes read from either socket at a time once the handshake is done.
const CHUNK_BYTES: usize = 256 << 10;
/// The same before: a peer that has shown no certificate gets little memory.
const FIRST_CHUNK_BYTES: usize = 16 << 10;
/// Bytes given to TLS at a time, less than the copy that [`super::config`] avoids.
const FEED_LEN_BYTES: usize = 6 << 10;
/// A turn of more bytes carries pages, not messages alone.
const PAGES_FROM_BYTES: usize = 16 << 10;
/// How long a tunnel whose plain end has closed goes on sending what it has.
const CLOSING_PATIENCE: Duration = Duration::from_secs(1);
/// How long a peer that is refused has for reading why.
const LINGER: Duration = Duration::from_millis(300);

/// The two sockets, the TLS state, and what is on its way.
pub(super) struct Pump {
    tls: Connection,
    own: CertificateName,
    tcp: Arc<Socket>,
    local: Socket,
    /// From `tcp`; the bytes in `filled` have not been given to `tls` yet.
    incoming: Box<[u8]>,
    filled: Range<usize>,
    /// Decrypted; all but the first `plain_done` bytes have not been written to `local` yet.
    plain: Vec<u8>,
    plain_done: usize,
    /// Read from `local`.
    outgoing: Box<[u8]>,
    /// The first bytes have been looked at.
    is_tls: bool,
    /// The peer has said that it ends.
    peer_closed: bool,
    /// Until when what is left may still go out: the plain end is closed.
    closing: Option<Instant>,
    /// Bytes read from either end in this turn.
    turn_bytes: usize,
}

impl Pump {
    pub(super) fn new(tcp: Arc<Socket>, local: Socket, side: &Side) -> Result<Self, rustls::Error> {
        // Members are not found by a host's name: the certificate's own name counts, and `verify` looks at it.
        let nowhere = ServerName::IpAddress(IpAddr::V4(Ipv4Addr::from([0, 0, 0, 0])));
        let (mut tls, own): (Connection, _) = match side {
            Side::Calls(config, own) => (ClientConnection::new(config.clone(), nowhere)?.into(), own),
            Side::Listens(config, own) => (ServerConnection::new(config.clone())?.into(), own),
        };
        // A chunk is encrypted whole, and the next one is read only when it has gone out.
        tls.set_buffer_limit(None);
        Ok(Self {
            tls,
            own: own.clone(),
            tcp,
            local,
            incoming: vec![0; FIRST_CHUNK_BYTES].into_boxed_slice(),
            filled: 0..0,
            plain: Vec::new(),
            plain_done: 0,
            outgoing: Box::default(),
            is_tls: false,
            peer_closed: false,
            closing: None,
            turn_bytes: 0,
        })
    }

    /// Shakes hands until `deadline`, `patience` from now, and then carries bytes. Tells `watch` of either's end.
    pub(super) fn run(mut self, deadline: Instant, patience: Duration, watch: &Watch) {
        let outcome = self.shake(deadline, patience).and_then(|()| {
            watch.established(self.establish()?);
            self.incoming = vec![0; CHUNK_BYTES].into_boxed_slice();
            self.outgoing = vec![0; CHUNK_BYTES].into_boxed_slice();
            self.carry()
        });
        if let Err(failure) = outcome {
            if self.closing.is_none() {
                watch.failed(failure.clone());
            }
            self.say_why(&failure);
        }
    }

    fn shake(&mut self, deadline: Instant, patience: Duration) -> Result<(), TlsFailure> {
        while self.tls.is_handshaking() {
            // Looked at every time: a peer that says a byte now and then gets no longer.
            if Instant::now() >= deadline {
                return Err(TlsFailure::TimedOut(patience));
            }
            let sent = self.send()?;
            let received = self.receive()?;
            if self.peer_closed {
                return Err(TlsFailure::HungUp);
            }
            if self.tls.is_handshaking() && !sent && !received {
                self.wait(Some(deadline))?;
            }
        }
        // What came with the handshake's last bytes must not be lost with the small buffer.
        self.feed()
    }

    fn establish(&self) -> Result<Established, TlsFailure> {
        let unknown = || TlsFailure::Protocol("the handshake left no session".to_owned());
        if self.tls.alpn_protocol() != Some(ALPN) {
            return Err(TlsFailure::NotIsfc);
        }
        let certificates = self.tls.peer_certificates().and_then(<[_]>::first);
        let peer = CertificateName::of_der(certificates.ok_or(TlsFailure::NoCertificate)?)?;
        let version = self.tls.protocol_version().and_then(|version| version.as_str()).ok_or_else(unknown)?;
        let suite = self.tls.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
        let binding = self.tls.export_keying_material([0; BINDING_LEN_BYTES], BINDING_LABEL, None)?;
        Ok(Established {
            session: Session {
                version: version.replace("TLSv1_3", "TLSv1.3"),
                suite: suite.ok_or_else(unknown)?.to_owned(),
                peer,
                own: self.own.clone(),
            },
            binding,
        })
    }

    fn carry(&mut self) -> Result<(), TlsFailure> {
        // As its device's thread: messages run on a short time slice.
        let mut slice = Slice::new();
        loop {
            slice.observe(std::mem::take(&mut self.turn_bytes) > PAGES_FROM_BYTES, Instant::now());
            let mut moved = self.take_plain()?;
            moved |= self.send()?;
            moved |= self.give_plain();
            if self.plain.is_empty() && !self.peer_closed {
                moved |= self.receive()?;
                moved |= self.give_plain();
            }
            if self.peer_closed && self.plain.is_empty() {
                self.tls.send_close_notify();
                let _ = self.send();
                return Ok(());
            }
            if let Some(deadline) = self.closing
                && (!self.tls.wants_write() || Instant::now() >= deadline)
            {
                self.linger(deadline);
                return Ok(());
            }
            if !moved {
                self.wait(self.closing)?;
            }
        }
    }

    /// Plain end to TLS. True if bytes moved.
    fn take_plain(&mut self) -> Result<bool, TlsFailure> {
        if self.closing.is_some() || self.tls.wants_write() {
            return Ok(false);
        }
        match (&self.local).read(&mut self.outgoing) {
            Ok(0) => self.close(),
            Ok(count) => {
                self.turn_bytes += count;
                self.tls.writer().write_all(&self.outgoing[..count]).map_err(io_failure)?;
            }
            Err(error) if is_not_now(&error) => return Ok(false),
            Err(_) => self.close(),
        }
        Ok(true)
    }

    /// The plain end is closed: what has been read from it still goes out.
    fn close(&mut self) {
        self.tls.send_close_notify();
        self.plain.clear();
        self.plain_done = 0;
        self.closing = Some(Instant::now() + CLOSING_PATIENCE);
    }

    /// TLS to the network. True if bytes moved.
    fn send(&mut self) -> Result<bool, TlsFailure> {
        let mut moved = false;
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut NoSignal(&self.tcp)) {
                Ok(_) => moved = true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // A peer that has refused this side may have said why before it closed.
                Err(error) => return Err(self.last_words().unwrap_or_else(|| io_failure(error))),
            }
        }
        Ok(moved)
    }

    /// The failure in what can still be read of a connection that takes nothing any more.
    fn last_words(&mut self) -> Option<TlsFailure> {
        loop {
            match self.receive() {
                Ok(true) if !self.peer_closed => self.plain.clear(),
                Ok(_) => return None,
                Err(TlsFailure::Io(_)) => return None,
                Err(failure) => return Some(failure),
            }
        }
    }

    /// Network to TLS. True if bytes moved.
    fn receive(&mut self) -> Result<bool, TlsFailure> {
        if self.filled.is_empty() {
            self.filled = 0..0;
        }
        let count = match (&*self.tcp).read(&mut self.incoming[self.filled.end..]) {
            Ok(count) => count,
            Err(error) if is_not_now(&error) => return Ok(false),
            Err(error) => return Err(io_failure(error)),
        };
        self.filled.end += count;
        self.turn_bytes += count;
        if !self.is_tls {
            self.is_tls = self.looks_like_tls(count == 0)?;
            if !self.is_tls {
                return Ok(true);
            }
        }
        if count == 0 {
            let handshaking = self.tls.is_handshaking();
            return Err(if handshaking { TlsFailure::HungUp } else { TlsFailure::Truncated });
        }
        self.feed()?;
        Ok(true)
    }

    /// False if too little has come to tell.
    fn looks_like_tls(&self, ended: bool) -> Result<bool, TlsFailure> {
        const HANDSHAKE: u8 = 22;
        const ALERT: u8 = 21;
        let start = &self.incoming[self.filled.clone()];
        let start = &start[..start.len().min(HELLO_MAGIC.len())];
        match start {
            [] if ended => Err(TlsFailure::HungUp),
            [] => Ok(false),
            [HANDSHAKE | ALERT, ..] => Ok(true),
            _ if start == HELLO_MAGIC || start == WELCOME_MAGIC => Err(TlsFailure::Plaintext),
            _ if start.len() == HELLO_MAGIC.len() || ended => Err(TlsFailure::NotTls(start.to_vec())),
            _ => Ok(false),
        }
    }

    fn feed(&mut self) -> Result<(), TlsFailure> {
        while !self.filled.is_empty() && !self.peer_closed {
            let end = self.filled.end.min(self.filled.start + FEED_LEN_BYTES);
            let mut rest = &self.incoming[self.filled.start..end];
            let taken = self.tls.read_tls(&mut rest).map_err(io_failure)?;
            self.filled.start += taken;
            let state = self.tls.process_new_packets()?;
            self.peer_closed = state.peer_has_closed();
            let mut left = state.plaintext_bytes_to_read();
            while left > 0 {
                let mut reader = self.tls.reader();
                let chunk = reader.fill_buf().map_err(io_failure)?;
                let count = chunk.len();
                if self.closing.is_none() {
                    self.plain.extend_from_slice(chunk);
                }
                reader.consume(count);
                left = left.saturating_sub(count.max(1));
            }
        }
        Ok(())
    }

    /// Decrypted bytes to the plain end. True if bytes moved.
    fn give_plain(&mut self) -> bool {
        let mut moved = false;
        while self.plain_done < self.plain.len() {
            match NoSignal(&self.local).write(&self.plain[self.plain_done..]) {
                Ok(count) => {
                    self.plain_done += count;
                    moved = true;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return moved,
                Err(_) => {
                    self.close();
                    return true;
                }
            }
        }
        self.plain.clear();
        self.plain_done = 0;
        moved
    }

    /// Sleeps until something can move.
    fn wait(&mut self, deadline: Option<Instant>) -> Result<(), TlsFailure> {
        let blocked_out = self.tls.wants_write();
        let mut network = PollFlags::empty();
        network.set(PollFlags::OUT, blocked_out);
        network.set(PollFlags::IN, self.plain.is_empty());
        let shaking = self.tls.is_handshaking();
        let mut plain = PollFlags::empty();
        plain.set(PollFlags::IN, !blocked_out && !shaking);
        plain.set(PollFlags::OUT, !self.plain.is_empty());
        // Poll tells of a hang-up whether or not it was asked. A socket nothing is wanted of is left out, or the thread
        // would spin; but a plain end that hangs up is to be noticed even while the network is blocked.
        let mut fds = Vec::with_capacity(2);
        if self.closing.is_none() {
            fds.push(PollFd::new(&self.local, plain));
        }
        if !network.is_empty() {
            fds.push(PollFd::new(&*self.tcp, network));
        }
        let left = deadline.map(|at| {
            let left = at.saturating_duration_since(Instant::now());
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) }
        });
        match poll(&mut fds, left.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(TlsFailure::Io(error.to_string())),
        }
        let hung_up = self.closing.is_none() && fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR);
        if hung_up && (blocked_out || shaking) {
            if shaking {
                self.closing = Some(Instant::now());
                return Err(TlsFailure::HungUp);
            }
            // What waits in the plain end is lost with it, as it would be with a cut connection.
            self.close();
        }
        Ok(())
    }

    /// Tells the peer why, as far as TLS has a word for it.
    fn say_why(&mut self, failure: &TlsFailure) {
        if *failure == TlsFailure::Plaintext && matches!(self.tls, Connection::Server(_)) {
            let _ = NoSignal(&self.tcp).write(Welcome::new(Err(Refusal::TlsDemanded)).as_bytes());
        } else if self.is_tls {
            while self.tls.wants_write()
                && self.tls.write_tls(&mut NoSignal(&self.tcp)).is_ok_and(|count| count > 0)
            {}
        }
        // Whoever reads from the plain end is not kept waiting for the peer.
        let _ = self.local.shutdown(Shutdown::Both);
        self.linger(Instant::now() + LINGER);
    }

    /// Lets the peer read what was sent: a socket closed on unread bytes resets the connection and takes that away.
    fn linger(&mut self, deadline: Instant) {
        let _ = self.local.shutdown(Shutdown::Both);
        let _ = self.tcp.shutdown(Shutdown::Write);
        loop {
            match (&*self.tcp).read(&mut self.incoming) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    let time =
                        Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
                    let mut fds = [PollFd::new(&*self.tcp, PollFlags::IN)];
                    let _ = poll(&mut fds, Some(&time));
                }
                Err(_) => return,
            }
            if Instant::now() >= deadline {
                return;
            }
        }
    }
}

/// Writes without the signal that a closed socket would raise.
struct NoSignal<'a>(&'a Socket);

impl Write for NoSignal<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.send_with_flags(bytes, libc::MSG_NOSIGNAL)
    }

    fn write_vectored(&mut self, buffers: &[std::io::IoSlice<'_>]) -> std::io::Result<usize> {
        self.0.send_vectored_with_flags(buffers, libc::MSG_NOSIGNAL)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn is_not_now(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

fn io_failure(error: std::io::Error) -> TlsFailure {
    match error.kind() {
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => TlsFailure::Truncated,
        _ => TlsFailure::Io(error.to_string()),
    }
}
