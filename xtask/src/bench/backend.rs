//! The origin server behind the measured proxies: it answers canned responses as cheaply as it can.
//!
//! It understands just enough HTTP/1.1 for GET on keep-alive connections: `/large` answers 64 KiB, `/count` the number of
//! requests answered so far (itself not counted), and everything else 128 bytes. A request with a body or another method
//! is refused. It is one thread, so that it takes as little as possible of the core it shares with the load.

use std::cell::Cell;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{Response, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Length of the short answer's body, in bytes.
pub(crate) const SMALL: usize = 128;
/// Length of the long answer's body, in bytes.
pub(crate) const LARGE: usize = 64 * 1024;
/// The path that asks for the long answer.
pub(crate) const LARGE_PATH: &str = "/large";
/// The path that asks for the number of requests answered.
pub(crate) const COUNT_PATH: &str = "/count";

const REFUSAL: &[u8] = b"HTTP/1.1 501 Not Implemented\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// Arguments of the hidden `bench-backend`.
#[derive(Debug, clap::Args)]
pub(crate) struct BackendArguments {
    /// Address to listen on; the bound one is printed
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

/// The first bytes of a connection of HTTP/2.
const PREFACE_START: &[u8] = b"PRI ";
/// Bytes of the window of HTTP/2, of a stream and of a connection, and requests at a time on one.
const WINDOW: u32 = 1024 * 1024;
const STREAMS: u32 = 1_000;

struct Origin {
    small: Vec<u8>,
    large: Vec<u8>,
    small_body: Bytes,
    large_body: Bytes,
    answered: Cell<u64>,
}

impl Origin {
    fn answer<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        self.answered.set(self.answered.get() + 1);
        bytes
    }
}

/// Serves until it is ended by a signal.
///
/// # Errors
/// When it cannot listen.
pub(crate) fn run(arguments: &BackendArguments) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, serve(arguments.listen))
}

async fn serve(address: SocketAddr) -> Result<ExitCode> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    println!("{}", listener.local_addr()?);
    std::io::stdout().flush()?;
    let origin = Rc::new(Origin {
        small: answer(SMALL),
        large: answer(LARGE),
        small_body: Bytes::from(vec![b'x'; SMALL]),
        large_body: Bytes::from(vec![b'x'; LARGE]),
        answered: Cell::new(0),
    });
    loop {
        let (stream, _) = listener.accept().await.context("cannot accept")?;
        tokio::task::spawn_local(connection(stream, Rc::clone(&origin)));
    }
}

fn answer(body: usize) -> Vec<u8> {
    let mut bytes = format!(
        "HTTP/1.1 200 OK\r\nServer: origin\r\nDate: Mon, 05 Jan 2026 08:00:00 GMT\r\nContent-Type: text/plain\r\nContent-Length: {body}\r\n\r\n"
    )
    .into_bytes();
    bytes.resize(bytes.len() + body, b'x');
    bytes
}

async fn connection(stream: TcpStream, origin: Rc<Origin>) {
    let _ = stream.set_nodelay(true);
    let mut first = [0; PREFACE_START.len()];
    match stream.peek(&mut first).await {
        Ok(_) if first == PREFACE_START => serve_http2(stream, origin).await,
        Ok(_) => serve_http1(stream, origin).await,
        Err(_) => {}
    }
}

/// HTTP/2 by prior knowledge: the same answers, without `/count`.
async fn serve_http2(stream: TcpStream, origin: Rc<Origin>) {
    let mut builder = h2::server::Builder::new();
    builder.initial_window_size(WINDOW).initial_connection_window_size(WINDOW).max_concurrent_streams(STREAMS);
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let head = Response::builder().header("server", "origin").header("date", "Mon, 05 Jan 2026 08:00:00 GMT");
        let head = head.header("content-type", "text/plain");
        let (status, body) = if request.method() != http::Method::GET || !request.body().is_end_stream() {
            (StatusCode::NOT_IMPLEMENTED, Bytes::new())
        } else if request.uri().path() == LARGE_PATH {
            (StatusCode::OK, origin.large_body.clone())
        } else {
            (StatusCode::OK, origin.small_body.clone())
        };
        let Ok(head) = head.status(status).header("content-length", body.len()).body(()) else { return };
        // A stream that the proxy has reset takes no answer, and is not counted.
        let sent = respond.send_response(head, false).and_then(|mut send| send.send_data(body, true));
        if sent.is_ok() && status == StatusCode::OK {
            origin.answered.set(origin.answered.get() + 1);
        }
    }
}

async fn serve_http1(mut stream: TcpStream, origin: Rc<Origin>) {
    let mut buffer = vec![0; 8 * 1024];
    let mut filled = 0;
    loop {
        while let Some(end) = head_end(&buffer[..filled]) {
            let written = match judge(&buffer[..end]) {
                Verdict::Small => stream.write_all(origin.answer(&origin.small)).await,
                Verdict::Large => stream.write_all(origin.answer(&origin.large)).await,
                Verdict::Count => stream.write_all(&count_answer(origin.answered.get())).await,
                Verdict::Refuse => {
                    let _ = stream.write_all(REFUSAL).await;
                    return;
                }
            };
            if written.is_err() {
                return;
            }
            buffer.copy_within(end..filled, 0);
            filled -= end;
        }
        if filled == buffer.len() {
            return;
        }
        match stream.read(&mut buffer[filled..]).await {
            Ok(0) | Err(_) => return,
            Ok(read) => filled += read,
        }
    }
}

fn count_answer(count: u64) -> Vec<u8> {
    let body = count.to_string();
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Small,
    Large,
    Count,
    Refuse,
}

fn judge(head: &[u8]) -> Verdict {
    let Some(rest) = head.strip_prefix(b"GET ") else { return Verdict::Refuse };
    if announces_body(head) {
        return Verdict::Refuse;
    }
    let path = rest.split(|&byte| byte == b' ').next().unwrap_or_default();
    if path == LARGE_PATH.as_bytes() {
        Verdict::Large
    } else if path == COUNT_PATH.as_bytes() {
        Verdict::Count
    } else {
        Verdict::Small
    }
}

fn announces_body(head: &[u8]) -> bool {
    head.split(|&byte| byte == b'\n').skip(1).any(|line| {
        let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
        let length = name.eq_ignore_ascii_case(b"content-length") && !line.ends_with(b": 0\r");
        length || name.eq_ignore_ascii_case(b"transfer-encoding")
    })
}

/// Where the body begins: behind the first empty line.
pub(crate) fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_choose_the_answer() {
        assert_eq!(judge(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n"), Verdict::Large);
        assert_eq!(judge(b"GET /large2 HTTP/1.1\r\nHost: a\r\n\r\n"), Verdict::Small);
        assert_eq!(judge(b"GET /count HTTP/1.1\r\n\r\n"), Verdict::Count);
    }

    #[test]
    fn a_request_with_a_body_is_refused() {
        assert_eq!(judge(b"POST / HTTP/1.1\r\n\r\n"), Verdict::Refuse);
        assert_eq!(judge(b"GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\n"), Verdict::Refuse);
        assert_eq!(judge(b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"), Verdict::Refuse);
        assert_eq!(judge(b"GET / HTTP/1.1\r\nContent-Length: 0\r\n\r\n"), Verdict::Small);
    }
}
