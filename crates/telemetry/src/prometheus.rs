//! The Prometheus text format, version 0.0.4.
//!
//! It writes sums that were taken before and takes none itself; names come from `names.rs`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::VERSION;
use crate::counters::{ClusterCounter, ClusterGauge, Counter, RefusalReason};
use crate::ending::RequestProtocol;
use crate::histogram::{BUCKET_LABELS, HistogramTotal};
use crate::labels::{DestinationLabels, SourceLabels};
use crate::metrics::{DestinationTotal, SeriesTotal, Totals};
use crate::names::{self, Family, Kind};
use crate::scrape::{CertificateGauges, ClusterGauges, ScrapeGauges};

/// Labels from `reporter` to `destination_cluster` in Istio's order. The reporter is always the source: a gateway and the
/// outbound side of a mesh are the client's side of a request.
pub(crate) fn render_labels(source: &SourceLabels, destination: &DestinationLabels) -> String {
    let mut out = String::from("reporter=\"source\"");
    for (name, value) in [
        ("source_workload", &source.workload),
        ("source_canonical_service", &source.canonical_service),
        ("source_canonical_revision", &source.canonical_revision),
        ("source_workload_namespace", &source.workload_namespace),
        ("source_principal", &source.principal),
        ("source_app", &source.app),
        ("source_version", &source.version),
        ("source_cluster", &source.cluster),
        ("destination_workload", &destination.workload),
        ("destination_workload_namespace", &destination.workload_namespace),
        ("destination_principal", &destination.principal),
        ("destination_app", &destination.app),
        ("destination_version", &destination.version),
        ("destination_service", &destination.service),
        ("destination_canonical_service", &destination.canonical_service),
        ("destination_canonical_revision", &destination.canonical_revision),
        ("destination_service_name", &destination.service_name),
        ("destination_service_namespace", &destination.service_namespace),
        ("destination_cluster", &destination.cluster),
    ] {
        out.push(',');
        push_label(&mut out, name, value);
    }
    out
}

/// Writes `name="value"`. Backslash, quote and newline are escaped as the format says. Other control characters and
/// those that change the direction of text are replaced by `_`: a value may be read on a terminal.
fn push_label(out: &mut String, name: &str, value: &str) {
    out.push_str(name);
    out.push_str("=\"");
    for character in value.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            hidden if hidden.is_control() || is_invisible(hidden) => out.push('_'),
            plain => out.push(plain),
        }
    }
    out.push('"');
}

/// Marks, embeddings, overrides and isolates of text direction, line and paragraph separators, zero-width characters.
fn is_invisible(character: char) -> bool {
    matches!(character, '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Writes everything.
pub(crate) fn encode(totals: &Totals, gauges: &ScrapeGauges, out: &mut String) {
    requests(totals, out);
    head(names::BUILD, out);
    out.push_str(names::BUILD.name);
    out.push('{');
    push_label(out, "component", "meshwright");
    out.push(',');
    push_label(out, "tag", VERSION);
    out.push_str("} 1\n");
    own(totals, gauges, out);
    clusters(totals, &gauges.clusters, out);
}

fn head(family: Family, out: &mut String) {
    let kind = match family.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    push(out, format_args!("# HELP {} {}\n# TYPE {} {kind}\n", family.name, family.help, family.name));
}

/// Appends formatted text.
fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a String does not fail");
}

fn plain(family: Family, value: u64, out: &mut String) {
    head(family, out);
    push(out, format_args!("{} {value}\n", family.name));
}

/// The three histograms of one label set as it is written.
#[derive(Default)]
struct RequestTotals {
    duration: HistogramTotal,
    request_bytes: HistogramTotal,
    response_bytes: HistogramTotal,
}

fn requests(totals: &Totals, out: &mut String) {
    // Clusters that differ in port or subset alone have the same labels here: they are one series.
    let mut rows: BTreeMap<String, RequestTotals> = BTreeMap::new();
    for destination in &totals.destinations {
        for series in &destination.series {
            let row = rows.entry(series_labels(destination, series)).or_default();
            row.duration.merge(&series.duration);
            row.request_bytes.merge(&series.request_bytes);
            row.response_bytes.merge(&series.response_bytes);
        }
    }
    head(names::REQUESTS, out);
    for (labels, row) in &rows {
        push(out, format_args!("{}{{{labels}}} {}\n", names::REQUESTS.name, row.duration.count()));
    }
    head(names::REQUEST_DURATION, out);
    for (labels, row) in &rows {
        let sum = Sum { whole: row.duration.sum / 1000, thousandths: row.duration.sum % 1000 };
        histogram(names::REQUEST_DURATION, labels, &row.duration, sum, out);
    }
    for (family, pick) in [
        (names::REQUEST_BYTES, (|row| &row.request_bytes) as fn(&RequestTotals) -> &HistogramTotal),
        (names::RESPONSE_BYTES, |row| &row.response_bytes),
    ] {
        head(family, out);
        for (labels, row) in &rows {
            let total = pick(row);
            histogram(family, labels, total, Sum { whole: total.sum, thousandths: 0 }, out);
        }
    }
}

fn series_labels(destination: &DestinationTotal, series: &SeriesTotal) -> String {
    let mut labels = String::with_capacity(destination.rendered.len() + 128);
    labels.push_str(&destination.rendered);
    labels.push_str(match series.protocol {
        RequestProtocol::Http => ",request_protocol=\"http\"",
        RequestProtocol::Grpc(_) => ",request_protocol=\"grpc\"",
    });
    match series.status {
        Some(status) => push(&mut labels, format_args!(",response_code=\"{status}\"")),
        None => labels.push_str(",response_code=\"other\""),
    }
    match series.protocol {
        RequestProtocol::Grpc(Some(code)) => push(&mut labels, format_args!(",grpc_response_status=\"{code}\",")),
        _ => labels.push_str(",grpc_response_status=\"\","),
    }
    push_label(&mut labels, "response_flags", series.flag);
    labels.push_str(",connection_security_policy=\"unknown\"");
    labels
}

/// A sum with up to three decimal places.
struct Sum {
    whole: u64,
    thousandths: u64,
}

fn histogram(family: Family, labels: &str, total: &HistogramTotal, sum: Sum, out: &mut String) {
    let mut cumulative = 0u64;
    for (bucket, bound) in total.buckets.iter().zip(BUCKET_LABELS) {
        cumulative = cumulative.wrapping_add(*bucket);
        push(out, format_args!("{}_bucket{{{labels},le=\"{bound}\"}} {cumulative}\n", family.name));
    }
    push(out, format_args!("{}_sum{{{labels}}} {}", family.name, sum.whole));
    if sum.thousandths > 0 {
        push(out, format_args!(".{:03}", sum.thousandths));
    }
    push(out, format_args!("\n{}_count{{{labels}}} {cumulative}\n", family.name));
}

fn own(totals: &Totals, gauges: &ScrapeGauges, out: &mut String) {
    for counter in Counter::ALL {
        plain(names::of_counter(counter), totals.counters[counter.index()], out);
    }
    let accepted = totals.counters[Counter::DownstreamConnectionsAccepted.index()];
    let closed = totals.counters[Counter::DownstreamConnectionsClosed.index()];
    plain(names::CONNECTIONS_ACTIVE, accepted.saturating_sub(closed), out);
    head(names::REFUSALS, out);
    for reason in RefusalReason::ALL {
        let (name, label) = (names::REFUSALS.name, names::of_refusal(reason));
        push(out, format_args!("{name}{{reason=\"{label}\"}} {}\n", totals.refusals[reason.index()]));
    }
    let series = totals.destinations.iter().flat_map(|destination| &destination.series);
    let dropped = series.filter(|series| series.overflow).map(|series| series.duration.count()).sum();
    plain(names::SERIES_DROPPED, dropped, out);
    plain(names::CONFIG_GENERATION, gauges.config.generation, out);
    plain(names::CONFIG_RELOADS, gauges.config.reloads, out);
    plain(names::CONFIG_RELOAD_FAILURES, gauges.config.reload_failures, out);
    plain(names::CONFIG_LAST_RELOAD_SUCCESSFUL, u64::from(gauges.config.last_reload_successful), out);
    if let Some(time) = gauges.config.last_reload_success {
        timestamp(names::CONFIG_LAST_RELOAD_SUCCESS, time, out);
    }
    certificates(&gauges.certificates, out);
    plain(names::READY, u64::from(gauges.ready), out);
    if let Some(time) = gauges.process.start {
        timestamp(names::PROCESS_START, time, out);
    }
    for (family, value) in [
        (names::PROCESS_RESIDENT, gauges.process.resident_bytes),
        (names::PROCESS_OPEN_FDS, gauges.process.open_descriptors),
        (names::PROCESS_MAX_FDS, gauges.process.max_descriptors),
    ] {
        if let Some(value) = value {
            plain(family, value, out);
        }
    }
}

fn certificates(certificates: &[CertificateGauges], out: &mut String) {
    if certificates.is_empty() {
        return;
    }
    head(names::CERTIFICATE_EXPIRATION, out);
    for certificate in certificates {
        push(out, format_args!("{}{{", names::CERTIFICATE_EXPIRATION.name));
        push_label(out, "shown_by", &certificate.shown_by);
        out.push(',');
        push_label(out, "subject", &certificate.subject);
        out.push(',');
        push_label(out, "serial", &certificate.serial);
        let since = certificate.expires.duration_since(UNIX_EPOCH).unwrap_or_default();
        push(out, format_args!("}} {}\n", since.as_secs()));
    }
}

/// Unix time in seconds with milliseconds; times before 1970 are written as 0.
fn timestamp(family: Family, time: SystemTime, out: &mut String) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    head(family, out);
    push(out, format_args!("{} {}.{:03}\n", family.name, since.as_secs(), since.subsec_millis()));
}

fn clusters(totals: &Totals, gauges: &[ClusterGauges], out: &mut String) {
    // Labels of a service may change from one configuration to the next while its cluster keeps its name.
    let mut live: BTreeMap<String, ([u64; ClusterCounter::COUNT], [u64; ClusterGauge::COUNT])> = BTreeMap::new();
    for destination in totals.destinations.iter().filter(|destination| destination.used) {
        if destination.labels.cluster_name.is_empty() {
            continue;
        }
        let (counters, gauges) = live.entry(cluster_label(&destination.labels.cluster_name)).or_default();
        for (sum, value) in counters.iter_mut().zip(destination.counters) {
            *sum = sum.wrapping_add(value);
        }
        for (sum, value) in gauges.iter_mut().zip(destination.gauges) {
            *sum = sum.wrapping_add(value);
        }
    }
    for counter in ClusterCounter::ALL {
        let family = names::of_cluster_counter(counter);
        head(family, out);
        for (label, (counters, _)) in &live {
            push(out, format_args!("{}{{{label}}} {}\n", family.name, counters[counter.index()]));
        }
    }
    for gauge in ClusterGauge::ALL {
        let family = names::of_cluster_gauge(gauge);
        head(family, out);
        for (label, (_, words)) in &live {
            // The words are read one after the other while workers write: a sum below zero is such a moment.
            let value = words[gauge.index()].cast_signed().max(0);
            push(out, format_args!("{}{{{label}}} {value}\n", family.name));
        }
    }
    let labels: Vec<String> = gauges.iter().map(|cluster| cluster_label(&cluster.name)).collect();
    for (family, value) in [
        (names::MEMBERSHIP_TOTAL, (|cluster| cluster.membership_total) as fn(&ClusterGauges) -> u64),
        (names::MEMBERSHIP_HEALTHY, |cluster| cluster.membership_healthy),
        (names::EJECTIONS_ACTIVE, |cluster| cluster.ejections_active),
        (names::EJECTIONS_TOTAL, |cluster| cluster.ejections.all()),
        (names::EJECTIONS_OVERFLOW, |cluster| cluster.ejections.refused),
        (names::EJECTIONS_CONSECUTIVE_5XX, |cluster| cluster.ejections.consecutive_5xx),
        (names::EJECTIONS_CONSECUTIVE_GATEWAY, |cluster| cluster.ejections.consecutive_gateway_failure),
        (names::EJECTIONS_CONSECUTIVE_LOCAL, |cluster| cluster.ejections.consecutive_local_origin_failure),
        (names::EJECTIONS_SUCCESS_RATE, |cluster| cluster.ejections.success_rate),
        (names::EJECTIONS_LOCAL_SUCCESS_RATE, |cluster| cluster.ejections.local_origin_success_rate),
        (names::EJECTIONS_FAILURE_PERCENTAGE, |cluster| cluster.ejections.failure_percentage),
        (names::EJECTIONS_LOCAL_FAILURE_PERCENTAGE, |cluster| cluster.ejections.local_origin_failure_percentage),
        (names::UNREACHABLE_EJECTIONS, |cluster| cluster.ejections.unreachable),
        (names::UNREACHABLE_ACTIVE, |cluster| cluster.unreachable),
        (names::CX_OPEN, |cluster| u64::from(cluster.remaining_connections == 0)),
        (names::PENDING_OPEN, |cluster| u64::from(cluster.remaining_pending == 0)),
        (names::RQ_OPEN, |cluster| u64::from(cluster.remaining_requests == 0)),
        (names::RETRY_OPEN, |cluster| u64::from(cluster.remaining_retries == 0)),
        (names::REMAINING_CX, |cluster| u64::from(cluster.remaining_connections)),
        (names::REMAINING_PENDING, |cluster| u64::from(cluster.remaining_pending)),
        (names::REMAINING_RQ, |cluster| u64::from(cluster.remaining_requests)),
        (names::REMAINING_RETRIES, |cluster| u64::from(cluster.remaining_retries)),
    ] {
        head(family, out);
        for (label, cluster) in labels.iter().zip(gauges) {
            push(out, format_args!("{}{{{label}}} {}\n", family.name, value(cluster)));
        }
    }
    resilience(gauges, out);
}

/// What only clusters with health checks or a resilience policy have.
fn resilience(gauges: &[ClusterGauges], out: &mut String) {
    for (family, value) in [
        (names::BREAKERS_OPEN, (|of| Some(of.breakers.as_ref()?.open)) as fn(&ClusterGauges) -> Option<u64>),
        (names::HEALTH_CHECK_ATTEMPTS, |of| Some(of.health_checks?.attempts)),
        (names::HEALTH_CHECK_SUCCESSES, |of| Some(of.health_checks?.successes)),
        (names::HEALTH_CHECK_FAILURES, |of| Some(of.health_checks?.failures)),
        (names::HEALTH_CHECK_NETWORK_FAILURES, |of| Some(of.health_checks?.network_failures)),
        (names::HEALTH_CHECK_HEALTHY, |of| Some(of.health_checks?.healthy)),
        (names::BREAKERS_HALF_OPEN, |of| Some(of.breakers.as_ref()?.half_open)),
        (names::BREAKER_OPENINGS, |of| Some(of.breakers.as_ref()?.openings)),
        (names::BREAKER_REFUSED, |of| Some(of.breakers.as_ref()?.refused)),
        (names::ADAPTIVE_LIMIT, |of| Some(of.adaptive.as_ref()?.limit)),
        (names::ADAPTIVE_IN_FLIGHT, |of| Some(of.adaptive.as_ref()?.in_flight)),
        (names::ADAPTIVE_REFUSED, |of| Some(of.adaptive.as_ref()?.refused)),
        (names::LAST_GOOD_ENTRIES, |of| Some(of.last_good.as_ref()?.entries)),
        (names::LAST_GOOD_BYTES, |of| Some(of.last_good.as_ref()?.bytes)),
        (names::BULKHEAD_FULL, |of| of.bulkhead_full),
        (names::COALESCING_KEYS, |of| Some(of.coalescing.as_ref()?.keys)),
        (names::COALESCING_WAITING, |of| Some(of.coalescing.as_ref()?.waiting)),
    ] {
        let mut values = gauges.iter().filter_map(|of| Some((cluster_label(&of.name), value(of)?))).peekable();
        if values.peek().is_some() {
            head(family, out);
        }
        for (label, value) in values {
            push(out, format_args!("{}{{{label}}} {value}\n", family.name));
        }
    }
}

fn cluster_label(name: &str) -> String {
    let mut label = String::new();
    push_label(&mut label, "cluster_name", name);
    label
}
