//! How long the exchange of one service's endpoints takes among 10,000 services with ten instances each.
//! `cargo run --release -p meshwright-snapshot --example endpoint_change`

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on ends here")]
#![allow(clippy::disallowed_methods, reason = "it measures time")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::{Duration, Instant};

use meshwright_model::{EndpointSet, Mesh, ServiceId};

const SERVICES: usize = 10_000;
const INSTANCES: usize = 10;
const CHANGES: usize = 100;

fn main() {
    let addresses: Vec<String> = (1..=INSTANCES).map(|last| format!("10.0.0.{last}:8080")).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let service = |number: usize| common::service(&format!("service-{number}"), &[], &addresses);
    let mut snapshot = common::snapshot(Mesh { services: (0..SERVICES).map(service).collect(), ..Mesh::default() });
    let mut times: Vec<Duration> = Vec::with_capacity(CHANGES);
    for change in 0..CHANGES {
        let number = change * (SERVICES / CHANGES);
        let changed = service(number).endpoints.into_iter().skip(1);
        let registered = changed.map(|endpoint| (endpoint, vec!["10.0.0.99".parse().unwrap()])).take(1).collect();
        let set = EndpointSet { service: ServiceId(number), addresses: Vec::new(), registered };
        let began = Instant::now();
        let next = snapshot.with_endpoints(&[set]);
        times.push(began.elapsed());
        snapshot = next;
    }
    times.sort();
    println!(
        "one of {SERVICES} services changes: median {:.1?}, longest {:.1?}",
        times[CHANGES / 2],
        times[CHANGES - 1]
    );
}
