//! Rules that fields of several kinds share: ports, hosts, `exportTo`, labels.
//!
//! Knows no kind. Read next: `mod.rs`.

use std::collections::HashSet;

use meshwright_model::Diagnostic;

use crate::finding::Reporter;
use crate::name;
use crate::node::Place;
use crate::record::{Item, Record};

/// A port number from 1 to 65535, or a finding in Istio's words.
pub(crate) fn port_number(record: &Record, field: &str, reporter: &mut Reporter<'_>) -> Option<u16> {
    let place = record.place_of(field);
    let number = match record.whole(field) {
        Some(number) => number,
        None if record.has(field) => return None,
        None => 0,
    };
    match u16::try_from(number) {
        Ok(port) if port > 0 => Some(port),
        _ => {
            let finding =
                Diagnostic::error("port-range", format!("port number {number} must be in the range 1..65535"))
                    .with_value(number.to_string())
                    .with_allowed("1..65535")
                    .with_effect("no such port exists")
                    .with_suggestion("write the number of the port, such as 80 or 8080");
            reporter.add(&place, finding);
            None
        }
    }
}

/// The host that a rule or policy is for, lower-case; empty, with a finding, when it cannot be one. `what` is the rule in
/// words, `allowed` what may stand there.
pub(super) fn read_host(spec: &Record, what: &str, allowed: &str, reporter: &mut Reporter<'_>) -> String {
    let host = match spec.text("host") {
        Some(host) => host,
        None if spec.has("host") => return String::new(),
        None => "",
    };
    let problem = match host {
        "" => Some(format!("the {what} has no host")),
        host => name::host_problem(host),
    };
    if let Some(problem) = problem {
        let short = what.rsplit(' ').next().unwrap_or(what);
        let finding = Diagnostic::error("invalid-host", problem)
            .with_value(host)
            .with_allowed(allowed)
            .with_effect(format!("the {short} would belong to no service"))
            .with_suggestion("add for example `host: my-service`");
        reporter.add(&spec.place_of("host"), finding);
    }
    host.to_ascii_lowercase()
}

/// `exportTo`: everything is visible everywhere here; anything but `*` is said to have no effect.
pub(super) fn check_export(spec: &Record, reporter: &mut Reporter<'_>) {
    let mut seen: HashSet<&str> = HashSet::new();
    for (item, text) in spec.texts("exportTo") {
        if seen.contains(text) {
            let finding = Diagnostic::error("export", format!("duplicate entries in exportTo for entry {text}"))
                .with_value(text)
                .with_allowed("every entry once")
                .with_suggestion("remove one of them");
            reporter.add(&item.place, finding);
        } else if seen.contains("*") || (text == "*" && !seen.is_empty()) {
            let message = "cannot have both public (*) and non-public exportTo values for a resource";
            let finding = Diagnostic::error("export", message)
                .with_value(text)
                .with_allowed("`*` alone, or other values without it")
                .with_suggestion("remove one of them");
            reporter.add(&item.place, finding);
        } else if (text == "~" && !seen.is_empty()) || seen.contains("~") {
            let message = "cannot export service entry to no one (~) and someone";
            let finding = Diagnostic::error("export", message)
                .with_value(text)
                .with_allowed("`~` alone, or other values without it")
                .with_suggestion("remove one of them");
            reporter.add(&item.place, finding);
        } else if text != "*" {
            let finding =
                Diagnostic::warning("not-supported", format!("exportTo {text:?} is not supported by this version"))
                    .with_value(text)
                    .with_allowed("*")
                    .with_effect("it is visible in every namespace")
                    .with_suggestion("remove exportTo, or write \"*\"");
            reporter.add(&item.place, finding);
        }
        seen.insert(text);
    }
}

/// A label must be one that Kubernetes takes, or no endpoint can ever have it.
pub(super) fn check_label(key: &str, place: &Place, item: Option<&Item>, reporter: &mut Reporter<'_>) {
    if !name::is_label_key(key) {
        let finding = Diagnostic::error("invalid-label", format!("invalid label name {key:?}"))
            .with_value(key)
            .with_allowed("at most 63 letters, digits, `-`, `_`, `.`, with an optional DNS prefix and `/`")
            .with_suggestion("write a name such as version or app.kubernetes.io/name");
        reporter.add(place, finding);
    }
    let Some((item, text)) = item.and_then(|item| Some((item, item.text()?))) else { return };
    if !name::is_label_value(text) {
        let finding = Diagnostic::error("invalid-label", format!("invalid value {text:?} of the label {key}"))
            .with_value(text)
            .with_allowed("at most 63 letters, digits, `-`, `_`, `.`, with a letter or digit at both ends")
            .with_suggestion("write a value such as v1");
        reporter.add(&item.place, finding);
    }
}
