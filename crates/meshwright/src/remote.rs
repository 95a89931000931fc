//! `meshwright endpoints` and `meshwright log-level`: the admin API of a running process, from the command line.
//!
//! Paths and shapes are those of `meshwright-console`, which decides what is allowed; this file only asks and shows.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, bail};
use meshwright_message::{BodyLength, HeaderName, Method, RequestHead};
use serde::Deserialize;

use crate::args::value::AdminAddress;
use crate::args::{
    BreakersAction, BreakersArgs, EXIT_OK, EndpointTarget, EndpointsArgs, EndpointsCommand, LogLevelArgs, Output,
};
use crate::client::{Client, Reply};

/// The answer of `/clusters?format=json`.
#[derive(Deserialize)]
struct Clusters {
    clusters: Vec<serde_json::Value>,
}

/// The answer to an action that was carried out.
#[derive(Deserialize)]
struct Acted {
    changes: Vec<String>,
}

/// A cluster as the admin API shows it, as far as it is shown here.
#[derive(Deserialize)]
struct Cluster {
    name: String,
    service: String,
    endpoints: Vec<Endpoint>,
}

#[derive(Deserialize)]
struct Endpoint {
    address: String,
    weight: u32,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    in_flight: Option<u32>,
    admin: String,
    health_check: Option<HealthCheck>,
    ejected: bool,
    /// Why it could not be connected to, while it is out for that.
    unreachable_cause: Option<String>,
}

#[derive(Deserialize)]
struct HealthCheck {
    state: String,
}

/// Runs `meshwright endpoints`.
///
/// # Errors
/// The process cannot be reached, or it refuses; the message says why.
pub fn endpoints(args: &EndpointsArgs) -> anyhow::Result<ExitCode> {
    let text = match &args.command {
        EndpointsCommand::List { service, output } => list(&args.admin, service.as_deref(), *output)?,
        EndpointsCommand::Drain(target) => act(&args.admin, target, "drain")?,
        EndpointsCommand::Disable(target) => act(&args.admin, target, "disable")?,
        EndpointsCommand::Enable(target) => act(&args.admin, target, "enable")?,
        EndpointsCommand::Uneject(target) => act(&args.admin, target, "uneject")?,
    };
    writeln!(io::stdout(), "{}", text.trim_end())?;
    Ok(ExitCode::from(EXIT_OK))
}

/// Runs `meshwright breakers`.
///
/// # Errors
/// The process cannot be reached, or it refuses; the message says why.
pub fn breakers(args: &BreakersArgs) -> anyhow::Result<ExitCode> {
    let action = match args.action {
        BreakersAction::ForceOpen => "force-open",
        BreakersAction::ForceClosed => "force-closed",
        BreakersAction::Disable => "disable",
        BreakersAction::Reset => "reset",
    };
    let path = format!("/breakers/{}/{action}", encoded(&args.service));
    let acted: Acted = serde_json::from_str(&ask(&args.admin, Method::Post, &path)?)?;
    writeln!(
        io::stdout(),
        "{}\nin this process, for all its workers; other proxies have their own",
        acted.changes.join("\n")
    )?;
    Ok(ExitCode::from(EXIT_OK))
}

/// Runs `meshwright log-level`.
///
/// # Errors
/// The process cannot be reached, or it refuses; the message says why.
pub fn log_level(args: &LogLevelArgs) -> anyhow::Result<ExitCode> {
    let reply = match &args.level {
        None => ask(&args.admin, Method::Get, "/logging")?,
        Some(level) => ask(&args.admin, Method::Post, &format!("/logging?level={}", encoded(level)))?,
    };
    writeln!(io::stdout(), "{}", reply.trim_end())?;
    Ok(ExitCode::from(EXIT_OK))
}

fn act(admin: &AdminAddress, target: &EndpointTarget, action: &str) -> anyhow::Result<String> {
    let address = target.address.to_string();
    let path = format!("/endpoints/{}/{}/{action}", encoded(&target.service), encoded(&address));
    let acted: Acted = serde_json::from_str(&ask(admin, Method::Post, &path)?)?;
    Ok(acted.changes.join("\n"))
}

fn list(admin: &AdminAddress, service: Option<&str>, output: Output) -> anyhow::Result<String> {
    let text = ask(admin, Method::Get, "/clusters?format=json")?;
    let whole: Clusters = serde_json::from_str(&text).context("the answer is not what an admin API gives")?;
    let chosen: Vec<serde_json::Value> =
        whole.clusters.into_iter().filter(|cluster| service.is_none_or(|name| is_named(cluster, name))).collect();
    if let (true, Some(name)) = (chosen.is_empty(), service) {
        bail!("there is no service `{name}`; `meshwright endpoints list` shows all");
    }
    match output {
        Output::Json => Ok(format!("{:#}", serde_json::Value::Array(chosen))),
        Output::Text => {
            let clusters = chosen.into_iter().map(serde_json::from_value).collect::<Result<Vec<Cluster>, _>>();
            Ok(table(&clusters.context("the answer is not what an admin API gives")?))
        }
    }
}

/// Whether the service of `cluster` is called `name`: in full, or by any of its leading parts.
fn is_named(cluster: &serde_json::Value, name: &str) -> bool {
    let full = cluster["service"].as_str().unwrap_or_default();
    full.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn table(clusters: &[Cluster]) -> String {
    let mut rows = vec![["CLUSTER", "ENDPOINT", "STATE", "IN FLIGHT", "WEIGHT", "LABELS"].map(str::to_owned)];
    for cluster in clusters {
        let name = if cluster.name.is_empty() { &cluster.service } else { &cluster.name };
        for endpoint in &cluster.endpoints {
            let mut state = endpoint.admin.clone();
            if let Some(check) = endpoint.health_check.as_ref().filter(|check| check.state != "healthy") {
                state = format!("{state}, {}", check.state);
            }
            if endpoint.ejected {
                state.push_str(", ejected");
            }
            if let Some(cause) = &endpoint.unreachable_cause {
                state = format!("{state} ({cause})");
            }
            let labels: Vec<_> = endpoint.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            rows.push([
                name.clone(),
                endpoint.address.clone(),
                state,
                endpoint.in_flight.map_or_else(|| "-".to_owned(), |count| count.to_string()),
                endpoint.weight.to_string(),
                labels.join(","),
            ]);
        }
    }
    columns(&rows)
}

/// Rows as text, each column as wide as its widest cell.
pub fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, width) in row.iter().zip(widths) {
            let _ = write!(line, "{column:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// One request to the admin API; the text of a good answer.
fn ask(admin: &AdminAddress, method: Method, target: &str) -> anyhow::Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(send(admin, None, (method, target, "")))?;
    match answer.status {
        200..=299 => Ok(answer.text),
        status => bail!("refused ({status}): {}", refusal(&answer.text)),
    }
}

/// An answer of the admin API.
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub text: String,
}

/// One request to the admin API: method, target and body, with a token if there is one.
///
/// # Errors
/// Nobody answers there.
pub async fn send(
    admin: &AdminAddress,
    token: Option<&str>,
    (method, target, body): (Method, &str, &str),
) -> anyhow::Result<Answer> {
    let length = u64::try_from(body.len()).unwrap_or(u64::MAX);
    let has_body = !body.is_empty() || matches!(method, Method::Post | Method::Put);
    let mut head = RequestHead {
        method,
        authority: admin.0.clone(),
        path_len: target.find('?').unwrap_or(target.len()),
        target: target.to_owned(),
        body: if has_body { BodyLength::Sized(length) } else { BodyLength::Empty },
        ..RequestHead::default()
    };
    head.headers.push_known(HeaderName::UserAgent, format!("meshwright/{}", crate::page::VERSION).as_bytes());
    if let Some(token) = token {
        head.headers.push_known(HeaderName::Authorization, format!("Bearer {token}").as_bytes());
    }
    let answer = async {
        let addresses = tokio::net::lookup_host(&admin.0).await?.collect();
        Client::new(addresses).send_with(&head, body.as_bytes()).await
    };
    let reply: Reply = answer.await.with_context(|| {
        format!("no admin API answers at http://{}; is a process running, with this --admin?", admin.0)
    })?;
    Ok(Answer { status: reply.status, text: String::from_utf8_lossy(&reply.body).into_owned() })
}

/// The sentence in the body of a refusal: the `error` or `detail` of JSON, or the text.
pub fn refusal(body: &str) -> String {
    let parsed = serde_json::from_str::<serde_json::Value>(body).ok();
    let sentence = parsed.as_ref().and_then(|body| body["error"].as_str().or_else(|| body["detail"].as_str()));
    sentence.unwrap_or(body).trim().to_owned()
}

/// Percent-encodes what has a meaning in paths and queries.
pub fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:=,".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// The text that was percent-encoded; what is not valid stays.
pub fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let hex = rest.get(1..3).filter(|_| next == '%').and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match hex {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(&rest.as_bytes()[..next.len_utf8()]),
        }
        rest = &rest[if hex.is_some() { 3 } else { next.len_utf8() }..];
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_shown_in_columns_with_their_state() {
        let cluster = serde_json::json!([{
            "name": "outbound|80|v1|a.default.svc.cluster.local", "service": "a.default.svc.cluster.local",
            "endpoints": [{ "address": "127.0.0.1:9001", "weight": 1, "labels": { "version": "v1" }, "in_flight": 3,
                            "admin": "enabled", "ejected": true, "unreachable_cause": "connection refused" }],
        }]);
        let text = table(&serde_json::from_value::<Vec<Cluster>>(cluster).unwrap());
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(
            lines[1].contains("127.0.0.1:9001  enabled, ejected (connection refused)  3          1       version=v1"),
            "{text}"
        );
    }

    #[test]
    fn a_service_is_found_by_its_short_name_but_not_by_half_of_it() {
        let cluster = serde_json::json!({ "service": "user-service.default.svc.cluster.local" });
        assert!(is_named(&cluster, "user-service") && is_named(&cluster, "user-service.default"));
        assert!(!is_named(&cluster, "user"));
    }

    #[test]
    fn names_and_addresses_are_encoded_for_a_path() {
        assert_eq!(encoded("a/b?c d"), "a%2Fb%3Fc%20d");
        assert_eq!(decoded("a%2Fb%zz%4ä%"), "a/b%zz%4ä%");
        assert_eq!(encoded("[::1]:80"), "%5B::1%5D:80");
    }
}
