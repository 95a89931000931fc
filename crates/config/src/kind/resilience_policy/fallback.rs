//! `fallback`: another destination, the last good answer, a fixed answer.

use std::time::Duration;

use meshwright_model::{Diagnostic, Fallback, FallbackResponse, LastGood};

use super::super::virtual_service::{read_body, read_destination};
use crate::finding::Reporter;
use crate::name;
use crate::record::Record;

/// Bytes of a body at most.
const MAX_BODY: usize = 64 * 1024;

/// How long a stale answer may stand in that does not say so.
const STALE_IF_ERROR: Duration = Duration::from_secs(5 * 60);
/// Bytes of one answer.
const MAX_ANSWER_BYTES: u32 = 256 * 1024;
/// Bytes of all answers.
const MAX_BYTES: u32 = 16 * 1024 * 1024;
/// Answers.
const MAX_ENTRIES: u32 = 1000;

/// Fields that are written from what is true of the answer.
const FRAMING: [&str; 5] = ["content-length", "transfer-encoding", "connection", "trailer", "upgrade"];

/// Reads the block.
pub(super) fn read(record: &Record, reporter: &mut Reporter<'_>) -> Fallback {
    let options = ["destination", "lastGood", "response"];
    if !options.iter().any(|option| record.has(option)) {
        let finding = Diagnostic::error("empty-block", "a fallback says what is answered")
            .with_allowed(crate::text::listed(&options))
            .with_effect("failures would stay what they are")
            .with_suggestion("add for example `response: {status: 200, body: {string: later}}`");
        reporter.add(&record.place, finding);
    }
    let mut statuses: Vec<u16> =
        record.list("statuses").iter().filter_map(|item| u16::try_from(item.whole()?).ok()).collect();
    statuses.sort_unstable();
    statuses.dedup();
    let destination = record.has("destination").then(|| read_destination(record, reporter)).flatten();
    Fallback {
        statuses,
        destination,
        last_good: record.record("lastGood").map(|block| read_last_good(block, reporter)),
        response: record.record("response").map(|block| read_response(block, reporter)),
    }
}

fn read_last_good(record: &Record, reporter: &mut Reporter<'_>) -> LastGood {
    let of = |field: &str, default: u32| super::number(record, field).unwrap_or(default);
    let last_good = LastGood {
        stale_if_error: record.duration("staleIfError").unwrap_or(STALE_IF_ERROR),
        max_answer_bytes: of("maxAnswerBytes", MAX_ANSWER_BYTES),
        max_bytes: of("maxBytes", MAX_BYTES),
        max_entries: of("maxEntries", MAX_ENTRIES),
    };
    if last_good.max_bytes < last_good.max_answer_bytes {
        super::at_least("maxBytes", "maxAnswerBytes", record, reporter);
    }
    last_good
}

fn read_response(record: &Record, reporter: &mut Reporter<'_>) -> FallbackResponse {
    let body = read_body(record);
    if body.len() > MAX_BODY {
        let finding = Diagnostic::error("range", "the body of a fallback is longer than 64 KiB")
            .with_value(format!("{} bytes", body.len()))
            .with_allowed(format!("at most {MAX_BODY} bytes"))
            .with_effect("it would be held in memory for every request that fails")
            .with_suggestion("let another destination answer with bodies of this size");
        reporter.add(&record.place_of("body"), finding);
    }
    let headers = record.text_map("headers").map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
    let headers: Vec<(String, String)> = headers.collect();
    for (name, value) in &headers {
        let problem = if !name::is_header_name(name) {
            format!("{name:?} is no name of a header")
        } else if FRAMING.contains(&name.as_str()) {
            format!("{name} cannot be chosen")
        } else if !name::is_header_value(value) {
            format!("the value of {name} has characters that no header may have")
        } else {
            continue;
        };
        let finding = Diagnostic::error("invalid-name", problem)
            .with_value(format!("{name}: {value}"))
            .with_allowed("names of letters, digits and hyphens, but none that frames the answer; values of one line")
            .with_effect("the answer could not be written")
            .with_suggestion("write for example `headers: {content-type: application/json}`");
        reporter.add(&record.place_of("headers"), finding);
    }
    // In range, as its table says.
    let status = record.whole("status").and_then(|status| u16::try_from(status).ok()).unwrap_or(200);
    FallbackResponse { status, headers, body }
}
