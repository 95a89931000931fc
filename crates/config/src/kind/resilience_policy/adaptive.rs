//! `adaptiveConcurrency`: how the limit learns, and who finds it full first.

use std::collections::BTreeMap;
use std::time::Duration;

use meshwright_model::{
    AdaptiveConcurrency, ConcurrencyAlgorithm, Diagnostic, Enforcement, IdentityCriticality, IdentityName,
};

use super::{at_least, number};
use crate::finding::Reporter;
use crate::name;
use crate::record::Record;

/// How critical requests are, the most critical first.
const WORDS: [&str; 4] = ["critical-plus", "critical", "sheddable-plus", "sheddable"];

fn read_by_route(record: &Record, reporter: &mut Reporter<'_>) -> BTreeMap<String, String> {
    let mut by_route = BTreeMap::new();
    for (route, word) in record.text_map("criticalityByRoute") {
        let word = read_word(word).unwrap_or_else(|finding| {
            let finding = finding
                .with_effect(format!("nobody would know when requests of route {route} are shed"))
                .with_suggestion(format!("write for example `criticalityByRoute: {{{route}: sheddable}}`"));
            reporter.add(&record.place_of("criticalityByRoute"), finding);
            String::new()
        });
        by_route.insert(route.to_owned(), word);
    }
    by_route
}

fn read_by_identity(record: &Record, reporter: &mut Reporter<'_>) -> Vec<IdentityCriticality> {
    let mut by_identity = Vec::new();
    for entry in record.records("criticalityByIdentity") {
        let name = match (entry.text("exact"), entry.text("prefix")) {
            (Some(exact), _) => IdentityName::Exact(exact.to_owned()),
            (None, Some(prefix)) => IdentityName::Prefix(prefix.to_owned()),
            // One of them that was refused has its finding.
            (None, None) => IdentityName::Anybody,
        };
        let Some(word) = entry.text("criticality") else {
            let finding = Diagnostic::error("missing-field", "an identity needs its criticality")
                .with_effect("nobody would know whose requests are shed")
                .with_suggestion(
                    "write for example `{prefix: spiffe://cluster.local/ns/batch/, criticality: sheddable}`",
                );
            reporter.add(&entry.place, finding);
            continue;
        };
        match read_word(word) {
            Ok(criticality) => by_identity.push(IdentityCriticality { name, criticality }),
            Err(finding) => reporter.add(&entry.place_of("criticality"), *finding),
        }
    }
    by_identity
}

fn read_word(word: &str) -> Result<String, Box<Diagnostic>> {
    let lower = word.to_ascii_lowercase().replace('_', "-");
    if WORDS.contains(&lower.as_str()) {
        return Ok(lower);
    }
    let finding = Diagnostic::error("unknown-value", format!("{word:?} is no criticality"))
        .with_value(word)
        .with_allowed(WORDS.join(", "));
    Err(Box::new(finding))
}

/// Reads the block.
pub(super) fn read(record: &Record, reporter: &mut Reporter<'_>) -> AdaptiveConcurrency {
    let header = record.text("criticalityHeader").map(str::to_ascii_lowercase);
    if let Some(header) = header.as_deref().filter(|header| !name::is_header_name(header)) {
        let finding = Diagnostic::error("invalid-name", format!("{header:?} is no name of a header"))
            .with_value(header)
            .with_allowed("letters, digits and hyphens")
            .with_suggestion("write for example `criticalityHeader: x-criticality`");
        reporter.add(&record.place_of("criticalityHeader"), finding);
    }
    let by_route = read_by_route(record, reporter);
    let by_identity = read_by_identity(record, reporter);
    for field in ["sheddablePlusPercent", "sheddablePercent"] {
        if record.has(field) && header.is_none() && by_route.is_empty() && !record.has("criticalityByIdentity") {
            let needs = "needs a criticalityHeader, criticalityByRoute or criticalityByIdentity";
            let finding = Diagnostic::warning("ineffective", format!("{field} {needs}"))
                .with_effect("every request is critical and may use the whole limit")
                .with_suggestion("add for example `criticalityHeader: x-criticality`");
            reporter.add(&record.key_of(field), finding);
        }
    }
    let limits = ["minLimit", "maxLimit"].map(|field| number(record, field));
    let (min, max) = (limits[0].unwrap_or(20), limits[1].unwrap_or(200));
    if max < min {
        at_least("maxLimit", "minLimit", record, reporter);
    }
    AdaptiveConcurrency {
        algorithm: match record.word("algorithm") {
            Some("VEGAS") => ConcurrencyAlgorithm::Vegas,
            Some("AIMD") => ConcurrencyAlgorithm::Aimd,
            _ => ConcurrencyAlgorithm::Gradient2,
        },
        enforcement: match record.word("mode") {
            Some("ENFORCE") => Enforcement::Enforce,
            _ => Enforcement::Observe,
        },
        initial_limit: number(record, "initialLimit"),
        min_limit: limits[0],
        max_limit: limits[1],
        window: record.duration("window").filter(|window| *window > Duration::ZERO),
        criticality_header: header,
        criticality_by_route: by_route,
        criticality_by_identity: by_identity,
        sheddable_plus_percent: number(record, "sheddablePlusPercent"),
        sheddable_percent: number(record, "sheddablePercent"),
    }
}
