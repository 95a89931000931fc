//! Active health checks: which endpoints of the snapshot are checked, and the questions that are under way.
//!
//! When, and what follows from an answer, is decided by [`HealthChecks`]; how one check is done is in `meshwright-probe`, whose
//! places are shared with the checks of the registry. A verdict is a fact about the endpoint that balancers read: nothing is
//! compiled and nothing is published for it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use meshwright_identity::{Alpn, ClientSpec, ClientTls, Trust};
use meshwright_model::{HealthCheck, HealthProbe, HealthTransport, ProxyProtocol, UpstreamProtocol};
use meshwright_probe::{Answer, Probe, ProbeError, Prober, Question, Serving, Target, Tls};
use meshwright_snapshot::{Cluster, Snapshot};
use meshwright_traffic::{CheckResult, CheckTask, CheckedHost, HealthChecks, HealthState};
use tokio::task::{JoinError, JoinSet};
use tracing::{debug, info, warn};

/// Checks at one time.
const MOST_RUNNING: usize = Prober::MOST;
/// A PROXY header for a connection that is nobody's but ours.
const PROXY_VERSION_1: &[u8] = b"PROXY UNKNOWN\r\n";
/// The same in version 2: the command LOCAL.
const PROXY_VERSION_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// An endpoint: the full name of its service and its address.
type Key = (Arc<str>, SocketAddr);

/// What is asked of an endpoint, with what lies around it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Inquiry {
    check: Arc<HealthCheck>,
    target: SocketAddr,
    tls: Option<Arc<ClientTls>>,
    proxy_protocol: Option<ProxyProtocol>,
}

/// A check that ended.
pub(crate) type Ended = (CheckTask<Key, Inquiry>, CheckResult);

/// The checks of everything that the running snapshot wants checked.
pub(crate) struct Health {
    checks: HealthChecks<Key, Inquiry>,
    prober: Prober,
    running: JoinSet<Ended>,
    /// Clusters with checks, as they were taken in last.
    known: Vec<Arc<Cluster>>,
    /// For checks by TLS that take any certificate; made when the first is asked for.
    unverified: Option<Arc<ClientTls>>,
}

impl Health {
    pub(crate) fn new(prober: Prober) -> Self {
        Self { checks: HealthChecks::default(), prober, running: JoinSet::new(), known: Vec::new(), unverified: None }
    }

    /// Takes over what `snapshot` wants checked. Costs a look at each cluster, and more only when one with checks changed.
    pub(crate) fn follow(&mut self, snapshot: &Snapshot, now: Instant) {
        let checked: Vec<Arc<Cluster>> = snapshot.clusters.iter().filter(|one| one.is_checked()).cloned().collect();
        if checked.len() == self.known.len() && checked.iter().zip(&self.known).all(|(a, b)| Arc::ptr_eq(a, b)) {
            return;
        }
        let mut hosts: HashMap<Key, CheckedHost<Inquiry>> = HashMap::new();
        for cluster in &checked {
            for (index, check) in cluster.checks.iter().enumerate() {
                let Some(check) = check else { continue };
                let key = (Arc::clone(&cluster.service), cluster.addresses[index]);
                if let Some(host) = hosts.get_mut(&key) {
                    host.counts.push(Arc::clone(&cluster.health));
                    continue;
                }
                let question = Inquiry {
                    check: Arc::clone(&check.check),
                    target: check.target,
                    tls: self.tls(check.check.transport, cluster),
                    proxy_protocol: cluster.proxy_protocol,
                };
                let state = Arc::clone(&cluster.hosts.hosts()[index].state);
                let counts = vec![Arc::clone(&cluster.health)];
                hosts.insert(key, CheckedHost { policy: check.policy(), question, state, counts });
            }
        }
        self.checks.set_hosts(hosts, now, &mut fastrand::Rng::new());
        self.known = checked;
    }

    fn tls(&mut self, transport: HealthTransport, cluster: &Cluster) -> Option<Arc<ClientTls>> {
        match transport {
            HealthTransport::OfRequests => cluster.tls.clone(),
            HealthTransport::Plain => None,
            HealthTransport::UnverifiedTls => {
                if self.unverified.is_none() {
                    self.unverified = unverified().map(Arc::new);
                }
                self.unverified.clone()
            }
        }
    }

    /// The earliest moment at which a check is due; `None` while there is no room for one.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.checks.poll_timeout().filter(|_| self.running.len() < MOST_RUNNING)
    }

    /// Starts what is due.
    pub(crate) fn start_due(&mut self, now: Instant) {
        while self.running.len() < MOST_RUNNING
            && let Some(task) = self.checks.take_due(now)
        {
            let prober = self.prober.clone();
            self.running.spawn(async move {
                let answer = prober.carry_out(&probe(&task.question)).await;
                let result = judge(&task.question.check.probe, answer);
                (task, result)
            });
        }
    }

    /// Whether checks are under way.
    pub(crate) fn is_busy(&self) -> bool {
        !self.running.is_empty()
    }

    /// Whether some endpoint waits for its first answer.
    pub(crate) fn is_waiting(&self) -> bool {
        self.checks.is_waiting()
    }

    /// The next check that ends; never ready while none is under way.
    pub(crate) async fn ended(&mut self) -> Result<Ended, JoinError> {
        match self.running.join_next().await {
            Some(ended) => ended,
            None => std::future::pending().await,
        }
    }

    /// Takes a result in, and says what a person should know of it.
    pub(crate) fn take(&mut self, ended: Result<Ended, JoinError>) {
        // A check that broke off has no result; the endpoint keeps what is known.
        let Ok((task, result)) = ended else { return };
        let (service, endpoint) = (&*task.key.0, task.key.1);
        let found = result.found.clone();
        match self.checks.result(&task, result, Instant::now(), &mut fastrand::Rng::new()) {
            Some(change) if change.state.is_out() => {
                warn!(service, %endpoint, found, failures = change.in_a_row, "endpoint unhealthy: health check");
            }
            // There may be many at the start, and that they are well is no news.
            Some(change) if change.before == HealthState::Pending => {
                debug!(service, %endpoint, found, "endpoint healthy from the start: health check");
            }
            Some(change) => {
                info!(service, %endpoint, found, successes = change.in_a_row, "endpoint healthy: health check");
            }
            None => debug!(service, %endpoint, found, "health check"),
        }
    }
}

/// TLS with anybody, as Kubernetes probes by HTTPS.
fn unverified() -> Option<ClientTls> {
    let made = ClientTls::new(&ClientSpec {
        pair: None,
        trust: Trust::Anybody,
        revoked: None,
        subject_alt_names: &[],
        server_name: "localhost",
        protocol: UpstreamProtocol::Http1,
        now: None,
    });
    made.inspect_err(|problem| warn!(?problem, "health checks by HTTPS are sent in clear text")).ok()
}

/// The question as the prober takes it.
fn probe(inquiry: &Inquiry) -> Probe {
    let here = || inquiry.target.to_string();
    let question = match &inquiry.check.probe {
        HealthProbe::Http { path, host, headers, .. } => {
            let host = host.clone().unwrap_or_else(here);
            Question::Http { host, path: path.clone(), headers: headers.clone() }
        }
        HealthProbe::Tcp => Question::Tcp,
        HealthProbe::Grpc { service, authority } => {
            let authority = authority.clone().unwrap_or_else(here);
            Question::Grpc { authority, service: service.clone() }
        }
    };
    let alpn = if matches!(question, Question::Grpc { .. }) { Alpn::Http2 } else { Alpn::Http1 };
    let tls = inquiry.tls.as_ref();
    Probe {
        target: Target::Address(inquiry.target),
        question,
        timeout: inquiry.check.timeout,
        tls: tls.map(|tls| Tls { config: Arc::clone(tls.config_for(alpn)), server_name: tls.server_name.clone() }),
        preface: match inquiry.proxy_protocol {
            Some(ProxyProtocol::Version1) => PROXY_VERSION_1,
            Some(ProxyProtocol::Version2) => PROXY_VERSION_2,
            None => &[],
        },
    }
}

/// What an answer means.
fn judge(probe: &HealthProbe, answer: Result<Answer, ProbeError>) -> CheckResult {
    let (healthy, found) = match &answer {
        Ok(Answer::Connected) => (true, "connected".to_owned()),
        Ok(Answer::Status(status)) => {
            let expected = match probe {
                HealthProbe::Http { expected_statuses, .. } => expected_statuses.iter().any(|of| of.contains(status)),
                HealthProbe::Tcp | HealthProbe::Grpc { .. } => false,
            };
            (expected, format!("HTTP status {status}"))
        }
        Ok(Answer::Serving(serving)) => (*serving == Serving::Serving, serving.to_string()),
        Ok(Answer::Grpc(status)) => (false, format!("gRPC status {status}")),
        Err(error) => (false, error.to_string()),
    };
    let network_failure = matches!(answer, Err(ProbeError::Network(_) | ProbeError::Timeout(_)));
    CheckResult { healthy, network_failure, found }
}
