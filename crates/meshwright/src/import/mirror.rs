//! What to do so that ours is like the other registry: pure, from what both have.
//!
//! What we imported has a mark in its metadata with the source's address. An instance without our mark is never touched: it
//! registered here itself, or another import owns it. When many are missing at once, the source is more likely to be ill
//! than they are: they are left to their leases.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

/// Metadata with which an imported instance says where it is from.
pub const MARK: &str = "meshwright.io/imported-from";

/// From so many missing at once on they may stay, when they are more than this share of all, in percent.
const MANY: usize = 3;
const SHARE: usize = 15;

/// An instance of the other registry, in our words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Name of its service, in lower case.
    pub service: String,
    pub id: String,
    pub address: String,
    pub port: u16,
    /// `passing`, `warning`, `starting` or `critical`.
    pub health: &'static str,
    pub weight: u32,
    pub locality: String,
    pub metadata: BTreeMap<String, String>,
    pub tags: Vec<String>,
}

/// An instance of our registry, as far as it matters.
#[derive(Clone, Debug, Deserialize)]
pub struct Present {
    id: String,
    address: String,
    port: u16,
    modified: u64,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

/// One operation of a batch.
#[derive(Clone, Debug)]
pub struct Operation {
    /// `service/id`, for what is said about it.
    pub name: String,
    pub body: Value,
}

/// What to do.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub operations: Vec<Operation>,
    /// What is not done, and why.
    pub conflicts: Vec<String>,
    /// Services that have something of ours.
    pub services: BTreeSet<String>,
    /// Instances that are imported, new ones included.
    pub kept: usize,
    pub added: usize,
    pub removed: usize,
}

impl Plan {
    /// Whether instances come or go.
    pub fn changes(&self) -> bool {
        self.added + self.removed > 0
    }
}

/// Plans for what was `found` at the source called `mark`, where `present` has the instances of each service of ours.
pub fn plan(
    mark: &str,
    found: Vec<Found>,
    present: &HashMap<String, Vec<Present>>,
    (namespace, lease): (&str, Duration),
) -> Plan {
    let mut plan = Plan::default();
    let mut wanted: BTreeSet<(String, String)> = BTreeSet::new();
    let is_ours = |one: &Present| one.metadata.get(MARK).is_some_and(|from| from == mark);
    // What another import brought there would come back as theirs: two registries that import from each other.
    for one in found.into_iter().filter(|one| !one.metadata.contains_key(MARK)) {
        let here = present.get(&one.service).map_or(&[][..], Vec::as_slice);
        let before = here.iter().find(|other| other.id == one.id);
        let own = here.iter().find(|other| {
            !is_ours(other) && (other.id == one.id || (other.address == one.address && other.port == one.port))
        });
        if let Some(own) = own {
            let by = match own.metadata.get(MARK) {
                Some(other) => format!("is imported from {other}"),
                None => "is registered here by itself".to_owned(),
            };
            plan.conflicts.push(format!("{}/{} {by} as {}, which wins", one.service, one.id, own.id));
            continue;
        }
        if !wanted.insert((one.service.clone(), one.id.clone())) {
            plan.conflicts.push(format!("{}/{} is there twice; the first is imported", one.service, one.id));
            continue;
        }
        plan.kept += 1;
        plan.added += usize::from(before.is_none());
        plan.services.insert(one.service.clone());
        let expected = before.map_or(0, |before| before.modified);
        plan.operations.push(register(one, mark, expected, (namespace, lease)));
    }
    let gone = present.iter().flat_map(|(service, here)| {
        let ours = here.iter().filter(|one| is_ours(one)).map(move |one| (service, one));
        ours.filter(|(service, one)| !wanted.contains(&((*service).clone(), one.id.clone())))
    });
    let mut gone: Vec<_> = gone.collect();
    gone.sort_by_key(|(service, one)| (*service, &one.id));
    if gone.len() >= MANY && gone.len() * 100 > (plan.kept + gone.len()) * SHARE {
        let (many, all) = (gone.len(), plan.kept + gone.len());
        plan.services.extend(gone.iter().map(|(service, _)| (*service).clone()));
        plan.conflicts
            .push(format!("{many} of {all} instances are missing at {mark} at once; they are left to their leases"));
        return plan;
    }
    plan.removed = gone.len();
    for (service, one) in gone {
        let body = json!({
            "op": "deregister", "service": service, "namespace": namespace, "id": one.id, "expected": one.modified,
        });
        plan.operations.push(Operation { name: format!("{service}/{}", one.id), body });
    }
    plan
}

fn register(mut one: Found, mark: &str, expected: u64, (namespace, lease): (&str, Duration)) -> Operation {
    one.metadata.insert(MARK.to_owned(), mark.to_owned());
    let version = one.metadata.get("version").cloned().unwrap_or_default();
    let instance = json!({
        "id": one.id, "address": one.address, "port": one.port, "health": one.health, "weight": one.weight,
        "locality": one.locality, "version": version, "metadata": one.metadata, "tags": one.tags,
        "lease": { "kind": "heartbeat", "ttl": lease.as_secs_f64() },
    });
    let name = format!("{}/{}", one.service, one.id);
    let body = json!({
        "op": "register", "service": one.service, "namespace": namespace, "expected": expected, "instance": instance,
    });
    Operation { name, body }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINE: &str = "eureka at here";

    fn found(id: &str, port: u16) -> Found {
        Found {
            service: "users".into(),
            id: id.into(),
            address: "10.0.0.1".into(),
            port,
            health: "passing",
            weight: 1,
            locality: String::new(),
            metadata: BTreeMap::new(),
            tags: Vec::new(),
        }
    }

    fn present(id: &str, port: u16, mark: Option<&str>) -> Present {
        let metadata = mark.map(|mark| (MARK.to_owned(), mark.to_owned())).into_iter().collect();
        Present { id: id.into(), address: "10.0.0.1".into(), port, modified: 7, metadata }
    }

    fn plan_of(there: Vec<Found>, here: Vec<Present>) -> (Vec<(String, String, u64)>, Plan) {
        let plan = plan(MINE, there, &HashMap::from([("users".into(), here)]), ("default", Duration::from_secs(60)));
        let word = |body: &Value, name: &str| body[name].as_str().unwrap_or_default().to_owned();
        let operations = plan.operations.iter();
        let done =
            operations.map(|one| (word(&one.body, "op"), one.name.clone(), one.body["expected"].as_u64().unwrap()));
        (done.collect(), plan)
    }

    #[test]
    fn what_is_there_comes_what_is_gone_goes_and_each_only_if_it_has_not_changed() {
        let (done, plan) =
            plan_of(vec![found("a", 1), found("b", 2)], vec![present("b", 2, Some(MINE)), present("c", 3, Some(MINE))]);
        let step = |op: &str, name: &str, expected| (op.to_owned(), name.to_owned(), expected);
        assert_eq!(
            done,
            [step("register", "users/a", 0), step("register", "users/b", 7), step("deregister", "users/c", 7)]
        );
        assert_eq!((plan.kept, plan.added, plan.removed), (2, 1, 1));
        assert_eq!(plan.operations[0].body["instance"]["metadata"][MARK], MINE);
    }

    #[test]
    fn what_registered_here_wins_by_its_id_and_by_its_address() {
        let here = vec![present("a", 9, None), present("own", 2, None), present("c", 3, Some("another"))];
        let (done, plan) = plan_of(vec![found("a", 1), found("b", 2), found("c", 4), found("d", 5)], here);
        assert_eq!(done.len(), 1);
        assert_eq!((done[0].1.as_str(), plan.conflicts.len()), ("users/d", 3));
        assert!(plan.conflicts[1].contains("users/b is registered here by itself as own"), "{:?}", plan.conflicts);
        // One that was imported before gives way when it registers here itself, under whatever id.
        let (done, _) = plan_of(vec![found("b", 2)], vec![present("b", 2, Some(MINE)), present("own", 2, None)]);
        assert_eq!(done, [("deregister".to_owned(), "users/b".to_owned(), 7)]);
    }

    #[test]
    fn when_many_are_missing_at_once_they_are_left_to_their_leases() {
        let ours = |count: u16| (0..count).map(|port| present(&port.to_string(), port, Some(MINE))).collect::<Vec<_>>();
        let (done, plan) = plan_of(Vec::new(), ours(3));
        assert!(done.is_empty() && plan.conflicts[0].starts_with("3 of 3 instances are missing"), "{plan:?}");
        assert!(plan.services.contains("users"), "they are looked at again");
        assert_eq!(plan_of(Vec::new(), ours(2)).0.len(), 2, "two are not many");
        let there = (0..27).map(|port| found(&port.to_string(), port)).collect();
        assert_eq!(plan_of(there, ours(30)).1.removed, 3, "a tenth is not many");
    }

    #[test]
    fn what_was_imported_there_does_not_come_back() {
        let mut back = found("a", 1);
        back.metadata.insert(MARK.to_owned(), "us".to_owned());
        assert!(plan_of(vec![back], Vec::new()).0.is_empty());
    }
}
