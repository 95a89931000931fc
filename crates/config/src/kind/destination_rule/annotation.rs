//! Annotations of a destination rule under `meshwright.io/`: load balancing that Istio's schema has no field for. Another
//! implementation reads the same document and leaves them alone. Read next: `load_balancer.rs`.

use meshwright_model::{
    Algorithm, ConsistentHash, Diagnostic, Enforcing, HashCookie, LocalitySetting, OutlierDetection, TrafficPolicy,
};

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
    apply: fn(&str, &mut TrafficPolicy) -> Result<(), String>,
}

static ANNOTATIONS: &[Annotation] = &[
    Annotation {
        name: "outlier-detection",
        allowed: || {
            "success-rate, success-rate-minimum-hosts=N, success-rate-request-volume=N, success-rate-stdev-factor=N, \
             failure-percentage=PERCENT, failure-percentage-minimum-hosts=N, failure-percentage-request-volume=N, \
             max-ejection-time=TIME, max-ejection-time-jitter=TIME, enforcing-consecutive-5xx=PERCENT, \
             enforcing-consecutive-gateway-failure=PERCENT, enforcing-consecutive-local-origin-failure=PERCENT, \
             enforcing-success-rate=PERCENT, enforcing-local-origin-success-rate=PERCENT, \
             enforcing-failure-percentage=PERCENT, enforcing-failure-percentage-local-origin=PERCENT, \
             enforcing-unreachable=PERCENT; with `;` between them"
                .to_owned()
        },
        example: "success-rate; failure-percentage=85; max-ejection-time=10m",
        apply: |value, policy| outliers(value, policy.outlier_detection.get_or_insert_default()),
    },
    Annotation {
        name: "load-balancer",
        allowed: || balancing::names().join(", "),
        example: "PEAK_EWMA",
        apply: |value, policy| {
            let balancer = policy.load_balancer.get_or_insert_default();
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
        apply: |value, policy| {
            policy.load_balancer.get_or_insert_default().algorithm = balancing::of_service_type(value);
            Ok(())
        },
    },
    Annotation {
        name: "prequal-probes",
        allowed: || "a whole number from 0 to 10000: probes in a second at most".to_owned(),
        example: "100",
        apply: |value, policy| {
            let rate = value.parse().ok().filter(|rate| *rate <= 10_000);
            let rate = rate.ok_or_else(|| format!("{value:?} is no number of probes"))?;
            match &mut policy.load_balancer.get_or_insert_default().algorithm {
                Algorithm::Prequal { probes_per_second } => *probes_per_second = rate,
                _ => return Err("probes need the load balancer PREQUAL".to_owned()),
            }
            Ok(())
        },
    },
    Annotation {
        name: "hash-balance-factor",
        allowed: || "a whole number from 100 to 10000: percent of the average load".to_owned(),
        example: "150",
        apply: |value, policy| {
            let balancer = policy.load_balancer.get_or_insert_default();
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
        apply: |value, policy| {
            policy.load_balancer.get_or_insert_default().session = Some(cookie(value)?);
            Ok(())
        },
    },
];

/// Applies the annotations of a document to the policy of the whole destination.
pub(super) fn apply(document: &Record, policy: &mut TrafficPolicy, reporter: &mut Reporter<'_>) {
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
        if let Err(message) = (annotation.apply)(value, policy) {
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

/// What Istio's outlier detection has no fields for, in Envoy's names.
fn outliers(text: &str, detection: &mut OutlierDetection) -> Result<(), String> {
    for part in text.split(';').map(str::trim) {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let number = || value.parse::<u32>().map_err(|_| format!("{value:?} is no whole number for {key}"));
        let time = || duration::parse(value).map_err(|_| format!("{value:?} is no time such as 10m or 30s"));
        if let Some(kind) = key.strip_prefix("enforcing-") {
            let share = enforced(kind, &mut detection.enforcing)
                .ok_or_else(|| format!("{part:?} is no setting of outlier detection"))?;
            *share = value
                .parse()
                .ok()
                .filter(|share| *share <= 100)
                .ok_or_else(|| format!("{value:?} is no whole number from 0 to 100 for {key}"))?;
            continue;
        }
        match key {
            "success-rate" if value.is_empty() => {
                detection.success_rate.get_or_insert_default();
            }
            "success-rate-minimum-hosts" => detection.success_rate.get_or_insert_default().minimum_hosts = number()?,
            "success-rate-request-volume" => detection.success_rate.get_or_insert_default().request_volume = number()?,
            "success-rate-stdev-factor" => detection.success_rate.get_or_insert_default().stdev_factor = number()?,
            "failure-percentage" => {
                let threshold = number()?;
                if !(1..=100).contains(&threshold) {
                    return Err(format!("failure-percentage {threshold} is not in range 1..100"));
                }
                detection.failure_percentage.get_or_insert_default().threshold = threshold;
            }
            "failure-percentage-minimum-hosts" => {
                detection.failure_percentage.get_or_insert_default().minimum_hosts = number()?;
            }
            "failure-percentage-request-volume" => {
                detection.failure_percentage.get_or_insert_default().request_volume = number()?;
            }
            "max-ejection-time" => detection.max_ejection_time = time()?,
            "max-ejection-time-jitter" => detection.max_ejection_time_jitter = time()?,
            _ => return Err(format!("{part:?} is no setting of outlier detection")),
        }
    }
    Ok(())
}

fn enforced<'a>(kind: &str, shares: &'a mut Enforcing) -> Option<&'a mut u8> {
    Some(match kind {
        "consecutive-5xx" => &mut shares.consecutive_5xx,
        "consecutive-gateway-failure" => &mut shares.consecutive_gateway_failure,
        "consecutive-local-origin-failure" => &mut shares.consecutive_local_origin_failure,
        "success-rate" => &mut shares.success_rate,
        "local-origin-success-rate" => &mut shares.local_origin_success_rate,
        "failure-percentage" => &mut shares.failure_percentage,
        "failure-percentage-local-origin" => &mut shares.failure_percentage_local_origin,
        "unreachable" => &mut shares.unreachable,
        _ => return None,
    })
}
