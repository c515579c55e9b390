//! The other end of a connection, as somebody would make it who does not keep to the rules.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use isfc::tls::BINDING_LABEL;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

use super::PATIENCE;

/// A caller made by hand, which does as it likes.
pub(crate) struct Hostile {
    pub(crate) stream: StreamOwned<ClientConnection, TcpStream>,
}

/// Takes any listener for the right one.
#[derive(Debug)]
struct TrustsAll;

impl ServerCertVerifier for TrustsAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

impl Hostile {
    /// Calls with the certificate in `dir`, or none, as the protocol `alpn`.
    pub(crate) fn call(at: SocketAddr, dir: Option<&Path>, alpn: Option<&[u8]>) -> Self {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(TrustsAll));
        let mut config = match dir {
            Some(dir) => {
                let chain = CertificateDer::pem_file_iter(dir.join("cert.pem")).unwrap();
                let key = PrivateKeyDer::from_pem_file(dir.join("key.pem")).unwrap();
                config.with_client_auth_cert(chain.map(Result::unwrap).collect(), key).unwrap()
            }
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let name = ServerName::try_from("nobody").unwrap();
        let tls = ClientConnection::new(Arc::new(config), name).unwrap();
        let tcp = TcpStream::connect(at).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream: StreamOwned::new(tls, tcp) }
    }

    pub(crate) fn isfc(at: SocketAddr, dir: &Path) -> Self {
        Self::call(at, Some(dir), Some(b"isfc/2"))
    }

    /// Shakes hands; what it gives is the binding of this session.
    pub(crate) fn shake(&mut self) -> [u8; 32] {
        while self.stream.conn.is_handshaking() {
            self.stream.conn.complete_io(&mut self.stream.sock).unwrap();
        }
        self.stream.conn.export_keying_material([0; 32], BINDING_LABEL, None).unwrap()
    }

    pub(crate) fn say(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
        self.stream.flush().unwrap();
    }

    /// The refusal in the welcome; 0 for a yes.
    pub(crate) fn refusal(&mut self) -> u16 {
        let mut welcome = [0; 24];
        self.stream.read_exact(&mut welcome).unwrap();
        assert_eq!(&welcome[..8], b"ISFCWLCM");
        u16::from_le_bytes([welcome[10], welcome[11]])
    }

    /// Reads until the listener hangs up.
    pub(crate) fn hear_out(&mut self) {
        let _ = self.stream.read_to_end(&mut Vec::new());
    }
}
