//! Prints the time of one choice and its accounting, for 10 and 1,000 endpoints: `cargo run --release -p meshwright-traffic
//! --example pick_speed`. Accounting is what a data plane does for the policy: requests in flight, latency, outlier detection.

use std::hint::black_box;
use std::time::{Duration, Instant};

use meshwright_traffic::{
    Ask, Balancer, Group, Host, HostSet, InFlight, Observation, OutlierDetector, OutlierPolicy, Policy, Stagger,
    TableKind, hash_key,
};

const CHOICES: u32 = 1_000_000;
/// Requests in flight at one time.
const IN_FLIGHT: usize = 32;

fn main() {
    let hashed = |table| Policy::ConsistentHash { table, bound: None };
    let bounded = Policy::ConsistentHash { table: TableKind::RING, bound: Some(150) };
    let policies = [
        ("ROUND_ROBIN", Policy::RoundRobin),
        ("RANDOM", Policy::Random),
        ("LEAST_REQUEST", Policy::LeastRequest),
        ("PEAK_EWMA", Policy::PeakEwma),
        ("PREQUAL", Policy::Prequal),
        ("RESPONSE_TIME", Policy::ResponseTime),
        ("RING_HASH", hashed(TableKind::RING)),
        ("RING_HASH bounded", bounded),
        ("MAGLEV", hashed(TableKind::MAGLEV)),
        ("LEAST_REQUEST_OF_ALL", Policy::LeastRequestOfAll),
    ];
    println!("{:<22} {:>12} {:>12} {:>14}", "", "10 hosts", "1,000 hosts", "1,000 in zones");
    for (name, policy) in policies {
        let of = |count, zones| nanoseconds(policy, &hosts(policy, count, zones));
        println!("{name:<22} {:>9.1} ns {:>9.1} ns {:>11.1} ns", of(10, false), of(1_000, false), of(1_000, true));
    }
}

fn hosts(policy: Policy, count: u32, zones: bool) -> HostSet {
    let hosts = (0..count).map(|_| Host::new(1)).collect();
    let names = (0..count).map(|number| format!("10.0.{}.{}:8080", number / 256, number % 256)).collect();
    let bounded = matches!(policy, Policy::ConsistentHash { bound: Some(_), .. });
    let set = HostSet::new(hosts, 50).with_names(names).with_in_flight(bounded.then(InFlight::default));
    let zone =
        |number: u32| Group { priority: 0, weight: 1, hosts: (0..count).filter(|host| host % 3 == number).collect() };
    let set = if zones { set.with_groups(&[zone(0), zone(1), zone(2)]) } else { set };
    set.prepare(policy);
    set
}

#[allow(clippy::disallowed_methods, reason = "a measurement needs the clock")]
fn nanoseconds(policy: Policy, hosts: &HostSet) -> f64 {
    let mut balancer = Balancer::new(policy, hosts, Stagger::ALONE);
    let detector = OutlierDetector::new(OutlierPolicy::default());
    let mut rng = fastrand::Rng::with_seed(1);
    let keys: Vec<String> = (0..1024).map(|number| format!("user-{number}")).collect();
    let mut in_flight = [None; IN_FLIGHT];
    let start = Instant::now();
    for number in 0..CHOICES {
        let now = start + Duration::from_micros(u64::from(number));
        let hash = matches!(policy, Policy::ConsistentHash { .. })
            .then(|| hash_key(keys[number as usize % keys.len()].as_bytes()));
        let ask = Ask { hash, ..Ask::first(now) };
        let Ok(picked) = balancer.pick(hosts, black_box(&ask), &mut rng) else { continue };
        if policy.needs_in_flight() {
            hosts.acquire(picked);
        }
        let Some(done) = in_flight[number as usize % IN_FLIGHT].replace(picked) else { continue };
        if policy.needs_in_flight() {
            hosts.release(done);
        }
        if policy.needs_latency() {
            hosts.hosts()[done].state.observe_latency(Duration::from_micros(900 + u64::from(number % 200)), now);
        }
        black_box(detector.observe(hosts, done, Observation::Status(200), now, &mut rng));
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(CHOICES)
}
