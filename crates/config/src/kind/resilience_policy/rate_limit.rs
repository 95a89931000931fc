//! `rateLimit`: how many, and for whom.

use std::time::Duration;

use meshwright_model::{Diagnostic, Enforcement, RateLimit, RateLimitKey};

use super::number;
use crate::finding::Reporter;
use crate::name;
use crate::record::Record;

/// Reads the block.
pub(super) fn read(record: &Record, reporter: &mut Reporter<'_>) -> RateLimit {
    if !record.has("requests") {
        let finding = Diagnostic::error("missing-field", "a rate limit needs the number of requests")
            .with_allowed("`requests`, and `per` where that is not a second")
            .with_effect("nobody would know what is too much")
            .with_suggestion("add for example `requests: 100`");
        reporter.add(&record.place_of("requests"), finding);
    }
    let requests = number(record, "requests").unwrap_or(1);
    RateLimit {
        requests,
        per: record.duration("per").unwrap_or(Duration::from_secs(1)),
        burst: number(record, "burst").unwrap_or(requests),
        key: record.record("key").map(|key| read_key(key, reporter)).unwrap_or_default(),
        max_keys: number(record, "maxKeys").unwrap_or(10_000),
        enforcement: match record.word("mode") {
            Some("OBSERVE") => Enforcement::Observe,
            _ => Enforcement::Enforce,
        },
        headers: record.boolean("headers").unwrap_or(false),
    }
}

fn read_key(record: &Record, reporter: &mut Reporter<'_>) -> RateLimitKey {
    let header = record.text("header").map(str::to_ascii_lowercase);
    if let Some(header) = header.as_deref().filter(|header| !name::is_header_name(header)) {
        let finding = Diagnostic::error("invalid-name", format!("{header:?} is no name of a header"))
            .with_value(header)
            .with_allowed("letters, digits and hyphens")
            .with_suggestion("write for example `header: x-user`");
        reporter.add(&record.place_of("header"), finding);
    }
    RateLimitKey {
        header,
        source_ip: record.boolean("sourceIp").unwrap_or(false),
        route: record.boolean("route").unwrap_or(false),
    }
}
