//! A client of HTTP/1.1: one request in flight, on a connection that it keeps or on a new one each time.
//!
//! It does not know whether there is TLS below. Read next: `transport.rs`.

use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::transport::{Dialer, Stream};
use super::{Failure, PATIENCE, Shared};
use crate::bench::backend::head_end;

/// The bytes of a request.
pub(super) fn request(host: &str, path: &str, closes: bool) -> Rc<[u8]> {
    let close = if closes { "Connection: close\r\n" } else { "" };
    let text = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: bench\r\nAccept: */*\r\n{close}\r\n");
    Rc::from(text.into_bytes())
}

/// Sends the request again and again until the load stops.
pub(super) async fn client(shared: Rc<Shared>, dialer: Dialer, request: Rc<[u8]>) {
    let mut connection = None;
    let mut buffer = vec![0; 64 * 1024];
    while shared.goes_on() {
        // The latency of a request includes its connection when that is new.
        let began = Instant::now();
        let reused = connection.is_some();
        let mut stream = match connection.take() {
            Some(stream) => stream,
            None => match tokio::time::timeout(PATIENCE, dialer.dial()).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(_)) | Err(_) => {
                    shared.failed(Failure::Connect);
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            },
        };
        if reused && stream.is_closed() {
            shared.closed_idle();
            continue;
        }
        match exchange(&mut stream, &request, &mut buffer, shared.body).await {
            Ok(stays_open) => {
                shared.answered(began);
                if stays_open && !shared.closes {
                    connection = Some(stream);
                } else if !shared.closes {
                    shared.closed_idle();
                }
            }
            Err(failure) => shared.failed(failure),
        }
    }
}

/// One request and its whole answer, whose body must have `body` bytes; `Ok(true)` when the connection may carry another
/// one.
pub(super) async fn exchange(
    stream: &mut Stream,
    request: &[u8],
    buffer: &mut [u8],
    body: usize,
) -> Result<bool, Failure> {
    stream.write_all(request).await.map_err(|_| Failure::ClosedUnanswered)?;
    stream.flush().await.map_err(|_| Failure::ClosedUnanswered)?;
    let mut filled = 0;
    let (head, end) = loop {
        match stream.read(&mut buffer[filled..]).await {
            Ok(0) | Err(_) if filled == 0 => return Err(Failure::ClosedUnanswered),
            Ok(0) | Err(_) => return Err(Failure::Broken),
            Ok(read) => filled += read,
        }
        if let Some(end) = head_end(&buffer[..filled.min(8 * 1024)]) {
            break (parse_head(&buffer[..end]).ok_or(Failure::Broken)?, end);
        }
        if filled == buffer.len() {
            return Err(Failure::Broken);
        }
    };
    if head.status != 200 {
        return Err(Failure::Status);
    }
    if head.length != body {
        return Err(Failure::Length);
    }
    let mut received = filled - end;
    while received < head.length {
        match stream.read(buffer).await {
            Ok(0) | Err(_) => return Err(Failure::Broken),
            Ok(read) => received += read,
        }
    }
    if received > head.length {
        return Err(Failure::Length);
    }
    Ok(!head.closes)
}

struct Head {
    status: u16,
    length: usize,
    closes: bool,
}

/// Status, `Content-Length` and `Connection: close` of an answer's head; none when it is not HTTP/1 or has no length.
fn parse_head(head: &[u8]) -> Option<Head> {
    let mut lines = head.split(|&byte| byte == b'\n');
    let first = lines.next()?.strip_prefix(b"HTTP/1.1 ")?;
    let status = std::str::from_utf8(first.get(..3)?).ok()?.parse().ok()?;
    let (mut length, mut closes) = (None, false);
    for line in lines {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            length = Some(std::str::from_utf8(value).ok()?.parse().ok()?);
        } else if name.eq_ignore_ascii_case(b"connection") {
            closes = value.eq_ignore_ascii_case(b"close");
        }
    }
    Some(Head { status, length: length?, closes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_gives_status_length_and_closing() {
        let head = parse_head(b"HTTP/1.1 200 OK\r\ncontent-LENGTH: 128\r\nConnection: Close\r\n\r\n").unwrap();
        assert_eq!((head.status, head.length, head.closes), (200, 128, true));
        let head = parse_head(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n").unwrap();
        assert_eq!((head.status, head.length, head.closes), (503, 0, false));
    }

    #[test]
    fn an_answer_without_length_is_no_answer() {
        assert!(parse_head(b"HTTP/1.1 200 OK\r\n\r\n").is_none());
        assert!(parse_head(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_none());
        assert!(parse_head(b"ICY 200 OK\r\nContent-Length: 1\r\n\r\n").is_none());
    }
}
