//! nginx's configuration: one worker process, keep-alive connections to upstreams.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;

use super::{CLUSTER_LIMIT, CONSECUTIVE_ERRORS, Launch, Wiring, words, write};
use crate::bench::certificate::Certificate;
use crate::bench::child::Output;
use crate::bench::scenario::{Version, authority};

pub(super) const FEATURES: [&str; 4] = [
    "`worker_processes 1`, upstream `keepalive 1024`, x-forwarded-for and -proto, buffers of 16 KiB, no temporary files, no \
     counters, no request id",
    "100 servers by name with three locations each, 100 upstreams with `max_conns` 1,024, `max_fails` 5 and `fail_timeout \
     30s`, one retry on connect errors, x-request-id from `$request_id`",
    "`access_log` to a file with a JSON `log_format`, buffered by 64 KiB or one second",
    "`listen ... ssl http2`, TLS 1.3, its default tickets and no session cache; `http2` alone for HTTP/2 in clear text; no \
     HTTP/2 to services in this version; the stream module for TCP",
];

pub(super) fn launch(program: &Path, wiring: &Wiring) -> Result<Launch> {
    let file = wiring.folder.join("nginx.conf");
    write(&file, &if wiring.wire.bytes { tcp(wiring) } else { configuration(wiring) })?;
    let log = wiring.folder.join("nginx.log");
    // The first -e replaces the compiled-in error log, which a user who is not root may not open.
    let words = words(program, &["-e", &log.to_string_lossy(), "-c", &file.to_string_lossy(), "-g", "daemon off;"]);
    Ok(Launch { words, output: Output::Log(wiring.folder.join("nginx.out")) })
}

/// TCP proxying, by the module that Debian packages apart.
fn tcp(wiring: &Wiring) -> String {
    let (folder, listen, origin) = (wiring.folder.display(), wiring.listen, wiring.origin);
    let module = super::NGINX_STREAM.program;
    format!(
        "load_module {module};
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log error;
events {{ worker_connections 9000; }}
stream {{
    upstream origin {{ server {origin}; }}
    server {{ listen {listen}; proxy_pass origin; }}
}}
"
    )
}

fn tls(certificate: &Certificate) -> String {
    let (chain, key) = (certificate.chain.display(), certificate.key.display());
    format!("        ssl_certificate {chain};\n        ssl_certificate_key {key};\n        ssl_protocols TLSv1.3;\n")
}

fn configuration(wiring: &Wiring) -> String {
    let folder = wiring.folder.display();
    let log = match wiring.access_log {
        Some(path) => {
            format!(
                "log_format bench escape=json '{LOG_FORMAT}';\n    access_log {} bench buffer=64k flush=1s;",
                path.display()
            )
        }
        None => "access_log off;".to_owned(),
    };
    let mut text = format!(
        "worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log error;
events {{ worker_connections 9000; }}
http {{
    {log}
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    tcp_nodelay on;
    keepalive_timeout 300s;
    keepalive_requests 1000000000;
    server_names_hash_bucket_size 128;
    proxy_http_version 1.1;
    proxy_buffer_size 16k;
    proxy_buffers 8 16k;
    proxy_busy_buffers_size 32k;
    proxy_max_temp_file_size 0;
"
    );
    let headers = "        proxy_set_header Connection \"\";\n        proxy_set_header Host $http_host;\n        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n        proxy_set_header X-Forwarded-Proto $scheme;\n";
    let (listen, origin) = (wiring.listen, wiring.origin);
    if wiring.hosts == 0 {
        let (entry, certificate) = match (wiring.certificate, wiring.wire.client) {
            (Some(certificate), _) => (" ssl http2", tls(certificate)),
            (None, Version::Http2) => (" http2", String::new()),
            (None, Version::Http1) => ("", String::new()),
        };
        let _ = write!(
            text,
            "    upstream origin {{ server {origin}; keepalive 1024; keepalive_requests 1000000000; }}
    server {{
        listen {listen}{entry};
{certificate}{headers}        location / {{ proxy_pass http://origin; }}
    }}
"
        );
    }
    for host in 0..wiring.hosts {
        let name = authority(host);
        let _ = write!(
            text,
            "    upstream service-{host} {{
        server {origin} max_conns={CLUSTER_LIMIT} max_fails={CONSECUTIVE_ERRORS} fail_timeout=30s;
        keepalive 1024;
        keepalive_requests 1000000000;
    }}
    server {{
        listen {listen};
        server_name {name};
{headers}        proxy_set_header X-Request-Id $request_id;
        proxy_next_upstream error timeout http_503;
        proxy_next_upstream_tries 2;
        location /api/ {{ if ($http_x_canary = 1) {{ proxy_pass http://service-{host}; break; }} proxy_pass http://service-{host}; }}
        location = /health {{ proxy_pass http://service-{host}; }}
        location / {{ proxy_pass http://service-{host}; }}
    }}
"
        );
    }
    text.push_str("}\n");
    text
}

const LOG_FORMAT: &str = concat!(
    r#"{"start_time":"$time_iso8601","method":"$request_method","path":"$request_uri","protocol":"$server_protocol","#,
    r#""response_code":$status,"bytes_received":$request_length,"bytes_sent":$body_bytes_sent,"duration":$request_time,"#,
    r#""upstream_service_time":"$upstream_response_time","x_forwarded_for":"$proxy_add_x_forwarded_for","#,
    r#""user_agent":"$http_user_agent","request_id":"$request_id","authority":"$http_host","#,
    r#""upstream_host":"$upstream_addr","upstream_cluster":"$proxy_host","upstream_status":"$upstream_status","#,
    r#""downstream_local_address":"$server_addr:$server_port","downstream_remote_address":"$remote_addr:$remote_port","#,
    r#""route_name":"$server_name"}"#
);
