//! What a certificate says: names, validity, issuer; and whether a chain is one.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;

use crate::problem::Flaw;

/// Facts about one certificate, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Distinguished name, for example `CN=api.example.com`; may be empty.
    pub subject: String,
    /// Distinguished name of the issuer.
    pub issuer: String,
    /// Serial number in hexadecimal.
    pub serial: String,
    /// DNS names of the subject alternative names, lower-case, wildcards included.
    pub dns_names: Vec<String>,
    /// URIs and IP addresses of the subject alternative names.
    pub other_names: Vec<String>,
    /// Start of validity.
    pub not_before: SystemTime,
    /// End of validity.
    pub not_after: SystemTime,
}

impl CertificateFacts {
    /// Whether a client that asks for a host of `pattern` (`*`, `*.suffix` or a name) may accept the certificate. A wildcard
    /// of a certificate stands for one label (RFC 9525 section 6.3); of a pattern that is wider, a part is enough.
    pub fn covers(&self, pattern: &str) -> bool {
        let Some(suffix) = pattern.strip_prefix('*') else {
            return self.dns_names.iter().any(|name| name_covers(name, pattern))
                || self.other_names.iter().any(|name| name == pattern);
        };
        self.dns_names.iter().any(|name| name.strip_prefix('*').unwrap_or(name).ends_with(suffix))
    }
}

fn name_covers(name: &str, host: &str) -> bool {
    match name.strip_prefix("*.") {
        Some(rest) => host.split_once('.').is_some_and(|(label, parent)| !label.is_empty() && parent == rest),
        None => name == host,
    }
}

/// Reads a chain: own certificate first, each next one the issuer of the one before, every one valid at `now`.
/// Returns the facts of the first.
pub(crate) fn chain(chain: &[CertificateDer<'_>], now: Option<SystemTime>) -> Result<CertificateFacts, Flaw> {
    let mut parsed: Vec<X509Certificate<'_>> = Vec::with_capacity(chain.len());
    for (index, certificate) in chain.iter().enumerate() {
        let (_, certificate) = X509Certificate::from_der(certificate)
            .map_err(|error| Flaw::BadCertificate { position: index + 1, reason: error.to_string() })?;
        parsed.push(certificate);
    }
    let Some(first) = parsed.first() else { return Err(Flaw::NoCertificate) };
    for certificate in &parsed {
        valid(certificate, now)?;
    }
    for (index, pair) in parsed.windows(2).enumerate() {
        if pair[0].issuer().as_raw() != pair[1].subject().as_raw() {
            let (issuer, next) = (pair[0].issuer().to_string(), pair[1].subject().to_string());
            return Err(Flaw::BrokenChain { position: index + 1, issuer, next });
        }
    }
    Ok(facts(first))
}

/// The facts of one certificate, whatever they are.
pub(crate) fn facts_of(certificate: &CertificateDer<'_>) -> Option<CertificateFacts> {
    X509Certificate::from_der(certificate).ok().map(|(_, certificate)| facts(&certificate))
}

/// The subject alternative names of a certificate: DNS names in lower case, URIs, IP addresses. Empty when it has none, or is
/// no certificate.
pub fn names_of(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Some(CertificateFacts { mut dns_names, mut other_names, .. }) = facts_of(certificate) else {
        return Vec::new();
    };
    dns_names.append(&mut other_names);
    dns_names
}

fn valid(certificate: &X509Certificate<'_>, now: Option<SystemTime>) -> Result<(), Flaw> {
    let Some(now) = now else { return Ok(()) };
    let (from, until) = (certificate.validity().not_before, certificate.validity().not_after);
    if moment(until) < now {
        return Err(Flaw::Expired { subject: subject(certificate), not_after: until.to_string() });
    }
    if moment(from) > now {
        return Err(Flaw::NotYetValid { subject: subject(certificate), not_before: from.to_string() });
    }
    Ok(())
}

fn facts(certificate: &X509Certificate<'_>) -> CertificateFacts {
    let mut dns_names = Vec::new();
    let mut other_names = Vec::new();
    let extension = certificate.subject_alternative_name().ok().flatten();
    for name in extension.iter().flat_map(|extension| &extension.value.general_names) {
        match name {
            GeneralName::DNSName(name) => dns_names.push(name.to_ascii_lowercase()),
            GeneralName::URI(uri) => other_names.push((*uri).to_owned()),
            GeneralName::IPAddress(bytes) => other_names.extend(address(bytes).map(|ip| ip.to_string())),
            _ => {}
        }
    }
    CertificateFacts {
        subject: subject(certificate),
        issuer: certificate.issuer().to_string(),
        serial: certificate.tbs_certificate.raw_serial_as_string().replace(':', ""),
        dns_names,
        other_names,
        not_before: moment(certificate.validity().not_before),
        not_after: moment(certificate.validity().not_after),
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

/// The distinguished name, or a name of the alternative ones when it is empty, as with SPIFFE.
fn subject(certificate: &X509Certificate<'_>) -> String {
    let own = certificate.subject().to_string();
    if !own.is_empty() {
        return own;
    }
    let extension = certificate.subject_alternative_name().ok().flatten();
    let name = extension.and_then(|extension| {
        extension.value.general_names.iter().find_map(|name| match name {
            GeneralName::DNSName(name) | GeneralName::URI(name) => Some((*name).to_owned()),
            _ => None,
        })
    });
    name.unwrap_or_default()
}

fn moment(time: ASN1Time) -> SystemTime {
    match u64::try_from(time.timestamp()) {
        Ok(seconds) => UNIX_EPOCH + Duration::from_secs(seconds),
        Err(_) => UNIX_EPOCH,
    }
}
