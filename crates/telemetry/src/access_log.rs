//! One request, one line: Istio's default text format and Istio's JSON keys.
//!
//! It appends bytes to a buffer and does not know where they go or when they are flushed. What a field means is said in
//! `record.rs`, how strangers' bytes are made safe in `escape.rs`.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::escape::{Space, push_json, push_text};
use crate::record::RequestRecord;

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessLogFormat {
    /// Istio's default text format. A failed request has ` reason="..."` at its end.
    #[default]
    Text,
    /// One JSON object per line with Istio's keys, and `reason`.
    Json,
}

/// Writes lines of one format. It remembers the last second it wrote; keep one per worker.
#[derive(Clone, Debug)]
pub struct AccessLogEncoder {
    format: AccessLogFormat,
    second: u64,
    /// `2026-11-23T16:55:04` of [`Self::second`].
    stamp: [u8; 19],
}

/// Writes one line. [`AccessLogEncoder`] does the same and remembers the second.
pub fn encode_access_log(format: AccessLogFormat, record: &RequestRecord<'_>, out: &mut Vec<u8>) {
    AccessLogEncoder::new(format).encode(record, out);
}

impl AccessLogEncoder {
    /// An encoder that has written nothing.
    pub fn new(format: AccessLogFormat) -> Self {
        Self { format, second: 0, stamp: *b"1970-01-01T00:00:00" }
    }

    /// Appends one line, its newline included. The line is printable ASCII whatever the record holds.
    pub fn encode(&mut self, record: &RequestRecord<'_>, out: &mut Vec<u8>) {
        match self.format {
            AccessLogFormat::Text => self.text(record, out),
            AccessLogFormat::Json => self.json(record, out),
        }
    }

    fn text(&mut self, record: &RequestRecord<'_>, out: &mut Vec<u8>) {
        out.push(b'[');
        self.start_time(record.start_time, out);
        out.extend_from_slice(b"] \"");
        word(out, record.method);
        out.push(b' ');
        word(out, record.path);
        out.push(b' ');
        word(out, record.protocol);
        out.extend_from_slice(b"\" ");
        push_number(out, u64::from(record.response_code));
        out.push(b' ');
        push_text(out, flags(record).as_bytes(), Space::Escape);
        out.push(b' ');
        match record.response_code_details {
            Some(details) if !details.is_empty() => push_text(out, details.as_bytes(), Space::Underscore),
            _ => out.push(b'-'),
        }
        out.push(b' ');
        word(out, record.connection_termination_details);
        quoted(out, record.upstream_transport_failure_reason.map(str::as_bytes));
        for number in [record.bytes_received, record.bytes_sent, millis(record.duration)] {
            out.push(b' ');
            push_number(out, number);
        }
        out.push(b' ');
        match record.upstream_service_time {
            Some(time) => push_number(out, millis(time)),
            None => out.push(b'-'),
        }
        quoted(out, record.x_forwarded_for);
        quoted(out, record.user_agent);
        quoted(out, record.request_id);
        quoted(out, record.authority.map(str::as_bytes));
        out.extend_from_slice(b" \"");
        address(out, record.upstream_host);
        out.extend_from_slice(b"\" ");
        word(out, record.upstream_cluster);
        for socket in [record.upstream_local_address, record.downstream_local_address, record.downstream_remote_address]
        {
            out.push(b' ');
            address(out, socket);
        }
        out.push(b' ');
        word(out, record.requested_server_name);
        out.push(b' ');
        word(out, record.route_name);
        if let Some(reason) = record.reason.filter(|reason| !reason.is_empty()) {
            out.extend_from_slice(b" reason=\"");
            push_text(out, reason.as_bytes(), Space::Keep);
            out.push(b'"');
        }
        out.push(b'\n');
    }

    fn json(&mut self, record: &RequestRecord<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"start_time\":\"");
        self.start_time(record.start_time, out);
        out.push(b'"');
        json_string(out, b",\"method\":", record.method.map(str::as_bytes));
        json_string(out, b",\"path\":", record.path.map(str::as_bytes));
        json_string(out, b",\"protocol\":", record.protocol.map(str::as_bytes));
        json_number(out, b",\"response_code\":", u64::from(record.response_code));
        json_string(out, b",\"response_flags\":", Some(flags(record).as_bytes()));
        json_string(out, b",\"response_code_details\":", record.response_code_details.map(str::as_bytes));
        let ended = record.connection_termination_details.map(str::as_bytes);
        json_string(out, b",\"connection_termination_details\":", ended);
        let failed = record.upstream_transport_failure_reason.map(str::as_bytes);
        json_string(out, b",\"upstream_transport_failure_reason\":", failed);
        json_number(out, b",\"bytes_received\":", record.bytes_received);
        json_number(out, b",\"bytes_sent\":", record.bytes_sent);
        json_number(out, b",\"duration\":", millis(record.duration));
        match record.upstream_service_time {
            // A string, because Istio takes it from a header.
            Some(time) => {
                json_number(out, b",\"upstream_service_time\":\"", millis(time));
                out.push(b'"');
            }
            None => out.extend_from_slice(b",\"upstream_service_time\":null"),
        }
        json_string(out, b",\"x_forwarded_for\":", record.x_forwarded_for);
        json_string(out, b",\"user_agent\":", record.user_agent);
        json_string(out, b",\"request_id\":", record.request_id);
        json_string(out, b",\"authority\":", record.authority.map(str::as_bytes));
        json_address(out, b",\"upstream_host\":", record.upstream_host);
        json_string(out, b",\"upstream_cluster\":", record.upstream_cluster.map(str::as_bytes));
        json_address(out, b",\"upstream_local_address\":", record.upstream_local_address);
        json_address(out, b",\"downstream_local_address\":", record.downstream_local_address);
        json_address(out, b",\"downstream_remote_address\":", record.downstream_remote_address);
        json_string(out, b",\"requested_server_name\":", record.requested_server_name.map(str::as_bytes));
        json_string(out, b",\"route_name\":", record.route_name.map(str::as_bytes));
        json_string(out, b",\"reason\":", record.reason.map(str::as_bytes));
        out.extend_from_slice(b"}\n");
    }

    /// `2026-11-23T16:55:04.123Z`; times before 1970 are written as its start, after 9999 as the last one known.
    fn start_time(&mut self, time: SystemTime, out: &mut Vec<u8>) {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        if since.as_secs() != self.second {
            let parsed =
                i64::try_from(since.as_secs()).ok().and_then(|second| jiff::Timestamp::from_second(second).ok());
            let text = parsed.map(|timestamp| timestamp.to_string()).unwrap_or_default();
            if let Some(stamp) = text.as_bytes().first_chunk::<19>() {
                self.stamp = *stamp;
                self.second = since.as_secs();
            }
        }
        let millis = since.subsec_millis();
        out.extend_from_slice(&self.stamp);
        out.push(b'.');
        out.extend([millis / 100, millis / 10 % 10, millis % 10].map(digit));
        out.push(b'Z');
    }
}

const DIGITS: &[u8; 10] = b"0123456789";

/// The last decimal digit of a number.
fn digit(number: u32) -> u8 {
    DIGITS[(number % 10) as usize]
}

/// The flags, `-` for none.
fn flags<'a>(record: &RequestRecord<'a>) -> &'a str {
    if record.response_flags.is_empty() { "-" } else { record.response_flags }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A value that ends at the next space.
fn word(out: &mut Vec<u8>, value: Option<&str>) {
    match value {
        Some(value) if !value.is_empty() => push_text(out, value.as_bytes(), Space::Escape),
        _ => out.push(b'-'),
    }
}

/// A space, then a value between quotes.
fn quoted(out: &mut Vec<u8>, value: Option<&[u8]>) {
    out.extend_from_slice(b" \"");
    match value {
        Some(value) if !value.is_empty() => push_text(out, value, Space::Keep),
        _ => out.push(b'-'),
    }
    out.push(b'"');
}

fn address(out: &mut Vec<u8>, socket: Option<SocketAddr>) {
    match socket {
        Some(socket) => push_address(out, socket),
        None => out.push(b'-'),
    }
}

fn json_string(out: &mut Vec<u8>, key: &[u8], value: Option<&[u8]>) {
    out.extend_from_slice(key);
    match value {
        Some(value) if !value.is_empty() => push_json(out, value),
        _ => out.extend_from_slice(b"null"),
    }
}

fn json_number(out: &mut Vec<u8>, key: &[u8], value: u64) {
    out.extend_from_slice(key);
    push_number(out, value);
}

fn json_address(out: &mut Vec<u8>, key: &[u8], socket: Option<SocketAddr>) {
    out.extend_from_slice(key);
    match socket {
        Some(socket) => {
            out.push(b'"');
            push_address(out, socket);
            out.push(b'"');
        }
        None => out.extend_from_slice(b"null"),
    }
}

/// `10.0.0.1:80` or `[::1]:80`. IPv4 is written by hand: a line has up to four of them.
fn push_address(out: &mut Vec<u8>, socket: SocketAddr) {
    match socket.ip() {
        IpAddr::V4(ip) => {
            for (index, octet) in ip.octets().into_iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                push_number(out, u64::from(octet));
            }
            out.push(b':');
            push_number(out, u64::from(socket.port()));
        }
        IpAddr::V6(_) => write!(out, "{socket}").expect("writing to a Vec does not fail"),
    }
}

/// A number in decimal.
fn push_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = DIGITS[(number % 10) as usize];
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}
