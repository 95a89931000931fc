//! Annotations of a destination rule under `meshwright.io/`: load balancing that Istio's schema has no field for. Another
//! implementation reads the same document and leaves them alone. Read next: `load_balancer.rs`.

use meshwright_model::{Algorithm, ConsistentHash, Diagnostic, HashCookie, LoadBalancer, LocalitySetting};

use super::consistent_hash::is_attribute;
use crate::finding::Reporter;
use crate::node::Place;
use crate::record::Record;
use crate::{balancing, duration, name, text};

/// What our annotations begin with.
const PREFIX: &str = "meshwright.io/";

/// An annotation: its name behind the prefix, what may be written, what it does to the load balancer.
struct Annotation {
    name: &'static str,
    allowed: fn() -> String,
    example: &'static str,
    apply: fn(&str, &mut LoadBalancer) -> Result<(), String>,
}

static ANNOTATIONS: &[Annotation] = &[
    Annotation {
        name: "load-balancer",
        allowed: || balancing::names().join(", "),
        example: "PEAK_EWMA",
        apply: |value, balancer| {
            let preset = balancing::preset(value).ok_or_else(|| format!("there is no load balancer {value:?}"))?;
            balancer.algorithm = preset.algorithm;
            if balancer.locality == LocalitySetting::Unset {
                balancer.locality = preset.locality;
            }
            Ok(())
        },
    },
    Annotation {
        name: "service-type",
        allowed: balancing::service_types,
        example: "cpu-intensive",
        apply: |value, balancer| {
            balancer.algorithm = balancing::of_service_type(value);
            Ok(())
        },
    },
    Annotation {
        name: "hash-balance-factor",
        allowed: || "a whole number from 100 to 10000: percent of the average load".to_owned(),
        example: "150",
        apply: |value, balancer| {
            let factor = value.parse().ok().filter(|factor| (100..=10_000).contains(factor));
            let factor = factor.ok_or_else(|| format!("{value:?} is no balance factor"))?;
            let Algorithm::ConsistentHash(ConsistentHash { balance_factor, .. }) = &mut balancer.algorithm else {
                return Err("a balance factor needs consistentHash".to_owned());
            };
            *balance_factor = Some(factor);
            Ok(())
        },
    },
    Annotation {
        name: "session-cookie",
        allowed: || "NAME, then `; ttl=TIME` and `; path=PATH` as needed".to_owned(),
        example: "session; ttl=1h; path=/",
        apply: |value, balancer| {
            balancer.session = Some(cookie(value)?);
            Ok(())
        },
    },
];

/// Applies the annotations of a document to the load balancer of the whole destination.
pub(super) fn apply(document: &Record, balancer: &mut Option<LoadBalancer>, reporter: &mut Reporter<'_>) {
    let Some(metadata) = document.record("metadata") else { return };
    // In the order of the table, so that a factor finds its table whatever the order of the annotations.
    let mut given: Vec<(usize, Place, &str)> = Vec::new();
    for (key, span, item) in metadata.map("annotations") {
        let Some(own) = key.strip_prefix(PREFIX) else { continue };
        let place = metadata.map_key("annotations", key, *span);
        let Some(value) = item.as_ref().and_then(|item| item.text()) else { continue };
        match ANNOTATIONS.iter().position(|annotation| annotation.name == own) {
            Some(index) => given.push((index, place, value)),
            None => report_unknown(own, key, &place, reporter),
        }
    }
    given.sort_by_key(|(index, ..)| *index);
    for (index, place, value) in given {
        let annotation = &ANNOTATIONS[index];
        if let Err(message) = (annotation.apply)(value, balancer.get_or_insert_default()) {
            let finding = Diagnostic::error("annotation", message)
                .with_value(value)
                .with_allowed((annotation.allowed)())
                .with_suggestion(format!("write for example `{PREFIX}{}: {}`", annotation.name, annotation.example));
            reporter.add(&place, finding);
        }
        if annotation.name == "service-type" && !balancing::is_service_type(value) {
            let finding =
                Diagnostic::warning("service-type", format!("there is no rule for services of type {value:?}"))
                    .with_value(value)
                    .with_allowed(balancing::service_types())
                    .with_effect("requests are balanced at random")
                    .with_suggestion("write `random` if that is meant");
            reporter.add(&place, finding);
        }
    }
}

fn report_unknown(own: &str, key: &str, place: &Place, reporter: &mut Reporter<'_>) {
    let names: Vec<&str> = ANNOTATIONS.iter().map(|annotation| annotation.name).collect();
    let near = text::nearest(own, names.iter().copied());
    let known: Vec<String> = names.iter().map(|name| format!("{PREFIX}{name}")).collect();
    let finding = Diagnostic::error("unknown-annotation", format!("there is no annotation {key}"))
        .with_value(key)
        .with_allowed(known.join(", "))
        .with_effect("it would have no effect")
        .with_suggestion(match near {
            Some(near) => format!("did you mean {PREFIX}{near}?"),
            None => "remove it".to_owned(),
        });
    reporter.add(place, finding);
}

/// `NAME[; ttl=TIME][; path=PATH]`. Without a time the cookie lasts as long as the client's session.
fn cookie(text: &str) -> Result<HashCookie, String> {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default();
    if !name::is_header_name(name) {
        return Err(format!("{name:?} is no name of a cookie"));
    }
    let mut cookie = HashCookie {
        name: name.to_owned(),
        path: Some("/".to_owned()),
        ttl: Some(std::time::Duration::ZERO),
        attributes: Vec::new(),
    };
    for part in parts {
        match part.split_once('=') {
            Some(("ttl", time)) => {
                let time = duration::parse(time).map_err(|_| format!("{time:?} is no time such as 1h or 30s"))?;
                cookie.ttl = Some(time);
            }
            Some(("path", path)) if is_attribute(path) && !path.is_empty() => cookie.path = Some(path.to_owned()),
            _ => return Err(format!("{part:?} is neither ttl=TIME nor path=PATH")),
        }
    }
    Ok(cookie)
}
