//! `trafficPolicy.tls`: TLS to a service. Knows names of files and credentials, not their contents.

use meshwright_model::{AuthoritiesRef, CertificateRef, ClientTlsPolicy, ClientTlsSettings, Diagnostic, Reference};

use crate::finding::Reporter;
use crate::record::Record;

/// Fields that a credential replaces.
const FILES: [&str; 4] = ["clientCertificate", "privateKey", "caCertificates", "caCrl"];

/// Reads the block of a policy; `None` when it is absent or refused.
pub(super) fn read(owner: &Record, reporter: &mut Reporter<'_>) -> Option<ClientTlsPolicy> {
    let tls = owner.record("tls")?;
    let mode = tls.word("mode").unwrap_or("DISABLE");
    let mutual = match mode {
        "DISABLE" => return Some(ClientTlsPolicy::Disable),
        "SIMPLE" => false,
        "MUTUAL" => true,
        _ => {
            istio_mutual(tls, mode, reporter);
            return None;
        }
    };
    let credential = file(tls, "credentialName", reporter);
    if credential.is_some() {
        check_one_source(tls, reporter);
    }
    let certificate = match &credential {
        _ if !mutual => None,
        Some(name) => Some(CertificateRef::Credential(name.clone())),
        None => Some(read_files(tls, reporter)?),
    };
    if !mutual {
        ineffective(tls, reporter);
    }
    let insecure_skip_verify = tls.boolean("insecureSkipVerify").unwrap_or(false);
    if insecure_skip_verify {
        unverified(tls, reporter);
    }
    let authorities = match credential {
        Some(name) => Some(AuthoritiesRef::Credential(name)),
        None => file(tls, "caCertificates", reporter).map(AuthoritiesRef::File),
    };
    Some(ClientTlsPolicy::Originate(Box::new(ClientTlsSettings {
        certificate,
        authorities,
        revoked: file(tls, "caCrl", reporter),
        subject_alt_names: tls.texts("subjectAltNames").map(|(_, name)| name.to_owned()).collect(),
        sni: tls.text("sni").filter(|sni| !sni.is_empty()).map(str::to_owned),
        insecure_skip_verify,
        block: reporter.reference(&tls.place_of("mode"), mode),
    })))
}

/// Leaving it out would send in clear text what was meant to be protected.
fn istio_mutual(tls: &Record, mode: &str, reporter: &mut Reporter<'_>) {
    let finding =
        Diagnostic::error("not-supported", format!("TLS mode {mode} to services is not supported by this version"))
            .with_value(mode)
            .with_allowed("DISABLE, SIMPLE or MUTUAL")
            .with_effect("without it requests would be sent in clear text")
            .with_suggestion(
                "use MUTUAL with certificates of your own, or `mode: DISABLE` if clear text is acceptable",
            );
    reporter.add(&tls.place_of("mode"), finding);
}

fn check_one_source(tls: &Record, reporter: &mut Reporter<'_>) {
    let Some(field) = FILES.into_iter().find(|field| tls.text(field).is_some_and(|text| !text.is_empty())) else {
        return;
    };
    let message = "cannot specify client certificates or CA certificate or CA CRL If credentialName is set";
    let finding = Diagnostic::error("choice", message)
        .with_value(field)
        .with_allowed("credentialName, or files")
        .with_suggestion("remove credentialName or the files");
    reporter.add(&tls.key_of(field), finding);
}

fn read_files(tls: &Record, reporter: &mut Reporter<'_>) -> Option<CertificateRef> {
    let mut missing = false;
    for (field, called) in [("clientCertificate", "client certificate"), ("privateKey", "private key")] {
        if tls.text(field).is_none_or(str::is_empty) {
            missing = true;
            let finding = Diagnostic::error("tls-settings", format!("{called} required for mutual tls"))
                .with_allowed("clientCertificate and privateKey, or credentialName")
                .with_effect("the service would refuse the connection")
                .with_suggestion(format!("add {field}"));
            reporter.add(&tls.place.field(field), finding);
        }
    }
    if missing {
        return None;
    }
    let certificate = file(tls, "clientCertificate", reporter)?;
    Some(CertificateRef::Files { certificate, key: file(tls, "privateKey", reporter)? })
}

fn ineffective(tls: &Record, reporter: &mut Reporter<'_>) {
    for field in ["clientCertificate", "privateKey"] {
        if tls.text(field).is_some_and(|text| !text.is_empty()) {
            let finding = Diagnostic::warning("ineffective", format!("{field} has no effect with mode SIMPLE"))
                .with_value(field)
                .with_allowed("MUTUAL shows a certificate to the service")
                .with_effect("no certificate is shown to the service")
                .with_suggestion("write `mode: MUTUAL`, or remove the field");
            reporter.add(&tls.key_of(field), finding);
        }
    }
}

fn unverified(tls: &Record, reporter: &mut Reporter<'_>) {
    let finding = Diagnostic::warning("unverified-service", "the certificate of the service is not verified")
        .with_value("true")
        .with_allowed("false")
        .with_effect("whoever stands between can read and change the requests")
        .with_suggestion("give `caCertificates` with the authority of the service instead");
    reporter.add(&tls.place_of("insecureSkipVerify"), finding);
}

fn file(record: &Record, field: &str, reporter: &mut Reporter<'_>) -> Option<Reference> {
    let name = record.text(field).filter(|name| !name.is_empty())?;
    Some(reporter.reference(&record.place_of(field), name))
}
