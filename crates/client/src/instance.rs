//! An instance as the registry shows it.

use std::collections::BTreeMap;

use serde::Deserialize;

/// An instance of a service.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Instance {
    /// Its service.
    pub service: String,
    /// Its id, unique in its service.
    pub id: String,
    /// IP address or host name.
    pub address: String,
    /// Port; 0 when it has none.
    pub port: u16,
    /// Whether it takes requests, all things considered.
    pub status: Status,
    /// Version; empty when it says none.
    #[serde(default)]
    pub version: String,
    /// Share of the requests, relative to the others.
    #[serde(default = "one")]
    pub weight: u32,
    /// `region/zone/subzone`, or as much of it as it says.
    #[serde(default)]
    pub locality: String,
    /// Labels.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// Tags.
    #[serde(default)]
    pub tags: Vec<String>,
}

fn one() -> u32 {
    1
}

impl Instance {
    /// `address:port`, with an IPv6 address in brackets.
    pub fn authority(&self) -> String {
        match self.address.contains(':') {
            true => format!("[{}]:{}", self.address, self.port),
            false => format!("{}:{}", self.address, self.port),
        }
    }
}

/// How an instance fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Well.
    Passing,
    /// Well enough for requests.
    Warning,
    /// Not yet.
    Starting,
    /// Ill.
    Critical,
    /// Somebody took it out.
    OutOfService,
    /// It finishes what it has.
    Draining,
}

impl Status {
    /// Whether it gets requests.
    pub const fn is_healthy(self) -> bool {
        matches!(self, Self::Passing | Self::Warning)
    }

    /// As the registry writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Warning => "warning",
            Self::Starting => "starting",
            Self::Critical => "critical",
            Self::OutOfService => "out_of_service",
            Self::Draining => "draining",
        }
    }
}
