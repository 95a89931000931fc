//! `match[]`: conditions on path, method, headers and the like.

use meshwright_model::{Diagnostic, HeaderMatch, HttpMatch, StringMatch, re2};
use regex::RegexBuilder;

use super::super::port_number;
use super::read_gateways;
use crate::finding::Reporter;
use crate::name;
use crate::node::{Place, shorten};
use crate::record::{Data, Record};

/// Longest regular expression, in bytes; Istio's limit.
const MAX_REGEX: usize = 1024;

/// Headers that are conditions of their own, under which Istio leaves a header condition of the name out.
const OWN_CONDITIONS: [&str; 4] = ["uri", "scheme", "method", "authority"];

/// Reads one alternative. Always returns one, so that the count of alternatives stays right.
pub(super) fn read(record: &Record, namespace: &str, reporter: &mut Reporter<'_>) -> HttpMatch {
    let gateways = read_gateways(record, "gateways", namespace, reporter);
    HttpMatch {
        name: record.text("name").filter(|name| !name.is_empty()).map(str::to_owned),
        uri: string_field(record, "uri", reporter),
        ignore_uri_case: record.boolean("ignoreUriCase").unwrap_or(false),
        scheme: string_field(record, "scheme", reporter),
        method: string_field(record, "method", reporter),
        authority: string_field(record, "authority", reporter),
        headers: conditions(record, "headers", reporter),
        without_headers: conditions(record, "withoutHeaders", reporter),
        query: conditions(record, "queryParams", reporter),
        port: if record.has("port") { port_number(record, "port", reporter) } else { None },
        gateways: if gateways.is_empty() { None } else { Some(gateways) },
    }
}

fn string_field(record: &Record, field: &str, reporter: &mut Reporter<'_>) -> Option<StringMatch> {
    let condition = record.record(field)?;
    let when_empty = match field {
        "uri" => "write `prefix: /` to match every path, or remove the condition",
        _ => "remove the condition",
    };
    match string_match(condition, field, when_empty, reporter)? {
        HeaderMatch::Value(found) => {
            let item = condition.fields.first().map(|(_, item)| item);
            if let (Some(finding), Some(item)) = (never_matches(field, &found), item) {
                reporter.add(&item.place, finding);
            }
            Some(found)
        }
        HeaderMatch::Present => {
            let example = match field {
                "uri" => "prefix: /",
                "scheme" => "exact: https",
                "method" => "exact: GET",
                _ => "exact: api.example.com",
            };
            let finding = Diagnostic::error("null-condition", format!("the condition `{field}` says nothing"))
                .with_value("{}")
                .with_allowed("exact, prefix or regex")
                .with_effect("without it the rule would match more requests than meant")
                .with_suggestion(format!("write for example `{field}: {{{example}}}`, or remove it"));
            reporter.add(&record.place_of(field), finding);
            None
        }
    }
}

/// Methods of RFC 9110 and RFC 5789.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// A warning for a condition that is well formed, but that no request meets.
fn never_matches(field: &str, condition: &StringMatch) -> Option<Diagnostic> {
    let (kind, text) = match condition {
        StringMatch::Exact(text) => ("exact", text.as_str()),
        StringMatch::Prefix(text) => ("prefix", text.as_str()),
        StringMatch::Regex(_) => return None,
    };
    let (reason, allowed, suggestion) = match (field, kind) {
        ("uri", _) if !text.starts_with('/') && (kind, text) != ("exact", "*") => {
            let suggestion = match text {
                "*" => "write `prefix: /` to match every path".to_owned(),
                _ => format!("write `{kind}: {}`", shorten(&path_of(text))),
            };
            ("a path starts with `/`", "a path that starts with `/` (or `exact: '*'`, for OPTIONS)", suggestion)
        }
        ("scheme", "exact") if !matches!(text, "http" | "https") => {
            let lower = text.to_ascii_lowercase();
            let suggestion = match lower.as_str() {
                "http" | "https" => format!("write `exact: {lower}`"),
                _ => "write `exact: http` or `exact: https`, or remove the condition".to_owned(),
            };
            ("a scheme is http or https", "http or https", suggestion)
        }
        ("authority", _) if text.contains('/') => {
            let bare = text.split_once("://").map_or(text, |(_, rest)| rest);
            let suggestion = match bare.split('/').next().unwrap_or_default() {
                "" => "write the host alone, for example `exact: api.example.com`".to_owned(),
                host => format!("write `{kind}: {}`; a path belongs in `uri`", shorten(host)),
            };
            ("an authority has no `/`", "a host, with a port where the request names one", suggestion)
        }
        ("method", "exact") => {
            let standard = METHODS.iter().find(|method| method.eq_ignore_ascii_case(text) && **method != text)?;
            ("methods are sent in upper case", "a method in upper case", format!("write `exact: {standard}`"))
        }
        _ => return None,
    };
    let message = format!("the condition `{field}` can never be met: {reason}");
    let finding = Diagnostic::warning("never-matches", message)
        .with_value(shorten(text))
        .with_allowed(allowed)
        .with_effect(match (field, text) {
            ("uri", "*") => "no request can match but `OPTIONS *`",
            _ => "no request can match",
        })
        .with_suggestion(suggestion);
    Some(finding)
}

/// The path that was meant by a text without leading `/`: that of a whole URL, or the text below the root.
fn path_of(text: &str) -> String {
    match text.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or_else(|| "/".to_owned(), |start| rest[start..].to_owned()),
        None => format!("/{text}"),
    }
}

/// Exact, prefix or regex; presence when there is none of them; `None` when something is wrong (said already).
fn string_match(record: &Record, name: &str, when_empty: &str, reporter: &mut Reporter<'_>) -> Option<HeaderMatch> {
    let Some((kind, item)) = record.fields.first() else { return Some(HeaderMatch::Present) };
    let text = item.text()?;
    let place = &item.place;
    let found = match *kind {
        "exact" => StringMatch::Exact(text.to_owned()),
        "prefix" if text.is_empty() => {
            empty_condition(name, "prefix", when_empty, place, reporter);
            return None;
        }
        "prefix" => StringMatch::Prefix(text.to_owned()),
        _ if text.is_empty() => {
            empty_condition(name, "regex", when_empty, place, reporter);
            return None;
        }
        _ => {
            check_regex(name, text, place, reporter)?;
            StringMatch::Regex(text.to_owned())
        }
    };
    Some(HeaderMatch::Value(found))
}

fn empty_condition(name: &str, kind: &str, when_empty: &str, place: &Place, reporter: &mut Reporter<'_>) {
    let finding = Diagnostic::error("empty-condition", format!("{name:?}: {kind} string match should not be empty"))
        .with_value("")
        .with_allowed("at least one character")
        .with_effect("an empty condition matches everything")
        .with_suggestion(when_empty);
    reporter.add(place, finding);
}

/// Compiles the expression as the router will; what does not compile is said with its column.
pub(super) fn check_regex(name: &str, text: &str, place: &Place, reporter: &mut Reporter<'_>) -> Option<usize> {
    if text.len() > MAX_REGEX {
        let finding =
            Diagnostic::error("regex", format!("{name:?}: regex is too large, max length allowed is {MAX_REGEX}"))
                .with_value(shorten(text))
                .with_allowed(format!("at most {MAX_REGEX} bytes"))
                .with_suggestion("use several match entries instead");
        reporter.add(place, finding);
        return None;
    }
    let error = match RegexBuilder::new(&re2::translate(text)).size_limit(re2::PROGRAM_LIMIT).build() {
        Ok(regex) => return Some(regex.captures_len() - 1),
        // The place of a mistake is that in the text as written; what only the translation fails at has no better place.
        Err(of_translation) => RegexBuilder::new(text).build().err().unwrap_or(of_translation).to_string(),
    };
    let reason = error.lines().rev().find_map(|line| line.strip_prefix("error: ")).unwrap_or(error.as_str());
    let caret = error.lines().find(|line| line.trim_start().starts_with('^'));
    let column = caret.map(|line| line.len() - line.trim_start().len()).and_then(|spaces| spaces.checked_sub(4));
    let at = column.map_or_else(String::new, |column| format!(" at column {} of the expression", column + 1));
    let message = format!(
        "{name:?}: error parsing regexp: {reason}{at}; Istio uses RE2 style regex-based match \
         (https://github.com/google/re2/wiki/Syntax)"
    );
    let suggestion = match reason.contains("look-around") || reason.contains("backreference") {
        true => "look-around and back-references are not available in RE2; use several match entries or withoutHeaders",
        false => "correct the expression; put quotes around it so that YAML leaves backslashes alone",
    };
    let finding = Diagnostic::error("regex", message)
        .with_value(shorten(text))
        .with_allowed(format!("RE2 syntax that compiles to at most {} MiB", re2::PROGRAM_LIMIT >> 20))
        .with_effect("the rule could not be decided")
        .with_suggestion(suggestion);
    reporter.add(place, finding);
    None
}

/// `headers`, `withoutHeaders` or `queryParams`.
fn conditions(record: &Record, field: &str, reporter: &mut Reporter<'_>) -> Vec<(String, HeaderMatch)> {
    let mut list = Vec::new();
    for (key, span, item) in record.map(field) {
        let place = record.map_key(field, key, *span);
        let Some(item) = item else {
            let finding = Diagnostic::error("null-condition", format!("header match {key} cannot be null"))
                .with_value("null")
                .with_allowed("exact, prefix, regex, or `{}` for presence")
                .with_effect("without the condition the rule would match more requests than meant")
                .with_suggestion(format!("write `{key}: {{}}` to ask for mere presence"));
            reporter.add(&place, finding);
            continue;
        };
        if field != "queryParams" && !check_condition_name(key, &place, reporter) {
            continue;
        }
        let Data::Record(condition) = &item.data else { continue };
        let when_empty = "write `{}` to ask for mere presence, or remove the condition";
        let found = match presence(condition) {
            true => Some(HeaderMatch::Present),
            false => string_match(condition, key, when_empty, reporter),
        };
        let name = if field == "queryParams" { key.to_string() } else { key.to_ascii_lowercase() };
        list.extend(found.map(|found| (name, found)));
    }
    list
}

/// `{}` and the regular expression `*` ask for presence.
fn presence(condition: &Record) -> bool {
    condition.fields.is_empty() || condition.text("regex") == Some("*")
}

fn check_condition_name(key: &str, place: &Place, reporter: &mut Reporter<'_>) -> bool {
    let refuse = |code, message: String, allowed: &str, suggestion: String, reporter: &mut Reporter<'_>| {
        let finding = Diagnostic::error(code, message)
            .with_value(shorten(key))
            .with_allowed(allowed)
            .with_effect("the condition would be left out, and the rule would match more requests than meant")
            .with_suggestion(suggestion);
        reporter.add(place, finding);
        false
    };
    let allowed = "a header name: letters, digits and !#$%&'*+-.^_`|~";
    if key.is_empty() {
        return refuse("header-name", "header name cannot be empty".into(), allowed, "name a header".into(), reporter);
    }
    if key.starts_with("@request.auth") {
        let message = format!("`{key}` matches claims of a token, which is not supported by this version");
        return refuse(
            "not-supported",
            message,
            allowed,
            "remove the rule until claims are supported".into(),
            reporter,
        );
    }
    if OWN_CONDITIONS.contains(&key) {
        let message = format!("`{key}` is no header; Istio leaves this condition out");
        let suggestion = format!("write `{key}` as a condition of its own, beside `headers`");
        return refuse("header-name", message, allowed, suggestion, reporter);
    }
    let bare = key.strip_prefix(':').unwrap_or(key);
    if !name::is_header_name(bare) {
        let offending = bare.chars().find(|c| !name::is_header_name(&c.to_string())).unwrap_or(' ');
        let message = format!("header name {} is not a valid header name (the character {offending:?})", shorten(key));
        return refuse("header-name", message, allowed, "write the name without it".into(), reporter);
    }
    const PSEUDO: [&str; 4] = [":method", ":path", ":authority", ":scheme"];
    if key.starts_with(':') && !PSEUDO.contains(&key) {
        let message = format!("header name {key} is not a valid header name");
        return refuse(
            "header-name",
            message,
            ":method, :path, :authority, :scheme",
            "use one of these".into(),
            reporter,
        );
    }
    true
}
