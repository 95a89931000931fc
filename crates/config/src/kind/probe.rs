//! What health checks of all kinds of documents have in common: rules of their paths, fields and times.
//!
//! Knows no kind. Read next: `resilience_policy/health.rs`.

use std::time::Duration;

use meshwright_model::Diagnostic;

use crate::finding::Reporter;
use crate::name;
use crate::record::Record;

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
