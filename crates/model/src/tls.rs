//! TLS as it was meant: which certificates, which versions, whom to trust; and where they are to be found.
//!
//! Nothing here is read from a file: a [`Reference`] says what to read. Keys that stand in the configuration itself
//! ([`Secret`]) never appear in debug output. Read next: `meshwright-identity`, which makes rustls configurations of it.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::{Diagnostic, ObjectRef, Origin, Severity};

/// A word of the configuration that leads outside of it, a file or a credential, with its place for findings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// As written.
    pub name: String,
    /// Where it was written.
    pub origin: Origin,
    /// Number of characters it covers there.
    pub length: u32,
    /// The object it belongs to.
    pub object: Option<ObjectRef>,
    /// Field path, for example `spec.servers[0].tls.privateKey`.
    pub path: String,
}

impl Reference {
    /// The file that the name means: an absolute path is itself, any other starts in the directory of the configuration
    /// file that names it, and in the working directory for standard input.
    pub fn file(&self) -> PathBuf {
        let source = Path::new(&*self.origin.source);
        match source.parent() {
            Some(directory) if !self.origin.source.starts_with('<') => directory.join(&self.name),
            _ => PathBuf::from(&self.name),
        }
    }

    /// A finding at this place, with the name as its value.
    pub fn finding(&self, severity: Severity, code: &'static str, message: impl Into<String>) -> Diagnostic {
        let mut finding = Diagnostic::new(severity, code, message)
            .at(self.origin.clone(), self.length)
            .with_path(self.path.clone())
            .with_value(self.name.clone());
        finding.object.clone_from(&self.object);
        finding
    }
}

/// Where a certificate chain and its private key come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateRef {
    /// Two PEM files.
    Files {
        /// The chain, own certificate first.
        certificate: Reference,
        /// The key of the first certificate.
        key: Reference,
    },
    /// A [`Secret`] by name.
    Credential(Reference),
}

/// Where the certificates of trusted authorities come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthoritiesRef {
    /// A PEM file.
    File(Reference),
    /// `ca.crt` of a [`Secret`]; the secret `NAME-cacert` is looked at too.
    Credential(Reference),
}

/// Certificates and keys under a name: a Kubernetes `Secret`, or files of a credentials directory.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret {
    /// Name.
    pub name: String,
    /// Namespace; empty for one that is found from every namespace.
    pub namespace: String,
    /// Certificate chain, PEM (`tls.crt`, `cert`).
    pub certificate: Option<Vec<u8>>,
    /// Private key, PEM (`tls.key`, `key`).
    pub key: Option<Vec<u8>>,
    /// Trusted authorities, PEM (`ca.crt`, `cacert`).
    pub authorities: Option<Vec<u8>>,
    /// Revoked certificates, PEM (`ca.crl`, `crl`).
    pub revoked: Option<Vec<u8>>,
}

impl fmt::Debug for Secret {
    /// Says what is there, not what it is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret")
            .field("name", &self.name)
            .field("namespace", &self.namespace)
            .field("certificate", &self.certificate.is_some())
            .field("key", &self.key.is_some())
            .field("authorities", &self.authorities.is_some())
            .field("revoked", &self.revoked.is_some())
            .finish()
    }
}

/// A TLS version that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsVersion {
    /// 1.2, RFC 5246.
    V1_2,
    /// 1.3, RFC 8446.
    V1_3,
}

/// A cipher suite of TLS 1.2 that is served: forward secret, with authenticated encryption.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CipherSuite {
    /// `ECDHE-ECDSA-AES128-GCM-SHA256`.
    EcdsaAes128,
    /// `ECDHE-ECDSA-AES256-GCM-SHA384`.
    EcdsaAes256,
    /// `ECDHE-ECDSA-CHACHA20-POLY1305`.
    EcdsaChaCha20,
    /// `ECDHE-RSA-AES128-GCM-SHA256`.
    RsaAes128,
    /// `ECDHE-RSA-AES256-GCM-SHA384`.
    RsaAes256,
    /// `ECDHE-RSA-CHACHA20-POLY1305`.
    RsaChaCha20,
}

impl CipherSuite {
    /// Every suite with OpenSSL's name for it.
    pub const NAMES: [(&'static str, CipherSuite); 6] = [
        ("ECDHE-ECDSA-AES128-GCM-SHA256", Self::EcdsaAes128),
        ("ECDHE-ECDSA-AES256-GCM-SHA384", Self::EcdsaAes256),
        ("ECDHE-ECDSA-CHACHA20-POLY1305", Self::EcdsaChaCha20),
        ("ECDHE-RSA-AES128-GCM-SHA256", Self::RsaAes128),
        ("ECDHE-RSA-AES256-GCM-SHA384", Self::RsaAes256),
        ("ECDHE-RSA-CHACHA20-POLY1305", Self::RsaChaCha20),
    ];

    /// The suite that OpenSSL, and Istio, call so.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, suite)| *suite)
    }
}

/// How a [`crate::Server`] ends TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTlsSettings {
    /// Own certificates, at least one; of several the first that the client can verify is shown, ECDSA before RSA.
    pub certificates: Vec<CertificateRef>,
    /// What is asked of clients.
    pub client_certificate: ClientCertificate,
    /// Authorities that sign client certificates; `None` without client certificates.
    pub authorities: Option<AuthoritiesRef>,
    /// File of revoked client certificates.
    pub revoked: Option<Reference>,
    /// DNS names and URIs of which a client certificate must have one; empty accepts every name.
    pub subject_alt_names: Vec<String>,
    /// SHA-256 of the public keys of which a client certificate must have one; empty, with no hashes either, accepts all.
    pub spki_hashes: Vec<[u8; 32]>,
    /// SHA-256 of the client certificates that are accepted beside those keys.
    pub certificate_hashes: Vec<[u8; 32]>,
    /// Oldest version. Default 1.2.
    pub min_version: TlsVersion,
    /// Newest version, at least the oldest. Default 1.3.
    pub max_version: TlsVersion,
    /// Suites of TLS 1.2; empty is all of [`CipherSuite::NAMES`].
    pub cipher_suites: Vec<CipherSuite>,
}

/// What a server asks of its clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificate {
    /// Nothing (`SIMPLE`).
    #[default]
    None,
    /// One that is valid, if they have any (`OPTIONAL_MUTUAL`).
    Optional,
    /// One that is valid (`MUTUAL`).
    Required,
}

/// `trafficPolicy.tls` of a destination rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientTlsPolicy {
    /// Clear text (`DISABLE`), also where a wider policy says otherwise.
    Disable,
    /// TLS.
    Originate(Box<ClientTlsSettings>),
}

/// How TLS to a service is begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTlsSettings {
    /// Own certificate (`MUTUAL`).
    pub certificate: Option<CertificateRef>,
    /// Authorities that sign the certificate of the service; `None` is those of the system.
    pub authorities: Option<AuthoritiesRef>,
    /// File of revoked certificates.
    pub revoked: Option<Reference>,
    /// DNS names and URIs of which the certificate must have one; empty asks for the server name.
    pub subject_alt_names: Vec<String>,
    /// Server name that is asked for; `None` is the host name of the service.
    pub sni: Option<String>,
    /// Take any certificate.
    pub insecure_skip_verify: bool,
    /// The block, for findings about it as a whole.
    pub block: Reference,
}
