//! Origins named by what they do.

use std::time::Duration;

use crate::message::find;
use crate::{Origin, PATIENCE, Pattern, Received, TlsServer};

/// An answer with `Content-Length`.
fn answer(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut out = format!("HTTP/1.1 {status} Scripted\r\n");
    for (name, value) in headers {
        out.push_str(&format!("{name}: {value}\r\n"));
    }
    out.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    let mut out = out.into_bytes();
    out.extend_from_slice(body);
    out
}

/// The body of a request as the answer to it.
fn echo(received: &Received) -> Vec<u8> {
    let seen = [("x-method", received.method.as_str()), ("x-target", received.target.as_str())];
    if received.chunk_lines.is_empty() {
        return answer(200, &seen, &received.body);
    }
    let mut out = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n".to_vec();
    for (name, value) in seen {
        out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    if !received.body.is_empty() {
        out.extend_from_slice(format!("{:x}\r\n", received.body.len()).as_bytes());
        out.extend_from_slice(&received.body);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n");
    for (name, value) in &received.trailers {
        out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out
}

impl Origin {
    /// Answers every request with these bytes.
    pub fn sends(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::sends_by(move |_| bytes.clone())
    }

    /// Answers every request with the bytes that `script` makes of it.
    pub fn sends_by(script: impl Fn(&Received) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::start(move |connection| {
            while let Some(received) = connection.request()? {
                connection.send(script(&received))?;
            }
            Ok(())
        })
    }

    /// Answers every request with a status, fields and a body of known length.
    pub fn answers(status: u16, headers: &[(&str, &str)], body: &str) -> Self {
        Self::sends(answer(status, headers, body.as_bytes()))
    }

    /// Answers every request with the status and body that `script` chooses.
    pub fn answers_by(script: impl Fn(&Received) -> (u16, String) + Send + Sync + 'static) -> Self {
        Self::sends_by(move |received| {
            let (status, body) = script(received);
            answer(status, &[], body.as_bytes())
        })
    }

    /// Answers 200 with its own name.
    pub fn named(name: &str) -> Self {
        Self::answers(200, &[], name)
    }

    /// Answers 200 with the body of the request, chunked with the same trailers when the request had some; method and
    /// target come back as `x-method` and `x-target`.
    pub fn echoes() -> Self {
        Self::sends_by(echo)
    }

    /// As [`Origin::echoes`], over TLS.
    pub fn echoes_over_tls(tls: &TlsServer) -> Self {
        Self::start_tls(tls, |connection| {
            while let Some(received) = connection.request()? {
                connection.send(echo(&received))?;
            }
            Ok(())
        })
    }

    /// Answers 200 and closes a connection that stays silent for `idle`, without having announced it.
    pub fn closes_after_idle(idle: Duration) -> Self {
        Self::start(move |connection| {
            while connection.comes_within(idle) {
                if connection.request()?.is_none() {
                    break;
                }
                connection.send(answer(200, &[], b"alive"))?;
            }
            Ok(())
        })
    }

    /// Answers `count` requests of a connection. The next one is read and answered by a close without a byte.
    pub fn closes_unanswered_after(count: usize) -> Self {
        Self::start(move |connection| {
            for _ in 0..count {
                if connection.request()?.is_none() {
                    return Ok(());
                }
                connection.send(answer(200, &[], b"alive"))?;
            }
            connection.request()?;
            Ok(())
        })
    }

    /// Reads a request and resets the connection.
    pub fn resets_before_answering() -> Self {
        Self::start(|connection| {
            connection.request()?;
            connection.reset();
            Ok(())
        })
    }

    /// Sends a head that announces ten bytes, and none of them.
    pub fn stalls_after_head() -> Self {
        Self::start(|connection| {
            connection.request()?;
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")?;
            connection.wait_for_close(PATIENCE);
            Ok(())
        })
    }

    /// Answers every request with these bytes, one at a time.
    pub fn one_byte_at_a_time(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::start(move |connection| {
            while connection.request()?.is_some() {
                connection.send_slowly(&bytes, Duration::from_micros(200))?;
            }
            Ok(())
        })
    }

    /// Announces ten bytes, sends five and closes.
    pub fn closes_mid_body() -> Self {
        Self::start(|connection| {
            connection.request()?;
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        })
    }

    /// Answers as soon as the head of a request is there, never reads its body, and keeps the connection open.
    pub fn answers_early_without_reading(status: u16) -> Self {
        Self::start(move |connection| {
            if let Some(received) = connection.head()? {
                connection.record(received);
                connection.send(answer(status, &[], b"early"))?;
                connection.wait_for_close(PATIENCE);
            }
            Ok(())
        })
    }

    /// Sends `100 Continue` when the head is there, then reads the body and answers.
    pub fn answers_100_then(status: u16, body: &str) -> Self {
        let body = body.to_owned();
        Self::start(move |connection| {
            while let Some(received) = connection.head()? {
                connection.send("HTTP/1.1 100 Continue\r\n\r\n")?;
                connection.body_of(received)?;
                connection.send(answer(status, &[], body.as_bytes()))?;
            }
            Ok(())
        })
    }

    /// Reads a request and says nothing.
    pub fn never_answers() -> Self {
        Self::start(|connection| {
            connection.request()?;
            connection.wait_for_close(PATIENCE);
            Ok(())
        })
    }

    /// Answers every request after `delay`.
    pub fn answers_after(delay: Duration, body: &str) -> Self {
        let body = body.to_owned();
        Self::start(move |connection| {
            while connection.request()?.is_some() {
                std::thread::sleep(delay);
                connection.send(answer(200, &[], body.as_bytes()))?;
            }
            Ok(())
        })
    }

    /// Reads bodies of any size as a stream of [`Pattern`], and answers `intact N` or `broken N` with the number of bytes.
    pub fn checks_pattern() -> Self {
        Self::start(|connection| {
            while let Some(received) = connection.head()? {
                let length = find(&received.headers, "content-length").and_then(|value| value.parse::<u64>().ok());
                let mut missing = length.unwrap_or(0);
                let mut pattern = Pattern::default();
                let mut intact = true;
                let mut buffer = vec![0; 64 * 1024];
                while missing > 0 {
                    let most = buffer.len().min(usize::try_from(missing).unwrap_or(usize::MAX));
                    let count = connection.read_some(&mut buffer[..most])?;
                    if count == 0 {
                        return Ok(());
                    }
                    intact &= pattern.check(&buffer[..count]);
                    missing -= count as u64;
                }
                connection.record(received);
                let verdict = if intact { "intact" } else { "broken" };
                connection.send(answer(200, &[], format!("{verdict} {}", pattern.total()).as_bytes()))?;
            }
            Ok(())
        })
    }

    /// Answers every request with `length` bytes of [`Pattern`].
    pub fn sends_pattern(length: u64) -> Self {
        Self::start(move |connection| {
            while connection.request()?.is_some() {
                connection.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"))?;
                let mut pattern = Pattern::default();
                while pattern.total() < length {
                    let most = usize::try_from(length - pattern.total()).unwrap_or(usize::MAX);
                    let block = pattern.next(most).to_vec();
                    connection.send(block)?;
                }
            }
            Ok(())
        })
    }

    /// Answers `101 Switching Protocols` and sends back every byte that follows.
    pub fn switches_protocol_and_echoes() -> Self {
        Self::start(|connection| {
            if connection.request()?.is_none() {
                return Ok(());
            }
            connection.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")?;
            let mut buffer = [0; 4096];
            loop {
                let count = connection.read_some(&mut buffer)?;
                if count == 0 {
                    return Ok(());
                }
                connection.send(&buffer[..count])?;
            }
        })
    }
}
