//! Traffic decisions as pure state: which endpoint is next, which is out for a while, how much may be in flight, how
//! long to wait before a retry.
//!
//! Nothing here opens a socket, reads a clock or allocates per request: time and chance are arguments. The
//! configuration structs are this crate's own, so that it depends on nothing else of the workspace;
//! `meshwright-snapshot` fills them.
//!
//! - [`Host`], [`HostSet`], [`Group`]: the endpoints of a cluster, near and far, with their shared facts ([`HostState`]) and verdicts
//!   ([`HostVerdict`]).
//! - [`Balancer`]: one worker's choice among them. Each algorithm is one file in `balance/`.
//! - [`OutlierDetector`]: ejection of hosts that fail in a row, or more often than the others.
//! - [`UnreachableDetector`]: ejection of hosts that refuse connections, until one can be made.
//! - [`HealthChecks`]: which endpoint is asked whether it is well, when, and what follows; [`Schedule`]: what is due when.
//! - [`CircuitBreaker`]: stops calls to what fails or is slow. Its policy and presets are in `breaker/policy.rs`.
//! - [`Limits`], [`Usage`]: how much may be open or in flight.
//! - [`Bulkhead`]: how much of it at each host.
//! - [`Backoff`]: the pause before a retry; [`ActiveBudget`], [`RetryBudget`]: how many retries there may be.
//! - [`AdaptiveLimit`]: a limit of concurrency that learns from latency; [`ShedPolicy`]: who is refused first.
//! - [`TokenBucket`], [`KeyedBuckets`]: so many per time, for all or for each. [`LatencyQuantile`], [`HedgeDelay`]: when a call is late enough to be hedged.
//! - [`Kept`]: values for when there is no better one, the least recently used goes first; [`KeptAnswers`]: those of a service.
//! - [`Coalescer`]: one call for all who ask for the same at the same time.
//!
//! Read next: `balance/mod.rs` and `outlier/mod.rs`.

mod adaptive;
mod backoff;
mod balance;
mod breaker;
mod budget;
mod bulkhead;
mod coalesce;
mod ewma;
mod group;
mod hash;
mod health;
mod hedge;
mod host;
mod host_set;
mod kept;
mod keyed_rate;
mod latency;
mod limits;
mod load_meter;
mod locality;
mod outlier;
mod rate;
mod report;
mod rotation;
mod schedule;
mod shed;
mod sync;
mod verdict;
mod warmup;
mod weighted_draw;

pub use adaptive::{
    AdaptiveLimit, AdaptivePolicy, AdaptiveView, Aimd, Gradient2, LimitAlgorithm, LimitSample, Slot, Vegas,
};
pub use backoff::Backoff;
pub use balance::{Ask, Balancer, NoHost, Policy, Stagger};
pub use breaker::{
    Admission, BreakerChanges, BreakerMode, BreakerPolicy, BreakerRefusal, BreakerState, BreakerView, CircuitBreaker,
    Counts, OpenTime, Outcome, Permit, ReadyToTrip, Recovery, SlowCalls, StateCause, StateChange, Window,
};
pub use budget::{ActiveBudget, BudgetPolicy, RetryBudget};
pub use bulkhead::Bulkhead;
pub use coalesce::{CoalesceBounds, Coalescer, Follower, Leader, Turn};
pub use group::Group;
pub use hash::{TableKind, hash_key};
pub use health::{
    CheckResult, CheckTask, CheckedHost, HealthChange, HealthChecks, HealthCounts, HealthFacts, HealthPolicy,
    HealthState, HostHealth,
};
pub use hedge::HedgeDelay;
pub use host::{AdminState, Host, HostState};
pub use host_set::{HostSet, InFlight};
pub use kept::{Kept, KeptAnswer, KeptAnswers, KeptBounds};
pub use keyed_rate::{KeyedBuckets, Taken};
pub use latency::LatencyQuantile;
pub use limits::{Limits, Usage};
pub use load_meter::LoadMeter;
pub use locality::{Distribution, Failover, Labels, LocalityRule, Place};
pub use outlier::{
    Away, Comeback, EjectionCause, EjectionKind, EjectionRefusal, Ejections, Enforcing, FailurePercentagePolicy,
    Observation, OutlierDetector, OutlierEvent, OutlierPolicy, SuccessRatePolicy, Unreachable, UnreachableDetector,
    UnreachablePolicy,
};
pub use rate::{Rate, TokenBucket};
pub use report::{LoadSource, ProbeOutcome};
pub use schedule::{Schedule, Streak};
pub use shed::{Criticality, ShedPolicy};
pub use verdict::HostVerdict;
pub use warmup::Warmup;
