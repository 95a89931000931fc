//! The policies by which a host is chosen, with their names. Read next: `mod.rs`.

use crate::TableKind;

/// How a host is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Policy {
    /// In turn, by weight.
    RoundRobin,
    /// The less loaded of two that are drawn at random by weight; of at most four hosts the least loaded. Istio's default.
    #[default]
    LeastRequest,
    /// The least loaded of all, however many: Ribbon's `BestAvailableRule`. Costs time with every host.
    LeastRequestOfAll,
    /// At random, by weight.
    Random,
    /// Of two that are drawn at random by weight, the one with the smaller product of latency and requests in flight.
    PeakEwma,
    /// At random, the less often the longer a host takes: Ribbon's `WeightedResponseTimeRule`.
    ResponseTime,
    /// Of the hosts probed lately, one with few requests in flight and the smallest latency: Google's Prequal.
    Prequal,
    /// The owner of the request's key.
    ConsistentHash {
        /// The table.
        table: TableKind,
        /// Most load of a host, in percent of the average per weight; 100 or more. `None` is no bound.
        bound: Option<u32>,
    },
}

impl Policy {
    /// The policy for a service that is like that: `stateless` goes in turn, `cpu-intensive` to the least loaded, `weighted`
    /// in turn by weight, everything else at random. Case and `_` for `-` do not matter.
    pub fn for_service_type(name: &str) -> Self {
        match name.to_ascii_lowercase().replace('_', "-").as_str() {
            "stateless" | "weighted" => Self::RoundRobin,
            "cpu-intensive" => Self::LeastRequest,
            _ => Self::Random,
        }
    }

    /// Whether picks read the hosts' in-flight counters, so that requests must be counted with [`crate::HostSet::acquire`]
    /// and [`crate::HostSet::release`].
    pub const fn needs_in_flight(self) -> bool {
        matches!(
            self,
            Self::LeastRequest
                | Self::LeastRequestOfAll
                | Self::PeakEwma
                | Self::Prequal
                | Self::ConsistentHash { bound: Some(_), .. }
        )
    }

    /// Whether picks read the hosts' latencies, so that answers must be observed with [`crate::HostState::observe_latency`].
    pub const fn needs_latency(self) -> bool {
        matches!(self, Self::PeakEwma | Self::ResponseTime | Self::Prequal)
    }

    /// Whether picks read what endpoints say of themselves, so that it must be passed on with [`crate::HostState::report`].
    pub const fn reads_reports(self) -> bool {
        matches!(self, Self::Prequal)
    }

    /// The name, as configuration and admin pages write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RoundRobin => "ROUND_ROBIN",
            Self::LeastRequest => "LEAST_REQUEST",
            Self::LeastRequestOfAll => "LEAST_REQUEST_OF_ALL",
            Self::Random => "RANDOM",
            Self::PeakEwma => "PEAK_EWMA",
            Self::ResponseTime => "RESPONSE_TIME",
            Self::Prequal => "PREQUAL",
            Self::ConsistentHash { table: TableKind::Ring { .. }, .. } => "RING_HASH",
            Self::ConsistentHash { table: TableKind::Maglev { .. }, .. } => "MAGLEV",
        }
    }
}
