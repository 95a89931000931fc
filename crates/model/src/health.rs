//! Active health checks as they were meant: what is asked of an endpoint, how often, and how many answers decide. Where they
//! come from (a flag, our `ResiliencePolicy`, a `WorkloadGroup`, Kubernetes) makes no difference here. Carried out by the
//! control plane.

use std::ops::RangeInclusive;
use std::time::Duration;

/// One check of every endpoint that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked.
    pub probe: HealthProbe,
    /// Which port is asked.
    pub port: HealthPort,
    /// What lies around it.
    pub transport: HealthTransport,
    /// From one answer to the next question.
    pub interval: Duration,
    /// By how much each pause may be longer.
    pub interval_jitter: Duration,
    /// The same pause while the endpoint is out.
    pub unhealthy_interval: Duration,
    /// Longest time for a check.
    pub timeout: Duration,
    /// Failures in a row that take the endpoint out; at least 1.
    pub unhealthy_threshold: u32,
    /// Successes in a row that bring it back; at least 1.
    pub healthy_threshold: u32,
    /// Time before an endpoint that joins is asked first.
    pub initial_delay: Duration,
    /// Whether an endpoint that joins takes part before its first answer.
    pub initially_healthy: bool,
    /// Who asks for it, for people: `--health`, or kind, namespace and name of a document.
    pub source: String,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthProbe {
    /// `GET`; one of these statuses is a success.
    Http {
        /// Path and query.
        path: String,
        /// `Host` of the request; `None` is the endpoint's address and port.
        host: Option<String>,
        /// Further fields.
        headers: Vec<(String, String)>,
        /// Statuses that are successes.
        expected_statuses: Vec<RangeInclusive<u16>>,
    },
    /// A connection can be made.
    Tcp,
    /// The gRPC health service answers SERVING.
    Grpc {
        /// Service that is asked about; empty is the server as a whole.
        service: String,
        /// Authority of the call; `None` is the endpoint's address and port.
        authority: Option<String>,
    },
}

/// Which port of an endpoint is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HealthPort {
    /// The one that requests go to.
    #[default]
    OfRequests,
    /// The one that serves this port of the service.
    OfService(u16),
    /// This one.
    Number(u16),
}

/// What lies around the question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HealthTransport {
    /// What requests have: TLS where the destination rule originates it.
    #[default]
    OfRequests,
    /// Clear text, whatever requests have.
    Plain,
    /// TLS, with any certificate.
    UnverifiedTls,
}

impl HealthCheck {
    /// The path that is asked for where none is given.
    pub const PATH: &str = "/health";
    /// Statuses that are successes where none are given: 200.
    pub const EXPECTED: RangeInclusive<u16> = 200..=200;

    /// A check with every default: every 30 s and up to 3 s later, at most 5 s for an answer, out after 3 failures and back
    /// after 2 successes in a row; an endpoint that joins takes part once it is found well.
    pub fn new(probe: HealthProbe, source: &str) -> Self {
        let interval = Duration::from_secs(30);
        Self {
            probe,
            port: HealthPort::OfRequests,
            transport: HealthTransport::OfRequests,
            interval,
            interval_jitter: interval / 10,
            unhealthy_interval: interval,
            timeout: Duration::from_secs(5),
            unhealthy_threshold: 3,
            healthy_threshold: 2,
            initial_delay: Duration::ZERO,
            initially_healthy: false,
            source: source.to_owned(),
        }
    }

    /// A check by HTTP with every default.
    pub fn http(path: &str, source: &str) -> Self {
        let expected_statuses = vec![Self::EXPECTED];
        Self::new(
            HealthProbe::Http { path: path.to_owned(), host: None, headers: Vec::new(), expected_statuses },
            source,
        )
    }
}
