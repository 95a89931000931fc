//! Load balancing of destination rules as JSON, in the names of Istio's fields.

use meshwright_model::{
    Algorithm, ConsistentHash, HashCookie, HashKey, HashTable, LoadBalancer, LocalityFailover, LocalitySetting,
};
use serde_json::{Value, json};

use super::seconds;

pub(super) fn of(balancer: &LoadBalancer) -> Value {
    let (algorithm, hash) = match &balancer.algorithm {
        Algorithm::LeastRequest => ("LEAST_REQUEST", None),
        Algorithm::LeastRequestOfAll => ("LEAST_REQUEST_OF_ALL", None),
        Algorithm::RoundRobin => ("ROUND_ROBIN", None),
        Algorithm::Random => ("RANDOM", None),
        Algorithm::PeakEwma => ("PEAK_EWMA", None),
        Algorithm::ResponseTime => ("RESPONSE_TIME", None),
        Algorithm::Prequal { .. } => ("PREQUAL", None),
        Algorithm::ConsistentHash(hash) => match hash.table {
            HashTable::Ring(_) => ("RING_HASH", Some(hash)),
            HashTable::Maglev(_) => ("MAGLEV", Some(hash)),
        },
    };
    let probes = match balancer.algorithm {
        Algorithm::Prequal { probes_per_second } => Some(probes_per_second),
        _ => None,
    };
    let warmup = balancer.warmup.map(|warmup| {
        json!({
            "duration": seconds(warmup.duration),
            "minimum_percent": warmup.minimum_percent,
            "aggression": warmup.aggression,
        })
    });
    json!({
        "algorithm": algorithm,
        "consistent_hash": hash.map(of_hash),
        "session_cookie": balancer.session.as_ref().map(of_cookie),
        "locality": of_locality(&balancer.locality),
        "warmup": warmup,
        "probes_per_second": probes,
    })
}

fn of_hash(hash: &ConsistentHash) -> Value {
    let key = match &hash.key {
        HashKey::Header(name) => json!({ "http_header_name": name }),
        HashKey::Cookie(cookie) => json!({ "http_cookie": of_cookie(cookie) }),
        HashKey::SourceIp => json!({ "use_source_ip": true }),
        HashKey::Query(name) => json!({ "http_query_parameter_name": name }),
    };
    let table = match hash.table {
        HashTable::Ring(size) => json!({ "ring_hash": { "minimum_ring_size": size } }),
        HashTable::Maglev(size) => json!({ "maglev": { "table_size": size } }),
    };
    json!({ "key": key, "table": table, "balance_factor": hash.balance_factor })
}

fn of_cookie(cookie: &HashCookie) -> Value {
    json!({
        "name": cookie.name,
        "path": cookie.path,
        "ttl": cookie.ttl.map(seconds),
        "attributes": cookie.attributes.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect::<Vec<_>>(),
    })
}

fn of_locality(setting: &LocalitySetting) -> Value {
    match setting {
        LocalitySetting::Unset => Value::Null,
        LocalitySetting::Off => json!({ "enabled": false }),
        LocalitySetting::Distribute(entries) => {
            let entry = |(from, to): &(String, Vec<(String, u32)>)| {
                let to: serde_json::Map<String, Value> =
                    to.iter().map(|(to, share)| (to.clone(), json!(share))).collect();
                json!({ "from": from, "to": to })
            };
            json!({ "distribute": entries.iter().map(entry).collect::<Vec<_>>() })
        }
        LocalitySetting::Failover(failover) => json!({ "failover": of_failover(failover) }),
        LocalitySetting::ZoneAware { minimum_cluster_size, failover } => {
            json!({ "zone_aware": { "min_cluster_size": minimum_cluster_size, "failover": of_failover(failover) } })
        }
    }
}

fn of_failover(failover: &LocalityFailover) -> Value {
    let regions = failover.regions.iter().map(|(from, to)| json!({ "from": from, "to": to }));
    json!({ "regions": regions.collect::<Vec<_>>(), "priority": failover.labels })
}
