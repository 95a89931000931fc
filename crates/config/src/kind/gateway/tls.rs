//! `tls` of a gateway's server: what a port speaks, which certificates it shows, what it asks of clients.
//!
//! Knows names of files and credentials, not their contents: those are judged when a snapshot is compiled.

use meshwright_model::{
    AuthoritiesRef, CertificateRef, CipherSuite, ClientCertificate, Diagnostic, Reference, ServerProtocol,
    ServerTlsSettings, TlsVersion,
};

use super::plain_http;
use crate::finding::Reporter;
use crate::name;
use crate::record::{Item, Record};
use crate::scalar::base64_bytes;
use crate::table::{Message, TEXTS, Type, Words, full, message};

/// `ServerTLSSettings`.
pub(super) static TABLE: Message = message(
    "ServerTLSSettings",
    &[
        full("httpsRedirect", Type::Boolean, "Answer 301 to https for every host of this HTTP port."),
        full("mode", Type::Word(&MODES), "SIMPLE, MUTUAL, OPTIONAL_MUTUAL or PASSTHROUGH; other modes are not served."),
        full("serverCertificate", Type::Text, "Certificate file, PEM; own certificate first."),
        full("privateKey", Type::Text, "Key file, PEM, not encrypted."),
        full("caCertificates", Type::Text, "File of authorities for client certificates, PEM."),
        full("caCrl", Type::Text, "File of revoked certificates, PEM."),
        full("credentialName", Type::Text, "Secret with certificate and key, and authorities for MUTUAL."),
        full("credentialNames", TEXTS, "Secrets with certificates and keys, such as one RSA and one ECDSA."),
        full("caCertCredentialName", Type::Text, "Secret with authorities for client certificates."),
        full("tlsCertificates", Type::List(&Type::Message(&CERTIFICATE)), "Certificate and key files, as above."),
        full("subjectAltNames", TEXTS, "Names of which a client certificate must have one."),
        full("verifyCertificateSpki", TEXTS, "SHA-256 of accepted client keys, base64."),
        full("verifyCertificateHash", TEXTS, "SHA-256 of accepted client certificates, hexadecimal."),
        full(
            "insecureSkipVerify",
            Type::Boolean,
            "Do not verify client certificates; refused where they are asked for.",
        ),
        full("minProtocolVersion", Type::Word(&VERSIONS), "Oldest TLS version; 1.2 by default and at least."),
        full("maxProtocolVersion", Type::Word(&VERSIONS), "Newest TLS version; 1.3 by default."),
        full("cipherSuites", TEXTS, "Suites of TLS 1.2, OpenSSL's names; forward secret ones with AEAD are served."),
    ],
);

static CERTIFICATE: Message = message(
    "TLSCertificate",
    &[
        full("serverCertificate", Type::Text, "Certificate file, PEM."),
        full("privateKey", Type::Text, "Key file, PEM."),
        full("caCertificates", Type::Text, "File of authorities for client certificates, PEM."),
    ],
);

static MODES: Words = Words {
    what: "TLS mode",
    values: &[
        ("PASSTHROUGH", 0),
        ("SIMPLE", 1),
        ("MUTUAL", 2),
        ("AUTO_PASSTHROUGH", 3),
        ("ISTIO_MUTUAL", 4),
        ("OPTIONAL_MUTUAL", 5),
    ],
};

static VERSIONS: Words = Words {
    what: "TLS version",
    values: &[("TLS_AUTO", 0), ("TLSV1_0", 1), ("TLSV1_1", 2), ("TLSV1_2", 3), ("TLSV1_3", 4)],
};

/// Fields that speak of client certificates.
const CLIENT_FIELDS: [&str; 7] = [
    "caCertificates",
    "caCertCredentialName",
    "caCrl",
    "subjectAltNames",
    "verifyCertificateSpki",
    "verifyCertificateHash",
    "insecureSkipVerify",
];

/// Fields that speak of the end of TLS.
const OWN_FIELDS: [&str; 8] = [
    "serverCertificate",
    "privateKey",
    "credentialName",
    "credentialNames",
    "tlsCertificates",
    "minProtocolVersion",
    "maxProtocolVersion",
    "cipherSuites",
];

/// What a server is, after its TLS settings.
pub(super) struct Served {
    pub(super) protocol: ServerProtocol,
    pub(super) settings: Option<Box<ServerTlsSettings>>,
}

impl Served {
    fn plain(protocol: ServerProtocol) -> Self {
        Self { protocol, settings: None }
    }
}

/// Reads `tls` of a server whose port speaks `protocol`, one of Istio's in upper case.
pub(super) fn read(server: &Record, protocol: &str, reporter: &mut Reporter<'_>) -> Served {
    if !matches!(protocol, "HTTPS" | "TLS") {
        check_no_tls(server, protocol, reporter);
        return Served::plain(match protocol {
            "HTTP_PROXY" => ServerProtocol::Unsupported,
            _ if plain_http(protocol) => ServerProtocol::Http,
            _ => ServerProtocol::Tcp,
        });
    }
    let Some(tls) = server.record("tls") else {
        if !server.has("tls") {
            let finding = Diagnostic::error("missing-field", "server must have TLS settings for HTTPS/TLS protocols")
                .with_allowed("`tls` with a mode")
                .with_effect("there would be no certificate to show to clients")
                .with_suggestion("add `tls: {mode: SIMPLE, credentialName: my-certificate}`");
            reporter.add(&server.place.field("tls"), finding);
        }
        return Served::plain(ServerProtocol::Unsupported);
    };
    if tls.boolean("httpsRedirect") == Some(true) {
        let finding = Diagnostic::warning("ineffective", "tls.httpsRedirect should only be used with http servers")
            .with_value("true")
            .with_effect("nothing is redirected here")
            .with_suggestion("put it on the server with protocol HTTP");
        reporter.add(&tls.place_of("httpsRedirect"), finding);
    }
    check_addresses(server, reporter);
    let mode = tls.word("mode").unwrap_or("PASSTHROUGH");
    let client_certificate = match mode {
        "SIMPLE" => ClientCertificate::None,
        "MUTUAL" => ClientCertificate::Required,
        "OPTIONAL_MUTUAL" => ClientCertificate::Optional,
        "PASSTHROUGH" => {
            ineffective(tls, mode, OWN_FIELDS.into_iter().chain(CLIENT_FIELDS), reporter);
            return Served::plain(ServerProtocol::Passthrough);
        }
        _ => {
            not_served(tls, mode, reporter);
            return Served::plain(ServerProtocol::Unsupported);
        }
    };
    let Some(certificates) = read_certificates(tls, mode, reporter) else {
        return Served::plain(ServerProtocol::Unsupported);
    };
    let authorities = match client_certificate {
        ClientCertificate::None => {
            ineffective(tls, mode, CLIENT_FIELDS.into_iter(), reporter);
            None
        }
        _ => read_authorities(tls, mode, &certificates, reporter),
    };
    let (min_version, max_version) = read_versions(tls, reporter);
    let settings = ServerTlsSettings {
        certificates,
        client_certificate,
        authorities,
        revoked: named(tls, "caCrl", reporter).filter(|_| client_certificate != ClientCertificate::None),
        subject_alt_names: tls.texts("subjectAltNames").map(|(_, name)| name.to_owned()).collect(),
        spki_hashes: hashes(tls, "verifyCertificateSpki", "base64 of 32 bytes", base64_bytes, reporter),
        certificate_hashes: hashes(tls, "verifyCertificateHash", "64 hexadecimal digits", hexadecimal, reporter),
        min_version,
        max_version,
        cipher_suites: read_cipher_suites(tls, reporter),
    };
    let protocol = if protocol == "HTTPS" { ServerProtocol::Https } else { ServerProtocol::Tls };
    Served { protocol, settings: Some(Box::new(settings)) }
}

/// A port in clear text has no TLS settings but the redirect to one that has.
fn check_no_tls(server: &Record, protocol: &str, reporter: &mut Reporter<'_>) {
    let Some(tls) = server.record("tls") else { return };
    let http = plain_http(protocol);
    let more = tls.fields.iter().find(|(name, _)| !http || *name != "httpsRedirect");
    let Some((name, item)) = more else { return };
    let (message, allowed) = match http {
        true => {
            ("server cannot have TLS settings for plain text HTTP ports", "only httpsRedirect on a plain HTTP port")
        }
        false => ("server cannot have TLS settings for non HTTPS/TLS ports", "`tls` on HTTPS and TLS ports"),
    };
    let finding = Diagnostic::error("tls-on-plain-port", message)
        .with_value(*name)
        .with_allowed(allowed)
        .with_suggestion(if http { "use protocol HTTPS, or remove the field" } else { "use protocol TLS" });
    reporter.add(&item.place, finding);
}

/// TLS clients do not send addresses as server names (RFC 6066 section 3).
fn check_addresses(server: &Record, reporter: &mut Reporter<'_>) {
    for (item, text) in server.texts("hosts") {
        let host = text.rsplit('/').next().unwrap_or(text);
        if name::is_ip(host) {
            reporter.add(&item.place, address_as_server_name(host));
        }
    }
}

/// Istio's warning about an address where a server name is compared.
pub(crate) fn address_as_server_name(address: &str) -> Diagnostic {
    let message =
        format!("using an IP address ({address:?}) goes against SNI spec and most clients do not support this");
    Diagnostic::warning("ineffective", message)
        .with_value(address)
        .with_allowed("DNS names")
        .with_effect("clients that connect to an address send no server name")
        .with_suggestion("write \"*\" for connections without server name")
}

fn not_served(tls: &Record, mode: &str, reporter: &mut Reporter<'_>) {
    let certificates = ["serverCertificate", "privateKey", "caCertificates", "credentialName"];
    if mode == "ISTIO_MUTUAL" && certificates.into_iter().any(|field| given(tls, field)) {
        refuse(
            tls,
            "mode",
            "ISTIO_MUTUAL TLS cannot have associated server certificate",
            ("no certificate fields", "remove the certificate fields"),
            reporter,
        );
    }
    let finding = Diagnostic::warning("not-supported", format!("TLS mode {mode} is not supported by this version"))
        .with_value(mode)
        .with_allowed("SIMPLE, MUTUAL, OPTIONAL_MUTUAL or PASSTHROUGH")
        .with_effect("the port is not opened")
        .with_suggestion("use MUTUAL with certificates of your own, or PASSTHROUGH with `tls` routes");
    reporter.add(&tls.place_of("mode"), finding);
}

fn ineffective<'f>(tls: &Record, mode: &str, fields: impl Iterator<Item = &'f str>, reporter: &mut Reporter<'_>) {
    for field in fields.filter(|field| given(tls, field)) {
        let reason = match mode {
            "PASSTHROUGH" => "TLS is not ended here",
            _ => "clients are not asked for a certificate",
        };
        let finding = Diagnostic::warning("ineffective", format!("{field} has no effect with mode {mode}: {reason}"))
            .with_value(field)
            .with_allowed("MUTUAL or OPTIONAL_MUTUAL ask clients for certificates, SIMPLE shows one")
            .with_effect("the field is left out")
            .with_suggestion("remove the field, or use another mode");
        reporter.add(&tls.key_of(field), finding);
    }
}

/// Whether a field says something.
fn given(record: &Record, field: &str) -> bool {
    record.text(field).is_some_and(|text| !text.is_empty())
        || !record.list(field).is_empty()
        || record.word(field).is_some()
        || record.boolean(field) == Some(true)
}

fn refuse(
    record: &Record,
    field: &str,
    message: impl Into<String>,
    (allowed, suggestion): (&str, &str),
    reporter: &mut Reporter<'_>,
) {
    let finding = Diagnostic::error("tls-settings", message)
        .with_value(if field.is_empty() { "tls" } else { record.text(field).or(record.word(field)).unwrap_or("") })
        .with_allowed(allowed)
        .with_effect("no TLS connection could be made")
        .with_suggestion(suggestion);
    let place = if field.is_empty() { record.place.clone() } else { record.place_of(field) };
    reporter.add(&place, finding);
}

/// The one source of certificates; `None` is said.
fn read_certificates(tls: &Record, mode: &str, reporter: &mut Reporter<'_>) -> Option<Vec<CertificateRef>> {
    let sources = [
        ("credentialName", given(tls, "credentialName")),
        ("credentialNames", given(tls, "credentialNames")),
        ("serverCertificate/privateKey", given(tls, "serverCertificate") || given(tls, "privateKey")),
        ("tlsCertificates", given(tls, "tlsCertificates")),
    ];
    let sources: Vec<&str> = sources.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
    match sources.as_slice() {
        [] | ["serverCertificate/privateKey"] => read_files(tls, mode, reporter).map(|pair| vec![pair]),
        ["tlsCertificates"] => tls.records("tlsCertificates").map(|pair| read_files(pair, mode, reporter)).collect(),
        ["credentialName"] => named(tls, "credentialName", reporter).map(|name| vec![CertificateRef::Credential(name)]),
        ["credentialNames"] => Some(
            tls.texts("credentialNames")
                .map(|(item, name)| CertificateRef::Credential(reporter.reference(&item.place, name)))
                .collect(),
        ),
        several => {
            let message = format!(
                "only one of credential_name, credential_names, server_certificate/private_key, tls_certificates should \
                 be specified; given are {}",
                several.join(" and ")
            );
            refuse(tls, "", message, ("one source of certificates", "remove all but one"), reporter);
            None
        }
    }
}

fn read_files(record: &Record, mode: &str, reporter: &mut Reporter<'_>) -> Option<CertificateRef> {
    let mut missing = false;
    for (field, what) in [("serverCertificate", "server certificate"), ("privateKey", "private key")] {
        if !given(record, field) {
            missing = true;
            let help = ("a file, or credentialName", "add serverCertificate and privateKey, or credentialName");
            refuse(record, field, format!("{mode} requires a {what}"), help, reporter);
        }
    }
    if missing {
        return None;
    }
    let certificate = named(record, "serverCertificate", reporter)?;
    Some(CertificateRef::Files { certificate, key: named(record, "privateKey", reporter)? })
}

/// Authorities of client certificates: a file, a credential for them, or that of the certificate.
fn read_authorities(
    tls: &Record,
    mode: &str,
    certificates: &[CertificateRef],
    reporter: &mut Reporter<'_>,
) -> Option<AuthoritiesRef> {
    if tls.boolean("insecureSkipVerify") == Some(true) {
        let finding =
            Diagnostic::error("tls-settings", format!("{mode} cannot skip the verification of client certificates"))
                .with_value("true")
                .with_allowed("false")
                .with_effect("anybody could claim to be any client")
                .with_suggestion("remove insecureSkipVerify, or use mode SIMPLE");
        reporter.add(&tls.place_of("insecureSkipVerify"), finding);
    }
    let of_pair = tls.records("tlsCertificates").find_map(|pair| named(pair, "caCertificates", reporter));
    if let Some(file) = named(tls, "caCertificates", reporter).or(of_pair) {
        return Some(AuthoritiesRef::File(file));
    }
    let own = named(tls, "caCertCredentialName", reporter);
    let of_certificate = certificates.iter().find_map(|certificate| match certificate {
        CertificateRef::Credential(name) => Some(name.clone()),
        CertificateRef::Files { .. } => None,
    });
    if let Some(name) = own.or(of_certificate) {
        return Some(AuthoritiesRef::Credential(name));
    }
    let help = ("a file of authorities", "add caCertificates, or a secret `<credentialName>-cacert`");
    refuse(tls, "caCertificates", format!("{mode} requires a client CA bundle"), help, reporter);
    None
}

/// The file or credential of a field.
fn named(record: &Record, field: &str, reporter: &mut Reporter<'_>) -> Option<Reference> {
    let path = record.text(field).filter(|path| !path.is_empty())?;
    Some(reporter.reference(&record.place_of(field), path))
}

fn hashes(
    tls: &Record,
    field: &str,
    form: &str,
    decode: fn(&str) -> Option<Vec<u8>>,
    reporter: &mut Reporter<'_>,
) -> Vec<[u8; 32]> {
    let mut hashes = Vec::new();
    for (item, text) in tls.texts(field) {
        match decode(text).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok()) {
            Some(hash) => hashes.push(hash),
            None => bad_hash(item, text, field, form, reporter),
        }
    }
    hashes
}

fn bad_hash(item: &Item, text: &str, field: &str, form: &str, reporter: &mut Reporter<'_>) {
    let finding = Diagnostic::error("unknown-value", format!("{text:?} is no SHA-256 for {field}"))
        .with_value(text)
        .with_allowed(form)
        .with_effect("no client could have this hash")
        .with_suggestion(match field {
            "verifyCertificateHash" => "`openssl x509 -in FILE -noout -fingerprint -sha256` prints it",
            _ => {
                "`openssl x509 -in FILE -noout -pubkey | openssl pkey -pubin -outform DER | openssl dgst -sha256 \
                  -binary | base64` prints it"
            }
        });
    reporter.add(&item.place, finding);
}

/// Digits with or without colons between the bytes.
fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = text.chars().filter(|c| *c != ':').map(|c| c.to_digit(16)).collect::<Option<Vec<u32>>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| u8::try_from(high * 16 + low).ok()).collect()
}

fn read_versions(tls: &Record, reporter: &mut Reporter<'_>) -> (TlsVersion, TlsVersion) {
    let min = match tls.word("minProtocolVersion") {
        Some("TLSV1_3") => TlsVersion::V1_3,
        Some(old @ ("TLSV1_0" | "TLSV1_1")) => {
            let finding =
                Diagnostic::warning("not-supported", format!("{old} is not served: it is not safe (RFC 8996)"))
                    .with_value(old)
                    .with_allowed("TLSV1_2 or TLSV1_3")
                    .with_effect("clients need TLS 1.2 at least")
                    .with_suggestion("remove minProtocolVersion");
            reporter.add(&tls.place_of("minProtocolVersion"), finding);
            TlsVersion::V1_2
        }
        _ => TlsVersion::V1_2,
    };
    let max = match tls.word("maxProtocolVersion") {
        Some(old @ ("TLSV1_0" | "TLSV1_1")) => {
            let help = ("TLSV1_2 or TLSV1_3", "remove maxProtocolVersion");
            let message = format!("{old} is not served, so no version would be left");
            refuse(tls, "maxProtocolVersion", message, help, reporter);
            TlsVersion::V1_3
        }
        Some("TLSV1_2") => TlsVersion::V1_2,
        _ => TlsVersion::V1_3,
    };
    if min > max {
        let help = ("a version that is not older than minProtocolVersion", "remove one of the two");
        refuse(tls, "maxProtocolVersion", "maxProtocolVersion is older than minProtocolVersion", help, reporter);
    }
    (min, max)
}

fn read_cipher_suites(tls: &Record, reporter: &mut Reporter<'_>) -> Vec<CipherSuite> {
    let mut suites = Vec::new();
    let mut unknown: Vec<&str> = Vec::new();
    for (_, name) in tls.texts("cipherSuites") {
        match CipherSuite::from_name(name) {
            Some(suite) if !suites.contains(&suite) => suites.push(suite),
            Some(_) => {}
            None => unknown.push(name),
        }
    }
    if !unknown.is_empty() {
        let names: Vec<&str> = CipherSuite::NAMES.iter().map(|(name, _)| *name).collect();
        let finding =
            Diagnostic::warning("cipher-suites", format!("ignoring invalid cipher suites: {}", unknown.join(", ")))
                .with_value(unknown.join(", "))
                .with_allowed(names.join(", "))
                .with_effect(match suites.is_empty() {
                    true => "no suite is left of the list, so TLS 1.2 is served with all of these",
                    false => "the others of the list are served; TLS 1.3 has suites of its own",
                })
                .with_suggestion("remove them: only forward secret suites with authenticated encryption are served");
        reporter.add(&tls.key_of("cipherSuites"), finding);
    }
    suites
}
