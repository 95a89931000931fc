//! What is shown to a service and asked of it: [`ClientTls`].

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use meshwright_model::UpstreamProtocol;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, VerifierBuilderError, WebPkiServerVerifier};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName};
use webpki::{CertRevocationList, OwnedCertRevocationList};

use crate::certificate::CertificateFacts;
use crate::fingerprint::Fingerprint;
use crate::pem;
use crate::problem::{Flaw, Part, Problem};
use crate::provider::provider;
use crate::server::{KeyPair, certified_key};
use crate::verify::{AcceptedNames, Asked, Server};

/// Server names whose sessions are remembered; a cluster asks for one.
const SESSIONS: usize = 8;

/// Who may sign the certificate of a service.
#[derive(Clone, Copy)]
pub enum Trust<'a> {
    /// These authorities, PEM.
    Authorities(&'a [u8]),
    /// Those of the system.
    System(&'a SystemRoots),
    /// Anybody (`insecureSkipVerify`).
    Anybody,
}

/// The authorities that the system trusts, read once and shared by every configuration that trusts them.
#[derive(Clone)]
pub struct SystemRoots {
    roots: Arc<RootCertStore>,
    fingerprint: [u8; 32],
}

impl SystemRoots {
    /// Those of `certificates` that can be read; large collections have some that cannot.
    pub fn new(certificates: &[CertificateDer<'_>]) -> Self {
        let mut fingerprint = Fingerprint::new();
        fingerprint.list(certificates.iter().map(|certificate| &**certificate));
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates.iter().cloned());
        Self { roots: Arc::new(roots), fingerprint: fingerprint.finish() }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.roots.len()
    }
}

impl Default for SystemRoots {
    /// None.
    fn default() -> Self {
        Self::new(&[])
    }
}

/// What to make a [`ClientTls`] of.
#[derive(Clone)]
pub struct ClientSpec<'a> {
    /// Own certificate, when the service asks for one.
    pub pair: Option<KeyPair<'a>>,
    /// Who may sign.
    pub trust: Trust<'a>,
    /// Revoked certificates, PEM. With it, every certificate of a chain needs a list of its issuer.
    pub revoked: Option<&'a [u8]>,
    /// Names of which the certificate must have one; empty asks for `server_name`.
    pub subject_alt_names: &'a [String],
    /// DNS name or IP address; a DNS name is sent as SNI.
    pub server_name: &'a str,
    /// What is spoken inside.
    pub protocol: UpstreamProtocol,
    /// When validity is judged; `None` does not.
    pub now: Option<SystemTime>,
}

/// What ALPN announces (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// Nothing: bytes.
    Nothing,
    /// `http/1.1`.
    Http1,
    /// `h2`.
    Http2,
}

/// A TLS client configuration for one cluster. Equal ones (`==`) may share connections.
pub struct ClientTls {
    /// For `tokio_rustls::TlsConnector`, with the ALPN of the cluster's protocol; `http/1.1` where that follows the client.
    pub config: Arc<ClientConfig>,
    /// What is asked for, and verified where no names are listed.
    pub server_name: ServerName<'static>,
    /// Own certificate.
    pub certificate: Option<CertificateFacts>,
    http2: Arc<ClientConfig>,
    http1: Arc<ClientConfig>,
    nothing: Arc<ClientConfig>,
    fingerprint: [u8; 32],
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

impl PartialEq for ClientTls {
    /// Whether both were made of the same specification, whenever that was.
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Eq for ClientTls {}

impl ClientTls {
    /// Makes a configuration.
    ///
    /// # Errors
    ///
    /// The first part that is unreadable, does not fit, or is not valid at `spec.now`.
    pub fn new(spec: &ClientSpec<'_>) -> Result<Self, Problem> {
        let bad_name = |_| Flaw::BadServerName { name: spec.server_name.to_owned() }.of(Part::ServerName);
        let server_name = ServerName::try_from(spec.server_name.to_owned()).map_err(bad_name)?;
        let refused = |error: rustls::Error| Flaw::Refused { reason: error.to_string() }.of(Part::Certificate(0));
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(refused)?
            .dangerous()
            .with_custom_certificate_verifier(server_verifier(spec)?);
        let (mut config, certificate) = match &spec.pair {
            Some(pair) => {
                let (key, facts) = certified_key(pair, 0, spec.now)?;
                let resolver = rustls::sign::SingleCertAndKey::from(key);
                (builder.with_client_cert_resolver(Arc::new(resolver)), Some(facts))
            }
            None => (builder.with_no_client_auth(), None),
        };
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        let with = |protocols: &[&[u8]]| {
            let mut own = config.clone();
            own.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
            Arc::new(own)
        };
        let (nothing, http1, http2) = (with(&[]), with(&[b"http/1.1"]), with(&[b"h2"]));
        let own = match spec.protocol {
            UpstreamProtocol::Http2 => &http2,
            UpstreamProtocol::Http1 | UpstreamProtocol::FollowClient => &http1,
        };
        let config = Arc::clone(own);
        Ok(Self { config, server_name, certificate, http2, http1, nothing, fingerprint: spec.fingerprint() })
    }

    /// The configuration that announces `alpn`, whatever the protocol of the cluster: for bytes, and where the protocol
    /// follows the client.
    pub fn config_for(&self, alpn: Alpn) -> &Arc<ClientConfig> {
        match alpn {
            Alpn::Nothing => &self.nothing,
            Alpn::Http1 => &self.http1,
            Alpn::Http2 => &self.http2,
        }
    }

    /// [`ClientSpec::fingerprint`] of what it was made of.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }
}

fn server_verifier(spec: &ClientSpec<'_>) -> Result<Arc<dyn ServerCertVerifier>, Problem> {
    let algorithms = provider().signature_verification_algorithms;
    let roots = match spec.trust {
        Trust::Authorities(text) => Arc::new(pem::authorities(text).map_err(|flaw| flaw.of(Part::Authorities))?),
        Trust::System(system) => Arc::clone(&system.roots),
        Trust::Anybody => return Ok(Arc::new(Server { asked: Asked::Nothing, algorithms })),
    };
    if roots.is_empty() {
        return Err(Flaw::NoCertificate.of(Part::Authorities));
    }
    let lists = match spec.revoked {
        Some(text) => pem::revocation_lists(text).map_err(|flaw| flaw.of(Part::Revoked))?,
        None => Vec::new(),
    };
    if spec.subject_alt_names.is_empty() {
        let builder = WebPkiServerVerifier::builder_with_provider(roots, provider()).with_crls(lists);
        return match builder.build() {
            Ok(verifier) => Ok(verifier),
            Err(VerifierBuilderError::InvalidCrl(error)) => Err(bad_list(&error)),
            Err(other) => Err(Flaw::Refused { reason: other.to_string() }.of(Part::Authorities)),
        };
    }
    let mut revoked: Vec<CertRevocationList<'static>> = Vec::with_capacity(lists.len());
    for list in lists {
        revoked.push(OwnedCertRevocationList::from_der(&list).map_err(|error| bad_list(&error))?.into());
    }
    let names = AcceptedNames(spec.subject_alt_names.to_vec());
    Ok(Arc::new(Server { asked: Asked::Names { roots, revoked, names }, algorithms }))
}

fn bad_list(error: &dyn fmt::Debug) -> Problem {
    Flaw::BadRevocationList { reason: format!("{error:?}") }.of(Part::Revoked)
}

impl ClientSpec<'_> {
    /// The same for the same contents, the time of `now` left out.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut fingerprint = Fingerprint::new();
        fingerprint.optional(self.pair.map(|pair| pair.certificate)).optional(self.pair.map(|pair| pair.key));
        match self.trust {
            Trust::Authorities(text) => fingerprint.part(b"authorities").part(text),
            Trust::System(system) => fingerprint.part(b"system").part(&system.fingerprint),
            Trust::Anybody => fingerprint.part(b"anybody"),
        };
        fingerprint
            .optional(self.revoked)
            .list(self.subject_alt_names.iter().map(String::as_bytes))
            .part(self.server_name.as_bytes())
            .part(format!("{:?}", self.protocol).as_bytes());
        fingerprint.finish()
    }
}
