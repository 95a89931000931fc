//! What is asked of a peer's certificate beyond rustls's own checks: listed names, hashes, names that are URIs.
//!
//! Chains, validity and revocation are verified by webpki; nothing here decides without it, save [`Asked::Nothing`].

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{CertRevocationList, EndEntityCert, KeyUsage, RevocationOptionsBuilder};

use crate::fingerprint::hash;

/// Which names a peer may have: exactly one of these, as DNS name (a wildcard of the certificate counts), URI or address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AcceptedNames(pub(crate) Vec<String>);

impl AcceptedNames {
    fn check(&self, certificate: &EndEntityCert<'_>) -> Result<(), Error> {
        let has = |name: &String| {
            certificate.valid_uri_names().any(|uri| uri == name)
                || certificate.valid_dns_names().any(|own| own.eq_ignore_ascii_case(name))
                || ServerName::try_from(name.as_str())
                    .is_ok_and(|name| certificate.verify_is_valid_for_subject_name(&name).is_ok())
        };
        if self.0.is_empty() || self.0.iter().any(has) {
            return Ok(());
        }
        Err(CertificateError::NotValidForName.into())
    }
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<EndEntityCert<'a>, Error> {
    EndEntityCert::try_from(certificate).map_err(|_| CertificateError::BadEncoding.into())
}

/// webpki's error as rustls would report it, so that the peer gets the right alert.
fn refused(error: webpki::Error) -> Error {
    let error = match error {
        webpki::Error::BadDer | webpki::Error::BadDerTime | webpki::Error::TrailingData(_) => {
            CertificateError::BadEncoding
        }
        webpki::Error::CertNotValidYet { time, not_before } => {
            CertificateError::NotValidYetContext { time, not_before }
        }
        webpki::Error::CertExpired { time, not_after } => CertificateError::ExpiredContext { time, not_after },
        webpki::Error::InvalidCertValidity => CertificateError::Expired,
        webpki::Error::UnknownIssuer => CertificateError::UnknownIssuer,
        webpki::Error::CertRevoked => CertificateError::Revoked,
        webpki::Error::UnknownRevocationStatus => CertificateError::UnknownRevocationStatus,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    };
    error.into()
}

/// What is asked of the certificate of a service.
pub(crate) enum Asked {
    /// Nothing (`insecureSkipVerify`); only that the peer has its key is still verified.
    Nothing,
    /// A chain to one of these authorities, and one of the listed names instead of the name that was asked for.
    Names { roots: Arc<RootCertStore>, revoked: Vec<CertRevocationList<'static>>, names: AcceptedNames },
}

/// Verifies a service by what is asked of it.
pub(crate) struct Server {
    pub(crate) asked: Asked,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = match &self.asked {
            Asked::Nothing => None,
            Asked::Names { names, .. } => Some(names),
        };
        f.debug_struct("Server").field("names", &names).finish_non_exhaustive()
    }
}

impl ServerCertVerifier for Server {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Asked::Names { roots, revoked, names } = &self.asked else { return Ok(ServerCertVerified::assertion()) };
        let certificate = parse(end_entity)?;
        let lists: Vec<&CertRevocationList<'_>> = revoked.iter().collect();
        let revocation = RevocationOptionsBuilder::new(&lists).ok().map(RevocationOptionsBuilder::build);
        let usage = KeyUsage::server_auth();
        certificate
            .verify_for_usage(self.algorithms.all, &roots.roots, intermediates, now, usage, revocation, None)
            .map_err(refused)?;
        names.check(&certificate)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The certificate of a client, which must also have a listed name and a listed hash, where there are lists.
#[derive(Debug)]
pub(crate) struct NamedClient {
    pub(crate) inner: Arc<dyn ClientCertVerifier>,
    pub(crate) names: AcceptedNames,
    pub(crate) spki_hashes: Vec<[u8; 32]>,
    pub(crate) certificate_hashes: Vec<[u8; 32]>,
}

impl NamedClient {
    fn check_hashes(&self, end_entity: &CertificateDer<'_>, certificate: &EndEntityCert<'_>) -> Result<(), Error> {
        if self.spki_hashes.is_empty() && self.certificate_hashes.is_empty() {
            return Ok(());
        }
        let spki = hash(&certificate.subject_public_key_info());
        if self.spki_hashes.contains(&spki) || self.certificate_hashes.contains(&hash(end_entity)) {
            return Ok(());
        }
        Err(CertificateError::ApplicationVerificationFailure.into())
    }
}

impl ClientCertVerifier for NamedClient {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now)?;
        let certificate = parse(end_entity)?;
        self.names.check(&certificate)?;
        self.check_hashes(end_entity, &certificate)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
