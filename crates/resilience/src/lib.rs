//! Calls that fail well: a circuit breaker, retries under a budget, time limits, hedging, fallbacks, bulkheads, rate
//! limits and adaptive limits around any async call, alone or as one [`Policy`]; and around that, by key, the last good value and one
//! call for all who ask for the same.
//!
//! The rules are those of the mesh: the state machines come from `meshwright-traffic`, which has no runtime; this crate
//! adds the clock, the waiting and the guards. It knows no HTTP. Read next: `breaker.rs`, then `policy.rs`.
//!
//! # One breaker
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! use meshwright_resilience::{BreakerPolicy, CircuitBreaker, Error};
//! # async fn fetch_user() -> Result<&'static str, std::io::Error> { Ok("Ada") }
//!
//! let breaker = CircuitBreaker::new("user-service", BreakerPolicy::for_service("user-service"));
//! match breaker.call(fetch_user()).await {
//!     Ok(user) => println!("{user}"),
//!     Err(Error::Open { refusal, .. }) => println!("not asked: {refusal}"),
//!     Err(error) => println!("asked, but {error}"),
//! }
//! # }
//! ```
//!
//! # A whole policy
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! use std::time::Duration;
//! use meshwright_resilience::{Bulkhead, BreakerPolicy, CircuitBreaker, Policy, Retry};
//! # async fn fetch_user() -> Result<&'static str, std::io::Error> { Ok("Ada") }
//!
//! let policy = Policy::new()
//!     .with_fallback_value("nobody")
//!     .with_retry(Retry::new(2))
//!     .with_breaker(CircuitBreaker::new("user-service", BreakerPolicy::hystrix()))
//!     .with_timeout(Duration::from_secs(1))
//!     .with_bulkhead(Bulkhead::new(10));
//! assert_eq!(policy.call(|| fetch_user()).await.unwrap(), "Ada");
//! # }
//! ```
//!
//! # Order
//!
//! A [`Policy`] always composes in this order, the outermost first, whatever the order it was built in:
//!
//! | stage | sees | why there |
//! |---|---|---|
//! | [`Coalesce`], around the policy | one call for all of a key | whatever the call costs is paid once |
//! | [`LastGood`], around the policy | the last error of a key | a value that was good comes before one that never was: leave the fallback out |
//! | fallback | the last error | answers for everything within |
//! | deadline | all tries and pauses together | a caller waits no longer |
//! | retry | each try's end | a try that found the breaker open is not repeated |
//! | hedge | each try's duration | a hedge asks the breaker like any call |
//! | circuit breaker | a try without our own refusals | what we refuse says nothing about the destination |
//! | timeout | one try, waiting included | a try that is over is a failure to the breaker |
//! | rate limit, adaptive limit, bulkhead | what is really sent | a place is held only while a call is under way |
//!
//! This is the order of resilience4j's decorators (`Retry(CircuitBreaker(RateLimiter(TimeLimiter(Bulkhead(call)))))`) with
//! hedging and adaptive limits added, and the time limit outside of the rate limiter so that it bounds that wait too.
//!
//! # Cost
//!
//! A call through a breaker reads the clock twice and takes an uncontended lock twice. Nothing here spawns a task. A
//! [`Policy`] without hedging and fallback does not allocate; with hedging every try is one box. [`LastGood`] takes a short lock when a
//! call ends and clones its value; [`Coalesce`] takes two, allocates the call that others may wait for, and clones its result once for
//! each of them.

mod adaptive;
mod backends;
mod breaker;
mod breakers;
mod bulkhead;
mod bulkheads;
mod clock;
mod coalesce;
mod error;
mod hedge;
mod last_good;
mod policy;
mod rate;
mod retry;
#[cfg(feature = "serde")]
mod settings;
#[cfg(feature = "tower")]
mod tower;

pub use adaptive::AdaptiveLimiter;
pub use backends::{Backends, Lease};
pub use breaker::{CallPermit, CircuitBreaker};
pub use breakers::CircuitBreakers;
pub use bulkhead::Bulkhead;
pub use bulkheads::Bulkheads;
pub use coalesce::Coalesce;
pub use error::Error;
pub use hedge::Hedge;
pub use last_good::LastGood;
pub use meshwright_traffic::{
    AdaptivePolicy, AdaptiveView, Aimd, Backoff, BreakerMode, BreakerPolicy, BreakerRefusal, BreakerState, BreakerView,
    BudgetPolicy, Counts, Criticality, Gradient2, LimitAlgorithm, LimitSample, NoHost, OpenTime,
    Policy as BalancingPolicy, Rate, ReadyToTrip, Recovery, ShedPolicy, SlowCalls, StateCause, StateChange, TableKind,
    Vegas, Window,
};
pub use policy::Policy;
pub use rate::RateLimiter;
pub use retry::{Retry, RetryBudget};
#[cfg(feature = "serde")]
pub use settings::{BreakerSettings, InvalidSettings, ServiceSettings};
#[cfg(feature = "tower")]
pub use tower::{
    CircuitBreakerLayer, CircuitBreakerService, CoalesceLayer, KeyedService, LastGoodLayer, PolicyLayer, PolicyService,
};

/// The examples of the README, which are tests too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
