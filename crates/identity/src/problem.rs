//! What can be wrong with certificates and keys, and what to do about it. Texts never contain a part of a key.

use thiserror::Error;

/// Which part of a specification is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The chain of the pair with this index.
    Certificate(usize),
    /// The key of the pair with this index.
    Key(usize),
    /// The trusted authorities.
    Authorities,
    /// The revoked certificates.
    Revoked,
    /// The server name that is asked for.
    ServerName,
}

/// Why a configuration cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{flaw}")]
pub struct Problem {
    /// Where.
    pub part: Part,
    /// What.
    pub flaw: Flaw,
}

/// What is wrong with one part.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Flaw {
    /// The text is no PEM.
    #[error("it is not valid PEM")]
    NotPem,
    /// No certificate in it.
    #[error("it holds no certificate")]
    NoCertificate,
    /// A certificate that cannot be read.
    #[error("certificate {position} of it cannot be read: {reason}")]
    BadCertificate {
        /// Counted from 1.
        position: usize,
        /// Why.
        reason: String,
    },
    /// The certificate is over.
    #[error("the certificate of {subject} expired on {not_after}")]
    Expired {
        /// Whose.
        subject: String,
        /// When.
        not_after: String,
    },
    /// The certificate does not hold yet.
    #[error("the certificate of {subject} is valid only from {not_before}")]
    NotYetValid {
        /// Whose.
        subject: String,
        /// From when.
        not_before: String,
    },
    /// A certificate is not signed by the next one.
    #[error("the chain is broken: certificate {position} is issued by {issuer}, but the next one is {next}")]
    BrokenChain {
        /// Counted from 1.
        position: usize,
        /// Who issued it.
        issuer: String,
        /// What follows.
        next: String,
    },
    /// No key in it.
    #[error("it holds no private key")]
    NoKey,
    /// A key under a password.
    #[error("the private key is encrypted, and nobody is there to type its password")]
    EncryptedKey,
    /// A key that cannot be used.
    #[error("the private key cannot be used: {reason}")]
    BadKey {
        /// Why.
        reason: String,
    },
    /// The key belongs to another certificate.
    #[error("the private key does not belong to the certificate of {subject}")]
    KeyMismatch {
        /// Whose certificate it is.
        subject: String,
    },
    /// The key belongs to a certificate further down.
    #[error("the private key belongs to certificate {position} of the chain, not to the first one")]
    OwnCertificateNotFirst {
        /// Counted from 1.
        position: usize,
    },
    /// No revocation list in it.
    #[error("it holds no certificate revocation list")]
    NoRevocationList,
    /// A revocation list that cannot be read.
    #[error("the certificate revocation list cannot be read: {reason}")]
    BadRevocationList {
        /// Why.
        reason: String,
    },
    /// A name that no certificate can have.
    #[error("{name:?} is not a name that a server can be asked for")]
    BadServerName {
        /// As given.
        name: String,
    },
    /// rustls refuses the whole.
    #[error("TLS cannot be set up: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
}

impl Flaw {
    /// What to do about it.
    pub fn suggestion(&self) -> &'static str {
        match self {
            Self::NotPem | Self::NoCertificate | Self::BadCertificate { .. } => {
                "give a PEM file with `-----BEGIN CERTIFICATE-----` blocks; `openssl x509 -in FILE -noout -text` reads it"
            }
            Self::Expired { .. } => "renew the certificate; a new file is taken over without a restart",
            Self::NotYetValid { .. } => "check the clock of this machine, or wait until the certificate holds",
            Self::BrokenChain { .. } => "put the own certificate first and each issuer after what it signed",
            Self::NoKey | Self::BadKey { .. } => {
                "give a PEM file with an RSA, ECDSA or Ed25519 key in PKCS#8, PKCS#1 or SEC1 form"
            }
            Self::EncryptedKey => {
                "remove the password: `openssl pkey -in KEY -out NEW-KEY`, readable for this user only"
            }
            Self::KeyMismatch { .. } => "give the key that the certificate was made with",
            Self::OwnCertificateNotFirst { .. } => "put the own certificate first in the file, its issuers after it",
            Self::NoRevocationList | Self::BadRevocationList { .. } => {
                "give a PEM file with `-----BEGIN X509 CRL-----` blocks"
            }
            Self::BadServerName { .. } => "write the DNS name or IP address that the certificate is for, as `sni`",
            Self::Refused { .. } => "check protocol versions, cipher suites and the kind of the key",
        }
    }

    pub(crate) fn of(self, part: Part) -> Problem {
        Problem { part, flaw: self }
    }
}
