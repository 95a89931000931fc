//! `bulkhead`: how many requests one endpoint may have in flight.

use meshwright_model::{Bulkhead, Diagnostic, Enforcement};

use super::number;
use crate::finding::Reporter;
use crate::record::Record;

/// Reads the block.
pub(super) fn read(record: &Record, reporter: &mut Reporter<'_>) -> Bulkhead {
    if !record.has("maxRequestsPerEndpoint") {
        let finding = Diagnostic::error("missing-field", "a bulkhead needs the number of requests of one endpoint")
            .with_allowed("`maxRequestsPerEndpoint`, 1 or more")
            .with_effect("nobody would know when an endpoint is full")
            .with_suggestion("add for example `maxRequestsPerEndpoint: 100`");
        reporter.add(&record.place_of("maxRequestsPerEndpoint"), finding);
    }
    Bulkhead {
        max_requests_per_endpoint: number(record, "maxRequestsPerEndpoint").unwrap_or(1),
        enforcement: match record.word("mode") {
            Some("OBSERVE") => Enforcement::Observe,
            _ => Enforcement::Enforce,
        },
    }
}
