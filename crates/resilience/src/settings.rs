//! Circuit breakers from configuration, for any serde format: settings by service name over a preset. Knows no file. Read
//! next: `breakers.rs`.
//!
//! Names are those of the mesh's own configuration; durations are written like `1m30s`, `250ms`.

use std::collections::BTreeMap;
use std::time::Duration;

use meshwright_traffic::{BreakerChanges, BreakerPolicy, Recovery, SlowCalls, Window};
use serde::Deserialize;

use crate::CircuitBreakers;

/// Settings of all services.
///
/// ```
/// use meshwright_resilience::ServiceSettings;
///
/// let settings: ServiceSettings = serde_json::from_str(r#"{
///     "default":  { "preset": "resilience4j" },
///     "services": { "user-service": { "maxRequests": 5, "interval": "1m", "timeout": "2m" } }
/// }"#).unwrap();
/// let breakers = settings.into_breakers().unwrap();
/// assert_eq!(breakers.named("user-service").policy().probes, 5);
/// assert_eq!(breakers.named("any-other").policy().probes, 10);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ServiceSettings {
    /// Settings of services that are not named; gobreaker's defaults where nothing is said.
    pub default: BreakerSettings,
    /// Settings by service name.
    pub services: BTreeMap<String, BreakerSettings>,
}

/// Settings of one breaker. What is not given comes from the preset, and that is `gobreaker` when none is named.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BreakerSettings {
    /// `gobreaker`, `hystrix` or `resilience4j`.
    pub preset: Option<String>,
    /// Calls let through while half-open. At least 1.
    pub max_requests: Option<u32>,
    /// Time after which a closed breaker starts its counts anew; not with a window.
    pub interval: Option<String>,
    /// Time that it stays open the first time.
    pub timeout: Option<String>,
    /// Each further open time in percent of the one before, 100 to 1,000; 100 is always the same.
    pub timeout_growth_percent: Option<u32>,
    /// Longest time that it stays open; ten times `timeout` where that grows.
    pub max_timeout: Option<String>,
    /// Share around the open time from which it is drawn, 0 to 100 percent.
    pub timeout_jitter_percent: Option<u32>,
    /// Failures in a row that trip; 0 is off.
    pub consecutive_failures: Option<u32>,
    /// Share of failures that trips, 1 to 100.
    pub failure_percent: Option<u32>,
    /// Share of slow calls that trips, 1 to 100; with `slowCallDuration`.
    pub slow_call_percent: Option<u32>,
    /// Time beyond which a call is slow; with `slowCallPercent`.
    pub slow_call_duration: Option<String>,
    /// Finished calls before a rate is looked at.
    pub minimum_calls: Option<u32>,
    /// Rates are taken over so many calls; not with `windowTime`.
    pub window_calls: Option<u32>,
    /// Rates are taken over so long, in buckets of a tenth; not with `windowCalls`.
    pub window_time: Option<String>,
    /// Longest time that it stays half-open; `0` is without end.
    pub max_half_open_time: Option<String>,
    /// Judge probes by their rates instead of each by itself.
    pub probes_by_rates: Option<bool>,
}

/// Settings that make no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{service}: {field}: {problem}")]
pub struct InvalidSettings {
    /// The service, or `default`.
    pub service: String,
    /// The field, as it is written.
    pub field: &'static str,
    /// What is wrong and what is allowed.
    pub problem: String,
}

type Problem = (&'static str, String);

impl ServiceSettings {
    /// Breakers that follow these settings.
    ///
    /// # Errors
    /// The first setting that makes no sense.
    pub fn into_breakers(self) -> Result<CircuitBreakers, InvalidSettings> {
        let named = |service: &str, settings: &BreakerSettings| {
            let invalid = |(field, problem)| InvalidSettings { service: service.to_owned(), field, problem };
            settings.policy().map_err(invalid)
        };
        let default = named("default", &self.default)?;
        let mut policies = BTreeMap::new();
        for (service, settings) in &self.services {
            policies.insert(service.clone(), named(service, settings)?);
        }
        Ok(CircuitBreakers::new(move |service| policies.get(service).unwrap_or(&default).clone()))
    }
}

impl BreakerSettings {
    fn policy(&self) -> Result<BreakerPolicy, Problem> {
        let name = self.preset.as_deref().unwrap_or("gobreaker");
        let unknown = || ("preset", format!("{name:?} is none of {}", BreakerPolicy::PRESETS.join(", ")));
        let preset = BreakerPolicy::preset(name).ok_or_else(unknown)?;
        let open_time = duration("timeout", self.timeout.as_deref())?;
        let max_open_time = duration("maxTimeout", self.max_timeout.as_deref())?;
        let base = open_time.unwrap_or(preset.open_time.base);
        if let Some(max) = max_open_time.filter(|max| *max < base) {
            return Err(("maxTimeout", format!("{max:?} is less than timeout {base:?}")));
        }
        let changes = BreakerChanges {
            window: self.window()?,
            consecutive_failures: self.consecutive_failures,
            failure_percent: within("failurePercent", self.failure_percent, 1, 100)?,
            slow_calls: self.slow_calls()?,
            minimum_calls: self.minimum_calls,
            probes: within("maxRequests", self.max_requests, 1, u32::MAX)?,
            recovery: self.probes_by_rates.map(|by_rates| match by_rates {
                true => Recovery::Rates,
                false => Recovery::EveryProbe,
            }),
            max_half_open_time: duration("maxHalfOpenTime", self.max_half_open_time.as_deref())?,
            open_time,
            open_growth_percent: within("timeoutGrowthPercent", self.timeout_growth_percent, 100, 1_000)?,
            max_open_time,
            open_jitter_percent: within("timeoutJitterPercent", self.timeout_jitter_percent, 0, 100)?,
        };
        Ok(preset.with(&changes))
    }

    fn window(&self) -> Result<Option<Window>, Problem> {
        let time = duration("windowTime", self.window_time.as_deref())?;
        let interval = duration("interval", self.interval.as_deref())?;
        match (within("windowCalls", self.window_calls, 1, 1_000_000)?, time, interval) {
            (None, None, None) => Ok(None),
            (Some(calls), None, None) => Ok(Some(Window::Count(calls))),
            (None, Some(length), None) => Ok(Some(Window::Time { length, buckets: 10 })),
            (None, None, Some(interval)) => Ok(Some(Window::Interval((!interval.is_zero()).then_some(interval)))),
            _ => Err(("interval", "only one of interval, windowCalls and windowTime may be given".to_owned())),
        }
    }

    fn slow_calls(&self) -> Result<Option<SlowCalls>, Problem> {
        let percent = within("slowCallPercent", self.slow_call_percent, 1, 100)?;
        match duration("slowCallDuration", self.slow_call_duration.as_deref())? {
            Some(longer_than) => Ok(Some(SlowCalls { longer_than, percent: percent.unwrap_or(100) })),
            None if percent.is_some() => Err(("slowCallPercent", "needs slowCallDuration beside it".to_owned())),
            None => Ok(None),
        }
    }
}

fn within(field: &'static str, value: Option<u32>, least: u32, most: u32) -> Result<Option<u32>, Problem> {
    match value {
        Some(value) if !(least..=most).contains(&value) => {
            Err((field, format!("{value} is not between {least} and {most}")))
        }
        value => Ok(value),
    }
}

fn duration(field: &'static str, text: Option<&str>) -> Result<Option<Duration>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let read = parse_duration(text).ok_or_else(|| (field, format!("{text:?} is no duration such as 1m30s or 250ms")));
    read.map(Some)
}

/// Reads what Go's `time.ParseDuration` reads, without signs and fractions.
fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let nanos: u64 = match &rest[..unit] {
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "us" => 1_000,
            "ns" => 1,
            _ => return None,
        };
        rest = &rest[unit..];
        total = total.checked_add(Duration::from_nanos(number.checked_mul(nanos)?))?;
    }
    Some(total)
}
