//! The two sides of TLS as tests want them: whom to trust, what to offer, and what came of it.
//!
//! Shares no code with the product's TLS. Certificates come from `certificates.rs`.

use std::io;
use std::net::TcpStream;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, CommonState, DigitallySignedStruct, HandshakeKind, RootCertStore, ServerConfig,
    ServerConnection, SignatureScheme, StreamOwned, SupportedProtocolVersion,
};

use crate::channel::Channel;
use crate::{Authority, Issued};

type Versions = &'static [&'static SupportedProtocolVersion];

const BOTH: Versions = &[&TLS13, &TLS12];
const ONLY_TLS12: Versions = &[&TLS12];
const ONLY_TLS13: Versions = &[&TLS13];

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// What a handshake agreed on.
#[derive(Clone, Debug)]
pub struct TlsFacts {
    /// `TLSv1_2` or `TLSv1_3`.
    pub version: String,
    /// Cipher suite, as rustls calls it.
    pub cipher: String,
    /// Application protocol.
    pub alpn: Option<String>,
    /// The name that the client asked for; known to servers.
    pub sni: Option<String>,
    /// Certificates of the peer, the leaf first.
    pub peer: Vec<CertificateDer<'static>>,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
}

impl TlsFacts {
    pub(crate) fn of(state: &CommonState, sni: Option<&str>) -> Self {
        Self {
            version: state.protocol_version().map(|version| format!("{version:?}")).unwrap_or_default(),
            cipher: state.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite())).unwrap_or_default(),
            alpn: state.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
            sni: sni.map(ToOwned::to_owned),
            peer: state
                .peer_certificates()
                .map(|chain| chain.iter().map(|one| one.clone().into_owned()).collect())
                .unwrap_or_default(),
            resumed: state.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }
}

/// How a client makes its handshakes. Connections of one value share their sessions, so a later one may resume.
pub struct TlsClient {
    name: String,
    roots: Option<RootCertStore>,
    alpn: Vec<Vec<u8>>,
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    versions: Versions,
    sni: bool,
    config: OnceLock<Arc<ClientConfig>>,
}

impl TlsClient {
    /// Asks for `name` and trusts certificates of this authority for it. No ALPN.
    pub fn trusting(authority: &Authority, name: &str) -> Self {
        Self { roots: Some(authority.roots()), ..Self::trusting_everybody(name) }
    }

    /// Asks for `name` and takes any certificate.
    pub fn trusting_everybody(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            roots: None,
            alpn: Vec::new(),
            identity: None,
            versions: BOTH,
            sni: true,
            config: OnceLock::new(),
        }
    }

    /// Offers these application protocols.
    pub fn alpn(mut self, protocols: &[&str]) -> Self {
        self.alpn = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        self
    }

    /// Shows this certificate when it is asked for one.
    pub fn identity(mut self, issued: &Issued) -> Self {
        self.identity = Some((issued.chain.clone(), issued.key()));
        self
    }

    /// Speaks TLS 1.2 only.
    pub fn only_tls12(mut self) -> Self {
        self.versions = ONLY_TLS12;
        self
    }

    /// Speaks TLS 1.3 only.
    pub fn only_tls13(mut self) -> Self {
        self.versions = ONLY_TLS13;
        self
    }

    /// Does not say which name it asks for.
    pub fn without_sni(mut self) -> Self {
        self.sni = false;
        self
    }

    /// The configuration, made once.
    ///
    /// # Panics
    /// A certificate does not fit to its key.
    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        let make = || {
            let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(self.versions);
            let builder = builder.expect("versions of the provider");
            let builder = match &self.roots {
                Some(roots) => builder.with_root_certificates(roots.clone()),
                None => builder.dangerous().with_custom_certificate_verifier(Arc::new(TrustEverybody(provider()))),
            };
            let mut config = match &self.identity {
                Some((chain, key)) => {
                    builder.with_client_auth_cert(chain.clone(), key.clone_key()).expect("a certificate with its key")
                }
                None => builder.with_no_client_auth(),
            };
            config.alpn_protocols.clone_from(&self.alpn);
            config.enable_sni = self.sni;
            Arc::new(config)
        };
        self.config.get_or_init(make).clone()
    }

    pub(crate) fn server_name(&self) -> ServerName<'static> {
        ServerName::try_from(self.name.clone()).expect("a name or an address")
    }

    /// Makes the handshake.
    ///
    /// # Errors
    /// Why it failed; the text names the alert.
    pub(crate) fn wrap(&self, mut socket: TcpStream) -> io::Result<Channel> {
        let mut connection = ClientConnection::new(self.config(), self.server_name()).map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        Ok(Channel::Client(Box::new(StreamOwned::new(connection, socket))))
    }
}

/// How a server makes its handshakes.
#[derive(Clone)]
pub struct TlsServer {
    chain: Vec<CertificateDer<'static>>,
    key: Arc<PrivateKeyDer<'static>>,
    alpn: Vec<Vec<u8>>,
    clients: Option<Arc<RootCertStore>>,
    versions: Versions,
}

impl TlsServer {
    /// Shows this certificate, whatever name is asked for. No ALPN.
    pub fn new(issued: &Issued) -> Self {
        Self {
            chain: issued.chain.clone(),
            key: Arc::new(issued.key()),
            alpn: Vec::new(),
            clients: None,
            versions: BOTH,
        }
    }

    /// Chooses among these application protocols, the first one the client offers too.
    pub fn alpn(mut self, protocols: &[&str]) -> Self {
        self.alpn = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        self
    }

    /// Demands a client certificate of this authority.
    pub fn demanding(mut self, authority: &Authority) -> Self {
        self.clients = Some(Arc::new(authority.roots()));
        self
    }

    /// Speaks TLS 1.2 only.
    pub fn only_tls12(mut self) -> Self {
        self.versions = ONLY_TLS12;
        self
    }

    /// The configuration.
    ///
    /// # Panics
    /// The certificate does not fit to its key.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(self.versions);
        let builder = builder.expect("versions of the provider");
        let builder = match &self.clients {
            Some(roots) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider()).build();
                builder.with_client_cert_verifier(verifier.expect("an authority"))
            }
            None => builder.with_no_client_auth(),
        };
        let mut config =
            builder.with_single_cert(self.chain.clone(), self.key.clone_key()).expect("a certificate with its key");
        config.alpn_protocols.clone_from(&self.alpn);
        Arc::new(config)
    }
}

/// Makes the handshake of a server.
///
/// # Errors
/// Why it failed.
pub(crate) fn accept(config: &Arc<ServerConfig>, mut socket: TcpStream) -> io::Result<Channel> {
    let mut connection = ServerConnection::new(config.clone()).map_err(io::Error::other)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut socket)?;
    }
    Ok(Channel::Server(Box::new(StreamOwned::new(connection, socket))))
}

/// Takes any certificate, but still wants its key to have signed.
#[derive(Debug)]
struct TrustEverybody(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustEverybody {
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
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
