//! Asking endpoints for their load, for policies that choose by it (Prequal): `GET /.well-known/meshwright/load`, over the
//! connections that requests use, in the background. No request waits for it, and it is none itself: outlier detection,
//! breakers, limits of requests and their metrics do not see it.
//!
//! Whom to ask is the balancer's word, how often is bounded by the cluster's rate, and who is asked rarely is decided in
//! `meshwright-traffic`. Read next: `load_report.rs`, which reads what they say.

use std::io;
use std::rc::Rc;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use meshwright_message::{BodyLength, Method, RequestHead, ResponseHead, Version};
use meshwright_telemetry::ClusterCounter;
use meshwright_traffic::{ProbeOutcome, Rate, TokenBucket};
use meshwright_wire::Reuse;

use crate::lease::Wanted;
use crate::load_report;
use crate::view::WorkerCluster;

/// Where the load of an endpoint is.
const PATH: &str = "/.well-known/meshwright/load";
/// Time for an answer: as long as it would be believed.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Probes that may begin at once after a rest, in one worker.
const BURST: u32 = 16;

/// The head of every probe but for the authority.
static HEAD: LazyLock<RequestHead> = LazyLock::new(|| {
    let mut head = RequestHead {
        method: Method::Get,
        target: PATH.to_owned(),
        path_len: PATH.len(),
        body: BodyLength::Empty,
        ..RequestHead::default()
    };
    head.headers.push(b"user-agent", b"meshwright-probe");
    head
});

/// What one of `workers` may begin when all together may begin so many in a second; `None` is nothing.
pub(crate) fn bucket(per_second: u32, workers: usize, now: Instant) -> Option<TokenBucket> {
    let workers = u32::try_from(workers).unwrap_or(u32::MAX).max(1);
    let burst = (per_second / workers).clamp(1, BURST);
    let rate = Rate { tokens: per_second, per: Duration::from_secs(1).saturating_mul(workers), burst };
    (per_second > 0).then(|| TokenBucket::new(rate, now))
}

/// Begins to ask the hosts that the last pick would like to know of.
pub(crate) fn begin(cluster: &Rc<WorkerCluster>, now: Instant) {
    let Some(rate) = &cluster.probes else { return };
    let drawn = cluster.balancer.borrow_mut().take_drawn();
    for host in drawn {
        let mut rate = rate.borrow_mut();
        // A token is for a probe that is made.
        if rate.remaining(now) > 0
            && cluster.cluster.hosts.hosts()[host].state.begin_probe(TIMEOUT, now)
            && rate.try_take(now).is_ok()
        {
            tokio::task::spawn_local(probe(Rc::clone(cluster), host));
        }
    }
}

async fn probe(cluster: Rc<WorkerCluster>, host: usize) {
    cluster.metrics.count(ClusterCounter::LoadProbes);
    let outcome = match tokio::time::timeout(TIMEOUT, ask(&cluster, host)).await {
        Ok(Ok(mut answer)) => match load_report::take(&mut answer) {
            Some((in_flight, latency)) => ProbeOutcome::Load(in_flight, latency),
            None => ProbeOutcome::Refused,
        },
        Ok(Err(cause)) => {
            tracing::debug!(endpoint = %cluster.cluster.addresses[host], %cause, "no answer to a probe of load");
            ProbeOutcome::Failed
        }
        Err(_) => ProbeOutcome::Failed,
    };
    if !matches!(outcome, ProbeOutcome::Load(..)) {
        cluster.metrics.count(ClusterCounter::LoadProbesInVain);
    }
    let (hosts, now) = (&cluster.cluster.hosts, Instant::now());
    hosts.hosts()[host].state.end_probe(outcome, now);
    cluster.balancer.borrow_mut().learn(hosts, host, now);
}

/// Over a kept connection if there is one; when that was closed meanwhile, over a new one.
async fn ask(cluster: &Rc<WorkerCluster>, host: usize) -> io::Result<ResponseHead> {
    let mut request = HEAD.clone();
    request.authority.push_str(&cluster.cluster.service);
    request.scheme = cluster.scheme();
    let protocol = cluster.protocol(Version::Http11);
    if let Some(lease) = cluster.checkout(host, protocol, Instant::now()) {
        let reuse = lease.reuse();
        match lease.ask(&request, &cluster.pool_limits).await {
            Err(_) if reuse == Reuse::Reused => {}
            asked => return asked,
        }
    }
    let wanted = Wanted { host, protocol, fresh_only: true, header: &[] };
    let lease = cluster.connect_at_once(wanted).await.map_err(|failure| io::Error::other(failure.sentence()))?;
    lease.ask(&request, &cluster.pool_limits).await
}
