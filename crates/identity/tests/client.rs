//! What is shown to a service and asked of it, over handshakes in memory.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod common;

use common::{Authority, Pem, authority, client_spec, handshake, server};
use meshwright_identity::{Alpn, CertificateDer, ClientSpec, ClientTls, Flaw, Part, SystemRoots, Trust};
use meshwright_model::UpstreamProtocol;
use rustls::pki_types::pem::PemObject;

fn outcome(spec: &ClientSpec<'_>, shown: &Pem) -> Result<(), String> {
    let client = ClientTls::new(spec).unwrap();
    handshake(&client, &client.config, &server(shown)).map(|_| ())
}

fn trusting<'a>(authority: &'a Authority, name: &'a str) -> ClientSpec<'a> {
    client_spec(Trust::Authorities(authority.pem.as_bytes()), name)
}

#[test]
fn the_certificate_must_be_signed_by_a_trusted_authority_and_be_for_the_server_name() {
    let (ours, theirs) = (authority("ours"), authority("theirs"));
    let pem = ours.issue(&["api.example.com"]);
    assert_eq!(outcome(&trusting(&ours, "api.example.com"), &pem), Ok(()));
    assert!(outcome(&trusting(&theirs, "api.example.com"), &pem).unwrap_err().contains("UnknownIssuer"));
    assert!(outcome(&trusting(&ours, "other.example.com"), &pem).unwrap_err().contains("not valid for"));
}

#[test]
fn listed_names_replace_the_server_name() {
    let ours = authority("ours");
    let pem = ours.issue(&["real.example.com", "spiffe://cluster.local/ns/a/sa/api"]);
    let asked = |names: &[&str], authority: &Authority| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let spec = ClientSpec { subject_alt_names: &names, ..trusting(authority, "front.example.com") };
        outcome(&spec, &pem).is_ok()
    };
    assert!(!asked(&[], &ours));
    assert!(asked(&["real.example.com"], &ours));
    assert!(asked(&["nobody", "spiffe://cluster.local/ns/a/sa/api"], &ours));
    assert!(!asked(&["front.example.com"], &ours));
    assert!(!asked(&["real.example.com"], &authority("theirs")), "the chain is verified all the same");
}

#[test]
fn skipping_verification_takes_any_certificate() {
    let pem = authority("theirs").issue(&["other.example.com"]);
    assert_eq!(outcome(&client_spec(Trust::Anybody, "api.example.com"), &pem), Ok(()));
}

#[test]
fn the_roots_of_the_system_count_where_no_authority_is_named() {
    let ours = authority("ours");
    let pem = ours.issue(&["api.example.com"]);
    let system = SystemRoots::new(&[CertificateDer::from_pem_slice(ours.pem.as_bytes()).unwrap()]);
    assert_eq!(system.count(), 1);
    assert_eq!(outcome(&client_spec(Trust::System(&system), "api.example.com"), &pem), Ok(()));
    let none = ClientTls::new(&client_spec(Trust::System(&SystemRoots::default()), "api.example.com")).unwrap_err();
    assert_eq!((none.part, none.flaw), (Part::Authorities, Flaw::NoCertificate));
}

#[test]
fn alpn_follows_the_protocol_and_can_be_asked_for() {
    let ours = authority("ours");
    let pem = ours.issue(&["api.example.com"]);
    let spoken = |protocol: UpstreamProtocol, alpn: Option<Alpn>| {
        let client = ClientTls::new(&ClientSpec { protocol, ..trusting(&ours, "api.example.com") }).unwrap();
        let config = alpn.map_or(&client.config, |alpn| client.config_for(alpn));
        let (client, _) = handshake(&client, config, &server(&pem)).unwrap();
        client.alpn_protocol().map(|alpn| String::from_utf8(alpn.to_vec()).unwrap())
    };
    assert_eq!(spoken(UpstreamProtocol::Http1, None).as_deref(), Some("http/1.1"));
    assert_eq!(spoken(UpstreamProtocol::Http2, None).as_deref(), Some("h2"));
    assert_eq!(spoken(UpstreamProtocol::FollowClient, None).as_deref(), Some("http/1.1"));
    assert_eq!(spoken(UpstreamProtocol::FollowClient, Some(Alpn::Http2)).as_deref(), Some("h2"));
    assert_eq!(spoken(UpstreamProtocol::Http1, Some(Alpn::Nothing)), None);
}

#[test]
fn an_address_is_a_server_name_and_nonsense_is_not() {
    let ours = authority("ours");
    let pem = ours.issue(&["192.0.2.7"]);
    assert_eq!(outcome(&trusting(&ours, "192.0.2.7"), &pem), Ok(()));
    let refused = ClientTls::new(&trusting(&ours, "*.example.com")).unwrap_err();
    assert_eq!(refused.part, Part::ServerName);
}

#[test]
fn the_same_contents_make_equal_clients() {
    let (ours, theirs) = (authority("ours"), authority("theirs"));
    let made = |spec: ClientSpec<'_>| ClientTls::new(&spec).unwrap();
    let base = || made(trusting(&ours, "api.example.com"));
    assert_eq!(base(), base());
    assert_ne!(base(), made(trusting(&theirs, "api.example.com")));
    assert_ne!(base(), made(trusting(&ours, "other.example.com")));
    assert_ne!(base(), made(ClientSpec { protocol: UpstreamProtocol::Http2, ..trusting(&ours, "api.example.com") }));
    assert_ne!(base(), made(client_spec(Trust::Anybody, "api.example.com")));
}
