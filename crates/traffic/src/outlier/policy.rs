//! When hosts are ejected and for how long, and what is observed. Read next: `mod.rs`.

use std::time::Duration;

use super::EjectionKind;

/// When hosts are ejected and for how long. The panic threshold that goes with it belongs to [`crate::HostSet`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlierPolicy {
    /// Errors in a row until ejection, local failures included; 0 is off. Default 5.
    pub consecutive_5xx: u32,
    /// 502, 503 and 504 in a row until ejection, local failures included; 0 is off. Default 0.
    pub consecutive_gateway_errors: u32,
    /// Count local failures (connect, reset, timeout) apart from answers. Default false.
    pub split_local_origin: bool,
    /// Local failures in a row until ejection, only when they are counted apart; 0 is off. Default 5.
    pub consecutive_local_origin_failures: u32,
    /// Statuses that are errors, sorted; `None` is every 5xx. Default `None`.
    pub error_statuses: Option<Box<[u16]>>,
    /// Hosts that succeed much less often than the others. Default `None`, which is off.
    pub success_rate: Option<SuccessRatePolicy>,
    /// Hosts that fail too often, whatever the others do. Default `None`, which is off.
    pub failure_percentage: Option<FailurePercentagePolicy>,
    /// Time between sweeps. Default 10 s.
    pub interval: Duration,
    /// Time out of the first ejection; the n-th in a row takes n times as long. Default 30 s.
    pub base_ejection_time: Duration,
    /// No ejection takes longer than this, or than the base time when that is longer. Default 300 s.
    pub max_ejection_time: Duration,
    /// Each ejection takes up to this much longer, drawn at random, so that not every proxy takes the host back at once.
    /// Default 0.
    pub max_ejection_time_jitter: Duration,
    /// How many of the ejections of each kind are carried out, drawn at random.
    pub enforcing: Enforcing,
    /// Share of the hosts that may be out at once, in percent; one host always may. Default 10.
    pub max_ejection_percent: u32,
}

impl Default for OutlierPolicy {
    fn default() -> Self {
        Self {
            consecutive_5xx: 5,
            consecutive_gateway_errors: 0,
            split_local_origin: false,
            consecutive_local_origin_failures: 5,
            error_statuses: None,
            success_rate: None,
            failure_percentage: None,
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_time: Duration::from_secs(300),
            max_ejection_time_jitter: Duration::ZERO,
            enforcing: Enforcing::default(),
            max_ejection_percent: 10,
        }
    }
}

impl OutlierPolicy {
    /// Whether successes and failures must be counted for each interval.
    pub(crate) fn counts_rates(&self) -> bool {
        self.success_rate.is_some() || self.failure_percentage.is_some()
    }

    /// Whether an answer with this status is an error of the host.
    pub(crate) fn is_error(&self, status: u16) -> bool {
        match &self.error_statuses {
            None => (500..600).contains(&status),
            Some(statuses) => statuses.binary_search(&status).is_ok(),
        }
    }
}

/// Of the hosts that a kind of detection finds, how many are ejected, in percent: Envoy's `enforcing_*`. With 0 a kind only
/// says what it would do. Default 100 for every kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enforcing([u8; EjectionKind::ALL.len()]);

impl Default for Enforcing {
    fn default() -> Self {
        Self([100; EjectionKind::ALL.len()])
    }
}

impl Enforcing {
    /// The same with another share for one kind; above 100 is 100.
    #[must_use]
    pub const fn with(mut self, kind: EjectionKind, percent: u8) -> Self {
        self.0[kind as usize] = if percent > 100 { 100 } else { percent };
        self
    }

    /// The share for one kind, in percent.
    pub const fn percent(self, kind: EjectionKind) -> u8 {
        self.0[kind as usize]
    }
}

/// Ejection of hosts whose success rate in an interval is below `mean - factor x standard deviation` of all hosts with
/// enough requests. The defaults are Envoy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SuccessRatePolicy {
    /// With fewer hosts that have enough requests nothing is compared. Default 5.
    pub minimum_hosts: u32,
    /// Requests in an interval that a host needs to take part. Default 100.
    pub request_volume: u32,
    /// The factor, in thousandths. Default 1900.
    pub stdev_factor: u32,
}

impl Default for SuccessRatePolicy {
    fn default() -> Self {
        Self { minimum_hosts: 5, request_volume: 100, stdev_factor: 1900 }
    }
}

/// Ejection of hosts of whose requests in an interval so many failed. The defaults are Envoy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailurePercentagePolicy {
    /// Share of failures from which a host is ejected, in percent. Default 85.
    pub threshold: u32,
    /// With fewer hosts that have enough requests nothing is ejected. Default 5.
    pub minimum_hosts: u32,
    /// Requests in an interval that a host needs to take part. Default 50.
    pub request_volume: u32,
}

impl Default for FailurePercentagePolicy {
    fn default() -> Self {
        Self { threshold: 85, minimum_hosts: 5, request_volume: 50 }
    }
}

/// How a try ended, as far as it says something about the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observation {
    /// The host answered, and not with an error of its own.
    Success,
    /// The host answered with this status.
    Status(u16),
    /// There was no answer: connecting failed, the connection broke, or time was over.
    LocalOrigin,
}
