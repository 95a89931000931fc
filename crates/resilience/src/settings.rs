//! Circuit breakers from configuration, for any serde format: settings by service name over a preset. Knows no file. Read
//! next: `breakers.rs`.
//!
//! Names are those of the mesh's own configuration; durations are written like `1m30s`, `250ms`.

use std::collections::BTreeMap;
use std::time::Duration;

use meshwright_traffic::{BreakerPolicy, OpenTime, Recovery, SlowCalls, Window};
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
    /// Longest time that it stays open; with `timeoutMultiplier`.
    pub max_timeout: Option<String>,
    /// Factor of the open time with every time it opens again. At least 1.
    pub timeout_multiplier: Option<f64>,
    /// Share around the open time from which it is drawn, 0 to 1.
    pub timeout_jitter: Option<f64>,
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
        let mut policy = BreakerPolicy::preset(name).ok_or_else(unknown)?;
        policy.window = self.window(policy.window)?;
        policy.open_time = self.open_time(policy.open_time)?;
        set(&mut policy.consecutive_failures, self.consecutive_failures);
        set(&mut policy.minimum_calls, self.minimum_calls);
        set(&mut policy.probes, at_least_one("maxRequests", self.max_requests)?);
        if let Some(percent) = percent("failurePercent", self.failure_percent)? {
            policy.failure_percent = Some(percent);
        }
        match (duration("slowCallDuration", self.slow_call_duration.as_deref())?, self.slow_call_percent) {
            (Some(longer_than), given) => {
                let percent = percent("slowCallPercent", given)?.unwrap_or(100);
                policy.slow_calls = Some(SlowCalls { longer_than, percent });
            }
            (None, Some(_)) => return Err(("slowCallPercent", "needs slowCallDuration beside it".to_owned())),
            (None, None) => {}
        }
        if let Some(time) = duration("maxHalfOpenTime", self.max_half_open_time.as_deref())? {
            policy.max_half_open_time = Some(time);
        }
        if let Some(by_rates) = self.probes_by_rates {
            policy.recovery = if by_rates { Recovery::Rates } else { Recovery::EveryProbe };
        }
        Ok(policy)
    }

    fn window(&self, preset: Window) -> Result<Window, Problem> {
        let time = duration("windowTime", self.window_time.as_deref())?;
        let interval = duration("interval", self.interval.as_deref())?;
        match (at_least_one("windowCalls", self.window_calls)?, time, interval) {
            (None, None, None) => Ok(preset),
            (Some(calls), None, None) => Ok(Window::Count(calls)),
            (None, Some(length), None) => Ok(Window::Time { length, buckets: 10 }),
            (None, None, Some(interval)) => Ok(Window::Interval((!interval.is_zero()).then_some(interval))),
            _ => Err(("interval", "only one of interval, windowCalls and windowTime may be given".to_owned())),
        }
    }

    fn open_time(&self, preset: OpenTime) -> Result<OpenTime, Problem> {
        let base = duration("timeout", self.timeout.as_deref())?.unwrap_or(preset.base);
        let multiplier = self.timeout_multiplier.unwrap_or(preset.multiplier);
        if !(multiplier >= 1.0 && multiplier.is_finite()) {
            return Err(("timeoutMultiplier", format!("{multiplier} is below 1")));
        }
        let jitter = self.timeout_jitter.unwrap_or(preset.jitter);
        if !(0.0..=1.0).contains(&jitter) {
            return Err(("timeoutJitter", format!("{jitter} is not between 0 and 1")));
        }
        let max = match duration("maxTimeout", self.max_timeout.as_deref())? {
            Some(max) if max < base => return Err(("maxTimeout", format!("{max:?} is less than timeout {base:?}"))),
            Some(max) => max,
            None if multiplier > 1.0 => base.saturating_mul(10),
            None => base,
        };
        Ok(OpenTime { base, multiplier, max, jitter })
    }
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

fn at_least_one(field: &'static str, value: Option<u32>) -> Result<Option<u32>, Problem> {
    if value == Some(0) { Err((field, "0 is not allowed; at least 1".to_owned())) } else { Ok(value) }
}

fn percent(field: &'static str, value: Option<u32>) -> Result<Option<u32>, Problem> {
    match value {
        Some(value) if !(1..=100).contains(&value) => Err((field, format!("{value} is not between 1 and 100"))),
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
