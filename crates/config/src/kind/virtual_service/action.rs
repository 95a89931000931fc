//! What a route does: destinations with weights, redirect, direct response, rewrite.

use meshwright_model::{
    Destination, Diagnostic, DirectResponse, HeaderOperations, Redirect, RedirectPort, Rewrite, WeightedDestination,
};

use super::super::port_number;
use super::{condition, headers};
use crate::finding::Reporter;
use crate::name;
use crate::record::Record;

/// Largest body of a direct response, in bytes.
const MAX_BODY: usize = 1024 * 1024;
/// Body size from which Istio warns, in bytes.
const LARGE_BODY: usize = 100 * 1024;

/// Reads `route[]`. Destinations without share are left out, as in Istio.
pub(super) fn read_destinations(route: &Record, reporter: &mut Reporter<'_>) -> Vec<WeightedDestination> {
    let several = route.list("route").len() > 1;
    let mut destinations = Vec::new();
    let mut weights = Vec::new();
    for record in route.records("route") {
        let destination = read_destination(record, reporter);
        let header_operations = read_headers(record, reporter);
        let weight = record.whole("weight").unwrap_or(0);
        weights.push(weight);
        if weight < 0 {
            let finding = Diagnostic::error("range", format!("weight {weight} < 0"))
                .with_value(weight.to_string())
                .with_allowed("0 or more")
                .with_suggestion("write a share such as 90");
            reporter.add(&record.place_of("weight"), finding);
        }
        let weight = if several { u32::try_from(weight).unwrap_or(0) } else { 1 };
        let Some(destination) = destination.filter(|_| weight > 0) else { continue };
        let origin = reporter.subject.origin(&record.place);
        destinations.push(WeightedDestination { destination, weight, headers: header_operations, origin });
    }
    if several {
        check_weights(route, &weights, reporter);
    }
    destinations
}

/// Header changes of a destination; those of `tls` and `tcp` routes have none.
fn read_headers(record: &Record, reporter: &mut Reporter<'_>) -> HeaderOperations {
    if record.message.field("headers").is_none() {
        return HeaderOperations::default();
    }
    let operations = headers::read(record, reporter);
    let mut headers = operations.headers;
    if let Some((host, _)) = operations.host {
        headers.request_set.push(("host".to_owned(), host));
    }
    headers
}

fn check_weights(route: &Record, weights: &[i64], reporter: &mut Reporter<'_>) {
    let sum: i64 = weights.iter().sum();
    let list = weights.iter().map(i64::to_string).collect::<Vec<_>>().join(" + ");
    if sum == 0 {
        let finding = Diagnostic::error("weights", format!("total destination weight = 0 ({list})"))
            .with_value(list)
            .with_allowed("a sum of more than 0")
            .with_effect("no destination would get a request")
            .with_suggestion("give at least one destination a weight");
        reporter.add(&route.key_of("route"), finding);
    } else if sum != 100 && weights.iter().all(|weight| *weight >= 0) {
        let finding = Diagnostic::warning("weights", format!("the weights sum to {sum}, not to 100 ({list})"))
            .with_value(list)
            .with_allowed("any sum; shares are relative to it")
            .with_effect(format!("a weight of 1 is one of {sum} requests, not one percent"))
            .with_suggestion("make them sum to 100 if percent was meant");
        reporter.add(&route.key_of("route"), finding);
    }
}

/// Reads `destination`.
pub(crate) fn read_destination(record: &Record, reporter: &mut Reporter<'_>) -> Option<Destination> {
    let Some(destination) = record.record("destination") else {
        if !record.has("destination") {
            let finding = Diagnostic::error("missing-field", "destination is required")
                .with_allowed("`destination` with a host")
                .with_effect("nobody would know where to send the request")
                .with_suggestion("add `destination: {host: my-service}`");
            reporter.add(&record.place.field("destination"), finding);
        }
        return None;
    };
    let subset = destination.text("subset").map(|subset| (subset, destination.place_of("subset")));
    let port = destination.record("port").and_then(|port| port_number(port, "number", reporter));
    if let Some((subset, place)) = &subset {
        check_subset_name(subset, "write for example v1, or leave the field out", place, reporter);
    }
    let place = destination.place_of("host");
    let host = match destination.text("host") {
        Some(host) => host,
        None if destination.has("host") => return None,
        None => "",
    };
    let lower = host.to_ascii_lowercase();
    let lower = lower.strip_suffix('.').unwrap_or(&lower);
    if !name::is_domain(lower) || name::looks_like_ip(lower) {
        let message = match host {
            "" => "destination host is required (invalid destination host \"\")".to_owned(),
            host => format!("invalid destination host {host}"),
        };
        let finding = Diagnostic::error("invalid-host", message)
            .with_value(host)
            .with_allowed("the name of one service: short, `name.namespace`, full, or an external host; no wildcard")
            .with_effect("requests would get 503 NC")
            .with_suggestion("name a service; for a fixed address add it with --service or a ServiceEntry");
        reporter.add(&place, finding);
        return None;
    }
    let subset = subset.map(|(subset, _)| subset.to_owned());
    Some(Destination { host: lower.to_owned(), subset, port })
}

/// A subset name must be a DNS label.
pub(crate) fn check_subset_name(
    subset: &str,
    when_empty: &str,
    place: &crate::node::Place,
    reporter: &mut Reporter<'_>,
) {
    if name::is_dns_label(subset) {
        return;
    }
    let message = match subset {
        "" => "subset name cannot be empty".to_owned(),
        _ => format!("subset name is invalid: {subset}"),
    };
    let finding = Diagnostic::error("invalid-name", message)
        .with_value(subset)
        .with_allowed("at most 63 lower-case letters, digits and inner hyphens")
        .with_suggestion(match (subset, name::nearest_dns_label(subset)) {
            ("", _) => when_empty.to_owned(),
            (_, Some(near)) => format!("rename it, for example to {near}"),
            (_, None) => "rename it".to_owned(),
        });
    reporter.add(place, finding);
}

/// Reads `redirect`.
pub(super) fn read_redirect(route: &Record, reporter: &mut Reporter<'_>) -> Option<Redirect> {
    let record = route.record("redirect")?;
    let text = |name: &str| record.text(name).filter(|text| !text.is_empty()).map(str::to_owned);
    let redirect = Redirect {
        uri: text("uri"),
        prefix_rewrite: text("prefixRewrite"),
        authority: text("authority"),
        scheme: text("scheme").map(|scheme| scheme.to_ascii_lowercase()),
        port: match (record.has("port"), record.word("derivePort")) {
            (true, _) => RedirectPort::Number(port_number(record, "port", reporter)?),
            (false, Some("FROM_REQUEST_PORT")) => RedirectPort::FromRequest,
            (false, _) => RedirectPort::ProtocolDefault,
        },
        status: read_redirect_code(record, reporter),
    };
    if !["uri", "prefixRewrite", "authority", "scheme", "port", "derivePort"].iter().any(|field| record.has(field)) {
        let finding = Diagnostic::error("missing-field", "redirect must specify URI, authority, scheme, or port")
            .with_allowed("one or more of uri, prefixRewrite, authority, scheme, port")
            .with_effect("clients would be sent to the same place again")
            .with_suggestion("add for example `scheme: https`");
        reporter.add(&record.place, finding);
    }
    if redirect.uri.is_some() && redirect.prefix_rewrite.is_some() {
        let finding = Diagnostic::error("choice", "redirect may only specify one of uri or prefix_rewrite")
            .with_allowed("uri or prefixRewrite")
            .with_suggestion("remove one of them");
        reporter.add(&record.key_of("prefixRewrite"), finding);
    }
    if redirect.prefix_rewrite.is_some() && !every_uri_is_prefix(route) {
        let message = "redirect prefix_rewrite requires all URI matches to use prefix match type";
        let finding = Diagnostic::error("contradiction", message)
            .with_allowed("`match` entries that all have `uri: {prefix: ...}`")
            .with_effect("there would be no prefix to replace")
            .with_suggestion("use `uri` to replace the whole path, or match by prefix");
        reporter.add(&record.key_of("prefixRewrite"), finding);
    }
    if let Some(scheme) = redirect.scheme.as_deref().filter(|scheme| !matches!(*scheme, "http" | "https")) {
        let finding =
            Diagnostic::error("unknown-value", format!("invalid redirect scheme {scheme:?}, must be http or https"))
                .with_value(scheme)
                .with_allowed("http or https")
                .with_suggestion("write http or https");
        reporter.add(&record.place_of("scheme"), finding);
    }
    for field in ["uri", "prefixRewrite", "authority"] {
        check_header_text(record, field, reporter);
    }
    Some(redirect)
}

fn every_uri_is_prefix(route: &Record) -> bool {
    let mut matches = route.records("match").peekable();
    matches.peek().is_some() && matches.all(|entry| entry.record("uri").is_some_and(|uri| uri.has("prefix")))
}

fn read_redirect_code(record: &Record, reporter: &mut Reporter<'_>) -> u16 {
    let Some(code) = record.whole("redirectCode").filter(|code| *code != 0) else { return 301 };
    if let Some(known) = [301_u16, 302, 303, 307, 308].into_iter().find(|known| i64::from(*known) == code) {
        return known;
    }
    let message = match (300..400).contains(&code) {
        true => format!("{code} is not a redirect that can be made; Istio accepts it and drops the route"),
        false => format!("{code} is not a valid redirect code, must be 3xx"),
    };
    let finding = Diagnostic::error("unknown-value", message)
        .with_value(code.to_string())
        .with_allowed("301, 302, 303, 307 or 308")
        .with_effect("the route would have no action")
        .with_suggestion("write 302 for a temporary and 301 for a permanent redirect");
    reporter.add(&record.place_of("redirectCode"), finding);
    301
}

/// Text that becomes part of a header must not have control characters.
fn check_header_text(record: &Record, field: &str, reporter: &mut Reporter<'_>) {
    let Some(text) = record.text(field) else { return };
    if text.bytes().all(|byte| byte > 0x20 && byte != 0x7f) {
        return;
    }
    let finding = Diagnostic::error("header-value", format!("{field} has spaces or control characters"))
        .with_value(crate::node::shorten(text))
        .with_allowed("printable characters without spaces")
        .with_suggestion("percent-encode spaces as %20");
    reporter.add(&record.place_of(field), finding);
}

/// Reads `directResponse`.
pub(super) fn read_direct_response(route: &Record, reporter: &mut Reporter<'_>) -> Option<DirectResponse> {
    let record = route.record("directResponse")?;
    let written = record.whole("status");
    let status = written.and_then(|status| u16::try_from(status).ok()).filter(|status| (200..=599).contains(status));
    let refused = record.has("status") && written.is_none();
    if status.is_none() && !refused {
        let shown = written.unwrap_or(0);
        let finding = Diagnostic::error("range", format!("HTTP status {shown} is not in range 200-599"))
            .with_value(shown.to_string())
            .with_allowed("200..599")
            .with_suggestion("add for example `status: 503`");
        reporter.add(&record.place_of("status"), finding);
    }
    let body = read_body(record);
    if body.len() > LARGE_BODY {
        let limit = MAX_BODY;
        let text = "large direct_responses may impact control plane performance";
        let finding = match body.len() > MAX_BODY {
            true => Diagnostic::error("range", format!("{text}, must be less than 1MB")),
            false => Diagnostic::warning("large-body", text),
        };
        let finding = finding
            .with_value(format!("{} bytes", body.len()))
            .with_allowed(format!("at most {limit} bytes; better at most {LARGE_BODY}"))
            .with_suggestion("let a service answer with bodies of this size");
        reporter.add(&record.place_of("body"), finding);
    }
    Some(DirectResponse { status: status?, body })
}

/// Reads `body`; nothing when it is absent.
pub(crate) fn read_body(record: &Record) -> Vec<u8> {
    let Some(body) = record.record("body") else { return Vec::new() };
    match (body.text("string"), body.bytes("bytes")) {
        (Some(text), _) => text.as_bytes().to_vec(),
        (None, Some(bytes)) => bytes.to_vec(),
        (None, None) => Vec::new(),
    }
}

/// Reads `rewrite`.
pub(super) fn read_rewrite(route: &Record, reporter: &mut Reporter<'_>) -> Option<Rewrite> {
    let record = route.record("rewrite")?;
    let text = |name: &str| record.text(name).filter(|text| !text.is_empty()).map(str::to_owned);
    let mut rewrite = Rewrite { uri: text("uri"), uri_regex: None, authority: text("authority") };
    if record.has("uri") && record.has("uriRegexRewrite") {
        let finding = Diagnostic::error("choice", "rewrite may only contain one of URI or UriRegexRewrite")
            .with_allowed("uri or uriRegexRewrite")
            .with_suggestion("remove one of them");
        reporter.add(&record.key_of("uriRegexRewrite"), finding);
    }
    if !["uri", "uriRegexRewrite", "authority"].iter().any(|field| record.has(field)) {
        let message = "rewrite must specify at least one of URI, UriRegexRewrite, or authority";
        let finding = Diagnostic::error("missing-field", message)
            .with_allowed("uri, uriRegexRewrite, authority")
            .with_effect("nothing would be rewritten")
            .with_suggestion("add for example `uri: /`");
        reporter.add(&record.place, finding);
    }
    if let Some(regex) = record.record("uriRegexRewrite") {
        rewrite.uri_regex = read_regex_rewrite(regex, reporter);
    }
    check_header_text(record, "uri", reporter);
    check_header_text(record, "authority", reporter);
    hint_double_slash(route, record, reporter);
    Some(rewrite)
}

fn read_regex_rewrite(record: &Record, reporter: &mut Reporter<'_>) -> Option<(String, String)> {
    let pattern = record.text_or_empty("match");
    if pattern.is_empty() || !record.has("rewrite") {
        let message = "UriRegexRewrite requires both Rewrite and Match fields to be specified";
        let finding = Diagnostic::error("missing-field", message)
            .with_allowed("`match` and `rewrite`")
            .with_suggestion("add both, for example `match: ^/v1/(.*)$` and `rewrite: /\\1`");
        reporter.add(&record.place, finding);
        return None;
    }
    let rewrite = record.text("rewrite")?;
    let groups = condition::check_regex("uriRegexRewrite", pattern, &record.place_of("match"), reporter)?;
    let mut characters = rewrite.chars().peekable();
    while let Some(c) = characters.next() {
        if c != '\\' {
            continue;
        }
        let next = characters.next();
        let known = match next {
            Some('\\') => true,
            Some(digit) => digit.to_digit(10).is_some_and(|group| group as usize <= groups),
            None => false,
        };
        if !known {
            let shown = next.map_or_else(|| "\\".to_owned(), |c| format!("\\{c}"));
            let message = format!("the replacement uses {shown}, but the expression has {groups} groups");
            let finding = Diagnostic::error("regex", message)
                .with_value(rewrite)
                .with_allowed("\\0 for the whole match, \\1 to \\9 for groups, \\\\ for a backslash")
                .with_suggestion("use a group of the expression, or add one with parentheses");
            reporter.add(&record.place_of("rewrite"), finding);
            return None;
        }
    }
    Some((pattern.to_owned(), rewrite.to_owned()))
}

/// Prefix `/foo` rewritten to `/` turns `/foo/bar` into `//bar`, in Istio as here.
fn hint_double_slash(route: &Record, rewrite: &Record, reporter: &mut Reporter<'_>) {
    let ends_with_slash = rewrite.text("uri").is_some_and(|uri| uri.ends_with('/'));
    let prefixes = route.records("match").filter_map(|entry| entry.record("uri")?.text("prefix"));
    let Some(prefix) = prefixes.into_iter().find(|prefix| ends_with_slash && !prefix.ends_with('/')) else { return };
    let uri = rewrite.text_or_empty("uri");
    let finding = Diagnostic::warning("double-slash", format!("{prefix}/x is rewritten to {uri}/x"))
        .with_value(uri)
        .with_effect("services that know no path with a double slash answer 404")
        .with_suggestion(format!("match `{prefix}/` (and `{prefix}` exactly) so that only one slash is left"));
    reporter.add(&rewrite.place_of("uri"), finding);
}
