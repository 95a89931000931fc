//! Certificates made for a test, and a TLS handshake in memory. Shared; each test file uses a part of it.
#![allow(dead_code, missing_docs, clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use meshwright_identity::{ClientSpec, ClientTls, KeyPair, ServerSpec, ServerTls, Trust};
use meshwright_model::{TlsVersion, UpstreamProtocol};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyUsagePurpose, SanType,
    SignatureAlgorithm, date_time_ymd,
};
use rustls::{ClientConfig, ClientConnection, ServerConnection};

/// A certificate chain and its key as PEM.
#[derive(Clone)]
pub struct Pem {
    pub chain: String,
    pub key: String,
}

impl Pem {
    pub fn pair(&self) -> KeyPair<'_> {
        KeyPair { certificate: self.chain.as_bytes(), key: self.key.as_bytes() }
    }
}

/// An authority.
pub struct Authority {
    pub issuer: Issuer<'static, rcgen::KeyPair>,
    pub pem: String,
}

pub fn authority(name: &str) -> Authority {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = authority_params(name);
    let pem = params.self_signed(&key).unwrap().pem();
    Authority { issuer: Issuer::new(params, key), pem }
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params
}

pub fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

impl Authority {
    /// A certificate with these alternative names; one that begins with `spiffe:` is a URI.
    pub fn issue(&self, names: &[&str]) -> Pem {
        self.issue_with(names, &rcgen::PKCS_ECDSA_P256_SHA256, |_| ())
    }

    pub fn issue_with(
        &self,
        names: &[&str],
        algorithm: &'static SignatureAlgorithm,
        adjust: impl FnOnce(&mut CertificateParams),
    ) -> Pem {
        let (uris, dns): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| name.starts_with("spiffe:"));
        let mut params = CertificateParams::new(dns.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        params.subject_alt_names.extend(uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())));
        params.distinguished_name = named(names.first().unwrap_or(&"nobody"));
        adjust(&mut params);
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Pem { chain: certificate.pem(), key: key.serialize_pem() }
    }

    /// An authority that this one has signed, with its own certificate.
    pub fn intermediate(&self, name: &str) -> Authority {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = authority_params(name);
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }
}

/// Within the validity of every certificate made here that says nothing else.
pub fn now() -> Option<SystemTime> {
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_750_000_000))
}

pub fn expired(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2021, 1, 1);
}

pub fn server_spec(pairs: Vec<KeyPair<'_>>) -> ServerSpec<'_> {
    ServerSpec {
        pairs,
        clients: None,
        min_version: TlsVersion::V1_2,
        max_version: TlsVersion::V1_3,
        cipher_suites: &[],
        http: true,
        now: now(),
    }
}

pub fn server(pem: &Pem) -> ServerTls {
    ServerTls::new(&server_spec(vec![pem.pair()])).unwrap()
}

pub fn client_spec<'a>(trust: Trust<'a>, server_name: &'a str) -> ClientSpec<'a> {
    ClientSpec {
        pair: None,
        trust,
        revoked: None,
        subject_alt_names: &[],
        server_name,
        protocol: UpstreamProtocol::Http1,
        now: now(),
    }
}

pub fn client(authority: &Authority, server_name: &str) -> ClientTls {
    ClientTls::new(&client_spec(Trust::Authorities(authority.pem.as_bytes()), server_name)).unwrap()
}

/// Both ends after the handshake, or what the client and the server said when it failed.
pub fn handshake(
    client: &ClientTls,
    config: &Arc<ClientConfig>,
    server: &ServerTls,
) -> Result<(ClientConnection, ServerConnection), String> {
    let mut client = ClientConnection::new(Arc::clone(config), client.server_name.clone()).unwrap();
    let mut server = ServerConnection::new(Arc::clone(&server.config)).unwrap();
    for _ in 0..10 {
        let mut bytes: Vec<u8> = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let mut input = bytes.as_slice();
        while !input.is_empty() {
            server.read_tls(&mut input).unwrap();
            server.process_new_packets().map_err(|error| format!("server: {error}"))?;
        }
        let mut bytes: Vec<u8> = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let mut input = bytes.as_slice();
        while !input.is_empty() {
            client.read_tls(&mut input).unwrap();
            client.process_new_packets().map_err(|error| format!("client: {error}"))?;
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok((client, server))
}
