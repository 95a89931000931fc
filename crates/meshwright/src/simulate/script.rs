//! What to simulate with circuit breakers, as it is written on the command line: policies, what becomes of calls, a load.
//! Read next: `breaker.rs`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use meshwright_config::{Options, Source};
use meshwright_model::{Diagnostic, Enforcement, Severity};
use meshwright_snapshot::breaker_policy;
use meshwright_traffic::{BreakerMode, BreakerPolicy};

use crate::args::value::{self, Delay};

/// Calls that may be simulated at most.
pub(super) const MOST_CALLS: f64 = 10_000_000.0;
/// Longest script.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// A circuit breaker with the text that it was asked for by.
#[derive(Clone, Debug)]
pub struct NamedBreaker {
    /// As written.
    pub name: String,
    /// What it means.
    pub policy: BreakerPolicy,
    /// Whether it decides or observes.
    pub mode: BreakerMode,
}

impl FromStr for NamedBreaker {
    type Err = String;

    /// A preset, or the fields of `circuitBreaker` in YAML, with or without braces; read as a `ResiliencePolicy` is.
    fn from_str(text: &str) -> Result<Self, String> {
        let bare = text.trim();
        let bare = bare.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(bare);
        let fields = if bare.contains(':') { bare.to_owned() } else { format!("preset: {}", preset_word(bare)) };
        let document = format!(
            "apiVersion: meshwright.io/v1alpha1\nkind: ResiliencePolicy\nmetadata: {{name: simulated}}\n\
             spec: {{host: '*', circuitBreaker: {{{fields}}}}}\n"
        );
        let outcome = meshwright_config::load(&[Source::new("--policy", document)], &Options::default());
        let error = outcome.diagnostics.iter().find(|finding| finding.severity == Severity::Error);
        if let Some(error) = error {
            return Err(said(error));
        }
        let settings = outcome.mesh.and_then(|mesh| mesh.resilience_policies.into_iter().next());
        let breaker = settings.and_then(|policy| policy.settings.circuit_breaker);
        let breaker = breaker.ok_or("this is no circuit breaker; write for example `HYSTRIX` or `timeout: 5s`")?;
        let observes = breaker.enforcement == Enforcement::Observe;
        Ok(Self {
            name: text.to_owned(),
            policy: breaker_policy(&breaker, ""),
            mode: if observes { BreakerMode::MetricsOnly } else { BreakerMode::Automatic },
        })
    }
}

fn preset_word(text: &str) -> String {
    text.to_ascii_uppercase().replace('-', "_")
}

fn said(error: &Diagnostic) -> String {
    match &error.allowed {
        Some(allowed) => format!("{}; allowed: {allowed}", error.message),
        None => error.message.clone(),
    }
}

/// What is simulated when no policy is named.
pub(super) fn presets() -> Vec<NamedBreaker> {
    let named = |name: &str, policy| NamedBreaker { name: name.to_owned(), policy, mode: BreakerMode::Automatic };
    vec![
        named("GOBREAKER", BreakerPolicy::gobreaker()),
        named("HYSTRIX", BreakerPolicy::hystrix()),
        named("RESILIENCE4J", BreakerPolicy::resilience4j()),
    ]
}

/// What becomes of calls over time.
#[derive(Clone, Debug)]
pub struct Script {
    text: String,
    /// One after the other.
    pub(super) phases: Vec<Phase>,
}

/// What becomes of calls that are made in one stretch of time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Phase {
    pub(super) length: Duration,
    /// Share that fails, in percent.
    pub(super) fail: f64,
    /// Time that a call takes.
    pub(super) delay: Delay,
}

impl Script {
    /// All phases together.
    pub(super) fn length(&self) -> Duration {
        self.phases.iter().map(|phase| phase.length).sum()
    }

    /// The phase at a time; the last one has no end.
    pub(super) fn at(&self, time: Duration) -> Option<&Phase> {
        let mut end = Duration::ZERO;
        let holds = |phase: &&Phase| {
            end += phase.length;
            time < end
        };
        self.phases.iter().find(holds).or(self.phases.last())
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Script {
    type Err = String;

    /// `TIME[;fail=PERCENT][;delay=DELAY]`, several with commas between them.
    fn from_str(text: &str) -> Result<Self, String> {
        let phases = text.split(',').map(phase).collect::<Result<Vec<_>, _>>()?;
        let script = Self { text: text.to_owned(), phases };
        let total = script.phases.iter().try_fold(Duration::ZERO, |sum, phase| sum.checked_add(phase.length));
        match total {
            Some(total) if total <= LONGEST => Ok(script),
            _ => Err("a script may be 30 days long".to_owned()),
        }
    }
}

fn phase(text: &str) -> Result<Phase, String> {
    let mut parts = text.split(';').map(str::trim);
    let length = value::duration(parts.next().unwrap_or_default())?;
    let mut phase = Phase { length, fail: 0.0, delay: Delay::Fixed(Duration::from_millis(10)) };
    for part in parts {
        match part.split_once('=') {
            Some(("fail", share)) => phase.fail = value::percent(share)?,
            Some(("delay", delay)) => phase.delay = value::delay(delay)?,
            _ => return Err(format!("`{part}` is neither fail=PERCENT nor delay=DELAY")),
        }
    }
    Ok(phase)
}

/// When calls are made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CallLoad {
    /// So many per second, at random (a Poisson process).
    Random(f64),
    /// One after each such time.
    Every(Duration),
}

impl CallLoad {
    /// Time until the next call.
    pub(super) fn pause(self, rng: &mut fastrand::Rng) -> Duration {
        match self {
            Self::Random(rate) => Duration::from_secs_f64(-(1.0 - rng.f64()).ln() / rate),
            Self::Every(time) => time,
        }
    }

    /// Calls in a time, about.
    fn calls(self, time: Duration) -> f64 {
        match self {
            Self::Random(rate) => rate * time.as_secs_f64(),
            Self::Every(every) => time.as_secs_f64() / every.as_secs_f64(),
        }
    }

    /// Refuses what would take for ever.
    pub(super) fn is_bounded(self, script: &Script) -> bool {
        self.calls(script.length()) <= MOST_CALLS
    }
}

impl fmt::Display for CallLoad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Random(rate) => write!(f, "{rate}/s"),
            Self::Every(time) => write!(f, "every {time:?}"),
        }
    }
}

impl FromStr for CallLoad {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let error = || format!("`{text}` is no load; write for example `20/s` or `every 100ms`");
        if let Some(time) = text.strip_prefix("every ") {
            let time = value::duration(time.trim())?;
            return if time.is_zero() { Err(error()) } else { Ok(Self::Every(time)) };
        }
        let rate: f64 = text.strip_suffix("/s").and_then(|rate| rate.trim().parse().ok()).ok_or_else(error)?;
        if rate.is_finite() && rate > 0.0 { Ok(Self::Random(rate)) } else { Err(error()) }
    }
}

#[cfg(test)]
mod tests {
    use meshwright_traffic::OpenTime;

    use super::*;

    #[test]
    fn a_policy_is_a_preset_or_the_fields_of_the_kind() {
        let policy = |text: &str| text.parse::<NamedBreaker>().map(|named| named.policy);
        assert_eq!(policy("hystrix"), Ok(BreakerPolicy::hystrix()));
        let expected =
            BreakerPolicy { open_time: OpenTime::fixed(Duration::from_secs(2)), ..BreakerPolicy::resilience4j() };
        assert_eq!(policy("preset: RESILIENCE4J, timeout: 2s"), Ok(expected.clone()));
        assert_eq!(policy("{preset: RESILIENCE4J, timeout: 2s}"), Ok(expected));
        assert_eq!("mode: OBSERVE".parse::<NamedBreaker>().unwrap().mode, BreakerMode::MetricsOnly);
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert!("FASTEST".parse::<NamedBreaker>().unwrap_err().contains("HYSTRIX"));
        assert!("timeout: soon".parse::<NamedBreaker>().is_err());
        assert!("5s;speed=1".parse::<Script>().unwrap_err().contains("fail=PERCENT"));
        assert!("20".parse::<CallLoad>().unwrap_err().contains("every 100ms"));
        assert!("every 0s".parse::<CallLoad>().is_err());
        assert!(!CallLoad::Random(1e9).is_bounded(&"1h".parse().unwrap()));
    }

    #[test]
    fn a_script_is_its_phases_in_order() {
        let script: Script = "10s;delay=exp:5ms, 20s;fail=50%".parse().unwrap();
        assert_eq!(script.length(), Duration::from_secs(30));
        assert_eq!(script.at(Duration::from_secs(9)).unwrap().fail, 0.0);
        assert_eq!(script.at(Duration::from_secs(10)).unwrap().fail, 50.0);
        assert_eq!(script.at(Duration::from_secs(99)).unwrap().fail, 50.0);
    }
}
