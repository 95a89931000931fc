//! What a port shows to its clients and asks of them: [`ServerTls`].

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use meshwright_model::{CipherSuite, TlsVersion};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoClientAuth, ResolvesServerCert, ServerSessionMemoryCache, VerifierBuilderError, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, ServerConfig, SignatureAlgorithm, SupportedProtocolVersion, version};
use rustls_pki_types::CertificateDer;

use crate::certificate::{self, CertificateFacts};
use crate::fingerprint::Fingerprint;
use crate::pem;
use crate::problem::{Flaw, Part, Problem};
use crate::provider::{provider, provider_with};
use crate::verify::{AcceptedNames, NamedClient};

/// Sessions of TLS 1.2 clients without tickets that are remembered; the rest of resumption costs no memory.
const SESSIONS: usize = 256;

/// A certificate chain with its private key, PEM.
#[derive(Clone, Copy)]
pub struct KeyPair<'a> {
    /// Own certificate first, then each issuer; a root is not needed.
    pub certificate: &'a [u8],
    /// The key of the first certificate, not encrypted.
    pub key: &'a [u8],
}

/// What is asked of clients.
#[derive(Clone, Copy)]
pub struct ClientCheck<'a> {
    /// Whether a client without certificate is refused.
    pub required: bool,
    /// Trusted authorities, PEM.
    pub authorities: &'a [u8],
    /// Revoked certificates, PEM. With it, every certificate of a chain needs a list of its issuer.
    pub revoked: Option<&'a [u8]>,
    /// Names of which the certificate must have one; empty accepts every name.
    pub subject_alt_names: &'a [String],
    /// SHA-256 of accepted public keys.
    pub spki_hashes: &'a [[u8; 32]],
    /// SHA-256 of accepted certificates. When there are hashes of either kind, one of them must match.
    pub certificate_hashes: &'a [[u8; 32]],
}

/// What to make a [`ServerTls`] of.
#[derive(Clone)]
pub struct ServerSpec<'a> {
    /// At least one. A client gets the first whose signature it understands, ECDSA before RSA.
    pub pairs: Vec<KeyPair<'a>>,
    /// `None` asks for no client certificate.
    pub clients: Option<ClientCheck<'a>>,
    /// Oldest version.
    pub min_version: TlsVersion,
    /// Newest version.
    pub max_version: TlsVersion,
    /// Suites of TLS 1.2; empty is all.
    pub cipher_suites: &'a [CipherSuite],
    /// Whether HTTP is spoken: offers `h2` and `http/1.1`.
    pub http: bool,
    /// When validity is judged; `None` does not.
    pub now: Option<SystemTime>,
}

/// A TLS server configuration with what a person wants to know of it. It belongs to every connection of its port, so
/// nothing in it is per connection; tickets made by it are of use only with it.
pub struct ServerTls {
    /// For `tokio_rustls::TlsAcceptor` or `rustls::ServerConnection`. Session resumption by tickets whose keys change
    /// every six hours; no early data.
    pub config: Arc<ServerConfig>,
    /// DNS names of the certificates, lower-case, wildcards included, each once.
    pub names: Vec<String>,
    /// Own certificates in the order of the pairs.
    pub certificates: Vec<CertificateFacts>,
    fingerprint: [u8; 32],
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("certificates", &self.certificates).finish_non_exhaustive()
    }
}

impl PartialEq for ServerTls {
    /// Whether both were made of the same specification, whenever that was.
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl ServerTls {
    /// Makes a configuration.
    ///
    /// # Errors
    ///
    /// The first part that is unreadable, does not fit, or is not valid at `spec.now`.
    pub fn new(spec: &ServerSpec<'_>) -> Result<Self, Problem> {
        let mut keys: Vec<Arc<CertifiedKey>> = Vec::with_capacity(spec.pairs.len());
        let mut certificates: Vec<CertificateFacts> = Vec::with_capacity(spec.pairs.len());
        for (index, pair) in spec.pairs.iter().enumerate() {
            let (key, facts) = certified_key(pair, index, spec.now)?;
            keys.push(Arc::new(key));
            certificates.push(facts);
        }
        if keys.is_empty() {
            return Err(Flaw::NoCertificate.of(Part::Certificate(0)));
        }
        keys.sort_by_key(|key| key.key.algorithm() == SignatureAlgorithm::RSA);
        let refused = |error: rustls::Error| Flaw::Refused { reason: error.to_string() }.of(Part::Certificate(0));
        let mut config = ServerConfig::builder_with_provider(provider_with(spec.cipher_suites))
            .with_protocol_versions(&versions(spec.min_version, spec.max_version))
            .map_err(refused)?
            .with_client_cert_verifier(client_verifier(spec.clients.as_ref())?)
            .with_cert_resolver(Arc::new(Chosen(keys)));
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(refused)?;
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
        if spec.http {
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        }
        let mut names: Vec<String> = Vec::new();
        for name in certificates.iter().flat_map(|facts| &facts.dns_names) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        Ok(Self { config: Arc::new(config), names, certificates, fingerprint: spec.fingerprint() })
    }

    /// [`ServerSpec::fingerprint`] of what it was made of.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// When the first of its certificates expires.
    pub fn expires(&self) -> Option<SystemTime> {
        self.certificates.iter().map(|facts| facts.not_after).min()
    }
}

/// Reads one pair.
pub(crate) fn certified_key(
    pair: &KeyPair<'_>,
    index: usize,
    now: Option<SystemTime>,
) -> Result<(CertifiedKey, CertificateFacts), Problem> {
    let certificate = |flaw: Flaw| flaw.of(Part::Certificate(index));
    let chain = pem::certificates(pair.certificate).map_err(certificate)?;
    let key = pem::private_key(pair.key).map_err(|flaw| flaw.of(Part::Key(index)))?;
    let signing = provider()
        .key_provider
        .load_private_key(key)
        .map_err(|error| Flaw::BadKey { reason: error.to_string() }.of(Part::Key(index)))?;
    let own = CertifiedKey::new(chain, signing);
    match own.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(rustls::Error::InconsistentKeys(_)) => return Err(mismatch(&own, index)),
        Err(error) => {
            return Err(certificate(Flaw::BadCertificate { position: 1, reason: error.to_string() }));
        }
    }
    let facts = certificate::chain(&own.cert, now).map_err(certificate)?;
    Ok((own, facts))
}

/// The key is not that of the first certificate: it may be that of another one of the chain.
fn mismatch(own: &CertifiedKey, index: usize) -> Problem {
    let belongs = |certificate: &CertificateDer<'static>| {
        CertifiedKey::new(vec![certificate.clone()], Arc::clone(&own.key)).keys_match().is_ok()
    };
    if let Some(position) = own.cert.iter().position(belongs) {
        return Flaw::OwnCertificateNotFirst { position: position + 1 }.of(Part::Certificate(index));
    }
    let subject = own.cert.first().and_then(certificate::facts_of).map(|facts| facts.subject);
    Flaw::KeyMismatch { subject: subject.unwrap_or_default() }.of(Part::Key(index))
}

fn versions(min: TlsVersion, max: TlsVersion) -> Vec<&'static SupportedProtocolVersion> {
    let all = [(TlsVersion::V1_3, &version::TLS13), (TlsVersion::V1_2, &version::TLS12)];
    all.into_iter().filter(|(version, _)| min <= *version && *version <= max).map(|(_, version)| version).collect()
}

fn client_verifier(check: Option<&ClientCheck<'_>>) -> Result<Arc<dyn ClientCertVerifier>, Problem> {
    let Some(check) = check else { return Ok(Arc::new(NoClientAuth)) };
    let roots = pem::authorities(check.authorities).map_err(|flaw| flaw.of(Part::Authorities))?;
    let lists = match check.revoked {
        Some(text) => pem::revocation_lists(text).map_err(|flaw| flaw.of(Part::Revoked))?,
        None => Vec::new(),
    };
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).with_crls(lists);
    if !check.required {
        builder = builder.allow_unauthenticated();
    }
    let inner = builder.build().map_err(|error| match error {
        VerifierBuilderError::InvalidCrl(error) => {
            Flaw::BadRevocationList { reason: format!("{error:?}") }.of(Part::Revoked)
        }
        other => Flaw::Refused { reason: other.to_string() }.of(Part::Authorities),
    })?;
    Ok(Arc::new(NamedClient {
        inner,
        names: AcceptedNames(check.subject_alt_names.to_vec()),
        spki_hashes: check.spki_hashes.to_vec(),
        certificate_hashes: check.certificate_hashes.to_vec(),
    }))
}

impl ServerSpec<'_> {
    /// The same for the same contents, the time of `now` left out.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut fingerprint = Fingerprint::new();
        fingerprint
            .list(self.pairs.iter().flat_map(|pair| [pair.certificate, pair.key]).collect::<Vec<_>>().into_iter());
        if let Some(check) = &self.clients {
            fingerprint
                .part(&[u8::from(check.required)])
                .part(check.authorities)
                .optional(check.revoked)
                .list(check.subject_alt_names.iter().map(String::as_bytes))
                .list(check.spki_hashes.iter().map(<[u8; 32]>::as_slice))
                .list(check.certificate_hashes.iter().map(<[u8; 32]>::as_slice));
        }
        let rest = format!("{:?} {:?} {:?} {}", self.min_version, self.max_version, self.cipher_suites, self.http);
        fingerprint.part(rest.as_bytes());
        fingerprint.finish()
    }
}

/// The first key that the client can verify. Without one it is the first of all, with which rustls finds nothing in common and
/// says so (handshake_failure, as RFC 8446 wants it); with none at all it would say that access is denied.
#[derive(Debug)]
struct Chosen(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for Chosen {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let schemes = client_hello.signature_schemes();
        self.0.iter().find(|key| key.key.choose_scheme(schemes).is_some()).or(self.0.first()).map(Arc::clone)
    }
}
