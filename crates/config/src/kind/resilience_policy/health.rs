//! `healthCheck`: what every endpoint is asked, how often, and how many answers decide. The names are Envoy's.

use std::ops::RangeInclusive;
use std::time::Duration;

use meshwright_model::{Diagnostic, HealthCheck, HealthPort, HealthProbe};

use super::super::probe::{check_path, check_timeout};
use super::super::{Document, port_number};
use super::number;
use crate::finding::Reporter;
use crate::name;
use crate::record::{Data, Item, Record};

/// Reads the block of `document`.
pub(super) fn read(record: &Record, document: &Document<'_>, reporter: &mut Reporter<'_>) -> HealthCheck {
    let source = format!("ResiliencePolicy {}/{}", document.namespace, document.name());
    let default = HealthCheck::http(HealthCheck::PATH, &source);
    let probe = if record.has("tcp") {
        HealthProbe::Tcp
    } else if let Some(grpc) = record.record("grpc") {
        HealthProbe::Grpc {
            service: grpc.text_or_empty("service").to_owned(),
            authority: read_host(grpc, "authority", reporter),
        }
    } else {
        record.record("http").map_or(default.probe, |http| read_http(http, reporter))
    };
    check_timeout(record, "timeout", record.duration("timeout"), reporter);
    let interval = record.duration("interval").unwrap_or(default.interval);
    HealthCheck {
        probe,
        port: match record.has("port") {
            true => port_number(record, "port", reporter).map_or(HealthPort::OfRequests, HealthPort::Number),
            false => HealthPort::OfRequests,
        },
        interval,
        interval_jitter: record.duration("intervalJitter").unwrap_or(interval / 10),
        unhealthy_interval: record.duration("unhealthyInterval").unwrap_or(interval),
        timeout: record.duration("timeout").unwrap_or(default.timeout),
        unhealthy_threshold: number(record, "unhealthyThreshold").unwrap_or(default.unhealthy_threshold),
        healthy_threshold: number(record, "healthyThreshold").unwrap_or(default.healthy_threshold),
        initial_delay: Duration::ZERO,
        initially_healthy: record.word("initialState") == Some("HEALTHY"),
        transport: default.transport,
        source,
    }
}

fn read_http(record: &Record, reporter: &mut Reporter<'_>) -> HealthProbe {
    let path = record.text("path").unwrap_or(HealthCheck::PATH);
    check_path(record, path, reporter);
    let headers: Vec<(String, String)> =
        record.text_map("headers").map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    for (name, value) in &headers {
        super::super::probe::check_header(record, "headers", (name, value), reporter);
    }
    let statuses = record.list("expectedStatuses").iter().filter_map(|item| read_statuses(item, reporter));
    let mut expected_statuses: Vec<RangeInclusive<u16>> = statuses.collect();
    if expected_statuses.is_empty() {
        expected_statuses.push(HealthCheck::EXPECTED);
    }
    HealthProbe::Http { path: path.to_owned(), host: read_host(record, "host", reporter), headers, expected_statuses }
}

/// `204`, or `200-299`.
fn read_statuses(item: &Item, reporter: &mut Reporter<'_>) -> Option<RangeInclusive<u16>> {
    let text = match &item.data {
        Data::Whole(number) => number.to_string(),
        Data::Text(text) => text.to_string(),
        _ => return None,
    };
    let (first, last) = text.split_once('-').unwrap_or((&text, &text));
    let status = |text: &str| text.trim().parse::<u16>().ok().filter(|status| (100..=599).contains(status));
    match (status(first), status(last)) {
        (Some(first), Some(last)) if first <= last => Some(first..=last),
        _ => {
            let finding = Diagnostic::error("range", format!("{text:?} is neither a status nor a range of them"))
                .with_value(text)
                .with_allowed("a number from 100 to 599, or two with a hyphen between, the smaller first")
                .with_effect("nobody would know which endpoints are well")
                .with_suggestion("write for example `expectedStatuses: [200, 300-399]`");
            reporter.add(&item.place, finding);
            None
        }
    }
}

fn read_host(record: &Record, field: &str, reporter: &mut Reporter<'_>) -> Option<String> {
    let host = record.text(field)?;
    if host.is_empty() || !host.bytes().all(|byte| byte.is_ascii_graphic()) || !name::is_header_value(host) {
        let finding = Diagnostic::error("invalid-name", format!("{host:?} is no {field}"))
            .with_value(host)
            .with_allowed("a host name or an address, with a port where that is needed")
            .with_suggestion(format!("write for example `{field}: api.example.com`"));
        reporter.add(&record.place_of(field), finding);
    }
    Some(host.to_owned())
}
