//! What to simulate, as it is written on the command line: policies, backends, a load. Read next: `engine.rs`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use meshwright_config::balancing;
use meshwright_snapshot::policy;
use meshwright_traffic::{Policy, TableKind};

use crate::args::value::{self, Delay};

/// Backends there may be at most.
const MOST_BACKENDS: usize = 10_000;
/// Requests that may be simulated at most.
const MOST_REQUESTS: f64 = 50_000_000.0;

/// Policies to compare.
#[derive(Clone, Debug)]
pub struct Policies(pub Vec<NamedPolicy>);

/// A policy with the name it was asked for by.
#[derive(Clone, Debug)]
pub struct NamedPolicy {
    /// As written.
    pub name: String,
    /// What it means.
    pub policy: Policy,
}

impl FromStr for Policies {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',').map(|name| named_policy(name.trim())).collect::<Result<_, _>>().map(Self)
    }
}

/// A name that `--lb` knows, or `RING_HASH[:SIZE]`, or `MAGLEV[:SIZE]`.
fn named_policy(name: &str) -> Result<NamedPolicy, String> {
    let (word, size) = name.split_once(':').map_or((name, None), |(word, size)| (word, Some(size)));
    let word = word.to_ascii_uppercase().replace('-', "_");
    let number = |default: u32| match size {
        None => Ok(default),
        Some(size) => size.parse().map_err(|_| format!("`{size}` is no size of a table")),
    };
    let hashed = |table: TableKind| Policy::ConsistentHash { table, bound: None };
    let policy = match word.as_str() {
        "RING_HASH" => hashed(TableKind::Ring { minimum_size: number(1024)? }),
        "MAGLEV" => hashed(TableKind::Maglev { table_size: number(65_537)? }),
        _ => {
            let preset = balancing::preset(name).ok_or_else(|| {
                format!(
                    "there is no load balancer `{name}`; allowed are {}, RING_HASH and MAGLEV",
                    balancing::names().join(", ")
                )
            })?;
            policy(&preset.algorithm)
        }
    };
    Ok(NamedPolicy { name: name.to_owned(), policy })
}

/// Backends, one by one.
#[derive(Clone, Debug)]
pub struct Backends {
    text: String,
    /// Each of them.
    pub list: Vec<Backend>,
}

/// One backend.
#[derive(Clone, Copy, Debug)]
pub struct Backend {
    /// Time that a request takes.
    pub delay: Delay,
    /// Requests served at one time; further ones wait in line. `None` is no limit.
    pub concurrency: Option<u32>,
    /// Weight in balancing.
    pub weight: u32,
    /// Share of requests that fail after their time, in percent.
    pub fail: f64,
}

impl fmt::Display for Backends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Backends {
    type Err = String;

    /// `[N x]DELAY[;concurrency=N][;weight=N][;fail=PERCENT]`, several with commas between them.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut list = Vec::new();
        for part in text.split(',').map(str::trim) {
            let (count, backend) =
                match part.split_once('x').and_then(|(count, rest)| Some((count.parse().ok()?, rest))) {
                    Some((count, rest)) => (count, backend(rest)?),
                    None => (1usize, backend(part)?),
                };
            if count == 0 || list.len() + count > MOST_BACKENDS {
                return Err(format!("there may be 1 to {MOST_BACKENDS} backends"));
            }
            list.extend(std::iter::repeat_n(backend, count));
        }
        Ok(Self { text: text.to_owned(), list })
    }
}

fn backend(text: &str) -> Result<Backend, String> {
    let mut parts = text.split(';').map(str::trim);
    let delay = value::delay(parts.next().unwrap_or_default())?;
    let mut backend = Backend { delay, concurrency: None, weight: 1, fail: 0.0 };
    for part in parts {
        match part.split_once('=') {
            Some(("concurrency", number)) => backend.concurrency = Some(value::positive(number)?),
            Some(("weight", number)) => backend.weight = value::positive(number)?,
            Some(("fail", share)) => backend.fail = value::percent(share)?,
            _ => return Err(format!("`{part}` is neither concurrency=N nor weight=N nor fail=PERCENT")),
        }
    }
    Ok(backend)
}

/// A load.
#[derive(Clone, Debug)]
pub struct Load {
    text: String,
    /// Who sends how often.
    pub arrivals: Arrivals,
    /// How long.
    pub time: Duration,
    /// Processes with balancers that know nothing of each other.
    pub proxies: usize,
    /// Workers of each of them, which share what they know of the backends.
    pub workers: usize,
    /// Different keys of requests.
    pub keys: u64,
}

/// Who sends how often.
#[derive(Clone, Copy, Debug)]
pub enum Arrivals {
    /// So many requests per second, whatever becomes of them (a Poisson process).
    Open(f64),
    /// So many clients that each send the next request when the last one is answered.
    Closed(usize),
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Load {
    type Err = String;

    /// `RATE/s` or `N clients`, then `;for=TIME`, `;proxies=N`, `;workers=N`, `;keys=N`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(';').map(str::trim);
        let arrivals = arrivals(parts.next().unwrap_or_default())?;
        let mut load = Self {
            text: text.to_owned(),
            arrivals,
            time: Duration::from_secs(30),
            proxies: 1,
            workers: 1,
            keys: 10_000,
        };
        let count = |number: &str| {
            value::positive(number).and_then(|number| {
                usize::try_from(number)
                    .ok()
                    .filter(|number| *number <= 1_000)
                    .ok_or_else(|| "allowed is 1 to 1000".to_owned())
            })
        };
        for part in parts {
            match part.split_once('=') {
                Some(("for", time)) => load.time = value::duration(time)?,
                Some(("proxies", number)) => load.proxies = count(number)?,
                Some(("workers", number)) => load.workers = count(number)?,
                Some(("keys", number)) => load.keys = u64::from(value::positive(number)?),
                _ => return Err(format!("`{part}` is none of for=TIME, proxies=N, workers=N, keys=N")),
            }
        }
        if let Arrivals::Open(rate) = arrivals
            && rate * load.time.as_secs_f64() > MOST_REQUESTS
        {
            return Err(format!("that would be more than {MOST_REQUESTS} requests"));
        }
        Ok(load)
    }
}

fn arrivals(text: &str) -> Result<Arrivals, String> {
    let error = || format!("`{text}` is no load; write for example `500/s` or `64 clients`");
    if let Some(rate) = text.strip_suffix("/s") {
        let rate: f64 = rate.trim().parse().map_err(|_| error())?;
        return if rate.is_finite() && rate > 0.0 { Ok(Arrivals::Open(rate)) } else { Err(error()) };
    }
    let clients = text.strip_suffix("clients").or_else(|| text.strip_suffix("client")).ok_or_else(error)?;
    match clients.trim().parse() {
        Ok(clients) if (1..=100_000).contains(&clients) => Ok(Arrivals::Closed(clients)),
        _ => Err(error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_form_is_read() {
        let backends: Backends = "9xexp:20ms;concurrency=8,1x5ms..10ms;weight=3;fail=20%,7ms".parse().unwrap();
        assert_eq!(backends.list.len(), 11);
        assert_eq!((backends.list[0].concurrency, backends.list[9].weight, backends.list[9].fail), (Some(8), 3, 20.0));
        assert_eq!(backends.list[10].delay, Delay::Fixed(Duration::from_millis(7)));
        let load: Load = "500/s;for=1m;proxies=3;workers=2;keys=50".parse().unwrap();
        assert!(matches!(load.arrivals, Arrivals::Open(rate) if rate == 500.0));
        assert_eq!((load.time, load.proxies, load.workers, load.keys), (Duration::from_secs(60), 3, 2, 50));
        assert!(matches!("64 clients".parse::<Load>().unwrap().arrivals, Arrivals::Closed(64)));
        let policies: Policies = "round-robin,MAGLEV:251,BestAvailableRule".parse().unwrap();
        assert_eq!(
            policies.0[1].policy,
            Policy::ConsistentHash { table: TableKind::Maglev { table_size: 251 }, bound: None }
        );
    }

    #[test]
    fn the_type_of_a_service_means_the_same_on_the_command_line_and_in_the_library() {
        for name in ["stateless", "cpu-intensive", "CPU_INTENSIVE", "weighted"] {
            let here = name.parse::<Policies>().unwrap().0[0].policy;
            assert_eq!(here, Policy::for_service_type(name), "{name}");
        }
        assert_eq!(policy(&balancing::of_service_type("anything")), Policy::for_service_type("anything"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert!("0x5ms".parse::<Backends>().unwrap_err().contains("1 to 10000"));
        assert!("5ms;speed=1".parse::<Backends>().unwrap_err().contains("neither concurrency=N"));
        assert!("500".parse::<Load>().unwrap_err().contains("for example `500/s`"));
        assert!("9000000/s;for=1h".parse::<Load>().unwrap_err().contains("more than"));
        assert!("FASTEST".parse::<Policies>().unwrap_err().contains("LEAST_REQUEST"));
    }
}
