//! Probes as Kubernetes and Istio's `WorkloadGroup` have them, and what health checks of all kinds of documents have in common:
//! rules of their paths, fields and times.
//!
//! Whose probe checks which endpoint is not known here: `crate::health`. Read next: `workload_group.rs`, `pods.rs`,
//! `resilience_policy/health.rs`.

use std::sync::Arc;
use std::time::Duration;

use meshwright_model::{Diagnostic, HealthCheck, HealthPort, HealthProbe, HealthTransport};

use super::port_number;
use crate::finding::Reporter;
use crate::name;
use crate::record::{Data, Record};
use crate::table::{Message, Type, choice, full, ignored, message, warned};

/// Longest time for one check: there is room for a limited number of them at one time.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(60);

/// `path` of `record` must be one that a request line can hold.
pub(super) fn check_path(record: &Record, path: &str, reporter: &mut Reporter<'_>) {
    if path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return;
    }
    let finding = Diagnostic::error("invalid-path", format!("{path:?} is no path of a health check"))
        .with_value(path)
        .with_allowed("`/` and what follows it, without spaces")
        .with_effect("no request could be written")
        .with_suggestion("write for example `path: /health`");
    reporter.add(&record.place_of("path"), finding);
}

/// A field of the request must be one that a head can hold, and none that frames it.
pub(super) fn check_header(record: &Record, field: &str, (name, value): (&str, &str), reporter: &mut Reporter<'_>) {
    const FRAMING: [&str; 4] = ["content-length", "transfer-encoding", "connection", "upgrade"];
    let problem = if !name::is_header_name(name) {
        format!("{name:?} is no name of a header")
    } else if FRAMING.contains(&name.to_ascii_lowercase().as_str()) {
        format!("{name} cannot be chosen")
    } else if !name::is_header_value(value) {
        format!("the value of {name} has characters that no header may have")
    } else {
        return;
    };
    let finding = Diagnostic::error("invalid-name", problem)
        .with_value(name)
        .with_allowed("names of letters, digits and hyphens, but none that frames the request; values of one line")
        .with_effect("no request could be written");
    reporter.add(&record.place_of(field), finding);
}

/// The time for one check has an end.
pub(super) fn check_timeout(record: &Record, field: &str, timeout: Option<Duration>, reporter: &mut Reporter<'_>) {
    if timeout.is_none_or(|timeout| timeout <= LONGEST_TIMEOUT) {
        return;
    }
    let finding = Diagnostic::error("range", "a health check may take at most a minute")
        .with_allowed("60 s or less")
        .with_effect("endpoints that do not answer would hold up the checks of others")
        .with_suggestion(format!("lower {field}"));
    reporter.add(&record.place_of(field), finding);
}

/// A probe as Kubernetes and Istio's `WorkloadGroup` have it.
pub(super) static PROBE: Message = choice(
    "Probe",
    &[
        full("httpGet", Type::Message(&HTTP_GET), "`GET`; 200 to 399 is a success. Redirects are not followed."),
        full("tcpSocket", Type::Message(&TCP_SOCKET), "A connection can be made."),
        full("grpc", Type::Message(&GRPC), "`grpc.health.v1.Health/Check` answers SERVING."),
        warned("exec", Type::Anything, "A command.", "commands run inside of instances; the endpoints are not checked"),
        full(
            "initialDelaySeconds",
            SECONDS,
            "Time before an endpoint that joins is asked first; those of the first configuration are asked at once.",
        ),
        full("timeoutSeconds", SECONDS, "Time for everything, at most 60; 1 by default."),
        full("periodSeconds", SECONDS, "From one answer to the next question; 10 by default."),
        full("successThreshold", SECONDS, "Successes in a row that bring an endpoint back; 1 by default."),
        full("failureThreshold", SECONDS, "Failures in a row that take it out; 3 by default."),
        ignored("terminationGracePeriodSeconds", Type::Anything, "Instances are not ended by a check here."),
    ],
    &[&["httpGet", "tcpSocket", "grpc", "exec"]],
);

const SECONDS: Type = Type::Whole(0, i32::MAX as i64);
const ELSEWHERE: &str = "the endpoint itself is asked";

static HTTP_GET: Message = message(
    "HTTPGetAction",
    &[
        full("path", Type::Text, "Path and query; / by default."),
        full("port", Type::NumberOrText, "Port, by number or by name."),
        warned("host", Type::Text, "Address that is asked.", ELSEWHERE),
        full("scheme", Type::Text, "HTTP by default; HTTPS takes any certificate."),
        full("httpHeaders", Type::List(&Type::Message(&HTTP_HEADER)), "Further fields of the request, such as Host."),
    ],
);

static HTTP_HEADER: Message =
    message("HTTPHeader", &[full("name", Type::Text, "Name of the field."), full("value", Type::Text, "Its value.")]);

static TCP_SOCKET: Message = message(
    "TCPSocketAction",
    &[
        full("port", Type::NumberOrText, "Port, by number or by name."),
        warned("host", Type::Text, "Address that is asked.", ELSEWHERE),
    ],
);

static GRPC: Message = message(
    "GRPCAction",
    &[
        full("port", Type::NumberOrText, "Port."),
        full("service", Type::Text, "Service that is asked about; the server as a whole by default."),
    ],
);

/// A probe that was read, before it is known which number its port has.
#[derive(Clone, Debug)]
pub(crate) struct PortedCheck {
    /// The check, with the port still open.
    check: HealthCheck,
    /// Its port.
    pub port: ProbePort,
}

/// The port of a probe as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ProbePort {
    /// A number.
    Number(u16),
    /// The name of a port.
    Name(String),
}

impl PortedCheck {
    /// The check with this port.
    pub fn at(&self, port: HealthPort) -> Arc<HealthCheck> {
        Arc::new(HealthCheck { port, ..self.check.clone() })
    }
}

/// Reads a probe; `None` where there is nothing that can be asked from outside.
pub(super) fn read(record: &Record, source: &str, reporter: &mut Reporter<'_>) -> Option<PortedCheck> {
    let (probe, at, https) = if let Some(http) = record.record("httpGet") {
        (read_http_get(http, reporter), http, is_https(http, reporter))
    } else if let Some(tcp) = record.record("tcpSocket") {
        (HealthProbe::Tcp, tcp, false)
    } else if let Some(grpc) = record.record("grpc") {
        (HealthProbe::Grpc { service: grpc.text_or_empty("service").to_owned(), authority: None }, grpc, false)
    } else {
        if !["httpGet", "tcpSocket", "grpc", "exec"].iter().any(|field| record.has(field)) {
            let finding = Diagnostic::error("missing-field", "the probe does not say what is asked")
                .with_allowed("httpGet, tcpSocket or grpc")
                .with_effect("nobody would be checked")
                .with_suggestion("add for example `httpGet: {path: /health, port: 8080}`");
            reporter.add(&record.place, finding);
        }
        return None;
    };
    let port = match at.item("port").map(|item| &item.data) {
        Some(Data::Text(name)) if name.parse::<u16>().is_err() => ProbePort::Name(name.to_string()),
        Some(Data::Text(number)) => ProbePort::Number(number.parse().unwrap_or_default()),
        _ => ProbePort::Number(port_number(at, "port", reporter)?),
    };
    let count = |field: &str, default: u32| {
        let given = record.whole(field).and_then(|value| u32::try_from(value).ok());
        given.filter(|value| *value > 0).unwrap_or(default)
    };
    let seconds = |field: &str, default: u32| Duration::from_secs(u64::from(count(field, default)));
    let (interval, timeout) = (seconds("periodSeconds", 10), seconds("timeoutSeconds", 1));
    check_timeout(record, "timeoutSeconds", Some(timeout), reporter);
    let check = HealthCheck {
        interval,
        interval_jitter: interval / 10,
        unhealthy_interval: interval,
        timeout,
        unhealthy_threshold: count("failureThreshold", 3),
        healthy_threshold: count("successThreshold", 1),
        initial_delay: seconds("initialDelaySeconds", 0),
        transport: if https { HealthTransport::UnverifiedTls } else { HealthTransport::Plain },
        ..HealthCheck::new(probe, source)
    };
    Some(PortedCheck { check, port })
}

fn read_http_get(record: &Record, reporter: &mut Reporter<'_>) -> HealthProbe {
    let written = record.text("path").filter(|path| !path.is_empty()).unwrap_or("/");
    // Kubernetes takes a path without its slash.
    let path = if written.starts_with('/') { written.to_owned() } else { format!("/{written}") };
    check_path(record, &path, reporter);
    let mut headers = Vec::new();
    for header in record.records("httpHeaders") {
        let pair = (header.text_or_empty("name"), header.text_or_empty("value"));
        check_header(header, "name", pair, reporter);
        headers.push((pair.0.to_ascii_lowercase(), pair.1.to_owned()));
    }
    HealthProbe::Http { path, host: None, headers, expected_statuses: vec![200..=399] }
}

fn is_https(record: &Record, reporter: &mut Reporter<'_>) -> bool {
    match record.text_or_empty("scheme").to_ascii_uppercase().as_str() {
        "" | "HTTP" => false,
        "HTTPS" => true,
        other => {
            let finding = Diagnostic::error("unknown-value", format!("{other:?} is no scheme of a probe"))
                .with_value(other)
                .with_allowed("HTTP or HTTPS")
                .with_suggestion("write `scheme: HTTP`");
            reporter.add(&record.place_of("scheme"), finding);
            false
        }
    }
}
