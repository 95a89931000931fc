//! A discrete-event simulation of clients, balancers and backends. Time stands still while an event is handled and jumps to
//! the next one. The balancers and what they know of the backends are `meshwright-traffic`'s. Read next: `report.rs`.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use meshwright_traffic::{Ask, Balancer, Host, HostSet, InFlight, LoadMeter, Policy, Stagger, hash_key};

use super::spec::{Arrivals, Backend, Backends, Load, NamedPolicy};

/// Part of the time that is left out of the numbers: queues and averages are empty at the start.
const SETTLING: f64 = 0.1;
/// Probes that backends answer for each request of Prequal.
const PROBES: usize = 3;
/// Keys by which the disruption of a table is measured.
const KEYS: u64 = 200_000;

/// What came of one policy.
#[derive(Debug)]
pub struct Outcome {
    /// Latencies of all requests that count, sorted.
    latencies: Vec<Duration>,
    /// Requests that count.
    pub requests: u64,
    /// Of these, failed.
    pub errors: u64,
    /// Requests by backend.
    pub by_backend: Vec<u64>,
}

impl Outcome {
    /// p50, p90, p99 and p99.9.
    pub fn quantiles(&self) -> [Duration; 4] {
        [0.5, 0.9, 0.99, 0.999].map(|quantile| self.quantile(quantile))
    }

    fn quantile(&self, quantile: f64) -> Duration {
        // Below the length.
        let at = ((self.latencies.len() as f64 * quantile) as usize).min(self.latencies.len().saturating_sub(1));
        self.latencies.get(at).copied().unwrap_or_default()
    }
}

/// Something that happens at a time; equal times are in the order in which they were planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    at: Duration,
    number: u64,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// The next request of the open load.
    Arrival,
    /// A client of the closed load sends.
    Send,
    /// A backend is done with a request.
    Done(usize),
}

/// A request on its way.
#[derive(Clone, Copy, Debug)]
struct Request {
    sent: Duration,
    proxy: usize,
    backend: usize,
    /// Requests that were at the backend when it came.
    before: u32,
}

/// A backend as it is.
#[derive(Debug)]
struct Server {
    backend: Backend,
    serving: u32,
    line: VecDeque<usize>,
    /// What it says of itself.
    meter: LoadMeter,
}

/// One process: what it knows, and its workers.
struct Proxy {
    hosts: HostSet,
    workers: Vec<Balancer>,
}

struct Simulation<'a> {
    load: &'a Load,
    policy: Policy,
    start: Instant,
    rng: fastrand::Rng,
    proxies: Vec<Proxy>,
    servers: Vec<Server>,
    requests: Vec<Request>,
    spare: Vec<usize>,
    events: BinaryHeap<Reverse<Event>>,
    planned: u64,
    outcome: Outcome,
}

/// Lets a load go through one policy.
pub fn run(policy: &NamedPolicy, backends: &Backends, load: &Load, seed: u64) -> Outcome {
    let mut simulation = Simulation::new(policy.policy, backends, load, seed);
    simulation.begin();
    while let Some(Reverse(event)) = simulation.events.pop() {
        simulation.handle(event);
    }
    simulation.outcome.latencies.sort_unstable();
    simulation.outcome
}

fn host_set(backends: &[(usize, Backend)], policy: Policy) -> HostSet {
    let hosts = backends.iter().map(|(_, backend)| Host::new(backend.weight)).collect();
    let names = backends.iter().map(|(number, _)| format!("backend-{number}:80")).collect();
    let bounded = matches!(policy, Policy::ConsistentHash { bound: Some(_), .. });
    let hosts = HostSet::new(hosts, 0).with_names(names).with_in_flight(bounded.then(InFlight::default));
    hosts.prepare(policy);
    hosts
}

impl<'a> Simulation<'a> {
    fn new(policy: Policy, backends: &Backends, load: &'a Load, seed: u64) -> Self {
        let numbered: Vec<(usize, Backend)> = backends.list.iter().copied().enumerate().collect();
        let proxy = |_| {
            let hosts = host_set(&numbered, policy);
            let stagger = |worker| Stagger { worker, workers: load.workers };
            let workers = (0..load.workers).map(|worker| Balancer::new(policy, &hosts, stagger(worker))).collect();
            Proxy { hosts, workers }
        };
        let server = |backend: &Backend| Server {
            backend: *backend,
            serving: 0,
            line: VecDeque::new(),
            meter: LoadMeter::default(),
        };
        Self {
            load,
            policy,
            start: Instant::now(),
            rng: fastrand::Rng::with_seed(seed),
            proxies: (0..load.proxies).map(proxy).collect(),
            servers: backends.list.iter().map(server).collect(),
            requests: Vec::new(),
            spare: Vec::new(),
            events: BinaryHeap::new(),
            planned: 0,
            outcome: Outcome {
                latencies: Vec::new(),
                requests: 0,
                errors: 0,
                by_backend: vec![0; backends.list.len()],
            },
        }
    }

    fn plan(&mut self, at: Duration, what: What) {
        self.planned += 1;
        self.events.push(Reverse(Event { at, number: self.planned, what }));
    }

    fn begin(&mut self) {
        match self.load.arrivals {
            Arrivals::Open(_) => self.plan(Duration::ZERO, What::Arrival),
            Arrivals::Closed(clients) => (0..clients).for_each(|_| self.plan(Duration::ZERO, What::Send)),
        }
    }

    fn handle(&mut self, event: Event) {
        match event.what {
            What::Arrival => {
                let Arrivals::Open(rate) = self.load.arrivals else { return };
                let pause = Duration::from_secs_f64(-(1.0 - self.rng.f64()).ln() / rate);
                if event.at + pause < self.load.time {
                    self.plan(event.at + pause, What::Arrival);
                }
                self.send(event.at);
            }
            What::Send => self.send(event.at),
            What::Done(request) => self.done(event.at, request),
        }
    }

    fn send(&mut self, at: Duration) {
        let now = self.start + at;
        let proxy = self.rng.usize(..self.proxies.len());
        let worker = self.rng.usize(..self.load.workers);
        if self.policy == Policy::Prequal {
            self.probe(proxy, now);
        }
        let key = self.rng.u64(..self.load.keys);
        let ask = Ask { hash: Some(hash_key(&key.to_le_bytes())), ..Ask::first(now) };
        let Proxy { hosts, workers } = &mut self.proxies[proxy];
        let Ok(backend) = workers[worker].pick(hosts, &ask, &mut self.rng) else { return };
        if self.policy.needs_in_flight() {
            hosts.acquire(backend);
        }
        let request = Request { sent: at, proxy, backend, before: self.servers[backend].meter.enter() };
        let number = match self.spare.pop() {
            Some(number) => {
                self.requests[number] = request;
                number
            }
            None => {
                self.requests.push(request);
                self.requests.len() - 1
            }
        };
        self.servers[backend].line.push_back(number);
        self.serve(backend, at);
    }

    /// Backends say what they know of themselves.
    fn probe(&mut self, proxy: usize, now: Instant) {
        for _ in 0..PROBES {
            let backend = self.rng.usize(..self.servers.len());
            let (in_flight, latency) = self.servers[backend].meter.read();
            self.proxies[proxy].hosts.hosts()[backend].state.report(in_flight, latency, now);
        }
    }

    /// Whoever is first in line is served, as long as there is room.
    fn serve(&mut self, backend: usize, at: Duration) {
        let server = &mut self.servers[backend];
        while server.backend.concurrency.is_none_or(|most| server.serving < most) {
            let Some(request) = server.line.pop_front() else { return };
            server.serving += 1;
            let time = server.backend.delay.sample(&mut self.rng);
            self.planned += 1;
            self.events.push(Reverse(Event { at: at + time, number: self.planned, what: What::Done(request) }));
        }
    }

    fn done(&mut self, at: Duration, number: usize) {
        let request = self.requests[number];
        self.spare.push(number);
        let latency = at - request.sent;
        let server = &mut self.servers[request.backend];
        server.serving -= 1;
        server.meter.leave();
        server.meter.answered(request.before, latency);
        let failed = self.rng.f64() * 100.0 < server.backend.fail;
        let hosts = &self.proxies[request.proxy].hosts;
        if self.policy.needs_in_flight() {
            hosts.release(request.backend);
        }
        if self.policy.needs_latency() {
            hosts.hosts()[request.backend].state.observe_latency(latency, self.start + at);
        }
        if request.sent >= self.load.time.mul_f64(SETTLING) {
            self.outcome.requests += 1;
            self.outcome.errors += u64::from(failed);
            self.outcome.by_backend[request.backend] += 1;
            self.outcome.latencies.push(latency);
        }
        self.serve(request.backend, at);
        if matches!(self.load.arrivals, Arrivals::Closed(_)) && at < self.load.time {
            self.plan(at, What::Send);
        }
    }
}

/// How many keys move when the backend in the middle leaves, as parts of all keys.
#[derive(Clone, Copy, Debug)]
pub struct Disruption {
    /// Those that moved.
    pub moved: f64,
    /// Those that had to: the keys of the backend that left.
    pub ideal: f64,
}

/// The disruption of a policy with a table; `None` for others, and for a single backend.
pub fn disruption(policy: &NamedPolicy, backends: &Backends) -> Option<Disruption> {
    let gone = backends.list.len() / 2;
    if !matches!(policy.policy, Policy::ConsistentHash { .. }) || gone == 0 {
        return None;
    }
    let numbered: Vec<(usize, Backend)> = backends.list.iter().copied().enumerate().collect();
    let others: Vec<(usize, Backend)> = numbered.iter().copied().filter(|(number, _)| *number != gone).collect();
    let (before, after) = (host_set(&numbered, policy.policy), host_set(&others, policy.policy));
    let balancer = |hosts: &HostSet| Balancer::new(policy.policy, hosts, Stagger::ALONE);
    let (mut first, mut second) = (balancer(&before), balancer(&after));
    let (now, mut rng) = (Instant::now(), fastrand::Rng::with_seed(0));
    let (mut moved, mut ideal) = (0u32, 0u32);
    for key in 0..KEYS {
        let ask = Ask { hash: Some(hash_key(&key.to_le_bytes())), ..Ask::first(now) };
        let old = first.pick(&before, &ask, &mut rng).ok()?;
        let new = second.pick(&after, &ask, &mut rng).ok()?;
        moved += u32::from(before.name(old) != after.name(new));
        ideal += u32::from(old == gone);
    }
    let part = |count: u32| f64::from(count) / KEYS as f64;
    Some(Disruption { moved: part(moved), ideal: part(ideal) })
}
