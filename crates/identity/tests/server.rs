//! What a server shows and asks, over handshakes in memory; and what is wrong with certificates and keys.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod common;

use common::{authority, client, client_spec, expired, handshake, now, server, server_spec};
use meshwright_identity::{ClientCheck, ClientTls, Flaw, KeyPair, Part, Problem, ServerTls, Trust};
use meshwright_model::{CipherSuite, TlsVersion};
use rcgen::{
    BasicConstraints, CertificateRevocationListParams, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod,
    PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::{HandshakeKind, ProtocolVersion, SignatureScheme};

fn problem(certificate: &str, key: &str) -> Problem {
    let pair = KeyPair { certificate: certificate.as_bytes(), key: key.as_bytes() };
    ServerTls::new(&server_spec(vec![pair])).unwrap_err()
}

#[test]
fn a_certificate_and_its_key_make_a_server_that_offers_both_http_versions() {
    let authority = authority("root");
    let server = server(&authority.issue(&["a.example.com", "*.b.example.com"]));
    assert_eq!(server.names, ["a.example.com", "*.b.example.com"]);
    let client = client(&authority, "x.b.example.com");
    let (client, server) = handshake(&client, &client.config, &server).unwrap();
    assert_eq!(client.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    assert_eq!(client.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert_eq!(server.server_name(), Some("x.b.example.com"));
}

#[test]
fn expired_and_future_certificates_are_refused_with_their_date() {
    let authority = authority("root");
    let old = authority.issue_with(&["a.example.com"], &PKCS_ECDSA_P256_SHA256, expired);
    let Problem { part, flaw } = problem(&old.chain, &old.key);
    assert_eq!(part, Part::Certificate(0));
    assert_eq!(flaw.to_string(), "the certificate of CN=a.example.com expired on Jan  1 00:00:00 2021 +00:00");
    let future = authority.issue_with(&["a.example.com"], &PKCS_ECDSA_P256_SHA256, |params| {
        params.not_before = date_time_ymd(2090, 1, 1)
    });
    assert!(matches!(problem(&future.chain, &future.key).flaw, Flaw::NotYetValid { .. }));
    let mut spec = server_spec(vec![old.pair()]);
    spec.now = None;
    assert!(ServerTls::new(&spec).is_ok(), "without a time validity is not judged");
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let authority = authority("root");
    let (one, other) = (authority.issue(&["a.example.com"]), authority.issue(&["b.example.com"]));
    let found = problem(&one.chain, &other.key);
    assert_eq!(found.part, Part::Key(0));
    assert_eq!(found.flaw, Flaw::KeyMismatch { subject: "CN=a.example.com".to_owned() });
}

#[test]
fn the_order_of_a_chain_counts() {
    let root = authority("root");
    let middle = root.intermediate("middle");
    let leaf = middle.issue(&["a.example.com"]);
    let good = format!("{}{}", leaf.chain, middle.pem);
    let server_tls =
        ServerTls::new(&server_spec(vec![KeyPair { certificate: good.as_bytes(), key: leaf.key.as_bytes() }])).unwrap();
    let client = client(&root, "a.example.com");
    handshake(&client, &client.config, &server_tls).unwrap();
    let swapped = format!("{}{}", middle.pem, leaf.chain);
    assert_eq!(problem(&swapped, &leaf.key).flaw, Flaw::OwnCertificateNotFirst { position: 2 });
    let broken = format!("{}{}", leaf.chain, authority("stranger").pem);
    assert_eq!(
        problem(&broken, &leaf.key).flaw.to_string(),
        "the chain is broken: certificate 1 is issued by CN=middle, but the next one is CN=stranger"
    );
}

#[test]
fn texts_that_are_no_certificate_or_no_key_are_named_without_being_repeated() {
    let pem = authority("root").issue(&["a.example.com"]);
    assert_eq!(problem("", &pem.key).flaw, Flaw::NoCertificate);
    assert_eq!(problem("hello", &pem.key).flaw, Flaw::NoCertificate);
    assert_eq!(problem(&pem.key, &pem.key).flaw, Flaw::NoCertificate);
    assert_eq!(problem(&pem.chain, &pem.chain).flaw, Flaw::NoKey);
    assert_eq!(problem("-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n", &pem.key).flaw, Flaw::NotPem);
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(matches!(problem(broken, &pem.key).flaw, Flaw::BadCertificate { position: 1, .. }));
    let secret = "c2VjcmV0";
    let text = format!("-----BEGIN PRIVATE KEY-----\n{secret}\n-----END PRIVATE KEY-----\n");
    let found = problem(&pem.chain, &text);
    assert!(matches!(found.flaw, Flaw::BadKey { .. }), "{found:?}");
    assert!(!format!("{found:?} {found}").contains(secret));
    for label in
        ["-----BEGIN ENCRYPTED PRIVATE KEY-----\n", "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n"]
    {
        assert_eq!(problem(&pem.chain, &format!("{label}{secret}\n")).flaw, Flaw::EncryptedKey);
    }
}

#[test]
fn of_an_rsa_and_an_ecdsa_certificate_the_client_gets_the_one_it_understands() {
    let authority = authority("root");
    let rsa = authority.issue_with(&["a.example.com"], &PKCS_RSA_SHA256, |_| ());
    let ecdsa = authority.issue(&["a.example.com"]);
    let server = ServerTls::new(&server_spec(vec![rsa.pair(), ecdsa.pair()])).unwrap();
    assert_eq!(server.certificates.len(), 2);
    assert_eq!(server.names, ["a.example.com"]);
    let shown = |suites: &[CipherSuite]| {
        // TLS 1.2 names the kind of the certificate in its suite, so the suite tells which was shown.
        let mut spec = server_spec(vec![rsa.pair(), ecdsa.pair()]);
        spec.max_version = TlsVersion::V1_2;
        spec.cipher_suites = suites;
        let server = ServerTls::new(&spec).unwrap();
        let client = client(&authority, "a.example.com");
        let (client, _) = handshake(&client, &client.config, &server)?;
        Ok::<String, String>(format!("{:?}", client.negotiated_cipher_suite().unwrap().suite()))
    };
    assert_eq!(shown(&[]).unwrap(), "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256");
    assert_eq!(shown(&[CipherSuite::EcdsaChaCha20]).unwrap(), "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256");
    let client = client(&authority, "a.example.com");
    let schemes = client.config.crypto_provider().signature_verification_algorithms.supported_schemes();
    assert!(schemes.contains(&SignatureScheme::RSA_PSS_SHA256));
    let alone = common::server(&rsa);
    handshake(&client, &client.config, &alone).unwrap();
}

#[test]
fn versions_are_limited_from_both_sides() {
    let authority = authority("root");
    let pem = authority.issue(&["a.example.com"]);
    let spoken = |min: TlsVersion, max: TlsVersion| {
        let mut spec = server_spec(vec![pem.pair()]);
        (spec.min_version, spec.max_version) = (min, max);
        let server = ServerTls::new(&spec).unwrap();
        let client = client(&authority, "a.example.com");
        handshake(&client, &client.config, &server).map(|(client, _)| client.protocol_version().unwrap())
    };
    assert_eq!(spoken(TlsVersion::V1_2, TlsVersion::V1_3), Ok(ProtocolVersion::TLSv1_3));
    assert_eq!(spoken(TlsVersion::V1_2, TlsVersion::V1_2), Ok(ProtocolVersion::TLSv1_2));
    assert_eq!(spoken(TlsVersion::V1_3, TlsVersion::V1_3), Ok(ProtocolVersion::TLSv1_3));
}

#[test]
fn a_second_connection_resumes_the_session_of_the_first() {
    let authority = authority("root");
    let pem = authority.issue(&["a.example.com"]);
    for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
        let mut spec = server_spec(vec![pem.pair()]);
        (spec.min_version, spec.max_version) = (version, version);
        let server = ServerTls::new(&spec).unwrap();
        let client = client(&authority, "a.example.com");
        let (_, first) = handshake(&client, &client.config, &server).unwrap();
        let (_, second) = handshake(&client, &client.config, &server).unwrap();
        assert_ne!(first.handshake_kind(), Some(HandshakeKind::Resumed));
        assert_eq!(second.handshake_kind(), Some(HandshakeKind::Resumed), "{version:?}");
    }
    assert_eq!(server(&pem).config.max_early_data_size, 0, "early data can be replayed");
}

/// The outcome of a handshake with a client that shows `own`.
fn with_client(check: ClientCheck<'_>, own: Option<KeyPair<'_>>) -> Result<(), String> {
    let root = authority("servers");
    let pem = root.issue(&["a.example.com"]);
    let mut spec = server_spec(vec![pem.pair()]);
    spec.clients = Some(check);
    let server = ServerTls::new(&spec).unwrap();
    let mut spec = client_spec(Trust::Authorities(root.pem.as_bytes()), "a.example.com");
    spec.pair = own;
    spec.now = None;
    let client = ClientTls::new(&spec).unwrap();
    handshake(&client, &client.config, &server).map(|_| ())
}

fn check(authorities: &str) -> ClientCheck<'_> {
    ClientCheck {
        required: true,
        authorities: authorities.as_bytes(),
        revoked: None,
        subject_alt_names: &[],
        spki_hashes: &[],
        certificate_hashes: &[],
    }
}

#[test]
fn mutual_tls_takes_clients_of_its_authorities_only() {
    let (ours, theirs) = (authority("ours"), authority("theirs"));
    let (good, bad) = (ours.issue(&["caller"]), theirs.issue(&["caller"]));
    assert_eq!(with_client(check(&ours.pem), Some(good.pair())), Ok(()));
    assert!(with_client(check(&ours.pem), Some(bad.pair())).is_err());
    assert!(with_client(check(&ours.pem), None).is_err());
    let optional = ClientCheck { required: false, ..check(&ours.pem) };
    assert_eq!(with_client(optional, None), Ok(()));
    assert_eq!(with_client(optional, Some(good.pair())), Ok(()));
    assert!(with_client(optional, Some(bad.pair())).is_err(), "one that is shown must be good");
}

#[test]
fn certificates_that_are_none_of_a_client_are_refused() {
    let ours = authority("ours");
    let algorithm = &PKCS_ECDSA_P256_SHA256;
    let refused = |pem: &common::Pem, why: &str| {
        let error = with_client(check(&ours.pem), Some(pem.pair())).unwrap_err();
        assert!(error.contains(why), "{error}");
    };
    // The client's own configuration does not judge validity: an attacker would not either.
    refused(&ours.issue_with(&["caller"], algorithm, expired), "expired");
    let future = |params: &mut rcgen::CertificateParams| params.not_before = date_time_ymd(2990, 1, 1);
    refused(&ours.issue_with(&["caller"], algorithm, future), "not valid yet");
    let server_only = |params: &mut rcgen::CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    };
    refused(&ours.issue_with(&["caller"], algorithm, server_only), "certificate does not allow extended key usage");
    let authority_itself = |params: &mut rcgen::CertificateParams| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    };
    refused(&ours.issue_with(&["caller"], algorithm, authority_itself), "CaUsedAsEndEntity");
    let own = rcgen::generate_simple_self_signed(vec!["caller".to_owned()]).unwrap();
    refused(&common::Pem { chain: own.cert.pem(), key: own.signing_key.serialize_pem() }, "UnknownIssuer");
    let names = ["caller".to_owned()];
    let named = ClientCheck { subject_alt_names: &names, ..check(&ours.pem) };
    let only_common_name =
        ours.issue_with(&[], algorithm, |params| params.distinguished_name = common::named("caller"));
    assert!(with_client(named, Some(only_common_name.pair())).is_err(), "a common name is no name");
}

#[test]
fn listed_names_and_hashes_narrow_the_clients() {
    let ours = authority("ours");
    let pem = ours.issue(&["caller.example.com", "spiffe://cluster.local/ns/a/sa/b"]);
    let named = |name: &str| {
        let names = [name.to_owned()];
        with_client(ClientCheck { subject_alt_names: &names, ..check(&ours.pem) }, Some(pem.pair())).is_ok()
    };
    assert!(named("caller.example.com"));
    assert!(named("spiffe://cluster.local/ns/a/sa/b"));
    assert!(!named("other.example.com"));
    assert!(!named("spiffe://cluster.local/ns/a/sa"));
    let der = rcgen_der(&pem.chain);
    let digest = rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256
        .tls13()
        .unwrap()
        .common
        .hash_provider
        .hash(&der);
    let good: [u8; 32] = digest.as_ref().try_into().unwrap();
    let hashed = |hash: [u8; 32]| {
        with_client(ClientCheck { certificate_hashes: &[hash], ..check(&ours.pem) }, Some(pem.pair())).is_ok()
    };
    assert!(hashed(good));
    assert!(!hashed([7; 32]));
    let other_key = ClientCheck { spki_hashes: &[[7; 32]], ..check(&ours.pem) };
    assert!(with_client(other_key, Some(pem.pair())).is_err());
    let either = ClientCheck { spki_hashes: &[[7; 32]], certificate_hashes: &[good], ..check(&ours.pem) };
    assert!(with_client(either, Some(pem.pair())).is_ok(), "one of the two is enough");
}

fn rcgen_der(pem: &str) -> Vec<u8> {
    use rustls::pki_types::pem::PemObject;
    rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}

#[test]
fn revoked_clients_are_refused() {
    let ours = authority("ours");
    let serial = SerialNumber::from(77u64);
    let revoked = ours.issue_with(&["caller"], &PKCS_ECDSA_P256_SHA256, |params| {
        params.serial_number = Some(serial.clone());
    });
    let good = ours.issue(&["caller"]);
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2024, 1, 1),
        next_update: date_time_ymd(2090, 1, 1),
        crl_number: SerialNumber::from(1u64),
        issuing_distribution_point: None,
        revoked_certs: vec![RevokedCertParams {
            serial_number: serial,
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list = list.signed_by(&ours.issuer).unwrap().pem().unwrap();
    let check = ClientCheck { revoked: Some(list.as_bytes()), ..check(&ours.pem) };
    assert_eq!(with_client(check, Some(good.pair())), Ok(()));
    assert!(with_client(check, Some(revoked.pair())).unwrap_err().contains("Revoked"));
    let pem = ours.issue(&["a.example.com"]);
    let mut spec = server_spec(vec![pem.pair()]);
    spec.clients = Some(ClientCheck { revoked: Some(b"nothing"), ..check });
    assert_eq!(ServerTls::new(&spec).unwrap_err(), Problem { part: Part::Revoked, flaw: Flaw::NoRevocationList });
}

#[test]
fn the_same_contents_make_equal_servers_and_nothing_is_shown_of_the_key() {
    let authority = authority("root");
    let (one, other) = (authority.issue(&["a.example.com"]), authority.issue(&["a.example.com"]));
    assert_eq!(server(&one), server(&one));
    assert_ne!(server(&one), server(&other));
    let mut tls12 = server_spec(vec![one.pair()]);
    tls12.max_version = TlsVersion::V1_2;
    assert_ne!(ServerTls::new(&tls12).unwrap(), server(&one));
    let shown = format!("{:?}", server(&one));
    assert!(shown.contains("a.example.com") && !shown.contains("PRIVATE"), "{shown}");
    assert!(server(&one).expires().unwrap() > now().unwrap());
}

#[test]
fn a_certificate_covers_hosts_as_clients_compare_them() {
    let authority = authority("root");
    let tls = server(&authority.issue(&["a.example.com", "*.b.example.com"]));
    let facts = &tls.certificates[0];
    for host in ["a.example.com", "x.b.example.com", "*.b.example.com", "*.example.com", "*"] {
        assert!(facts.covers(host), "{host}");
    }
    for host in ["b.example.com", "x.y.b.example.com", "x.a.example.com", "*.other.com"] {
        assert!(!facts.covers(host), "{host}");
    }
    let nameless = server(&authority.issue(&[]));
    assert!(nameless.names.is_empty());
    assert!(!nameless.certificates[0].covers("a.example.com"));
}
