//! Who this side is: its certificate, its key, and the CA it trusts, from the files of one directory.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

use super::failure::TlsFailure;
use super::name::{CertificateName, NameError};
use super::{config, verify};

/// The trusted CA certificates; more than one while a cluster changes its CA.
pub const CA_FILE: &str = "ca.pem";
/// The member's certificate.
pub const CERTIFICATE_FILE: &str = "cert.pem";
/// The member's private key.
pub const KEY_FILE: &str = "key.pem";
/// Longest file that is read, in bytes.
const FILE_LEN_BYTES_MAX: u64 = 256 << 10;

/// Why a directory is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source} (`lgr pki issue` makes it)")]
    File {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Others could read the key.
    #[error(
        "the key file {path} can be read by others (mode {mode:04o}): chmod 600 it, and issue a new one if others have used the machine"
    )]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file does not hold what it is to hold.
    #[error("{path} holds no {what} in PEM form")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is missing.
        what: &'static str,
    },
    /// The certificate is not for a member.
    #[error("{path}: {source}")]
    Name {
        /// The file.
        path: PathBuf,
        /// Why.
        source: NameError,
    },
    /// The certificate cannot be used now, or not with that CA.
    #[error("the certificate in {path} is refused, as any peer would refuse it: {source}")]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why.
        source: TlsFailure,
    },
    /// The key is that of another certificate.
    #[error("{path} is not the key of the certificate beside it")]
    Key {
        /// The file.
        path: PathBuf,
    },
}

/// A member's certificate and key, and whom it trusts.
#[derive(Debug)]
pub struct Identity {
    pub(super) name: CertificateName,
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
    pub(super) roots: Arc<RootCertStore>,
}

impl Identity {
    /// Reads `ca.pem`, `cert.pem` and `key.pem` from `dir`.
    ///
    /// # Errors
    /// See [`IdentityError`]; each names the file. A certificate that is out of date is refused here, before a peer
    /// does.
    pub fn load(dir: &Path) -> Result<Self, IdentityError> {
        let ca_path = dir.join(CA_FILE);
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&ca_path, &read(&ca_path, false)?)? {
            let missing = |_| IdentityError::Pem { path: ca_path.clone(), what: "CA certificate" };
            roots.add(certificate).map_err(missing)?;
        }
        let path = dir.join(CERTIFICATE_FILE);
        let chain = certificates(&path, &read(&path, false)?)?;
        let name = CertificateName::of_der(&chain[0])
            .map_err(|source| IdentityError::Name { path: path.clone(), source })?;
        let key_path = dir.join(KEY_FILE);
        let key = PrivateKeyDer::from_pem_slice(&read(&key_path, true)?)
            .map_err(|_| IdentityError::Pem { path: key_path.clone(), what: "private key" })?;
        let identity = Self { name, chain, key, roots: Arc::new(roots) };
        let now = UnixTime::now();
        verify::chain(&identity.roots, &identity.chain[0], &identity.chain[1..], now)
            .map_err(|error| IdentityError::Refused { path, source: error.into() })?;
        // Also finds a key that belongs to another certificate.
        config::server(config::provider(), &identity, None)
            .map_err(|_| IdentityError::Key { path: key_path })?;
        Ok(identity)
    }

    /// Whose certificate it is.
    pub fn name(&self) -> &CertificateName {
        &self.name
    }
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let missing = || IdentityError::Pem { path: path.to_owned(), what: "certificate" };
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| missing())?;
    if found.is_empty() { Err(missing()) } else { Ok(found) }
}

/// The file's bytes; a `secret` one may be nobody's but its owner's to read.
pub(super) fn read(path: &Path, secret: bool) -> Result<Vec<u8>, IdentityError> {
    let failed = |source| IdentityError::File { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let mode = metadata.mode() & 0o7777;
    if secret && mode & 0o077 != 0 {
        return Err(IdentityError::Permissions { path: path.to_owned(), mode });
    }
    if !metadata.is_file() || metadata.len() > FILE_LEN_BYTES_MAX {
        return Err(failed(io::Error::other("it is too large, or no file")));
    }
    let mut bytes = Vec::new();
    file.take(FILE_LEN_BYTES_MAX).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}
