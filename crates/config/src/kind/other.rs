//! Documents of kinds that are not read: what leaving them out means.

use meshwright_model::Diagnostic;

use super::KINDS;
use crate::finding::Reporter;
use crate::node::{Node, Place, Value};
use crate::text::{listed, nearest};

/// Istio's kinds that have no effect here.
const ISTIO_KINDS: &[&str] =
    &["Sidecar", "EnvoyFilter", "ProxyConfig", "Telemetry", "WasmPlugin", "TrafficExtension", "IstioOperator"];

/// Kinds whose absence would open what was meant to be closed.
const SECURITY_KINDS: &[(&str, &str)] = &[
    ("AuthorizationPolicy", "requests that the policy denies would be let through"),
    ("RequestAuthentication", "requests with a forged token would be let through"),
    ("PeerAuthentication", "connections without mutual TLS would be let in"),
];

/// Says what becomes of a document of another kind. Returns whether the configuration is whole without it.
pub(super) fn judge(node: &Node, place: &Place, api_version: &str, kind: &str, reporter: &mut Reporter<'_>) -> bool {
    let place = match node.entry("kind") {
        Some(entry) => Place { span: entry.value.span, path: place.path.field("kind") },
        None => place.clone(),
    };
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let known = KINDS.iter().find(|known| known.name == kind);
    if let Some(known) = known.filter(|known| group_of(known.api_versions) == group) {
        let place = match node.entry("apiVersion") {
            Some(entry) => Place { span: entry.value.span, path: place.path.clone() },
            None => place,
        };
        let finding = Diagnostic::error("unknown-version", format!("{kind} has no version {api_version:?}"))
            .with_value(api_version)
            .with_allowed(listed(known.api_versions))
            .with_path("apiVersion")
            .with_suggestion(format!("write {}", known.api_versions[0]));
        reporter.add(&place, finding);
        return false;
    }
    if group == "security.istio.io" {
        return security(node, &place, kind, reporter);
    }
    let of_istio = group.ends_with("istio.io");
    let misspelt = nearest(kind, KINDS.iter().map(|known| known.name));
    if of_istio && !ISTIO_KINDS.contains(&kind) {
        let kinds: Vec<&str> = KINDS.iter().map(|known| known.name).collect();
        let mut finding = Diagnostic::error("unknown-kind", format!("Istio has no kind {kind:?} in {api_version}"))
            .with_value(kind)
            .with_allowed(listed(&kinds))
            .with_effect("the document would be left out");
        finding.suggestion = misspelt.map(|near| format!("did you mean {near}?"));
        reporter.add(&place, finding);
        return false;
    }
    let effect = match (of_istio, known) {
        (true, _) => "the document has no effect in this version".to_owned(),
        (_, Some(known)) => format!(
            "the document has no effect: {kind} is read as {}, this is {api_version}",
            listed(known.api_versions)
        ),
        _ => "the document has no effect here".to_owned(),
    };
    let mut finding = Diagnostic::warning("kind-without-effect", format!("{kind} ({api_version}) is not read"))
        .with_value(kind)
        .with_effect(effect);
    finding.suggestion = match (of_istio, misspelt.filter(|near| *near != kind)) {
        (false, Some(near)) => Some(format!("did you mean {near}?")),
        _ => Some("leave it out of the files given here if that is what you want".to_owned()),
    };
    reporter.add(&place, finding);
    true
}

fn group_of(api_versions: &[&'static str]) -> &'static str {
    api_versions.first().and_then(|version| version.split_once('/')).map_or("", |(group, _)| group)
}

fn security(node: &Node, place: &Place, kind: &str, reporter: &mut Reporter<'_>) -> bool {
    if kind == "PeerAuthentication" && !demands_mutual_tls(node) {
        let finding = Diagnostic::warning("kind-without-effect", "PeerAuthentication is not read")
            .with_value(kind)
            .with_effect("this version speaks clear text inside the mesh; the policy does not demand more")
            .with_suggestion("leave it out of the files given here if that is what you want");
        reporter.add(place, finding);
        return true;
    }
    let known = SECURITY_KINDS.iter().find(|(name, _)| *name == kind);
    let names: Vec<&str> = SECURITY_KINDS.iter().map(|(name, _)| *name).collect();
    let mut finding = match known {
        Some((_, harm)) => Diagnostic::error(
            "security-kind",
            format!("{kind} is not supported by this version and cannot be left out safely"),
        )
        .with_effect(*harm)
        .with_suggestion("remove the document, and protect the services in another way first"),
        None => Diagnostic::error("unknown-kind", format!("Istio has no security kind {kind:?}"))
            .with_effect("what it protects would be open"),
    };
    finding = finding.with_value(kind).with_allowed("kinds that do not protect anything");
    if known.is_none() {
        finding.suggestion = nearest(kind, names.iter().copied()).map(|near| format!("did you mean {near}?"));
    }
    reporter.add(place, finding);
    false
}

/// Whether `STRICT` stands anywhere in `spec.mtls` or `spec.portLevelMtls`.
fn demands_mutual_tls(node: &Node) -> bool {
    fn strict(node: &Node) -> bool {
        match &node.value {
            Value::Scalar(scalar) => scalar.text.eq_ignore_ascii_case("STRICT"),
            Value::Mapping(entries) => entries.iter().any(|entry| strict(&entry.value)),
            Value::Sequence(items) => items.iter().any(strict),
            Value::Null => false,
        }
    }
    node.entry("spec").is_some_and(|entry| strict(&entry.value))
}
