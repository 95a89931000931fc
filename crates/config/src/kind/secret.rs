//! Kubernetes' `Secret`, as far as it holds certificates and keys for TLS.
//!
//! Values are never part of a finding: they are read without judgement, and findings point at the field that holds them.

use meshwright_model::{Diagnostic, Secret};

use super::{API_VERSION, Document, KIND, METADATA, Object};
use crate::finding::Reporter;
use crate::record::{Item, Record};
use crate::scalar::base64_bytes;
use crate::table::{Message, Type, full, ignored, message};

pub(super) static DOCUMENT: Message = message(
    "Secret",
    &[
        API_VERSION,
        KIND,
        METADATA,
        full("type", Type::Text, "kubernetes.io/tls or Opaque; the keys of `data` decide."),
        full(
            "data",
            Type::Map(&Type::Secret),
            "tls.crt or cert, tls.key or key, ca.crt or cacert, ca.crl or crl; base64.",
        ),
        full("stringData", Type::Map(&Type::Secret), "The same as text; wins over `data`."),
        ignored("immutable", Type::Boolean, "Of interest to a cluster."),
    ],
);

/// Keys that are looked at.
const KEYS: [&str; 8] = ["tls.crt", "cert", "tls.key", "key", "ca.crt", "cacert", "ca.crl", "crl"];

/// Reads a secret. One without certificates is named, and left out.
pub(super) fn read(document: Document<'_>, reporter: &mut Reporter<'_>) -> Object<Option<Secret>> {
    let record = document.record.clone();
    let mut entry = |keys: [&str; 2]| keys.into_iter().find_map(|key| value(&record, key, reporter));
    let secret = Secret {
        name: document.name(),
        namespace: document.namespace.clone(),
        certificate: entry(["tls.crt", "cert"]),
        key: entry(["tls.key", "key"]),
        authorities: entry(["ca.crt", "cacert"]),
        revoked: entry(["ca.crl", "crl"]),
    };
    let useful = KEYS.iter().any(|key| item(&record, "data", key).or(item(&record, "stringData", key)).is_some());
    if !useful {
        let finding = Diagnostic::warning("kind-without-effect", "the Secret holds no certificate for TLS")
            .with_allowed("tls.crt and tls.key (or cert and key), ca.crt (or cacert)")
            .with_effect("it is not used")
            .with_suggestion("leave it out of the files given here if that is what you want");
        reporter.add(&document.place, finding);
    }
    document.object(record, useful.then_some(secret))
}

fn item<'r>(record: &'r Record, field: &str, key: &str) -> Option<&'r Item> {
    record.map(field).iter().find(|(name, _, _)| **name == *key).and_then(|(_, _, item)| item.as_ref())
}

fn value(record: &Record, key: &str, reporter: &mut Reporter<'_>) -> Option<Vec<u8>> {
    let (field, found) = match item(record, "stringData", key) {
        Some(found) => ("stringData", found),
        None => ("data", item(record, "data", key)?),
    };
    let decoded = match (field, found.text()) {
        ("stringData", Some(plain)) => Some(plain.as_bytes().to_vec()),
        (_, Some(encoded)) => {
            let digits: String = encoded.chars().filter(|c| !c.is_ascii_whitespace()).collect();
            base64_bytes(&digits)
        }
        (_, None) => None,
    };
    if decoded.is_none() {
        let expected = if field == "data" { "base64" } else { "a string" };
        let finding = Diagnostic::error("wrong-type", format!("expected {expected} in {key}"))
            .with_allowed("the contents of the file, encoded by base64 in `data`")
            .with_effect("the certificate cannot be used")
            .with_suggestion("encode it with `base64 -w0 FILE`, or write it under stringData as it is");
        reporter.add(&record.key_of(field).field(key), finding);
    }
    decoded
}
