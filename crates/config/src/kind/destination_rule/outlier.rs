//! `outlierDetection`, and its alias `circuitBreaker` of old Istio and of many texts about it.

use meshwright_model::{Diagnostic, OutlierDetection};

use crate::finding::Reporter;
use crate::record::Record;

/// Reads the block of a policy under either name; `None` when it is absent.
pub(super) fn read(owner: &Record, reporter: &mut Reporter<'_>) -> Option<OutlierDetection> {
    if owner.has("circuitBreaker") {
        report_alias(owner, reporter);
    }
    let record = owner.record("outlierDetection").or_else(|| owner.record("circuitBreaker"))?;
    let mut detection = OutlierDetection::default();
    let number = |field: &str| record.whole(field).and_then(|value| u32::try_from(value).ok());
    if let Some(errors) = read_old_errors(record, reporter) {
        detection.consecutive_5xx = errors;
    }
    if let Some(errors) = number("consecutive5xxErrors") {
        detection.consecutive_5xx = errors;
    }
    if let Some(errors) = number("consecutiveGatewayErrors") {
        detection.consecutive_gateway_errors = errors;
    }
    detection.split_local_origin = record.boolean("splitExternalLocalOriginErrors").unwrap_or(false);
    if let Some(failures) = number("consecutiveLocalOriginFailures") {
        detection.consecutive_local_origin_failures = failures;
        if !detection.split_local_origin {
            let message = "outlier detection consecutive local origin failures is specified, but split external local \
                           origin errors is set to false";
            let finding = Diagnostic::warning("ineffective", message)
                .with_value(failures.to_string())
                .with_effect("local failures count as 5xx answers")
                .with_suggestion("add `splitExternalLocalOriginErrors: true`");
            reporter.add(&record.place_of("consecutiveLocalOriginFailures"), finding);
        }
    }
    detection.error_statuses = read_statuses(record, reporter);
    if let Some(interval) = record.duration("interval") {
        detection.interval = interval;
    }
    if let Some(time) = record.duration("baseEjectionTime") {
        detection.base_ejection_time = time;
    }
    if let Some(percent) = read_percent(record, "maxEjectionPercent", reporter) {
        detection.max_ejection_percent = percent;
    }
    if let Some(percent) = read_percent(record, "minHealthPercent", reporter) {
        detection.min_health_percent = percent;
    }
    Some(detection)
}

/// `outlierDetectionHttpErrorCodes`: replaces what counts as an error.
fn read_statuses(record: &Record, reporter: &mut Reporter<'_>) -> Option<Vec<u16>> {
    let field = "outlierDetectionHttpErrorCodes";
    let mut statuses = Vec::new();
    for item in record.list(field) {
        let Some(written) = item.whole() else { continue };
        match u16::try_from(written) {
            Ok(status) if (100..=599).contains(&status) => statuses.push(status),
            _ => {
                let finding = Diagnostic::error("range", format!("{written} is no HTTP status ({field})"))
                    .with_value(written.to_string())
                    .with_allowed("100..599")
                    .with_suggestion("write a status such as 503");
                reporter.add(&item.place, finding);
            }
        }
    }
    statuses.sort_unstable();
    statuses.dedup();
    (!statuses.is_empty()).then_some(statuses)
}

fn report_alias(owner: &Record, reporter: &mut Reporter<'_>) {
    let place = owner.key_of("circuitBreaker");
    if owner.has("outlierDetection") {
        let message = "circuitBreaker and outlierDetection cannot both be given: the first is an alias of the second";
        let finding = Diagnostic::error("choice", message)
            .with_value("circuitBreaker")
            .with_allowed("outlierDetection")
            .with_suggestion("move its fields into outlierDetection and remove circuitBreaker");
        reporter.add(&place, finding);
        return;
    }
    let finding = Diagnostic::warning("alias", "circuitBreaker is no field of Istio; it is read as outlierDetection")
        .with_value("circuitBreaker")
        .with_allowed("outlierDetection")
        .with_effect("it works here; Istio leaves it out or refuses it")
        .with_suggestion("rename it to outlierDetection");
    reporter.add(&place, finding);
}

/// `consecutiveErrors`: Istio reads it and does nothing with it; here it does what its authors meant.
fn read_old_errors(record: &Record, reporter: &mut Reporter<'_>) -> Option<u32> {
    let written = record.whole("consecutiveErrors")?;
    let place = record.key_of("consecutiveErrors");
    let Ok(errors) = u32::try_from(written) else {
        let finding = Diagnostic::error("range", "consecutive errors must be non-negative")
            .with_value(written.to_string())
            .with_allowed("0 (off) or more")
            .with_suggestion("write consecutive5xxErrors with a number such as 5");
        reporter.add(&record.place_of("consecutiveErrors"), finding);
        return None;
    };
    let message = "outlier detection consecutive errors is deprecated, use consecutiveGatewayErrors or \
                   consecutive5xxErrors instead";
    let effect = match record.has("consecutive5xxErrors") {
        true => "consecutive5xxErrors is given too and wins; this field has no effect".to_owned(),
        false => format!("it is read as `consecutive5xxErrors: {errors}`; Istio ignores it and uses 5"),
    };
    let finding = Diagnostic::warning("deprecated", message)
        .with_value(errors.to_string())
        .with_allowed("consecutive5xxErrors, consecutiveGatewayErrors")
        .with_effect(effect)
        .with_suggestion(format!("write `consecutive5xxErrors: {errors}`"));
    reporter.add(&place, finding);
    Some(errors)
}

fn read_percent(record: &Record, field: &str, reporter: &mut Reporter<'_>) -> Option<u32> {
    let written = record.whole(field)?;
    match u32::try_from(written) {
        Ok(percent) if percent <= 100 => Some(percent),
        _ => {
            let finding = Diagnostic::error("range", format!("percentage {written} is not in range 0..100 ({field})"))
                .with_value(written.to_string())
                .with_allowed("0..100")
                .with_suggestion("write a percentage without the sign, such as 50");
            reporter.add(&record.place_of(field), finding);
            None
        }
    }
}
