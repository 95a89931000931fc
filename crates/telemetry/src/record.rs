//! The record of one finished request.
//!
//! It borrows everything and knows neither a format nor a sink; see `access_log.rs`.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

/// Everything the access log says about one request. Fields are named after Istio's JSON keys; `None` is "missing",
/// and so is an empty value. Values that come from the network may hold any bytes: the encoders escape them.
#[derive(Clone, Copy, Debug)]
pub struct RequestRecord<'a> {
    /// When the first byte of the request was seen.
    pub start_time: SystemTime,
    /// Method; missing when the request line could not be read.
    pub method: Option<&'a str>,
    /// Path and query as the client sent them, before any rewrite.
    pub path: Option<&'a str>,
    /// `HTTP/1.1`; missing when the request line could not be read.
    pub protocol: Option<&'a str>,
    /// Status sent to the client; 0 when the client left before one was sent.
    pub response_code: u16,
    /// Envoy's response flags, short form, joined by commas (`UF,URX`); empty for none.
    pub response_flags: &'a str,
    /// `via_upstream`, `route_not_found` and so on.
    pub response_code_details: Option<&'a str>,
    /// Why the downstream connection was ended, when a rule of ours ended it.
    pub connection_termination_details: Option<&'a str>,
    /// Why the connection to the endpoint failed.
    pub upstream_transport_failure_reason: Option<&'a str>,
    /// Bytes of the request body.
    pub bytes_received: u64,
    /// Bytes of the response body.
    pub bytes_sent: u64,
    /// From the first byte of the request to the last of the response.
    pub duration: Duration,
    /// From the request handed to the endpoint to its response head; missing without an answer of an endpoint.
    pub upstream_service_time: Option<Duration>,
    /// Header `x-forwarded-for` as forwarded.
    pub x_forwarded_for: Option<&'a [u8]>,
    /// Header `user-agent`.
    pub user_agent: Option<&'a [u8]>,
    /// Header `x-request-id` as forwarded.
    pub request_id: Option<&'a [u8]>,
    /// Host and port the client asked for.
    pub authority: Option<&'a str>,
    /// Endpoint that was used last.
    pub upstream_host: Option<SocketAddr>,
    /// Name of the cluster, `outbound|80||host`.
    pub upstream_cluster: Option<&'a str>,
    /// Our address on the connection to the endpoint.
    pub upstream_local_address: Option<SocketAddr>,
    /// Our address on the client's connection.
    pub downstream_local_address: Option<SocketAddr>,
    /// The client's address.
    pub downstream_remote_address: Option<SocketAddr>,
    /// Server name of the TLS handshake.
    pub requested_server_name: Option<&'a str>,
    /// Name of the route.
    pub route_name: Option<&'a str>,
    /// Why a failed request failed, in one sentence; `None` for a request that did not fail.
    pub reason: Option<&'a str>,
}

impl RequestRecord<'_> {
    /// A record that knows its start and nothing else.
    pub const fn new(start_time: SystemTime) -> Self {
        Self {
            start_time,
            method: None,
            path: None,
            protocol: None,
            response_code: 0,
            response_flags: "",
            response_code_details: None,
            connection_termination_details: None,
            upstream_transport_failure_reason: None,
            bytes_received: 0,
            bytes_sent: 0,
            duration: Duration::ZERO,
            upstream_service_time: None,
            x_forwarded_for: None,
            user_agent: None,
            request_id: None,
            authority: None,
            upstream_host: None,
            upstream_cluster: None,
            upstream_local_address: None,
            downstream_local_address: None,
            downstream_remote_address: None,
            requested_server_name: None,
            route_name: None,
            reason: None,
        }
    }
}
