//! Nanoseconds to parse and to write typical heads: `cargo run --release -p meshwright-codec --example head_speed`.
#![allow(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use std::hint::black_box;
use std::time::Instant;

use meshwright_codec::{
    Answered, BodyDecoder, BodyLimits, HeadError, HeadLimits, HeadScan, ReplyFraming, parse_request, parse_response,
    write_request_head, write_response_head,
};
use meshwright_message::{BodyLength, RequestHead, ResponseHead};

const BROWSER: &[u8] = b"GET /users/7?full=1&tab=posts HTTP/1.1\r\n\
Host: api.example.com\r\n\
Connection: keep-alive\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
Accept-Language: en-GB,en;q=0.5\r\n\
Accept-Encoding: gzip, deflate\r\n\
Referer: http://api.example.com/users\r\n\
Cookie: session=0123456789abcdef0123456789abcdef\r\n\
Upgrade-Insecure-Requests: 1\r\n\
Cache-Control: max-age=0\r\n\r\n";

const SMALL: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost:8080\r\nUser-Agent: load\r\n\r\n";

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\n\
Server: nginx\r\n\
Date: Mon, 23 Nov 2026 17:00:00 GMT\r\n\
Content-Type: application/json\r\n\
Content-Length: 128\r\n\
Connection: keep-alive\r\n\
Vary: Accept-Encoding\r\n\r\n";

/// Runs `step` often enough to measure it, five times, and prints the median.
fn measure(name: &str, bytes: usize, mut step: impl FnMut() -> Result<(), HeadError>) -> Result<(), HeadError> {
    const ROUNDS: u32 = 400_000;
    let mut results = [0.0; 5];
    for result in &mut results {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            step()?;
        }
        *result = start.elapsed().as_secs_f64() * 1e9 / f64::from(ROUNDS);
    }
    results.sort_by(f64::total_cmp);
    println!("{name:<32} {bytes:>4} bytes {:>8.1} ns", results[2]);
    Ok(())
}

fn main() -> Result<(), HeadError> {
    let limits = HeadLimits::default();
    let mut scan = HeadScan::default();
    let mut request = RequestHead::default();
    for (name, bytes) in [("parse a small request", SMALL), ("parse a browser's request", BROWSER)] {
        measure(name, bytes.len(), || parse_request(black_box(bytes), &mut scan, &limits, &mut request).map(|_| ()))?;
    }
    let mut out = Vec::new();
    measure("write a browser's request", BROWSER.len(), || {
        out.clear();
        write_request_head(black_box(&request), &mut out);
        Ok(())
    })?;
    let mut response = ResponseHead::default();
    measure("parse a response", RESPONSE.len(), || {
        parse_response(black_box(RESPONSE), &mut scan, &limits, Answered::default(), &mut response).map(|_| ())
    })?;
    let reply = ReplyFraming { version: request.version, close: false, body: response.body };
    measure("write a response", RESPONSE.len(), || {
        out.clear();
        write_response_head(black_box(&response), reply, &mut out);
        Ok(())
    })?;
    let chunked = b"10\r\n0123456789abcdef\r\n0\r\n\r\n";
    measure("decode a chunked body", chunked.len(), || {
        let mut decoder = BodyDecoder::new(BodyLength::Chunked, &BodyLimits::default());
        black_box(decoder.decode(black_box(chunked))).map(|_| ()).map_err(|_| HeadError::BadTransferEncoding)
    })
}
