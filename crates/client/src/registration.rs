//! What an instance says of itself when it registers.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::Status;

/// A registration. Only the name and the port are needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    pub(crate) service: String,
    id: Option<String>,
    address: String,
    port: u16,
    version: String,
    weight: u32,
    locality: String,
    metadata: BTreeMap<String, String>,
    tags: Vec<String>,
    checks: Vec<Check>,
    pub(crate) ttl: Duration,
}

/// A check that the registry carries out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// GET of a path, every so often; 2xx passes.
    Http {
        /// Path, beginning with `/`.
        path: String,
        /// Time from one to the next, 100 ms to 1 day.
        interval: Duration,
    },
    /// A connection to the port, every so often.
    Tcp {
        /// Time from one to the next, 100 ms to 1 day.
        interval: Duration,
    },
    /// gRPC's health service, every so often.
    Grpc {
        /// Name of the service asked for; empty is the server.
        service: String,
        /// Time from one to the next, 100 ms to 1 day.
        interval: Duration,
    },
}

impl Registration {
    /// An instance of `service` on `port` of 127.0.0.1, with a lease of 30 seconds.
    pub fn new(service: &str, port: u16) -> Self {
        Self {
            service: service.to_owned(),
            id: None,
            address: "127.0.0.1".to_owned(),
            port,
            version: String::new(),
            weight: 1,
            locality: String::new(),
            metadata: BTreeMap::new(),
            tags: Vec::new(),
            checks: Vec::new(),
            ttl: Duration::from_secs(30),
        }
    }

    /// Its id, unique in the service; `address:port` without one.
    #[must_use]
    pub fn with_id(self, id: &str) -> Self {
        Self { id: Some(id.to_owned()), ..self }
    }

    /// IP address or host name by which others reach it.
    #[must_use]
    pub fn with_address(self, address: &str) -> Self {
        Self { address: address.to_owned(), ..self }
    }

    /// Its version, by which subsets select.
    #[must_use]
    pub fn with_version(self, version: &str) -> Self {
        Self { version: version.to_owned(), ..self }
    }

    /// Its share of the requests, relative to the others; 1 without.
    #[must_use]
    pub fn with_weight(self, weight: u32) -> Self {
        Self { weight, ..self }
    }

    /// Where it is: `region/zone/subzone`, or less.
    #[must_use]
    pub fn with_locality(self, locality: &str) -> Self {
        Self { locality: locality.to_owned(), ..self }
    }

    /// One more label.
    #[must_use]
    pub fn with_metadata(mut self, key: &str, value: &str) -> Self {
        self.metadata.insert(key.to_owned(), value.to_owned());
        self
    }

    /// One more tag.
    #[must_use]
    pub fn with_tag(mut self, tag: &str) -> Self {
        self.tags.push(tag.to_owned());
        self
    }

    /// One more check. It gets requests when all pass.
    #[must_use]
    pub fn with_check(mut self, check: Check) -> Self {
        self.checks.push(check);
        self
    }

    /// How long the registry keeps it without hearing of it. It is renewed three times as often.
    #[must_use]
    pub fn with_ttl(self, ttl: Duration) -> Self {
        Self { ttl, ..self }
    }

    /// Its id, given or made.
    pub fn id(&self) -> String {
        self.id.clone().unwrap_or_else(|| format!("{}:{}", self.address, self.port))
    }

    pub(crate) fn body(&self, health: Status) -> Value {
        let checks: Vec<Value> = self.checks.iter().enumerate().map(|(number, check)| check.body(number)).collect();
        json!({
            "address": self.address, "port": self.port, "version": self.version, "weight": self.weight,
            "locality": self.locality, "metadata": self.metadata, "tags": self.tags, "checks": checks,
            "health": health.as_str(), "lease": { "kind": "heartbeat", "ttl": self.ttl.as_secs_f64() },
        })
    }
}

impl Check {
    fn body(&self, number: usize) -> Value {
        let (kind, what, interval) = match self {
            Self::Http { path, interval } => ("http", json!(path), interval),
            Self::Tcp { interval } => ("tcp", json!(true), interval),
            Self::Grpc { service, interval } => ("grpc", json!(service), interval),
        };
        json!({ "id": format!("{kind}-{}", number + 1), kind: what, "interval": interval.as_secs_f64() })
    }
}
