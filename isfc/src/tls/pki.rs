//! A cluster's own certificate authority and its members' certificates, as files.
//!
//! ```text
//!   DIR/ca.pem  DIR/ca.key        create_ca: stay where they are made, or off line
//!   OUT/ca.pem  OUT/cert.pem  OUT/key.pem     issue: what one member needs
//! ```
//!
//! Keys are ECDSA P-256 and readable by their owner only. No file is ever overwritten. There are no revocation lists:
//! a member that may not take part any more is left behind by a new CA.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use time::OffsetDateTime;
use x509_parser::prelude::X509Certificate;

use super::failure::date_of;
use super::identity::{self, CA_FILE, CERTIFICATE_FILE, IdentityError, KEY_FILE};
use super::name::{self, CertificateName, NameError};

/// The CA's private key.
pub const CA_KEY_FILE: &str = "ca.key";
/// How far back a new certificate is valid, for clocks that are behind, in seconds.
const CLOCKS_APART_S: i64 = 300;
const DAY_S: i64 = 86_400;

/// Why a certificate was not made or shown.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// See [`NameError`].
    #[error(transparent)]
    Name(#[from] NameError),
    /// See [`IdentityError`].
    #[error(transparent)]
    File(#[from] IdentityError),
    /// A file is there already.
    #[error(
        "{0} exists already, and nothing is overwritten: remove it yourself, or choose another directory"
    )]
    Exists(PathBuf),
    /// A file cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file is no CA certificate made by [`create_ca`].
    #[error("{0} is not the certificate of a cluster's CA")]
    NotACa(PathBuf),
    /// The CA's key belongs to another certificate.
    #[error("{key} is not the key of {certificate}")]
    Key {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
    },
    /// A time beyond what a certificate can hold.
    #[error("a certificate cannot be valid from {0} to {1}")]
    Validity(String, String),
    /// A path holds no certificate.
    #[error("{0} holds no certificate")]
    Nothing(PathBuf),
    /// The certificate library failed.
    #[error("the certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
}

/// From when to when a certificate is valid, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// First second.
    pub not_before_unix_s: i64,
    /// Last second.
    pub not_after_unix_s: i64,
}

impl Validity {
    /// From now on for so many days; a few minutes earlier already, as clocks differ.
    pub fn days(days: u32) -> Self {
        let now = now_unix_s();
        Self {
            not_before_unix_s: now - CLOCKS_APART_S,
            not_after_unix_s: now.saturating_add(i64::from(days) * DAY_S),
        }
    }

    fn times(self) -> Result<(OffsetDateTime, OffsetDateTime), PkiError> {
        let (from, to) = (self.not_before_unix_s, self.not_after_unix_s);
        let bad = |_| PkiError::Validity(date_of(from), date_of(to));
        let times = (
            OffsetDateTime::from_unix_timestamp(from).map_err(bad)?,
            OffsetDateTime::from_unix_timestamp(to).map_err(bad)?,
        );
        // Four digits is what the format has for a year.
        if from > to || !(1950..=9999).contains(&times.0.year()) {
            return Err(PkiError::Validity(date_of(from), date_of(to)));
        }
        Ok(times)
    }
}

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Shown {
    /// Its file.
    pub file: PathBuf,
    /// The cluster.
    pub cluster: Option<String>,
    /// The member; `None` for a CA.
    pub member: Option<String>,
    /// It may sign others.
    pub is_ca: bool,
    /// Start of its validity, in seconds since 1970.
    pub not_before_unix_s: i64,
    /// End of its validity, in seconds since 1970.
    pub not_after_unix_s: i64,
    /// Whether it is valid now: `valid`, `expired` or `not yet valid`.
    pub state: &'static str,
    /// SHA-256 of the certificate, in hexadecimal.
    pub sha256: String,
}

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let cluster = self.cluster.as_deref().unwrap_or("-");
        let what = match (&self.member, self.is_ca) {
            (Some(member), _) => format!("member {member} of cluster {cluster}"),
            (None, true) => format!("CA of cluster {cluster}"),
            (None, false) => "names no member".to_owned(),
        };
        let (from, to) = (date_of(self.not_before_unix_s), date_of(self.not_after_unix_s));
        write!(
            f,
            "{}: {what}\n  {}: {from} to {to}\n  sha256 {}",
            self.file.display(),
            self.state,
            self.sha256
        )
    }
}

/// Makes the CA of a cluster in `dir`: `ca.pem` and `ca.key`.
///
/// # Errors
/// See [`PkiError`]; nothing is left behind.
pub fn create_ca(dir: &Path, cluster: &str, validity: Validity) -> Result<(), PkiError> {
    if !name::is_cluster(cluster) {
        return Err(NameError::Cluster(cluster.chars().take(64).collect()).into());
    }
    let mut params = params(validity, &format!("{cluster} member CA"), cluster)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    write_new(
        dir,
        &[
            (CA_KEY_FILE, 0o600, key.serialize_pem().as_bytes()),
            (CA_FILE, 0o644, certificate.pem().as_bytes()),
        ],
    )
}

/// Makes the certificate of `member`, signed by the CA in `dir`, and puts what the member needs into `out`: `ca.pem`,
/// `cert.pem` and `key.pem`. It is valid no longer than the CA.
///
/// # Errors
/// See [`PkiError`]; nothing is left behind.
pub fn issue(dir: &Path, member: &str, validity: Validity, out: &Path) -> Result<(), PkiError> {
    let (ca_path, key_path) = (dir.join(CA_FILE), dir.join(CA_KEY_FILE));
    let ca_pem = identity::read(&ca_path, false)?;
    let not_a_ca = || PkiError::NotACa(ca_path.clone());
    // While a cluster changes its CA the old one follows in the same file: the first is the one that signs.
    let ca = CertificateDer::from_pem_slice(&ca_pem).map_err(|_| not_a_ca())?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&ca).map_err(|_| not_a_ca())?;
    let cluster = cluster_of(&parsed).filter(|_| parsed.is_ca()).ok_or_else(not_a_ca)?;
    let key_pem = String::from_utf8(identity::read(&key_path, true)?).unwrap_or_default();
    let missing = |_| IdentityError::Pem { path: key_path.clone(), what: "private key" };
    let ca_key = KeyPair::from_pem(&key_pem).map_err(missing)?;
    if ca_key.subject_public_key_info() != parsed.public_key().raw {
        return Err(PkiError::Key { key: key_path, certificate: ca_path });
    }
    let name = CertificateName::new(&cluster, member)?;
    let last = parsed.validity().not_after.timestamp();
    let validity = Validity { not_after_unix_s: validity.not_after_unix_s.min(last), ..validity };
    let mut params = params(validity, name.member(), name.cluster())?;
    params.subject_alt_names = vec![SanType::URI(Ia5String::try_from(name.to_uri())?)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // A member calls and listens.
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &Issuer::from_ca_cert_der(&ca, ca_key)?)?;
    write_new(
        out,
        &[
            (KEY_FILE, 0o600, key.serialize_pem().as_bytes()),
            (CERTIFICATE_FILE, 0o644, certificate.pem().as_bytes()),
            (CA_FILE, 0o644, &ca_pem),
        ],
    )
}

/// What the certificates in a file say, or those in the `ca.pem` and `cert.pem` of a directory.
///
/// # Errors
/// [`PkiError::File`], [`PkiError::Nothing`].
pub fn show(path: &Path) -> Result<Vec<Shown>, PkiError> {
    let files = match path.is_dir() {
        true => [CERTIFICATE_FILE, CA_FILE].map(|name| path.join(name)).to_vec(),
        false => vec![path.to_owned()],
    };
    let mut shown = Vec::new();
    for file in files.iter().filter(|file| files.len() == 1 || file.exists()) {
        let pem = identity::read(file, false)?;
        for der in CertificateDer::pem_slice_iter(&pem).map_while(Result::ok) {
            if let Ok((_, certificate)) = x509_parser::parse_x509_certificate(&der) {
                shown.push(describe(file, &certificate, &der));
            }
        }
    }
    if shown.is_empty() { Err(PkiError::Nothing(path.to_owned())) } else { Ok(shown) }
}

fn describe(file: &Path, certificate: &X509Certificate<'_>, der: &[u8]) -> Shown {
    let name = CertificateName::of(certificate).ok();
    let validity = certificate.validity();
    let (from, to) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    let now = now_unix_s();
    Shown {
        file: file.to_owned(),
        cluster: name.as_ref().map(|name| name.cluster().to_owned()).or_else(|| cluster_of(certificate)),
        member: name.map(|name| name.member().to_owned()),
        is_ca: certificate.is_ca(),
        not_before_unix_s: from,
        not_after_unix_s: to,
        state: match now {
            _ if now > to => "expired",
            _ if now < from => "not yet valid",
            _ => "valid",
        },
        sha256: sha256(der),
    }
}

/// The organization in the subject, where [`create_ca`] puts the cluster.
fn cluster_of(certificate: &X509Certificate<'_>) -> Option<String> {
    let organization = certificate.subject().iter_organization().next()?.as_str().ok()?;
    name::is_cluster(organization).then(|| organization.to_owned())
}

fn params(validity: Validity, common_name: &str, cluster: &str) -> Result<CertificateParams, PkiError> {
    let (not_before, not_after) = validity.times()?;
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = (not_before, not_after);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, cluster);
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.serial_number = Some(SerialNumber::from(random()?.to_vec()));
    Ok(params)
}

fn random() -> Result<[u8; 16], PkiError> {
    let id = crate::medium::random_id();
    let mut bytes =
        id.map_err(|source| PkiError::Write { path: "a random number".into(), source })?.to_be_bytes();
    // Positive, and of full length whatever was drawn.
    bytes[0] = bytes[0] & 0x3f | 0x40;
    Ok(bytes)
}

/// Writes all files or none. None may exist.
fn write_new(dir: &Path, files: &[(&str, u32, &[u8])]) -> Result<(), PkiError> {
    let failed = |path: &Path, source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => PkiError::Exists(path.to_owned()),
        _ => PkiError::Write { path: path.to_owned(), source },
    };
    let dir_made = !dir.exists();
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|source| failed(dir, source))?;
    let mut made = Vec::new();
    for (name, mode, bytes) in files {
        let path = dir.join(name);
        let written =
            OpenOptions::new().write(true).create_new(true).mode(*mode).open(&path).and_then(|mut file| {
                made.push(path.clone());
                file.write_all(bytes).and_then(|()| file.sync_all())
            });
        if let Err(source) = written {
            made.iter().for_each(|path| drop(fs::remove_file(path)));
            if dir_made {
                let _ = fs::remove_dir(dir);
            }
            return Err(failed(&path, source));
        }
    }
    Ok(())
}

fn sha256(bytes: &[u8]) -> String {
    let suite = TLS13_AES_128_GCM_SHA256.tls13().expect("it is a suite of TLS 1.3");
    let digest = suite.common.hash_provider.hash(bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn now_unix_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}
