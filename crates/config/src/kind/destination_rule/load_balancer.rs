//! `loadBalancer`: the simple algorithms and slow start. Keys are in `consistent_hash.rs`, localities in `locality.rs`; what
//! annotations add is in `annotation.rs`.

use meshwright_model::{Algorithm, Diagnostic, LoadBalancer, Warmup};

use super::{consistent_hash, locality};
use crate::finding::Reporter;
use crate::record::Record;

/// Share of a new endpoint, in percent, where nothing is said.
const MINIMUM_PERCENT: f64 = 10.0;

/// Reads the block of a policy; `None` when it is absent.
pub(super) fn read(owner: &Record, reporter: &mut Reporter<'_>) -> Option<LoadBalancer> {
    let block = owner.record("loadBalancer")?;
    let algorithm = match block.record("consistentHash") {
        Some(hash) => consistent_hash::read(hash, reporter),
        None => simple(block, reporter),
    };
    let warmup = read_warmup(block, reporter);
    if warmup.is_some() && matches!(algorithm, Algorithm::ConsistentHash(_)) {
        let finding = Diagnostic::warning("ineffective", "warmup has no effect with consistentHash")
            .with_allowed("warmup with LEAST_REQUEST, ROUND_ROBIN or RANDOM")
            .with_effect("new endpoints get the keys that they own at once")
            .with_suggestion("remove warmup");
        reporter.add(&block.key_of(if block.has("warmup") { "warmup" } else { "warmupDurationSecs" }), finding);
    }
    Some(LoadBalancer { algorithm, session: None, locality: locality::read(block, reporter), warmup })
}

fn simple(block: &Record, reporter: &mut Reporter<'_>) -> Algorithm {
    match block.word("simple") {
        Some("ROUND_ROBIN") => Algorithm::RoundRobin,
        Some("RANDOM") => Algorithm::Random,
        Some("PASSTHROUGH") => {
            let finding = Diagnostic::warning("not-supported", "PASSTHROUGH is not supported by this version")
                .with_value("PASSTHROUGH")
                .with_allowed("LEAST_REQUEST, ROUND_ROBIN or RANDOM")
                .with_effect("requests go to the endpoints of the service, balanced by LEAST_REQUEST")
                .with_suggestion("write LEAST_REQUEST");
            reporter.add(&block.place_of("simple"), finding);
            Algorithm::LeastRequest
        }
        Some("LEAST_CONN") => {
            let finding = Diagnostic::warning("deprecated", "LEAST_CONN is deprecated")
                .with_value("LEAST_CONN")
                .with_effect("it means LEAST_REQUEST")
                .with_suggestion("write LEAST_REQUEST");
            reporter.add(&block.place_of("simple"), finding);
            Algorithm::LeastRequest
        }
        _ => Algorithm::LeastRequest,
    }
}

/// `warmup`, or the deprecated `warmupDurationSecs`.
fn read_warmup(block: &Record, reporter: &mut Reporter<'_>) -> Option<Warmup> {
    if let Some(duration) = block.duration("warmupDurationSecs") {
        let effect = match block.has("warmup") {
            true => "warmup is given too and wins; this field has no effect",
            false => "it is read as `warmup.duration`",
        };
        let finding = Diagnostic::warning("deprecated", "warmupDurationSecs is deprecated")
            .with_allowed("warmup")
            .with_effect(effect)
            .with_suggestion("write `warmup: {duration: ...}`");
        reporter.add(&block.key_of("warmupDurationSecs"), finding);
        if !block.has("warmup") {
            return Some(Warmup { duration, minimum_percent: MINIMUM_PERCENT, aggression: 1.0 });
        }
    }
    let warmup = block.record("warmup")?;
    if !warmup.has("duration") {
        let finding = Diagnostic::error("missing-field", "duration is required for warmup")
            .with_allowed("the time in which a new endpoint comes to its whole share")
            .with_suggestion("add for example `duration: 30s`");
        reporter.add(&warmup.place.field("duration"), finding);
    }
    let mut ranged = |field: &str, default: f64, least: f64, most: f64| {
        let value = warmup.number(field).unwrap_or(default);
        if !(least..=most).contains(&value) {
            let finding = Diagnostic::error("range", format!("{field} {value} must be in the range {least}..{most}"))
                .with_value(value.to_string())
                .with_allowed(format!("{least}..{most}"))
                .with_suggestion(format!("write for example {default}"));
            reporter.add(&warmup.place_of(field), finding);
        }
        value
    };
    let minimum_percent = ranged("minimumPercent", MINIMUM_PERCENT, 0.0, 100.0);
    let aggression = ranged("aggression", 1.0, 1.0, 1000.0);
    Some(Warmup { duration: warmup.duration("duration")?, minimum_percent, aggression })
}
