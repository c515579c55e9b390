//! How TLS is spoken: version 1.3 and nothing else, both sides with certificates, nothing carried over from an
//! earlier connection.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::NoServerSessionStorage;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};

use super::failure::TlsFailure;
use super::identity::Identity;
use super::verify::PeerVerifier;

/// Names the protocol inside TLS, so that a member cannot be talked into another service's connection.
pub(super) const ALPN: &[u8] = b"isfc/2";

/// Longest record that is sent, in bytes. TLS allows twice as much, but each is copied at the receiver, and from 8 KiB
/// on glibc 2.36 copies with an instruction that is slow on AMD: this saves a quarter of the receiver's time there.
const RECORD_LEN_BYTES: usize = 8000;

/// Suites in the order of their speed: AES-128-GCM first where the processor has AES instructions, else ChaCha20.
pub(super) fn provider() -> Arc<CryptoProvider> {
    let aes = [
        ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
        ring::cipher_suite::TLS13_AES_256_GCM_SHA384,
        ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    let mut cipher_suites = aes.to_vec();
    if !has_aes() {
        cipher_suites.rotate_right(1);
    }
    Arc::new(CryptoProvider { cipher_suites, ..ring::default_provider() })
}

#[cfg(target_arch = "x86_64")]
fn has_aes() -> bool {
    std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_aes() -> bool {
    true
}

/// For the side that listens. `expected`: the one member that may call.
pub(super) fn server(
    provider: Arc<CryptoProvider>,
    identity: &Identity,
    expected: Option<&str>,
) -> Result<Arc<ServerConfig>, TlsFailure> {
    let verifier = Arc::new(PeerVerifier::new(identity, expected)?);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain.clone(), identity.key.clone_key())?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.max_fragment_size = Some(RECORD_LEN_BYTES);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

/// For the side that calls. `expected`: the one member that may answer.
pub(super) fn client(
    provider: Arc<CryptoProvider>,
    identity: &Identity,
    expected: Option<&str>,
) -> Result<Arc<ClientConfig>, TlsFailure> {
    let verifier = Arc::new(PeerVerifier::new(identity, expected)?);
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.max_fragment_size = Some(RECORD_LEN_BYTES);
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    config.enable_early_data = false;
    Ok(Arc::new(config))
}
