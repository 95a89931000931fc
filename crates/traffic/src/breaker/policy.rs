//! What a circuit breaker is told: over which calls it counts, what trips it, how it finds its way back. Plain values
//! and the presets; no state. Read next: `machine.rs`, which obeys them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Counts;

/// Largest [`Window::Count`]; a ring of that many bytes is kept per breaker.
pub(super) const MAX_CALLS: u32 = 1_000_000;

/// Most buckets of a [`Window::Time`].
pub(super) const MAX_BUCKETS: u32 = 3_600;

/// When a breaker opens, for how long, and what closes it again.
///
/// Several conditions may be given; the first that holds trips the breaker. Values out of their range are taken as the
/// nearest value in it, so every policy is usable.
///
/// ```
/// use std::time::Duration;
/// use meshwright_traffic::{BreakerPolicy, SlowCalls, Window};
///
/// let policy = BreakerPolicy {
///     window: Window::Time { length: Duration::from_secs(10), buckets: 10 },
///     failure_percent: Some(50),
///     slow_calls: Some(SlowCalls { longer_than: Duration::from_secs(1), percent: 80 }),
///     minimum_calls: 20,
///     ..BreakerPolicy::default()
/// };
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct BreakerPolicy {
    /// The calls that rates are taken over. Default: all calls since the breaker closed.
    pub window: Window,
    /// Failures in a row that trip; 0 is off. Default 5.
    pub consecutive_failures: u32,
    /// Share of failed calls in the window that trips (at or above), 1 to 100 percent. Default: off.
    pub failure_percent: Option<u32>,
    /// Share of slow calls in the window that trips. Default: off.
    pub slow_calls: Option<SlowCalls>,
    /// Finished calls in the window before a rate is looked at; at most the size of a [`Window::Count`]. Default 10.
    pub minimum_calls: u32,
    /// The caller's own condition, asked after every failed call. Default: none.
    pub ready_to_trip: Option<ReadyToTrip>,
    /// Calls that are let through while half-open, at least 1. Default 1.
    pub probes: u32,
    /// What the probes must show. Default: each must succeed.
    pub recovery: Recovery,
    /// Time in half-open after which the breaker opens again, for probes that never end. Default: none, as zero is.
    pub max_half_open_time: Option<Duration>,
    /// How long it stays open. Default 60 s, always the same.
    pub open_time: OpenTime,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self {
            window: Window::Interval(None),
            consecutive_failures: 5,
            failure_percent: None,
            slow_calls: None,
            minimum_calls: 10,
            ready_to_trip: None,
            probes: 1,
            recovery: Recovery::EveryProbe,
            max_half_open_time: None,
            open_time: OpenTime::fixed(Duration::from_secs(60)),
        }
    }
}

impl BreakerPolicy {
    /// Hystrix' defaults: half of at least 20 calls in 10 buckets of 1 s failed; open for 5 s; one trial.
    ///
    /// Source: `HystrixCommandProperties` (Netflix/Hystrix): `circuitBreaker.requestVolumeThreshold` 20,
    /// `circuitBreaker.errorThresholdPercentage` 50, `circuitBreaker.sleepWindowInMilliseconds` 5000,
    /// `metrics.rollingStats.timeInMilliseconds` 10000 in 10 buckets. Hystrix takes the rate from a picture that is up to
    /// 500 ms old (`metrics.healthSnapshot.intervalInMilliseconds`); here it is taken after every call.
    pub fn hystrix() -> Self {
        Self {
            window: Window::Time { length: Duration::from_secs(10), buckets: 10 },
            consecutive_failures: 0,
            failure_percent: Some(50),
            minimum_calls: 20,
            open_time: OpenTime::fixed(Duration::from_secs(5)),
            ..Self::default()
        }
    }

    /// resilience4j's defaults: half of the last 100 calls failed, or all of them took longer than 60 s; open for 60 s;
    /// 10 probes, whose rates decide.
    ///
    /// Source: `CircuitBreakerConfig` (resilience4j): `failureRateThreshold` 50, `slowCallRateThreshold` 100,
    /// `slowCallDurationThreshold` 60 s, `slidingWindowType` COUNT_BASED, `slidingWindowSize` 100, `minimumNumberOfCalls`
    /// 100, `permittedNumberOfCallsInHalfOpenState` 10, `waitDurationInOpenState` 60 s,
    /// `maxWaitDurationInHalfOpenState` 0 (none).
    pub fn resilience4j() -> Self {
        Self {
            window: Window::Count(100),
            consecutive_failures: 0,
            failure_percent: Some(50),
            slow_calls: Some(SlowCalls { longer_than: Duration::from_secs(60), percent: 100 }),
            minimum_calls: 100,
            probes: 10,
            recovery: Recovery::Rates,
            ..Self::default()
        }
    }

    /// gobreaker's defaults: more than 5 failures in a row, counted without end; open for 60 s; one probe.
    ///
    /// Source: `Settings` (sony/gobreaker): `MaxRequests` 0 is 1, `Interval` 0 never clears the counts, `Timeout` 0 is
    /// 60 s, `ReadyToTrip` nil is `ConsecutiveFailures > 5`.
    pub fn gobreaker() -> Self {
        Self::counting(1, Duration::ZERO, Duration::from_secs(60))
    }

    /// Trips on the sixth failure in a row, with counts that start anew every `interval` (zero: never), stays open for
    /// `timeout`, then lets `max_requests` probes through which must all succeed.
    ///
    /// These are the three numbers of gobreaker's constructor, in its order.
    pub fn counting(max_requests: u32, interval: Duration, timeout: Duration) -> Self {
        Self {
            window: Window::Interval((!interval.is_zero()).then_some(interval)),
            consecutive_failures: 6,
            probes: max_requests,
            open_time: OpenTime::fixed(timeout),
            ..Self::default()
        }
    }

    /// The preset of that name: `hystrix`, `resilience4j`, `gobreaker`.
    pub fn preset(name: &str) -> Option<Self> {
        match name {
            "hystrix" => Some(Self::hystrix()),
            "resilience4j" => Some(Self::resilience4j()),
            "gobreaker" => Some(Self::gobreaker()),
            _ => None,
        }
    }

    /// The presets that [`BreakerPolicy::preset`] knows.
    pub const PRESETS: [&str; 3] = ["gobreaker", "hystrix", "resilience4j"];

    /// Presets by the kind of service that is called: `user-service` gets 5 probes, an interval of 1 m and 2 m open;
    /// `payment-service` 3 probes, 2 m and 5 m; every other 10 probes, 1 m and 1 m. See [`BreakerPolicy::counting`].
    pub fn for_service(service: &str) -> Self {
        const MINUTE: Duration = Duration::from_secs(60);
        match service {
            "user-service" => Self::counting(5, MINUTE, 2 * MINUTE),
            "payment-service" => Self::counting(3, 2 * MINUTE, 5 * MINUTE),
            _ => Self::counting(10, MINUTE, MINUTE),
        }
    }

    /// The same with every value in its range.
    pub(super) fn in_range(mut self) -> Self {
        self.window = self.window.in_range();
        if let Window::Count(calls) = self.window {
            self.minimum_calls = self.minimum_calls.min(calls);
        }
        self.failure_percent = self.failure_percent.map(percent);
        self.slow_calls = self.slow_calls.map(|slow| SlowCalls { percent: percent(slow.percent), ..slow });
        self.probes = self.probes.max(1);
        self.max_half_open_time = self.max_half_open_time.filter(|time| !time.is_zero());
        self.open_time = self.open_time.in_range();
        self
    }
}

fn percent(percent: u32) -> u32 {
    percent.clamp(1, 100)
}

/// The calls that a breaker counts while it is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// The last calls, 1 to 1,000,000.
    Count(u32),
    /// The calls that ended in the last `length`. It moves in steps of one bucket: the present one, which is not full
    /// yet, and those before it.
    Time {
        /// All buckets together; at least 1 ns per bucket.
        length: Duration,
        /// 1 to 3,600.
        buckets: u32,
    },
    /// The calls since the breaker closed, forgotten at the end of every interval. What was sent in one interval and
    /// ends in the next is not counted. `None` never forgets.
    Interval(Option<Duration>),
}

impl Window {
    fn in_range(self) -> Self {
        match self {
            Self::Count(calls) => Self::Count(calls.clamp(1, MAX_CALLS)),
            Self::Time { length, buckets } => {
                let buckets = buckets.clamp(1, MAX_BUCKETS);
                Self::Time { length: length.max(Duration::from_nanos(u64::from(buckets))), buckets }
            }
            Self::Interval(interval) => Self::Interval(interval.filter(|interval| !interval.is_zero())),
        }
    }
}

/// When slow calls trip a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowCalls {
    /// A call that takes longer than this is slow, whether it fails or not.
    pub longer_than: Duration,
    /// Share of slow calls in the window that trips (at or above), 1 to 100 percent.
    pub percent: u32,
}

/// What probes must show for a half-open breaker to close.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recovery {
    /// All must succeed, and none may be slow where slow calls trip; the first that is not so opens the breaker again
    /// (Hystrix, gobreaker).
    #[default]
    EveryProbe,
    /// When all have ended, their rates must be below those that trip (resilience4j). Without a rate in the policy this
    /// is [`Recovery::EveryProbe`].
    Rates,
}

/// How long a breaker stays open: `base`, and `multiplier` times as long with every time it opens without having closed
/// in between.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OpenTime {
    /// The first time.
    pub base: Duration,
    /// Factor of each further time; at least 1, which is always the same.
    pub multiplier: f64,
    /// No time is longer, before jitter; at least `base`.
    pub max: Duration,
    /// The time is drawn from this share around it: 0.25 is 75 % to 125 %. 0 to 1; 0 is exact.
    pub jitter: f64,
}

impl OpenTime {
    /// Always the same time.
    pub const fn fixed(time: Duration) -> Self {
        Self { base: time, multiplier: 1.0, max: time, jitter: 0.0 }
    }

    fn in_range(self) -> Self {
        Self {
            base: self.base,
            multiplier: if self.multiplier >= 1.0 { self.multiplier } else { 1.0 },
            max: self.max.max(self.base),
            jitter: if self.jitter >= 0.0 { self.jitter.min(1.0) } else { 0.0 },
        }
    }

    /// The time of the opening that comes after `before` others in a row.
    pub fn after(&self, before: u32, rng: &mut fastrand::Rng) -> Duration {
        let grown = self.base.as_secs_f64() * self.multiplier.powi(i32::try_from(before).unwrap_or(i32::MAX));
        let capped = if grown < self.max.as_secs_f64() { grown } else { self.max.as_secs_f64() };
        let drawn = if self.jitter > 0.0 { capped * (1.0 + self.jitter * (2.0 * rng.f64() - 1.0)) } else { capped };
        Duration::try_from_secs_f64(drawn).unwrap_or(self.max)
    }
}

/// A caller's own condition over the counts. It runs under the breaker's lock: it should be short, and must not use the
/// breaker. Two are equal when they are the same function.
#[derive(Clone)]
pub struct ReadyToTrip(Arc<dyn Fn(&Counts) -> bool + Send + Sync>);

impl ReadyToTrip {
    /// Trips when `condition` says so.
    ///
    /// ```
    /// use meshwright_traffic::ReadyToTrip;
    ///
    /// let mostly_failing = ReadyToTrip::new(|counts| counts.requests >= 3 && counts.total_failures * 5 >= counts.requests * 3);
    /// ```
    pub fn new(condition: impl Fn(&Counts) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(condition))
    }

    pub(super) fn says(&self, counts: &Counts) -> bool {
        (self.0)(counts)
    }
}

impl fmt::Debug for ReadyToTrip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReadyToTrip")
    }
}

impl PartialEq for ReadyToTrip {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
