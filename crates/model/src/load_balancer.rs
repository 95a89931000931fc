//! `loadBalancer` of a `DestinationRule` as it was meant, with what Istio's schema lacks and annotations bring.

use std::time::Duration;

/// How an endpoint is chosen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadBalancer {
    /// Among endpoints that are equally near.
    pub algorithm: Algorithm,
    /// Cookie that keeps a client at one endpoint, whatever the algorithm.
    pub session: Option<HashCookie>,
    /// How localities are regarded.
    pub locality: LocalitySetting,
    /// Slow start of new endpoints.
    pub warmup: Option<Warmup>,
}

impl From<Algorithm> for LoadBalancer {
    fn from(algorithm: Algorithm) -> Self {
        Self { algorithm, ..Self::default() }
    }
}

/// The algorithm.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// The one with fewer requests in flight of two chosen at random by weight (the default).
    #[default]
    LeastRequest,
    /// The one with the fewest requests in flight of all.
    LeastRequestOfAll,
    /// In turn, by weight.
    RoundRobin,
    /// At random, by weight.
    Random,
    /// The smaller product of latency and requests in flight, of two chosen at random by weight.
    PeakEwma,
    /// At random, the less often the longer an endpoint takes to answer.
    ResponseTime,
    /// Of the endpoints probed lately, one with few requests in flight and the smallest latency.
    Prequal {
        /// Most probes that are sent in a second, all endpoints together; 0 sends none. Default 100.
        probes_per_second: u32,
    },
    /// The same endpoint for the same key.
    ConsistentHash(ConsistentHash),
}

/// `loadBalancer.consistentHash`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsistentHash {
    /// Where the key comes from.
    pub key: HashKey,
    /// Which table is used.
    pub table: HashTable,
    /// Most load of an endpoint, in percent of the average, at least 100; `None` is no bound.
    pub balance_factor: Option<u32>,
}

/// Where the key of a request comes from. A request without it goes to any endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// A header, lower-case.
    Header(String),
    /// A cookie.
    Cookie(HashCookie),
    /// The address of the client.
    SourceIp,
    /// A query parameter, its first occurrence.
    Query(String),
}

/// A cookie that clients are given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashCookie {
    /// Name.
    pub name: String,
    /// `Path`; `None` leaves the attribute out.
    pub path: Option<String>,
    /// Lifetime; zero is the client's session. `None` never makes a cookie: only one that is there is used.
    pub ttl: Option<Duration>,
    /// Further attributes with their values; an empty value leaves the `=` out.
    pub attributes: Vec<(String, String)>,
}

/// The table of consistent hashing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashTable {
    /// A ring of at least so many entries. Default 1,024.
    Ring(u32),
    /// A Maglev table of so many slots, a prime. Default 65,537.
    Maglev(u32),
}

/// `localityLbSetting` and `zoneAwareLbSetting`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LocalitySetting {
    /// Nothing was said: nearness is regarded as soon as endpoints can be ejected.
    #[default]
    Unset,
    /// `enabled: false`.
    Off,
    /// Fixed shares: locality of the caller, and percent by locality of the endpoint.
    Distribute(Vec<(String, Vec<(String, u32)>)>),
    /// The nearest first.
    Failover(LocalityFailover),
    /// The own zone as far as it can carry its share.
    ZoneAware {
        /// With fewer endpoints zones are not regarded. Default 6.
        minimum_cluster_size: u32,
        /// What comes after the own region.
        failover: LocalityFailover,
    },
}

/// Order of preference beyond nearness.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalityFailover {
    /// For callers in the first region the second comes before other foreign ones.
    pub regions: Vec<(String, String)>,
    /// Labels, `key` or `key=value`: the more of them match from the first on, the better.
    pub labels: Vec<String>,
}

/// `warmup`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Warmup {
    /// Length of the ramp.
    pub duration: Duration,
    /// Least share of the weight, in percent. Default 10.
    pub minimum_percent: f64,
    /// Shape of the ramp, at least 1 (a straight line, the default).
    pub aggression: f64,
}
