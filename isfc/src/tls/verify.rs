//! Is the peer a member of this cluster, and the one that is expected? Both sides ask the same.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, RootCertStore, SignatureScheme,
};

use super::failure::TlsFailure;
use super::identity::Identity;
use super::name::CertificateName;

fn algorithms() -> WebPkiSupportedAlgorithms {
    ring::default_provider().signature_verification_algorithms
}

/// Is the certificate from one of `roots`, and valid at `now`, for a member that is called?
pub(super) fn chain(
    roots: &RootCertStore,
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<(), Error> {
    let parsed = ParsedCertificate::try_from(end_entity)?;
    verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, algorithms().all)
}

/// The check of a peer's certificate, for the side that calls and the side that listens.
#[derive(Debug)]
pub(super) struct PeerVerifier {
    roots: Arc<RootCertStore>,
    callers: Arc<dyn ClientCertVerifier>,
    cluster: String,
    /// The one member that may be there; `None`: any of the cluster.
    expected: Option<String>,
}

impl PeerVerifier {
    pub(super) fn new(identity: &Identity, expected: Option<&str>) -> Result<Self, TlsFailure> {
        let provider = Arc::new(ring::default_provider());
        let callers = WebPkiClientVerifier::builder_with_provider(identity.roots.clone(), provider)
            .clear_root_hint_subjects()
            .build()
            .map_err(|error| TlsFailure::Certificate(error.to_string()))?;
        Ok(Self {
            roots: identity.roots.clone(),
            callers,
            cluster: identity.name.cluster().to_owned(),
            expected: expected.map(str::to_owned),
        })
    }

    /// The chain is good: is the name?
    fn check_name(&self, end_entity: &CertificateDer<'_>) -> Result<(), Error> {
        let name =
            CertificateName::of_der(end_entity).map_err(|error| TlsFailure::from(error).into_rustls())?;
        if name.cluster() != self.cluster {
            let (expected, found) = (self.cluster.clone(), name.cluster().to_owned());
            return Err(TlsFailure::WrongCluster { expected, found }.into_rustls());
        }
        match &self.expected {
            Some(expected) if expected != name.member() => {
                let (expected, found) = (expected.clone(), name.member().to_owned());
                Err(TlsFailure::WrongMember { expected, found }.into_rustls())
            }
            _ => Ok(()),
        }
    }
}

/// TLS 1.2 is not spoken, so nothing of it can be verified.
fn no_tls12() -> Error {
    PeerIncompatible::Tls12NotOffered.into()
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        chain(&self.roots, end_entity, intermediates, now)?;
        self.check_name(end_entity)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.callers.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.callers.verify_client_cert(end_entity, intermediates, now)?;
        self.check_name(end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}
