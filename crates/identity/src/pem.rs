//! PEM texts to certificates, keys and revocation lists. Does not judge validity: that is `certificate.rs`.

use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use crate::problem::Flaw;

/// Every certificate of `text`, at least one. What else is in it does not matter.
pub(crate) fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, Flaw> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match found {
        Ok(found) if found.is_empty() => Err(Flaw::NoCertificate),
        Ok(found) => Ok(found),
        Err(_) => Err(Flaw::NotPem),
    }
}

/// The first private key of `text`.
pub(crate) fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, Flaw> {
    if is_encrypted(text) {
        return Err(Flaw::EncryptedKey);
    }
    match PrivateKeyDer::pem_slice_iter(text).next() {
        Some(Ok(key)) => Ok(key),
        Some(Err(_)) => Err(Flaw::NotPem),
        None => Err(Flaw::NoKey),
    }
}

/// PKCS#8 with a password has a label of its own; older forms have a header line.
fn is_encrypted(text: &[u8]) -> bool {
    let holds = |needle: &[u8]| text.windows(needle.len()).any(|window| window == needle);
    holds(b"BEGIN ENCRYPTED PRIVATE KEY") || holds(b"Proc-Type: 4,ENCRYPTED")
}

/// Trust anchors of `text`, at least one.
pub(crate) fn authorities(text: &[u8]) -> Result<RootCertStore, Flaw> {
    let mut roots = RootCertStore::empty();
    for (index, certificate) in certificates(text)?.into_iter().enumerate() {
        roots
            .add(certificate)
            .map_err(|error| Flaw::BadCertificate { position: index + 1, reason: error.to_string() })?;
    }
    Ok(roots)
}

/// Revocation lists of `text`, at least one.
pub(crate) fn revocation_lists(text: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, Flaw> {
    let found: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(text).collect();
    match found {
        Ok(found) if found.is_empty() => Err(Flaw::NoRevocationList),
        Ok(found) => Ok(found),
        Err(_) => Err(Flaw::NotPem),
    }
}
