//! Which names are to be resolved when, and what they stand for until then. Pure: the caller brings time and answers.
//!
//! ```text
//!            set_names                take_due               Answer: due again after its time to live (1 s .. 5 min)
//!  (unknown) ────────▶ due now ──────────────▶ in flight ──┤
//!                         ▲                                Failure: due again after 1, 2, 4 .. 60 s, addresses kept
//!                         └────────────────────────────────┘
//! ```
//! It does not know how a name is looked up; see `resolver.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use meshwright_model::{Endpoint, EndpointAddress, EndpointSet, Mesh, Resolution, Service, ServiceId};

use crate::registered::Registered;

/// An answer is never asked for again sooner.
const SHORTEST_TTL: Duration = Duration::from_secs(1);
/// An answer is never kept longer.
const LONGEST_TTL: Duration = Duration::from_secs(300);
/// First pause after a failure; it doubles up to the longest.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);
/// Lookups at once.
const MAX_IN_FLIGHT: usize = 64;

/// How one name fares, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameStatus {
    /// The name.
    pub name: String,
    /// What it stands for now; after failures, what it stood for last.
    pub addresses: Vec<IpAddr>,
    /// Why the last lookup failed; `None` after a success and before the first answer.
    pub error: Option<String>,
    /// Failed lookups in a row.
    pub failures: u32,
}

/// The end of a lookup.
#[derive(Clone, Debug)]
pub(crate) enum Lookup {
    /// The name stands for these addresses, in the order of the answer, for so long.
    Answer { addresses: Vec<IpAddr>, ttl: Duration },
    /// There is no answer.
    Failure(String),
}

/// All names of a configuration.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    names: BTreeMap<String, Entry>,
    in_flight: usize,
}

#[derive(Debug)]
struct Entry {
    addresses: Vec<IpAddr>,
    error: Option<String>,
    failures: u32,
    state: State,
}

#[derive(Debug, PartialEq)]
enum State {
    Due(Instant),
    InFlight,
}

impl Plan {
    /// Replaces the set of names. Names that stay keep their addresses and their time; new ones are due at once.
    pub(crate) fn set_names(&mut self, names: &BTreeSet<String>, now: Instant) {
        self.names.retain(|name, _| names.contains(name));
        for name in names {
            self.names.entry(name.clone()).or_insert_with(|| Entry {
                addresses: Vec::new(),
                error: None,
                failures: 0,
                state: State::Due(now),
            });
        }
    }

    /// When to ask [`Plan::take_due`] again; `None` while there is nothing to ask for before an event.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if self.in_flight >= MAX_IN_FLIGHT {
            return None;
        }
        let due = self.names.values().filter_map(|entry| match entry.state {
            State::Due(at) => Some(at),
            State::InFlight => None,
        });
        due.min()
    }

    /// The names to look up now. Each must come back by [`Plan::handle_event`].
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<String> {
        let mut due = Vec::new();
        for (name, entry) in &mut self.names {
            if self.in_flight >= MAX_IN_FLIGHT {
                break;
            }
            if matches!(entry.state, State::Due(at) if at <= now) {
                entry.state = State::InFlight;
                self.in_flight += 1;
                due.push(name.clone());
            }
        }
        due
    }

    /// A lookup ended. Returns whether the addresses of the name changed; the same addresses in another order are no change.
    pub(crate) fn handle_event(&mut self, name: &str, lookup: Lookup, now: Instant) -> bool {
        self.in_flight = self.in_flight.saturating_sub(1);
        let Some(entry) = self.names.get_mut(name) else { return false };
        match lookup {
            Lookup::Answer { addresses, ttl } => {
                entry.error = None;
                entry.failures = 0;
                entry.state = State::Due(now + ttl.clamp(SHORTEST_TTL, LONGEST_TTL));
                let set = |addresses: &[IpAddr]| addresses.iter().copied().collect::<BTreeSet<IpAddr>>();
                let changed = set(&entry.addresses) != set(&addresses);
                if changed {
                    entry.addresses = addresses;
                }
                changed
            }
            Lookup::Failure(error) => {
                entry.error = Some(error);
                let doublings = entry.failures.min(16);
                entry.failures = entry.failures.saturating_add(1);
                entry.state = State::Due(now + (FIRST_BACKOFF * (1 << doublings)).min(LONGEST_BACKOFF));
                false
            }
        }
    }

    /// How the names fare, sorted.
    pub(crate) fn status(&self) -> Vec<NameStatus> {
        let status = self.names.iter().map(|(name, entry)| NameStatus {
            name: name.clone(),
            addresses: entry.addresses.clone(),
            error: entry.error.clone(),
            failures: entry.failures,
        });
        status.collect()
    }

    /// The status of one name.
    pub(crate) fn name(&self, name: &str) -> Option<NameStatus> {
        let entry = self.names.get(name)?;
        Some(NameStatus {
            name: name.to_owned(),
            addresses: entry.addresses.clone(),
            error: entry.error.clone(),
            failures: entry.failures,
        })
    }

    /// Endpoints of every service that has more of them than its numbers: names, or instances in the registry.
    pub(crate) fn endpoint_sets(&self, mesh: &Mesh, registered: &Registered) -> Vec<EndpointSet> {
        let services = mesh.services.iter().enumerate();
        let moving = services.filter(|(_, service)| registered.contains(&service.host) || has_names(service));
        moving.map(|(index, service)| self.endpoint_set(ServiceId(index), service, registered)).collect()
    }

    /// Endpoints of one service as far as the names are known, with the instances that the registry has.
    pub(crate) fn endpoint_set(&self, id: ServiceId, service: &Service, registered: &Registered) -> EndpointSet {
        let single = service.resolution == Resolution::DnsRoundRobin;
        let addresses = service.endpoints.iter().enumerate();
        let instances = registered.instances(service);
        EndpointSet {
            service: id,
            addresses: addresses.map(|(index, endpoint)| (index, self.addresses(endpoint, single))).collect(),
            registered: instances.map(|endpoint| (endpoint.clone(), self.addresses(endpoint, false))).collect(),
        }
    }

    /// What the address of `endpoint` stands for now; of a name, only the first address when it is `single`.
    fn addresses(&self, endpoint: &Endpoint, single: bool) -> Vec<IpAddr> {
        match &endpoint.address {
            EndpointAddress::Ip(ip) => vec![*ip],
            EndpointAddress::Name(name) => {
                let known = self.names.get(name).map(|entry| entry.addresses.as_slice()).unwrap_or_default();
                known[..if single { known.len().min(1) } else { known.len() }].to_vec()
            }
        }
    }
}

/// Whether an endpoint of the service is a name.
pub(crate) fn has_names(service: &Service) -> bool {
    service.endpoints.iter().any(|endpoint| matches!(endpoint.address, EndpointAddress::Name(_)))
}

/// Every name that is to be resolved.
pub(crate) fn names_of(mesh: &Mesh) -> BTreeSet<String> {
    let endpoints = mesh.services.iter().flat_map(|service| &service.endpoints);
    let names = endpoints.filter_map(|endpoint| match &endpoint.address {
        EndpointAddress::Name(name) => Some(name.clone()),
        EndpointAddress::Ip(_) => None,
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> BTreeSet<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    fn answer(addresses: &[&str], seconds: u64) -> Lookup {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Lookup::Answer { addresses, ttl: Duration::from_secs(seconds) }
    }

    #[test]
    fn a_name_is_due_at_once_and_then_by_its_time_to_live() {
        let start = Instant::now();
        let mut plan = Plan::default();
        plan.set_names(&names(&["a.test"]), start);
        assert_eq!(plan.poll_timeout(), Some(start));
        assert_eq!(plan.take_due(start), ["a.test"]);
        assert_eq!(plan.take_due(start), Vec::<String>::new(), "it is in flight");
        assert_eq!(plan.poll_timeout(), None);
        assert!(plan.handle_event("a.test", answer(&["10.0.0.1"], 30), start));
        assert_eq!(plan.poll_timeout(), Some(start + Duration::from_secs(30)));
    }

    #[test]
    fn times_to_live_are_kept_between_one_second_and_five_minutes() {
        let start = Instant::now();
        let mut plan = Plan::default();
        plan.set_names(&names(&["a.test"]), start);
        plan.take_due(start);
        plan.handle_event("a.test", answer(&["10.0.0.1"], 0), start);
        assert_eq!(plan.poll_timeout(), Some(start + Duration::from_secs(1)));
        let later = start + Duration::from_secs(1);
        plan.take_due(later);
        plan.handle_event("a.test", answer(&["10.0.0.1"], 86_400), later);
        assert_eq!(plan.poll_timeout(), Some(later + Duration::from_secs(300)));
    }

    #[test]
    fn failures_keep_the_addresses_and_come_back_ever_later_up_to_a_minute() {
        let mut now = Instant::now();
        let mut plan = Plan::default();
        plan.set_names(&names(&["a.test"]), now);
        plan.take_due(now);
        plan.handle_event("a.test", answer(&["10.0.0.1"], 1), now);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            now = plan.poll_timeout().unwrap();
            plan.take_due(now);
            assert!(!plan.handle_event("a.test", Lookup::Failure("no answer".into()), now));
            pauses.push((plan.poll_timeout().unwrap() - now).as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        let status = plan.name("a.test").unwrap();
        assert_eq!(status.addresses.len(), 1);
        assert_eq!((status.failures, status.error.as_deref()), (9, Some("no answer")));
    }

    #[test]
    fn the_same_addresses_in_another_order_are_no_change() {
        let now = Instant::now();
        let mut plan = Plan::default();
        plan.set_names(&names(&["a.test"]), now);
        plan.take_due(now);
        assert!(plan.handle_event("a.test", answer(&["10.0.0.1", "10.0.0.2"], 1), now));
        plan.take_due(now + Duration::from_secs(1));
        assert!(!plan.handle_event("a.test", answer(&["10.0.0.2", "10.0.0.1"], 1), now + Duration::from_secs(1)));
        plan.take_due(now + Duration::from_secs(2));
        assert!(plan.handle_event("a.test", answer(&["10.0.0.2"], 1), now + Duration::from_secs(2)));
    }

    #[test]
    fn names_that_stay_keep_their_addresses_and_an_answer_for_a_name_that_left_changes_nothing() {
        let now = Instant::now();
        let mut plan = Plan::default();
        plan.set_names(&names(&["a.test", "b.test"]), now);
        plan.take_due(now);
        plan.handle_event("a.test", answer(&["10.0.0.1"], 60), now);
        plan.set_names(&names(&["a.test"]), now);
        assert!(!plan.handle_event("b.test", answer(&["10.0.0.2"], 60), now));
        assert_eq!(plan.poll_timeout(), Some(now + Duration::from_secs(60)));
        assert_eq!(plan.status().len(), 1);
        assert_eq!(plan.name("a.test").unwrap().addresses.len(), 1);
    }

    #[test]
    fn no_more_than_64_lookups_run_at_once_and_the_rest_follow() {
        let now = Instant::now();
        let all: BTreeSet<String> = (0..100).map(|index| format!("n{index:03}.test")).collect();
        let mut plan = Plan::default();
        plan.set_names(&all, now);
        let first = plan.take_due(now);
        assert_eq!(first.len(), 64);
        assert_eq!(plan.poll_timeout(), None);
        for name in &first {
            plan.handle_event(name, answer(&["10.0.0.1"], 60), now);
        }
        assert_eq!(plan.take_due(now).len(), 36);
    }
}
