//! Links that leave the machine: mutual TLS 1.3, where a peer is who its certificate says.
//!
//! ```text
//!   device's thread              tunnel's thread
//!   ┌───────────────┐  socket-  ┌─────────────────────┐       TCP        ┌─────────┐
//!   │ frames, pages ├───pair────┤ encrypts │ decrypts ├══════════════════┤ tunnel …│
//!   └───────────────┘           └─────────────────────┘  TLS 1.3 records └─────────┘
//! ```
//!
//! A device reads and writes a plain stream socket, whatever carries it. Over TLS that is one end of a socket pair,
//! and a tunnel carries the bytes between the other end and the network. Whichever side ends, ends both.
//!
//! - Each side shows a certificate of the cluster's CA; it names the member ([`CertificateName`]). [`pki`] makes them.
//! - The hello of each device is followed by a value exported from its TLS session (RFC 8446, section 7.5), so a hello
//!   says something on one connection only.
//! - Nothing is resumed and there is no early data: each connection proves anew who its ends are.
//!
//! Two members of a new cluster, both in this process, and a message from one to the other:
//!
//! ```
//! use std::time::Duration;
//! use isfc::tls::pki::{self, Validity};
//! use isfc::tls::{Identity, Tls};
//! use isfc::{Link, LinkEvent, LinkOptions, Listener, SocketId};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path();
//! // As `lgr pki init` and `lgr pki issue` do, once. Each member gets its own directory only.
//! pki::create_ca(dir, "DEMO", Validity::days(3650))?;
//! for member in ["MEMBERA", "MEMBERB"] {
//!     pki::issue(dir, member, Validity::days(365), &dir.join(member))?;
//! }
//! let a = Tls::new(Identity::load(&dir.join("MEMBERA"))?).expecting("MEMBERB");
//! let b = Tls::new(Identity::load(&dir.join("MEMBERB"))?);
//!
//! let listener = Listener::bind(&"tcp:127.0.0.1:0".parse()?)?.with_tls(b)?;
//! let address = listener.address().clone();
//! let caller = std::thread::spawn(move || isfc::connect_tls(&address, 2, &a));
//! let patience = Duration::from_secs(10);
//! let taken = listener.accept(Some(patience), &|| false, &|why| eprintln!("refused: {why}"))?;
//! let called = caller.join().expect("the caller does not panic")?;
//! assert_eq!(taken.tls().map(|session| session.peer.member()), Some("MEMBERA"));
//!
//! // A link's name is the one in its certificate. Devices that are cut come back through the listener.
//! let named = |name: &str| LinkOptions { name: name.to_owned(), ..LinkOptions::default() };
//! let here = Link::start(called, named("MEMBERA"))?;
//! let there = Link::start(taken.rejoin_through(listener), named("MEMBERB"))?;
//! let socket = SocketId::new(16).expect("there are 64");
//! here.send(socket, b"hello")?;
//! assert_eq!(there.recv(patience)?, LinkEvent::Message(socket, b"hello".to_vec()));
//! # Ok(())
//! # }
//! ```

mod config;
mod failure;
mod identity;
mod name;
pub mod pki;
mod pump;
pub(crate) mod tunnel;
mod verify;

use std::sync::Arc;

pub use failure::TlsFailure;
pub use identity::{CA_FILE, CERTIFICATE_FILE, Identity, IdentityError, KEY_FILE};
pub use name::{CLUSTER_LEN_MAX, CertificateName, MEMBER_LEN_MAX, NameError};
pub(crate) use tunnel::{FailureHook, Side, Tunnel};

/// Length of what follows a hello inside TLS, in bytes.
pub const BINDING_LEN_BYTES: usize = 32;
/// Label of the exported value that follows a hello. RFC 5705 leaves labels that begin so to private use.
pub const BINDING_LABEL: &[u8] = b"EXPERIMENTAL-ISFC-hello";

/// Who this side is, and whom it wants at the other end.
#[derive(Clone, Debug)]
pub struct Tls {
    identity: Arc<Identity>,
    expected: Option<String>,
}

impl Tls {
    /// Any member of the cluster may be at the other end.
    pub fn new(identity: Identity) -> Self {
        Self { identity: Arc::new(identity), expected: None }
    }

    /// Only `member` may be at the other end.
    #[must_use]
    pub fn expecting(self, member: &str) -> Self {
        Self { expected: Some(member.to_owned()), ..self }
    }

    /// This side's certificate.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(crate) fn calling(&self) -> Result<Side, TlsFailure> {
        let config = config::client(config::provider(), &self.identity, self.expected.as_deref())?;
        Ok(Side::Calls(config, self.identity.name.clone()))
    }

    pub(crate) fn listening(&self) -> Result<Side, TlsFailure> {
        let config = config::server(config::provider(), &self.identity, self.expected.as_deref())?;
        Ok(Side::Listens(config, self.identity.name.clone()))
    }
}

/// What the two ends of a link know of each other, and how it is encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Version of TLS, such as `TLSv1.3`.
    pub version: String,
    /// Cipher suite, such as `TLS13_AES_128_GCM_SHA256`.
    pub suite: String,
    /// Who is at the other end, by its certificate.
    pub peer: CertificateName,
    /// Who this end is, by its certificate.
    pub own: CertificateName,
}
