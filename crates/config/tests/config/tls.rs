//! TLS in documents: gateways that end it or pass it on, rules that begin it, secrets, and what protocols ports have.

use std::time::Duration;

use meshwright_model::{
    AuthoritiesRef, CertificateRef, CipherSuite, ClientCertificate, ClientTlsPolicy, Mesh, PortProtocol, ProxyProtocol,
    ServerProtocol, ServerTlsSettings, TlsVersion,
};

use crate::case::{destination_rule, document, error, expect, gateway, mesh, read, warning};

/// A gateway with one server of this protocol and these TLS settings.
fn tls(protocol: &str, settings: &str) -> String {
    gateway(&format!(
        "servers:\n- port: {{number: 443, name: a, protocol: {protocol}}}\n  hosts: ['*']\n  tls: {{{settings}}}"
    ))
}

fn settings(text: &str) -> ServerTlsSettings {
    *mesh(&tls("HTTPS", text)).gateways[0].servers[0].tls.clone().expect("TLS settings")
}

const FILES: &str = "serverCertificate: a.crt, privateKey: /b.key";

#[test]
fn certificates_are_asked_for_as_istio_does() {
    let path = |field: &str| match field {
        "" => "spec.servers[0].tls".to_owned(),
        field => format!("spec.servers[0].tls.{field}"),
    };
    let cases = [
        ("§mode: SIMPLE", "serverCertificate", "SIMPLE requires a server certificate"),
        ("§mode: SIMPLE, serverCertificate: a", "privateKey", "SIMPLE requires a private key"),
        ("mode: SIMPLE, serverCertificate: §'', privateKey: a", "serverCertificate", "SIMPLE requires a server"),
        ("§mode: MUTUAL, serverCertificate: a, privateKey: b", "caCertificates", "MUTUAL requires a client CA bundle"),
        (
            "§mode: OPTIONAL_MUTUAL, serverCertificate: a, privateKey: b",
            "caCertificates",
            "requires a client CA bundle",
        ),
        (
            "mode: §ISTIO_MUTUAL, credentialName: a",
            "mode",
            "ISTIO_MUTUAL TLS cannot have associated server certificate",
        ),
        (
            "§mode: SIMPLE, credentialName: a, serverCertificate: b, privateKey: c",
            "",
            "only one of credential_name, credential_names, server_certificate/private_key, tls_certificates",
        ),
        (
            "mode: SIMPLE, tlsCertificates: [{§serverCertificate: a}]",
            "tlsCertificates[0].privateKey",
            "SIMPLE requires a private key",
        ),
        (
            "mode: MUTUAL, credentialName: a, insecureSkipVerify: §true",
            "insecureSkipVerify",
            "MUTUAL cannot skip the verification of client certificates",
        ),
        (
            "mode: SIMPLE, credentialName: a, maxProtocolVersion: §TLSV1_1",
            "maxProtocolVersion",
            "TLSV1_1 is not served",
        ),
        (
            "mode: SIMPLE, credentialName: a, minProtocolVersion: TLSV1_3, maxProtocolVersion: §TLSV1_2",
            "maxProtocolVersion",
            "maxProtocolVersion is older than minProtocolVersion",
        ),
    ];
    for (settings, field, phrase) in cases {
        expect(&tls("HTTPS", settings), &error("tls-settings", path(field).leak(), phrase));
    }
    let hash = |field: &str, value: &str| {
        let text = tls("HTTPS", &format!("mode: MUTUAL, credentialName: a, {field}: [§{value}]"));
        expect(&text, &error("unknown-value", path(&format!("{field}[0]")).leak(), "is no SHA-256"));
    };
    hash("verifyCertificateSpki", "aGVsbG8=");
    hash("verifyCertificateHash", "'00:11'");
}

#[test]
fn what_a_tls_server_leaves_out_is_said() {
    let cases = [
        (
            "mode: SIMPLE, credentialName: a, minProtocolVersion: §TLSV1_0",
            "minProtocolVersion",
            "not-supported",
            "not safe",
        ),
        (
            "mode: SIMPLE, credentialName: a, §cipherSuites: [ECDHE-RSA-AES128-GCM-SHA256, AES128-SHA]",
            "cipherSuites",
            "cipher-suites",
            "ignoring invalid cipher suites: AES128-SHA",
        ),
        ("mode: SIMPLE, credentialName: a, §caCrl: x", "caCrl", "ineffective", "clients are not asked"),
        ("mode: SIMPLE, credentialName: a, §subjectAltNames: [x]", "subjectAltNames", "ineffective", "are not asked"),
        ("mode: PASSTHROUGH, §credentialName: a", "credentialName", "ineffective", "TLS is not ended here"),
        (
            "mode: PASSTHROUGH, §minProtocolVersion: TLSV1_3",
            "minProtocolVersion",
            "ineffective",
            "TLS is not ended here",
        ),
        (
            "mode: SIMPLE, credentialName: a, §insecureSkipVerify: true",
            "insecureSkipVerify",
            "ineffective",
            "not asked",
        ),
        ("mode: §ISTIO_MUTUAL", "mode", "not-supported", "TLS mode ISTIO_MUTUAL is not supported"),
        ("mode: §AUTO_PASSTHROUGH", "mode", "not-supported", "TLS mode AUTO_PASSTHROUGH is not supported"),
        (
            "mode: SIMPLE, credentialName: a, httpsRedirect: §true",
            "httpsRedirect",
            "ineffective",
            "only be used with http",
        ),
    ];
    for (settings, field, code, phrase) in cases {
        let path = format!("spec.servers[0].tls.{field}");
        expect(&tls("HTTPS", settings), &warning(code, path.leak(), phrase));
    }
    let text =
        "servers:\n- port: {number: 443, name: a, protocol: TLS}\n  hosts: [§192.0.2.1]\n  tls: {mode: PASSTHROUGH}";
    expect(&gateway(text), &warning("ineffective", "spec.servers[0].hosts[0]", "goes against SNI spec"));
    expect(
        &gateway("servers:\n- port: {number: 1, name: a, protocol: §HTTP_PROXY}\n  hosts: ['*']"),
        &warning("not-supported", "spec.servers[0].port.protocol", "HTTP_PROXY"),
    );
    expect(
        &gateway("servers:\n- port: {number: 1, name: a, protocol: TCP}\n  hosts: ['*']\n  tls: {mode: §SIMPLE}"),
        &error(
            "tls-on-plain-port",
            "spec.servers[0].tls.mode",
            "server cannot have TLS settings for non HTTPS/TLS ports",
        ),
    );
}

#[test]
fn protocol_and_mode_say_what_a_port_does() {
    let protocol = |protocol: &str, settings: &str| {
        let text = match settings {
            "" => gateway(&format!("servers:\n- port: {{number: 1, name: a, protocol: {protocol}}}\n  hosts: ['*']")),
            settings => tls(protocol, settings),
        };
        let outcome = read(&text);
        assert!(
            outcome.diagnostics.iter().all(|finding| finding.code == "not-supported"),
            "{:#?}",
            outcome.diagnostics
        );
        outcome.mesh.unwrap().gateways[0].servers[0].protocol
    };
    for http in ["HTTP", "http2", "GRPC", "GRPC-WEB"] {
        assert_eq!(protocol(http, ""), ServerProtocol::Http, "{http}");
    }
    for bytes in ["TCP", "MONGO", "REDIS", "MYSQL"] {
        assert_eq!(protocol(bytes, ""), ServerProtocol::Tcp, "{bytes}");
    }
    assert_eq!(protocol("HTTP_PROXY", ""), ServerProtocol::Unsupported);
    assert_eq!(protocol("HTTPS", "mode: SIMPLE, credentialName: a"), ServerProtocol::Https);
    assert_eq!(protocol("HTTPS", "mode: MUTUAL, credentialName: a"), ServerProtocol::Https);
    assert_eq!(protocol("TLS", "mode: OPTIONAL_MUTUAL, credentialName: a"), ServerProtocol::Tls);
    assert_eq!(protocol("HTTPS", "mode: PASSTHROUGH"), ServerProtocol::Passthrough);
    assert_eq!(protocol("TLS", "mode: PASSTHROUGH"), ServerProtocol::Passthrough);
    assert_eq!(protocol("TLS", "mode: AUTO_PASSTHROUGH"), ServerProtocol::Unsupported);
}

#[test]
fn settings_of_a_server_are_read() {
    let simple = settings(&format!("mode: SIMPLE, {FILES}"));
    let [CertificateRef::Files { certificate, key }] = simple.certificates.as_slice() else { panic!("{simple:?}") };
    assert_eq!((certificate.name.as_str(), key.name.as_str()), ("a.crt", "/b.key"));
    assert_eq!(certificate.path, "spec.servers[0].tls.serverCertificate");
    assert_eq!(certificate.origin.line, 9);
    assert_eq!(simple.client_certificate, ClientCertificate::None);
    assert_eq!((simple.min_version, simple.max_version), (TlsVersion::V1_2, TlsVersion::V1_3));
    let hash = "00:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd:ee:ff:00112233445566778899AABBCCDDEEFF";
    let spki = "ABEiM0RVZneImaq7zN3u/wARIjNEVWZ3iJmqu8zd7v8=";
    let mutual = settings(&format!(
        "mode: MUTUAL, credentialNames: [rsa, ecdsa], caCertCredentialName: ca, caCrl: x.crl, subjectAltNames: [b], \
         verifyCertificateHash: ['{hash}'], verifyCertificateSpki: ['{spki}'], minProtocolVersion: TLSV1_2, \
         maxProtocolVersion: TLSV1_2, cipherSuites: [ECDHE-ECDSA-CHACHA20-POLY1305, ECDHE-ECDSA-CHACHA20-POLY1305]"
    ));
    assert_eq!(mutual.certificates.len(), 2);
    assert_eq!(mutual.client_certificate, ClientCertificate::Required);
    assert!(matches!(&mutual.authorities, Some(AuthoritiesRef::Credential(name)) if name.name == "ca"));
    assert_eq!(mutual.revoked.unwrap().name, "x.crl");
    assert_eq!(mutual.certificate_hashes, mutual.spki_hashes);
    assert_eq!(mutual.certificate_hashes[0][17], 0x11);
    assert_eq!(mutual.max_version, TlsVersion::V1_2);
    assert_eq!(mutual.cipher_suites, [CipherSuite::EcdsaChaCha20]);
    let own = settings("mode: MUTUAL, credentialName: both");
    assert!(matches!(&own.authorities, Some(AuthoritiesRef::Credential(name)) if name.name == "both"));
    let files =
        settings("mode: OPTIONAL_MUTUAL, tlsCertificates: [{serverCertificate: a, privateKey: b, caCertificates: c}]");
    assert_eq!(files.client_certificate, ClientCertificate::Optional);
    assert!(matches!(&files.authorities, Some(AuthoritiesRef::File(file)) if file.name == "c"));
}

#[test]
fn files_start_in_the_directory_of_the_configuration_file() {
    let source =
        meshwright_config::Source::new("conf/edge/gateway.yaml", tls("HTTPS", &format!("mode: SIMPLE, {FILES}")));
    let mesh = meshwright_config::load(&[source], &meshwright_config::Options::default()).mesh.unwrap();
    let tls = mesh.gateways[0].servers[0].tls.as_ref().unwrap();
    let [CertificateRef::Files { certificate, key }] = tls.certificates.as_slice() else { panic!("{tls:?}") };
    assert_eq!(certificate.file().to_str(), Some("conf/edge/a.crt"));
    assert_eq!(key.file().to_str(), Some("/b.key"));
}

fn policy(text: &str) -> String {
    destination_rule(&format!("host: a\ntrafficPolicy: {{{text}}}"))
}

#[test]
fn every_mistake_in_the_tls_of_a_rule_is_named() {
    let cases = [
        (
            "tls: {§mode: MUTUAL}",
            error(
                "tls-settings",
                "spec.trafficPolicy.tls.clientCertificate",
                "client certificate required for mutual tls",
            ),
        ),
        (
            "tls: {§mode: MUTUAL, clientCertificate: a}",
            error("tls-settings", "spec.trafficPolicy.tls.privateKey", "private key required for mutual tls"),
        ),
        (
            "tls: {mode: MUTUAL, credentialName: a, §caCertificates: b}",
            error(
                "choice",
                "spec.trafficPolicy.tls.caCertificates",
                "cannot specify client certificates or CA certificate or CA CRL If credentialName is set",
            ),
        ),
        (
            "tls: {mode: §ISTIO_MUTUAL}",
            error("not-supported", "spec.trafficPolicy.tls.mode", "TLS mode ISTIO_MUTUAL to services is not supported"),
        ),
        (
            "tls: {mode: SIMPLE, insecureSkipVerify: §true}",
            warning("unverified-service", "spec.trafficPolicy.tls.insecureSkipVerify", "is not verified"),
        ),
        (
            "tls: {mode: SIMPLE, §clientCertificate: a}",
            warning("ineffective", "spec.trafficPolicy.tls.clientCertificate", "has no effect with mode SIMPLE"),
        ),
        (
            "tls: {mode: SIMPLE}, portLevelSettings: [{§port: {number: 80}, loadBalancer: {simple: RANDOM}}]",
            warning("port-level-loss", "spec.trafficPolicy.portLevelSettings[0]", "port 80 loses tls"),
        ),
    ];
    for (text, expected) in &cases {
        expect(&policy(text), expected);
    }
}

fn rule(mesh: &Mesh) -> &meshwright_model::TrafficPolicy {
    &mesh.destination_rules[0].traffic_policy
}

#[test]
fn tls_and_protocol_settings_of_a_rule_are_read() {
    let found = mesh(&policy(
        "tls: {mode: MUTUAL, clientCertificate: a, privateKey: b, caCertificates: c, caCrl: d, sni: e.example.com, \
         subjectAltNames: [f]}, proxyProtocol: {version: V2}, connectionPool: {http: {h2UpgradePolicy: UPGRADE, \
         maxConcurrentStreams: 7, http2KeepAlive: {interval: 5s, timeout: 1s}}}",
    ));
    let Some(ClientTlsPolicy::Originate(tls)) = &rule(&found).tls else { panic!("{found:?}") };
    assert!(matches!(&tls.certificate, Some(CertificateRef::Files { key, .. }) if key.name == "b"));
    assert!(matches!(&tls.authorities, Some(AuthoritiesRef::File(file)) if file.name == "c"));
    assert_eq!((tls.sni.as_deref(), tls.subject_alt_names.as_slice()), (Some("e.example.com"), &["f".to_owned()][..]));
    assert_eq!(tls.revoked.as_ref().unwrap().name, "d");
    assert_eq!(rule(&found).proxy_protocol, Some(ProxyProtocol::Version2));
    let pool = rule(&found).connection_pool.as_ref().unwrap();
    assert!(pool.upgrade_to_http2 && !pool.use_client_protocol);
    assert_eq!(pool.max_concurrent_streams, Some(7));
    assert_eq!(pool.http2_keepalive, Some((Duration::from_secs(5), Duration::from_secs(1))));
    let simple = mesh(&policy("tls: {mode: SIMPLE, credentialName: ca}, proxyProtocol: {}"));
    let Some(ClientTlsPolicy::Originate(tls)) = &rule(&simple).tls else { panic!("{simple:?}") };
    assert!(tls.certificate.is_none() && tls.sni.is_none());
    assert!(matches!(&tls.authorities, Some(AuthoritiesRef::Credential(name)) if name.name == "ca"));
    assert_eq!(rule(&simple).proxy_protocol, Some(ProxyProtocol::Version1));
    let off = mesh(&policy("tls: {mode: DISABLE}, connectionPool: {http: {useClientProtocol: true}}"));
    assert_eq!(rule(&off).tls, Some(ClientTlsPolicy::Disable));
    assert!(rule(&off).connection_pool.as_ref().unwrap().use_client_protocol);
}

fn secret(body: &str) -> String {
    format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: edge, namespace: ns}}\n{body}\n")
}

#[test]
fn secrets_are_read_under_either_set_of_names() {
    let mesh = mesh(&format!(
        "{}---\n{}",
        secret("type: kubernetes.io/tls\ndata:\n  tls.crt: b25l\n  tls.key: dHdv\n  ca.crt: dGhyZWU="),
        secret("type: Opaque\nimmutable: true\nstringData: {cert: four}\ndata: {key: Zml2ZQ==, cacert: c2l4, crl: c2V2ZW4=}")
            .replace("edge", "other"),
    ));
    let [first, second] = mesh.secrets.as_slice() else { panic!("{:?}", mesh.secrets) };
    assert_eq!((first.name.as_str(), first.namespace.as_str()), ("edge", "ns"));
    assert_eq!(first.certificate.as_deref(), Some(&b"one"[..]));
    assert_eq!(first.key.as_deref(), Some(&b"two"[..]));
    assert_eq!(first.authorities.as_deref(), Some(&b"three"[..]));
    assert_eq!(second.certificate.as_deref(), Some(&b"four"[..]));
    assert_eq!(second.key.as_deref(), Some(&b"five"[..]));
    assert_eq!(second.authorities.as_deref(), Some(&b"six"[..]));
    assert_eq!(second.revoked.as_deref(), Some(&b"seven"[..]));
}

#[test]
fn no_finding_about_a_secret_repeats_what_is_in_it() {
    let hidden = "c2VjcmV0LWtleQ";
    let texts = [
        secret(&format!("data: {{tls.crt: b25l, tls.key: '{hidden}!'}}")),
        secret(&format!("data: {{tls.crt: b25l, tls.key: [{hidden}]}}")),
        secret(&format!("data: {hidden}")),
        secret(&format!("data: [{hidden}]")),
        secret(&format!("stringData: {{other: {hidden}}}")),
        secret(&format!("type: {{a: {hidden}}}")),
        secret(&format!("tls.key: {hidden}")),
    ];
    for text in texts {
        let outcome = read(&text);
        assert!(!outcome.diagnostics.is_empty(), "{text}");
        let shown = format!("{:#?} {:#?}", outcome.diagnostics, outcome.mesh);
        assert!(!shown.contains(hidden), "{shown}");
    }
    expect(
        &secret("data:\n  §tls.crt: '!!!'").replace("data:\n  §", "§data:\n  "),
        &error("wrong-type", "data[\"tls.crt\"]", "expected base64 in tls.crt"),
    );
    expect(
        &format!("§{}", secret("data: {password: b25l}")),
        &warning("kind-without-effect", "", "the Secret holds no certificate"),
    );
}

#[test]
fn ports_of_services_have_the_protocol_that_they_name() {
    let ports = [
        ("HTTP", PortProtocol::Http),
        ("HTTP2", PortProtocol::Http2),
        ("GRPC", PortProtocol::Http2),
        ("grpc-web", PortProtocol::Http2),
        ("HTTPS", PortProtocol::Https),
        ("TLS", PortProtocol::Tls),
        ("TCP", PortProtocol::Tcp),
        ("MONGO", PortProtocol::Tcp),
    ];
    for (name, expected) in ports {
        let entry = format!("hosts: [a.b]\nports: [{{number: 1, name: a, protocol: {name}}}]\nresolution: DNS");
        assert_eq!(mesh(&document("ServiceEntry", &entry)).services[0].ports[0].protocol, expected, "{name}");
        let service = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: a}}\nspec: {{ports: [{{port: 1, name: {}-x}}]}}\n",
            name.to_lowercase()
        );
        assert_eq!(mesh(&service).services[0].ports[0].protocol, expected, "{name}");
    }
    let app = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 1, appProtocol: kubernetes.io/h2c}]}\n";
    assert_eq!(mesh(app).services[0].ports[0].protocol, PortProtocol::Http2);
}

#[test]
fn requests_to_a_tls_port_need_a_rule_that_begins_tls() {
    let entry = document(
        "ServiceEntry",
        "hosts: [api.example.com]\nports: [{number: 443, name: https, protocol: HTTPS}]\nresolution: DNS",
    );
    let route = |mark: &str| {
        document(
            "VirtualService",
            &format!(
                "hosts: [a.example.com]\nhttp:\n- route: [{{destination: {{host: api.example.com, port: {{number: {mark}443}}}}}}]"
            ),
        )
    };
    let rule = destination_rule("host: api.example.com\ntrafficPolicy: {tls: {mode: SIMPLE}}");
    expect(
        &format!("{entry}---\n{}", route("§")),
        &warning(
            "clear-text-to-tls",
            "spec.http[0].route[0].destination.port.number",
            "port 443 of api.example.com speaks TLS",
        ),
    );
    let outcome = read(&format!("{entry}---\n{}---\n{rule}", route("")));
    assert!(outcome.diagnostics.is_empty(), "{:#?}", outcome.diagnostics);
}
