//! The cases. Each does all of its work `count` times and is set up anew, which costs next to nothing at these counts.

use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use failsafe::CircuitBreaker as _;
use meshwright_traffic::{
    Ask, Balancer, BreakerPolicy, CircuitBreaker, Host, HostSet, Observation, Outcome, OutlierDetector, OutlierPolicy,
    Policy, Stagger, TableKind, hash_key,
};
use tower_layer::Layer;
use tower_service::Service;

/// One thing to measure.
pub struct Case {
    pub name: &'static str,
    pub run: fn(u64),
}

const fn case(name: &'static str, run: fn(u64)) -> Case {
    Case { name, run }
}

/// All of them.
pub static CASES: &[Case] = &[
    case("round-robin-10-endpoints", |count| requests(Policy::RoundRobin, 10, count)),
    case("round-robin-1000-endpoints", |count| requests(Policy::RoundRobin, 1_000, count)),
    case("least-request-10-endpoints", |count| requests(Policy::LeastRequest, 10, count)),
    case("least-request-1000-endpoints", |count| requests(Policy::LeastRequest, 1_000, count)),
    case("peak-ewma-10-endpoints", |count| requests(Policy::PeakEwma, 10, count)),
    case("peak-ewma-1000-endpoints", |count| requests(Policy::PeakEwma, 1_000, count)),
    case("random-10-endpoints", |count| requests(Policy::Random, 10, count)),
    case("random-1000-endpoints", |count| requests(Policy::Random, 1_000, count)),
    case("prequal-10-endpoints", |count| requests(Policy::Prequal, 10, count)),
    case("prequal-1000-endpoints", |count| requests(Policy::Prequal, 1_000, count)),
    case("ring-hash-10-endpoints", |count| requests(RING_HASH, 10, count)),
    case("ring-hash-1000-endpoints", |count| requests(RING_HASH, 1_000, count)),
    case("maglev-10-endpoints", |count| requests(MAGLEV, 10, count)),
    case("maglev-1000-endpoints", |count| requests(MAGLEV, 1_000, count)),
    case("breaker-in-a-row-meshwright-time-given", given_time),
    case("breaker-in-a-row-meshwright", |count| ours(BreakerPolicy::gobreaker(), count)),
    case("breaker-in-a-row-failsafe", failsafe_in_a_row),
    case("breaker-last-100-meshwright", |count| ours(BreakerPolicy::resilience4j(), count)),
    case("breaker-last-100-recloser", recloser_last_100),
    case("breaker-last-100-tower-resilience", tower_last_100),
    case("breaker-10-s-meshwright", |count| ours(BreakerPolicy::hystrix(), count)),
    case("breaker-10-s-failsafe", failsafe_10_s),
];

/// Tables of the default sizes.
const RING_HASH: Policy = Policy::ConsistentHash { table: TableKind::Ring { minimum_size: 1_024 }, bound: None };
const MAGLEV: Policy = Policy::ConsistentHash { table: TableKind::Maglev { table_size: 65_537 }, bound: None };

/// Requests in flight at one time.
const IN_FLIGHT: usize = 32;

/// Choice, leave of a circuit breaker, requests in flight, latency, outlier detection: what a data plane does around a request.
fn requests(policy: Policy, endpoints: u32, count: u64) {
    let names = (0..endpoints).map(|number| format!("10.0.{}.{}:80", number / 256, number % 256)).collect();
    let hosts = HostSet::new((0..endpoints).map(|_| Host::new(1)).collect(), 50).with_names(names);
    hosts.prepare(policy);
    let hashes = matches!(policy, Policy::ConsistentHash { .. });
    let (breaker, detector) =
        (CircuitBreaker::new(BreakerPolicy::hystrix()), OutlierDetector::new(OutlierPolicy::default()));
    let mut balancer = Balancer::new(policy, &hosts, Stagger::ALONE);
    let mut rng = fastrand::Rng::with_seed(1);
    let mut in_flight = [const { None }; IN_FLIGHT];
    let start = Instant::now();
    for number in 0..count {
        let now = start + Duration::from_micros(number);
        let hash = hashes.then(|| hash_key(&number.to_le_bytes()));
        let ask = Ask { hash, ..Ask::first(now) };
        let Ok(picked) = balancer.pick(&hosts, black_box(&ask), &mut rng) else { continue };
        let Ok(permit) = breaker.try_acquire(now, &mut rng).permit else { continue };
        if policy.needs_in_flight() {
            hosts.acquire(picked);
        }
        let Some((done, permit)) = in_flight[number as usize % IN_FLIGHT].replace((picked, permit)) else { continue };
        if policy.needs_in_flight() {
            hosts.release(done);
        }
        if policy.needs_latency() {
            hosts.hosts()[done].state.observe_latency(Duration::from_micros(900 + number % 200), now);
        }
        black_box(breaker.record(permit, Outcome::Success, now, &mut rng));
        black_box(detector.observe(&hosts, done, Observation::Status(200), now, &mut rng));
    }
}

/// A successful call; the clock is read when it begins and when it ends, as a library around a call does.
fn ours(policy: BreakerPolicy, count: u64) {
    let (breaker, mut rng) = (CircuitBreaker::new(policy), fastrand::Rng::with_seed(1));
    for _ in 0..count {
        let Ok(permit) = breaker.try_acquire(Instant::now(), &mut rng).permit else { continue };
        let _ = black_box(succeed());
        black_box(breaker.record(permit, Outcome::Success, Instant::now(), &mut rng));
    }
}

/// As in a data plane, which has read the clock anyway.
fn given_time(count: u64) {
    let (breaker, mut rng) = (CircuitBreaker::new(BreakerPolicy::gobreaker()), fastrand::Rng::with_seed(1));
    let start = Instant::now();
    for number in 0..count {
        let now = start + Duration::from_nanos(100 * number);
        let Ok(permit) = breaker.try_acquire(now, &mut rng).permit else { continue };
        let _ = black_box(succeed());
        black_box(breaker.record(permit, Outcome::Success, now, &mut rng));
    }
}

fn succeed() -> Result<u64, ()> {
    black_box(Ok(1))
}

fn failsafe_in_a_row(count: u64) {
    let pause = failsafe::backoff::constant(Duration::from_secs(60));
    let policy = failsafe::failure_policy::consecutive_failures(6, pause);
    let breaker = failsafe::Config::new().failure_policy(policy).build();
    for _ in 0..count {
        let _ = black_box(breaker.call(succeed));
    }
}

fn failsafe_10_s(count: u64) {
    let pause = failsafe::backoff::constant(Duration::from_secs(5));
    let policy = failsafe::failure_policy::success_rate_over_time_window(0.5, 20, Duration::from_secs(10), pause);
    let breaker = failsafe::Config::new().failure_policy(policy).build();
    for _ in 0..count {
        let _ = black_box(breaker.call(succeed));
    }
}

fn recloser_last_100(count: u64) {
    let breaker = recloser::Recloser::custom().error_rate(0.5).closed_len(100).build();
    for _ in 0..count {
        let _ = black_box(breaker.call(succeed));
    }
}

#[derive(Clone)]
struct Succeeds;

impl Service<()> for Succeeds {
    type Response = u64;
    type Error = ();
    type Future = std::future::Ready<Result<u64, ()>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        std::future::ready(succeed())
    }
}

fn tower_last_100(count: u64) {
    let layer = tower_resilience_circuitbreaker::CircuitBreakerLayer::builder()
        .failure_rate_threshold(0.5)
        .sliding_window_size(100)
        .minimum_number_of_calls(100)
        .build()
        .expect("a layer");
    let mut service = layer.layer(Succeeds);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..count {
        let _ = black_box(service.poll_ready(&mut context));
        let call = pin!(service.call(()));
        let _ = black_box(call.poll(&mut context));
    }
}
