//! Stop eight: exactly one record per request, made when the exchange is given back, also when its task is cancelled.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use meshwright_message::HeaderName;
use meshwright_model::{Failure, FailureKind};
use meshwright_telemetry::{Counter, Ending, RefusalReason, RequestProtocol, RequestRecord};

use crate::connection::Tls;
use crate::exchange::Exchange;
use crate::listener::ListenerView;
use crate::view::WorkerCluster;
use crate::worker::Worker;

/// Details of an answer that came from an endpoint.
const VIA_UPSTREAM: &str = "via_upstream";

/// What becomes known of a request on its way.
#[derive(Default)]
pub(crate) struct Record {
    /// When the first byte was seen; `None` when no request has begun.
    pub(crate) started: Option<Instant>,
    /// When the answer was complete, if that was before the end of the exchange.
    pub(crate) ended: Option<Instant>,
    /// The head needed more than one read: its first byte came some time before its last.
    pub(crate) head_came_in_pieces: bool,
    /// The exchange came to its end, good or bad; otherwise it was cut off by the end of its task.
    pub(crate) is_complete: bool,
    /// A connection whose bytes are not looked at, rather than a request.
    pub(crate) is_tcp: bool,
    /// The head was understood: method, path and headers mean something.
    pub(crate) head_is_valid: bool,
    pub(crate) status: u16,
    /// Of a gRPC call, where it is known.
    pub(crate) grpc_status: Option<u8>,
    pub(crate) flag: &'static str,
    pub(crate) details: &'static str,
    pub(crate) reason: Option<Box<str>>,
    /// The exact limit that was broken, where the kind of failure does not tell.
    pub(crate) refusal: Option<RefusalReason>,
    /// Rare: one pointer wide.
    pub(crate) transport_failure: Option<Box<Box<str>>>,
    pub(crate) head_bytes_received: u64,
    pub(crate) head_bytes_sent: u64,
    pub(crate) body_bytes_received: u64,
    pub(crate) body_bytes_sent: u64,
    pub(crate) service_time: Option<Duration>,
    pub(crate) cluster: Option<Rc<WorkerCluster>>,
    /// The mesh does not know the host; Istio counts such requests under a name of their own.
    pub(crate) is_black_hole: bool,
    pub(crate) listener: Option<Rc<ListenerView>>,
    /// Virtual host, route and alternative.
    pub(crate) route: Option<(u32, u32, Option<u32>)>,
    pub(crate) upstream: Option<SocketAddr>,
    /// Known where the log asks for it.
    pub(crate) upstream_local: Option<Box<SocketAddr>>,
    pub(crate) downstream: Option<SocketAddr>,
    pub(crate) downstream_local: Option<Rc<SocketAddr>>,
    /// TLS session that the request came in.
    pub(crate) tls: Option<Rc<Tls>>,
}

impl Record {
    /// The exchange has come to its end; what the record says of it stays.
    pub(crate) fn complete(&mut self) {
        self.is_complete = true;
    }

    /// The answer of an endpoint is on its way.
    pub(crate) fn answered(&mut self, status: u16) {
        self.status = status;
        self.details = VIA_UPSTREAM;
    }

    /// The request failed. A status that was sent already stays.
    pub(crate) fn failed(&mut self, failure: &Failure) {
        let outcome = failure.kind.outcome();
        if self.status == 0 {
            self.status = outcome.status;
        }
        self.is_complete = true;
        self.is_black_hole = failure.kind == FailureKind::UnknownHost;
        self.flag = outcome.flag;
        self.details = outcome.details;
        self.reason = Some(failure.sentence().into_boxed_str());
    }

    /// A failure came after retries: Envoy adds URX to the flag of the last one.
    pub(crate) fn retries_were_used_up(&mut self) {
        self.flag = match self.flag {
            "" => "URX",
            "UF" => "UF,URX",
            "UC" => "UC,URX",
            "UT" => "UT,URX",
            "UH" => "UH,URX",
            other => other,
        };
    }
}

impl Exchange {
    /// Writes the record: metrics always, the access log when it is on.
    pub(crate) fn finish_record(&mut self, worker: &Worker) {
        let Some(started) = self.record.started.take() else { return };
        let ended = self.record.ended.unwrap_or_else(|| worker.clock.read());
        let duration = ended.saturating_duration_since(started);
        if !self.record.is_complete {
            // The task of the connection was ended, by the end of the drain time for example.
            self.record.failed(&Failure::new(meshwright_model::Stage::Respond, FailureKind::DownstreamClosed));
        }
        let record = &self.record;
        if !record.is_tcp {
            worker.metrics.count(Counter::DownstreamRequests);
        }
        worker.metrics.add(Counter::DownstreamBytesReceived, record.head_bytes_received + record.body_bytes_received);
        worker.metrics.add(Counter::DownstreamBytesSent, record.head_bytes_sent + record.body_bytes_sent);
        if !record.is_tcp {
            self.count_request(worker, duration);
        }
        if let Some(log) = &worker.log {
            let mut line = RequestRecord::new(worker.clock.wall(started));
            self.describe(&mut line, duration);
            log.borrow_mut().write(&line, &worker.metrics);
        }
        self.record = Record::default();
    }

    fn count_request(&self, worker: &Worker, duration: Duration) {
        let record = &self.record;
        let metrics = match &record.cluster {
            Some(cluster) => &cluster.metrics,
            None if record.is_black_hole => &worker.black_hole,
            None => &worker.unrouted,
        };
        let protocol = if self.is_grpc { RequestProtocol::Grpc(record.grpc_status) } else { RequestProtocol::Http };
        let ending = Ending { status: record.status, protocol, flag: record.flag };
        metrics.record(ending, duration, record.body_bytes_received, record.body_bytes_sent);
    }

    fn describe<'a>(&'a self, line: &mut RequestRecord<'a>, duration: Duration) {
        let record = &self.record;
        let request = &self.request;
        if record.head_is_valid {
            let original = request.headers.known(HeaderName::XEnvoyOriginalPath);
            line.method = Some(request.method.as_str());
            line.path = original.and_then(|path| std::str::from_utf8(path).ok()).or(Some(&request.target));
            line.protocol = Some(request.version.as_str());
            line.authority = Some(&request.authority);
            line.x_forwarded_for = request.headers.known(HeaderName::XForwardedFor);
            line.user_agent = request.headers.known(HeaderName::UserAgent);
            line.request_id = request.headers.known(HeaderName::XRequestId);
        }
        line.response_code = if record.is_tcp { 0 } else { record.status };
        line.response_flags = record.flag;
        line.response_code_details = (!record.details.is_empty()).then_some(record.details);
        line.upstream_transport_failure_reason = record.transport_failure.as_deref().map(|cause| &**cause);
        line.bytes_received = record.body_bytes_received;
        line.bytes_sent = record.body_bytes_sent;
        line.duration = duration;
        line.upstream_service_time = record.service_time;
        line.upstream_host = record.upstream;
        line.upstream_cluster = record.cluster.as_ref().map(|cluster| cluster.cluster.name.as_str());
        line.upstream_local_address = record.upstream_local.as_deref().copied();
        line.downstream_local_address = record.downstream_local.as_deref().copied();
        line.downstream_remote_address = record.downstream;
        line.route_name = match (&record.listener, record.route) {
            (Some(listener), Some((host, route, matched))) => {
                let host = &listener.listener.virtual_hosts[host as usize];
                Some(host.routes[route as usize].log_name(matched.map(|matched| matched as usize)))
            }
            _ => None,
        };
        line.requested_server_name = record.tls.as_ref().and_then(|tls| tls.server_name.as_deref());
        line.reason = record.reason.as_deref();
    }
}
