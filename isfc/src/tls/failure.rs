//! Why a TLS connection was not made, or ended: each reason in words that say what is to be done.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, OtherError};

use super::name::NameError;

/// What went wrong on a TLS connection. The texts begin with "its" or "it": who the peer is stands before them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsFailure {
    /// Signed by nobody this side trusts.
    #[error("its certificate is not from this cluster's CA")]
    NotThisCa,
    /// Its time is over.
    #[error("its certificate expired on {0}")]
    Expired(String),
    /// Its time has not begun.
    #[error("its certificate is not valid before {0}")]
    NotYetValid(String),
    /// Authentication is mutual.
    #[error("it showed no certificate; this side demands one")]
    NoCertificate,
    /// See [`NameError`].
    #[error("its certificate cannot be used: {0}")]
    Name(#[from] NameError),
    /// Somebody else than was asked for.
    #[error("its certificate is that of {found}, and {expected} is expected")]
    WrongMember {
        /// Whom this side wants.
        expected: String,
        /// Who is there.
        found: String,
    },
    /// The CA is trusted, the certificate was made for another cluster.
    #[error("its certificate is for the cluster {found}, this side's for {expected}")]
    WrongCluster {
        /// This side's.
        expected: String,
        /// The peer's.
        found: String,
    },
    /// The certificate is broken in another way.
    #[error("its certificate cannot be used: {0}")]
    Certificate(String),
    /// A hello of the link where TLS was to begin.
    #[error("it speaks plaintext; this side demands TLS")]
    Plaintext,
    /// Something else where TLS was to begin.
    #[error("it does not speak TLS, its first bytes are {0:02x?}")]
    NotTls(Vec<u8>),
    /// TLS, but for something else.
    #[error("it speaks TLS, but not for an ISFC link")]
    NotIsfc,
    /// The peer said no.
    #[error("it refused this side: {0}")]
    Refused(&'static str),
    /// The handshake took too long.
    #[error("it did not finish the TLS handshake within {0:?}")]
    TimedOut(Duration),
    /// The connection ended during the handshake.
    #[error("it hung up during the TLS handshake")]
    HungUp,
    /// The connection ended where TLS had not.
    #[error("the connection was cut off: it ended without TLS's closing alert")]
    Truncated,
    /// A record that does not decrypt.
    #[error("a TLS record was damaged or forged on its way")]
    Forged,
    /// The peer breaks TLS's rules.
    #[error("it broke the rules of TLS: {0}")]
    Protocol(String),
    /// The kernel reported an error.
    #[error("{0}")]
    Io(String),
    /// The thread that carries the bytes panicked: a defect of this program.
    #[error("this side's TLS thread panicked: {0}")]
    Panicked(String),
}

impl TlsFailure {
    /// Carries this through rustls, out of a verifier.
    pub(super) fn into_rustls(self) -> Error {
        CertificateError::Other(OtherError(Arc::new(self))).into()
    }
}

impl From<Error> for TlsFailure {
    fn from(error: Error) -> Self {
        match error {
            Error::InvalidCertificate(error) => of_certificate(error),
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::AlertReceived(alert) => Self::Refused(in_words(alert)),
            Error::DecryptError => Self::Forged,
            Error::NoApplicationProtocol => Self::NotIsfc,
            Error::PeerIncompatible(why) => Self::Protocol(format!("no common ground ({why:?})")),
            Error::PeerMisbehaved(why) => Self::Protocol(format!("{why:?}")),
            Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
                Self::Protocol("what came is not TLS".to_owned())
            }
            other => Self::Protocol(other.to_string()),
        }
    }
}

fn of_certificate(error: CertificateError) -> TlsFailure {
    match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => TlsFailure::NotThisCa,
        CertificateError::ExpiredContext { not_after, .. } => TlsFailure::Expired(date(not_after)),
        CertificateError::NotValidYetContext { not_before, .. } => TlsFailure::NotYetValid(date(not_before)),
        CertificateError::Other(OtherError(inner)) => match inner.downcast_ref::<TlsFailure>() {
            Some(failure) => failure.clone(),
            None => TlsFailure::Certificate(inner.to_string()),
        },
        other => TlsFailure::Certificate(format!("{other:?}")),
    }
}

/// What the peer says of this side by an alert.
fn in_words(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            "this side's certificate is not from its cluster's CA"
        }
        AlertDescription::CertificateExpired => {
            "by its clock, this side's certificate has expired or is not valid yet"
        }
        AlertDescription::CertificateRequired => "it demands a certificate",
        AlertDescription::CertificateUnknown => "this side is not the member that it expects",
        AlertDescription::BadCertificate | AlertDescription::UnsupportedCertificate => {
            "this side's certificate cannot be used"
        }
        AlertDescription::ProtocolVersion => "it does not speak TLS 1.3",
        AlertDescription::HandshakeFailure => "it has no cipher suite in common",
        AlertDescription::NoApplicationProtocol => "it speaks TLS, but not for an ISFC link",
        AlertDescription::BadRecordMac => "a record of this side came damaged",
        _ => "it gave another reason of TLS",
    }
}

/// A time as a certificate has it.
pub(super) fn date(time: UnixTime) -> String {
    date_of(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}

/// Seconds since 1970 as a date and time.
pub(super) fn date_of(unix_s: i64) -> String {
    match time::OffsetDateTime::from_unix_timestamp(unix_s) {
        Ok(at) => {
            let (year, month, day) = at.to_calendar_date();
            let month = u8::from(month);
            format!("{year}-{month:02}-{day:02} {:02}:{:02} UTC", at.hour(), at.minute())
        }
        Err(_) => format!("{unix_s} s after 1970"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_out() {
        assert_eq!(date_of(0), "1970-01-01 00:00 UTC");
        assert_eq!(date_of(1_795_482_063), "2026-11-24 01:01 UTC");
        assert_eq!(date_of(i64::MAX), format!("{} s after 1970", i64::MAX));
    }

    #[test]
    fn a_reason_survives_its_way_through_rustls() {
        let failure = TlsFailure::WrongMember { expected: "A".to_owned(), found: "B".to_owned() };
        assert_eq!(TlsFailure::from(failure.clone().into_rustls()), failure);
    }
}
