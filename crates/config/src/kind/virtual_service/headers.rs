//! `headers`: what is set, added and removed.
//!
//! Setting or adding `host` or `:authority` is a rewrite of the host: it is returned apart. Headers that frame a
//! message or belong to one connection are written by the proxy itself and cannot be changed.

use std::collections::HashSet;

use meshwright_model::{Diagnostic, HeaderOperations};

use crate::finding::Reporter;
use crate::name;
use crate::node::{Place, shorten};
use crate::record::Record;

/// Headers that the proxy writes from what the message is (RFC 9110, section 7.6.1; RFC 9112, section 6).
const FRAMING: [&str; 9] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "trailers",
    "transfer-encoding",
    "upgrade",
];

/// Header changes, with the host that they ask for.
#[derive(Default)]
pub(super) struct Operations {
    /// Everything but the host.
    pub headers: HeaderOperations,
    /// The host that is set, and where.
    pub host: Option<(String, Place)>,
}

/// Reads `headers` of a route or of a destination.
pub(super) fn read(record: &Record, reporter: &mut Reporter<'_>) -> Operations {
    let mut operations = Operations::default();
    let Some(headers) = record.record("headers") else { return operations };
    if let Some(request) = headers.record("request") {
        let mut host = None;
        operations.headers.request_set = read_values(request, "set", Some(&mut host), reporter);
        operations.headers.request_add = read_values(request, "add", Some(&mut host), reporter);
        operations.headers.request_remove = read_removed(request, reporter);
        operations.host = host;
    }
    if let Some(response) = headers.record("response") {
        operations.headers.response_set = read_values(response, "set", None, reporter);
        operations.headers.response_add = read_values(response, "add", None, reporter);
        operations.headers.response_remove = read_removed(response, reporter);
    }
    operations
}

/// The finding for a host that is set a second time.
pub(super) fn host_twice(first: &str, second: &str) -> Diagnostic {
    let message =
        format!("authority header cannot be set multiple times: have {first:?}, attempting to set {second:?}");
    Diagnostic::error("duplicate-name", message)
        .with_value(second)
        .with_allowed("one of rewrite.authority, `host` and `:authority`")
        .with_suggestion("keep rewrite.authority and remove the other")
}

fn read_values(
    record: &Record,
    field: &str,
    mut host: Option<&mut Option<(String, Place)>>,
    reporter: &mut Reporter<'_>,
) -> Vec<(String, String)> {
    let mut list: Vec<(String, String)> = Vec::new();
    let mut names = HashSet::new();
    for (key, span, item) in record.map(field) {
        let place = record.map_key(field, key, *span);
        let lower = key.to_ascii_lowercase();
        let Some(item) = item else { continue };
        let Some(text) = item.text() else { continue };
        let names_host = matches!(lower.as_str(), "host" | ":authority");
        let rewrites_host = names_host && host.is_some();
        if !rewrites_host && !check_name(key, &lower, &place, reporter) {
            continue;
        }
        let Some(value) = read_value(text, &item.place, reporter) else { continue };
        match host.as_deref_mut().filter(|_| names_host) {
            Some(Some((first, _))) => reporter.add(&item.place, host_twice(first, &value)),
            Some(slot) => *slot = Some((value, item.place.clone())),
            None if !names.insert(lower.clone()) => {
                let finding =
                    Diagnostic::error("duplicate-name", format!("the header {lower} is given twice in `{field}`"))
                        .with_value(shorten(key))
                        .with_allowed("every header once, whatever its case")
                        .with_suggestion("remove one of them");
                reporter.add(&place, finding);
            }
            None => list.push((lower, value)),
        }
    }
    list
}

fn read_removed(record: &Record, reporter: &mut Reporter<'_>) -> Vec<String> {
    let mut list = Vec::new();
    for (item, text) in record.texts("remove") {
        let lower = text.to_ascii_lowercase();
        if lower == "host" || lower.starts_with(':') {
            let finding = Diagnostic::warning("ineffective", format!("{text} cannot be removed"))
                .with_value(text)
                .with_effect("the header stays; every request has one")
                .with_suggestion("remove the entry; use rewrite.authority to change the host");
            reporter.add(&item.place, finding);
        } else if check_name(text, &lower, &item.place, reporter) {
            list.push(lower);
        }
    }
    list
}

fn check_name(written: &str, lower: &str, place: &Place, reporter: &mut Reporter<'_>) -> bool {
    if FRAMING.contains(&lower) {
        let finding = Diagnostic::warning("ineffective", format!("the header {lower} cannot be changed"))
            .with_value(written)
            .with_effect("the entry is left out: the proxy writes this header from the message and the connection")
            .with_suggestion("remove the entry");
        reporter.add(place, finding);
        return false;
    }
    if name::is_header_name(lower) {
        return true;
    }
    let message = match lower {
        "" => "header name cannot be empty".to_owned(),
        _ => {
            let offending = lower.chars().find(|c| !name::is_header_name(&c.to_string())).unwrap_or(' ');
            format!("header name {} is not a valid header name (the character {offending:?})", shorten(written))
        }
    };
    let finding = Diagnostic::error("header-name", message)
        .with_value(shorten(written))
        .with_allowed("letters, digits and !#$%&'*+-.^_`|~ (of the pseudo headers only :authority in a request)")
        .with_effect("the message could not be written")
        .with_suggestion("correct the name of the header");
    reporter.add(place, finding);
    false
}

/// The value to send: `%%` becomes `%`; operators such as `%PROTOCOL%` are left as they are and said to be.
fn read_value(text: &str, place: &Place, reporter: &mut Reporter<'_>) -> Option<String> {
    let refuse = |why: &str, suggestion: &str, reporter: &mut Reporter<'_>| {
        let message = format!("header value configuration {:?} is invalid ({why})", shorten(text));
        let finding = Diagnostic::error("header-value", message)
            .with_value(shorten(text))
            .with_allowed("printable text; `%%` for a percent sign")
            .with_suggestion(suggestion);
        reporter.add(place, finding);
    };
    if !name::is_header_value(text) {
        refuse("it has a line end or another control character", "write the value on one line", reporter);
        return None;
    }
    let mut value = String::with_capacity(text.len());
    let mut operators = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find('%') {
        value.push_str(&rest[..start]);
        let after = &rest[start + 1..];
        if let Some(next) = after.strip_prefix('%') {
            value.push('%');
            rest = next;
            continue;
        }
        let Some(end) = after.find('%').filter(|end| is_operator(&after[..*end])) else {
            refuse("a lone percent sign", "write %% for a percent sign", reporter);
            return None;
        };
        let operator = &rest[start..start + end + 2];
        operators.push(operator);
        value.push_str(operator);
        rest = &after[end + 1..];
    }
    value.push_str(rest);
    if let Some(operator) = operators.first() {
        let finding = Diagnostic::warning("not-supported", format!("{operator} is not evaluated by this version"))
            .with_value(shorten(text))
            .with_effect("the text is sent as it is written")
            .with_suggestion("write a fixed value");
        reporter.add(place, finding);
    }
    Some(value)
}

/// The inside of `%NAME%`, `%NAME(argument)%` or `%NAME(argument):10%`.
fn is_operator(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_uppercase())
        && text.split(['(', ':']).next().is_some_and(|name| {
            name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
        })
}
