//! HAProxy's configuration: one thread, connections to servers always reused.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;

use super::{CLUSTER_LIMIT, CONSECUTIVE_ERRORS, Launch, Wiring, words, write};
use crate::bench::child::Output;
use crate::bench::scenario::{Version, authority};

pub(super) const FEATURES: [&str; 4] = [
    "`nbthread 1`, `http-reuse always`, `option forwardfor`, its own counters; no request id, no retry on a status",
    "a map from 100 hosts to 100 backends, path and header rules, `maxconn` 1,024 and `observe layer7` with `error-limit 5` \
     and `on-error mark-down` (which needs a connect check, every 30 s), `retries 1`, x-request-id from `uuid()`",
    "`log stdout format raw` into a file, a JSON `log-format`, written line by line (HAProxy has no buffer for it)",
    "`bind ... ssl alpn h2,http/1.1`, TLS 1.3, its default tickets and `tune.h2` settings; `proto h2` on `bind` or `server` \
     for HTTP/2 in clear text; `mode tcp` for TCP",
];

pub(super) fn launch(program: &Path, wiring: &Wiring) -> Result<Launch> {
    let file = wiring.folder.join("haproxy.cfg");
    write(&file, &configuration(wiring)?)?;
    let log = wiring.folder.join("haproxy.log");
    let output = match wiring.access_log {
        Some(access_log) => Output::Split(access_log.to_path_buf(), log),
        None => Output::Log(log),
    };
    Ok(Launch { words: words(program, &["-db", "-f", &file.to_string_lossy()]), output })
}

fn configuration(wiring: &Wiring) -> Result<String> {
    let log = if wiring.access_log.is_some() { "    log stdout format raw local0\n" } else { "" };
    let (listen, origin) = (wiring.listen, wiring.origin);
    let mode = if wiring.wire.bytes { "tcp" } else { "http\n    http-reuse always\n    option forwardfor" };
    let entry = match (wiring.certificate, wiring.wire.client) {
        (Some(certificate), _) => {
            format!(" ssl crt {} ssl-min-ver TLSv1.3 alpn h2,http/1.1", certificate.both.display())
        }
        (None, Version::Http2) => " proto h2".to_owned(),
        (None, Version::Http1) => String::new(),
    };
    let service = if wiring.wire.service == Version::Http2 { " proto h2" } else { "" };
    let mut text = format!(
        "global
    nbthread 1
    maxconn 9000
{log}
defaults
    mode {mode}
    timeout client 300s
    timeout server 300s
    timeout connect 5s
    timeout http-keep-alive 300s
    retries 1

frontend entry
    bind {listen}{entry}
"
    );
    if wiring.access_log.is_some() {
        text.push_str("    log global\n");
        for captured in ["req.hdr(host)", "req.hdr(user-agent)", "path"] {
            let _ = writeln!(text, "    http-request capture {captured} len 128");
        }
        text.push_str("    log-format '");
        text.push_str(LOG_FORMAT);
        text.push_str("'\n");
    }
    if wiring.hosts == 0 {
        let _ = write!(text, "    default_backend origin\n\nbackend origin\n    server origin {origin}{service}\n");
        return Ok(text);
    }
    let map = wiring.folder.join("hosts.map");
    let lines: String = (0..wiring.hosts).map(|host| format!("{} service-{host}\n", authority(host))).collect();
    write(&map, &lines)?;
    let by_host = format!("%[req.hdr(host),lower,map_str({})]", map.display());
    let _ = write!(
        text,
        "    unique-id-format %[uuid()]
    unique-id-header x-request-id
    acl known req.hdr(host),lower,map_str({}) -m found
    http-request return status 404 if !known
    use_backend {by_host} if {{ path_beg /api/ }} {{ req.hdr(x-canary) 1 }}
    use_backend {by_host} if {{ path /health }}
    use_backend {by_host}
",
        map.display()
    );
    for host in 0..wiring.hosts {
        let _ = write!(
            text,
            "
backend service-{host}
    balance roundrobin
    server s0 {origin} maxconn {CLUSTER_LIMIT} check inter 30s observe layer7 error-limit {CONSECUTIVE_ERRORS} on-error mark-down
"
        );
    }
    Ok(text)
}

const LOG_FORMAT: &str = concat!(
    r#"{"start_time":"%tr","method":"%HM","path":"%[capture.req.hdr(2),json(utf8s)]","protocol":"%HV","response_code":%ST,"#,
    r#""response_flags":"%tsc","bytes_received":%U,"bytes_sent":%B,"duration":%Ta,"upstream_service_time":%Tr,"#,
    r#""x_forwarded_for":"%ci","user_agent":"%[capture.req.hdr(1),json(utf8s)]","request_id":"%ID","#,
    r#""authority":"%[capture.req.hdr(0),json(utf8s)]","upstream_host":"%si:%sp","upstream_cluster":"%b","#,
    r#""upstream_local_address":"%bi:%bp","downstream_local_address":"%fi:%fp","downstream_remote_address":"%ci:%cp","#,
    r#""route_name":"%f"}"#
);
