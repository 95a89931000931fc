//! Envoy's configuration: `--concurrency 1`, static listener, routes and clusters, written as JSON.

use std::path::Path;

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::{CLUSTER_LIMIT, CONSECUTIVE_ERRORS, Launch, Wiring, words, write};
use crate::bench::certificate::Certificate;
use crate::bench::child::Output;
use crate::bench::scenario::{Version, authority};

pub(super) const FEATURES: [&str; 4] = [
    "`--concurrency 1`, HTTP connection manager with the router filter and nothing else, x-request-id, x-forwarded-for and \
     -proto, its own statistics and admin interface; no Istio filters, so no Istio metrics",
    "100 virtual hosts with three routes each, 100 static clusters with round robin, circuit breaker thresholds and outlier \
     detection, one retry on connect failures and resets",
    "file access log with `json_format`, Istio's keys, Envoy's own buffering",
    "`DownstreamTlsContext` with ALPN, TLS 1.3 and its default tickets; HTTP/2 with default `http2_protocol_options` on \
     both sides; `tcp_proxy` for TCP",
];

pub(super) fn launch(program: &Path, wiring: &Wiring) -> Result<Launch> {
    let file = wiring.folder.join("envoy.json");
    write(&file, &serde_json::to_string_pretty(&configuration(wiring))?)?;
    let file = file.to_string_lossy();
    let words = words(program, &["--concurrency", "1", "--disable-hot-restart", "--log-level", "error", "-c", &file]);
    Ok(Launch { words, output: Output::Log(wiring.folder.join("envoy.log")) })
}

fn address(socket: std::net::SocketAddr) -> Value {
    json!({ "socket_address": { "address": socket.ip().to_string(), "port_value": socket.port() } })
}

fn configuration(wiring: &Wiring) -> Value {
    let clusters: Vec<Value> = match wiring.hosts {
        0 => vec![cluster("origin", wiring, false)],
        hosts => (0..hosts).map(|host| cluster(&format!("service-{host}"), wiring, true)).collect(),
    };
    let virtual_hosts: Vec<Value> = match wiring.hosts {
        0 => vec![json!({
            "name": "all", "domains": ["*"],
            "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "origin" } }],
        })],
        hosts => (0..hosts).map(virtual_host).collect(),
    };
    let mut manager = manager(wiring, virtual_hosts);
    if let Some(path) = wiring.access_log {
        manager["access_log"] = json!([{
            "name": "envoy.access_loggers.file",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                "path": path.to_string_lossy(),
                "log_format": { "json_format": log_format() },
            },
        }]);
    }
    let filter = if wiring.wire.bytes {
        json!({ "name": "envoy.filters.network.tcp_proxy", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": "bench", "cluster": "origin",
        } })
    } else {
        json!({ "name": "envoy.filters.network.http_connection_manager", "typed_config": manager })
    };
    let mut chain = json!({ "filters": [filter] });
    if let Some(certificate) = wiring.certificate {
        chain["transport_socket"] = json!({ "name": "envoy.transport_sockets.tls", "typed_config": tls(certificate) });
    }
    json!({
        "admin": { "address": address(wiring.admin) },
        "static_resources": {
            "listeners": [{ "name": "entry", "address": address(wiring.listen), "filter_chains": [chain] }],
            "clusters": clusters,
        },
    })
}

fn tls(certificate: &Certificate) -> Value {
    let file = |path: &Path| json!({ "filename": path.to_string_lossy() });
    json!({
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_params": { "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3" },
            "tls_certificates": [{
                "certificate_chain": file(&certificate.chain),
                "private_key": file(&certificate.key),
            }],
        },
    })
}

fn manager(wiring: &Wiring, virtual_hosts: Vec<Value>) -> Value {
    let codec = match (wiring.certificate, wiring.wire.client) {
        (Some(_), _) => "AUTO",
        (None, Version::Http1) => "HTTP1",
        (None, Version::Http2) => "HTTP2",
    };
    json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "codec_type": codec,
        "use_remote_address": true,
        "normalize_path": true,
        "route_config": { "name": "bench", "virtual_hosts": virtual_hosts },
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
        }],
    })
}

fn cluster(name: &str, wiring: &Wiring, limited: bool) -> Value {
    let mut cluster = json!({
        "name": name,
        "type": "STATIC",
        "lb_policy": "ROUND_ROBIN",
        "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(wiring.origin) } }] }],
        },
    });
    if wiring.wire.service == Version::Http2 {
        cluster["typed_extension_protocol_options"] = json!({ "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": { "http2_protocol_options": {} },
        } });
    }
    if limited {
        cluster["circuit_breakers"] = json!({ "thresholds": [{
            "max_connections": CLUSTER_LIMIT, "max_pending_requests": CLUSTER_LIMIT,
            "max_requests": CLUSTER_LIMIT, "max_retries": 3,
        }] });
        cluster["outlier_detection"] = json!({
            "consecutive_5xx": CONSECUTIVE_ERRORS, "interval": "10s", "base_ejection_time": "30s",
            "max_ejection_percent": 100,
        });
    }
    cluster
}

fn virtual_host(host: usize) -> Value {
    let action = json!({
        "cluster": format!("service-{host}"),
        "retry_policy": { "retry_on": "connect-failure,refused-stream,reset-before-request", "num_retries": 1 },
    });
    json!({
        "name": format!("host-{host}"),
        "domains": [authority(host)],
        "routes": [
            { "match": { "prefix": "/api/", "headers": [
                { "name": "x-canary", "string_match": { "exact": "1" } },
            ] }, "route": action },
            { "match": { "path": "/health" }, "route": action },
            { "match": { "prefix": "/" }, "route": action },
        ],
    })
}

fn log_format() -> Value {
    let fields = [
        ("start_time", "%START_TIME%"),
        ("method", "%REQ(:METHOD)%"),
        ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
        ("protocol", "%PROTOCOL%"),
        ("response_code", "%RESPONSE_CODE%"),
        ("response_flags", "%RESPONSE_FLAGS%"),
        ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
        ("connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"),
        ("upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
        ("bytes_received", "%BYTES_RECEIVED%"),
        ("bytes_sent", "%BYTES_SENT%"),
        ("duration", "%DURATION%"),
        ("upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
        ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
        ("user_agent", "%REQ(USER-AGENT)%"),
        ("request_id", "%REQ(X-REQUEST-ID)%"),
        ("authority", "%REQ(:AUTHORITY)%"),
        ("upstream_host", "%UPSTREAM_HOST%"),
        ("upstream_cluster", "%UPSTREAM_CLUSTER%"),
        ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
        ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
        ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
        ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
        ("route_name", "%ROUTE_NAME%"),
    ];
    Value::Object(fields.into_iter().map(|(key, value)| (key.to_owned(), json!(value))).collect::<Map<_, _>>())
}
