//! A client that sends exactly the bytes it is given and shows what came back.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::PATIENCE;
use crate::channel::Channel;
use crate::message::{Framing, Response, fields, head_length, parse_chunked, response_framing};
use crate::tls::{TlsClient, TlsFacts};

/// Pause between two pieces of a split message, so that they arrive as two.
pub(crate) const BETWEEN_PIECES: Duration = Duration::from_micros(500);

/// Why no complete answer was read.
#[derive(Debug)]
pub enum ReadError {
    /// The peer closed before the first byte.
    Closed,
    /// The peer closed, or reset the connection, in the middle; what came until then.
    Truncated(Box<Response>),
    /// The bytes are no HTTP answer.
    Invalid(String),
    /// The connection failed before the first byte (reset), or nothing came in time.
    Failed(io::Error),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("closed without an answer"),
            Self::Truncated(response) => write!(f, "truncated after {} body bytes", response.body.len()),
            Self::Invalid(what) => write!(f, "not an answer: {what}"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

/// One connection.
pub struct RawClient {
    stream: Channel,
    ahead: Vec<u8>,
    patience: Duration,
}

impl RawClient {
    /// Connects.
    ///
    /// # Panics
    /// Nobody accepts.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"))
    }

    /// Connects, or says why not.
    ///
    /// # Errors
    /// The error of the operating system.
    pub fn try_connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream: Channel::Plain(stream), ahead: Vec::new(), patience: PATIENCE })
    }

    /// Connects and makes a TLS handshake.
    ///
    /// # Panics
    /// Nobody accepts, or the handshake fails.
    #[track_caller]
    pub fn over_tls(address: SocketAddr, tls: &TlsClient) -> Self {
        Self::connect(address).secure(tls).unwrap_or_else(|error| panic!("no TLS with {address}: {error}"))
    }

    /// Goes on over TLS; nothing of what the peer sent may be left unread.
    ///
    /// # Errors
    /// Why the handshake failed. What a server thinks of a client's certificate shows only later, with TLS 1.3.
    pub fn secure(self, tls: &TlsClient) -> io::Result<Self> {
        let stream = match self.stream {
            Channel::Plain(socket) => tls.wrap(socket)?,
            _ => return Err(io::Error::other("this is TLS already")),
        };
        Ok(Self { stream, ..self })
    }

    /// What the TLS handshake agreed on.
    ///
    /// # Panics
    /// There was none.
    #[track_caller]
    pub fn tls(&self) -> TlsFacts {
        self.stream.facts().expect("a connection over TLS")
    }

    /// The socket, for what this type has no word for.
    pub fn stream(&self) -> &TcpStream {
        self.stream.socket()
    }

    /// How long to wait for bytes, instead of [`PATIENCE`].
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
        let _ = self.stream().set_read_timeout(Some(patience));
    }

    /// Our address of the connection.
    ///
    /// # Panics
    /// The socket is gone.
    pub fn local_address(&self) -> SocketAddr {
        self.stream().local_addr().expect("a connected socket has an address")
    }

    /// Sends these bytes.
    ///
    /// # Panics
    /// They cannot be sent.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap_or_else(|error| panic!("cannot send: {error}"));
    }

    /// Sends these bytes, or says why not: a peer that refuses a message may close before it was sent whole.
    ///
    /// # Errors
    /// The error of the operating system.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Sends `bytes` in pieces that begin at `offsets`. Ends early when the peer has closed.
    pub fn send_split(&mut self, bytes: &[u8], offsets: &[usize]) {
        let mut start = 0;
        for end in offsets.iter().copied().chain([bytes.len()]) {
            if self.try_send(&bytes[start..end]).is_err() {
                return;
            }
            start = end;
            std::thread::sleep(BETWEEN_PIECES);
        }
    }

    /// Says that nothing more comes; answers can still be read.
    pub fn finish_sending(&mut self) {
        self.stream.finish_sending();
    }

    /// Has the system keep as little as it can of what comes and is not read.
    pub fn take_little(&self) {
        let _ = socket2::SockRef::from(self.stream()).set_recv_buffer_size(1);
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        crate::reset_at_end(self.stream());
    }

    /// Sends a GET request and reads its answer.
    ///
    /// # Panics
    /// There is none.
    #[track_caller]
    pub fn get(&mut self, host: &str, target: &str) -> Response {
        self.request("GET", host, target, &[], b"")
    }

    /// Sends a request and reads its answer. A body is framed by `Content-Length`, unless there is none and the method
    /// does not expect one.
    ///
    /// # Panics
    /// There is no answer.
    #[track_caller]
    pub fn request(
        &mut self,
        method: &str,
        host: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        let answer = self.try_request(method, host, target, headers, body);
        answer.unwrap_or_else(|error| panic!("{method} {target} of {host}: {error}"))
    }

    /// As [`RawClient::request`], for requests that may fail.
    ///
    /// # Errors
    /// Why there is no complete answer.
    pub fn try_request(
        &mut self,
        method: &str,
        host: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Response, ReadError> {
        let mut text = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n");
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() || matches!(method, "POST" | "PUT" | "PATCH") {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(body);
        self.try_send(&bytes).map_err(ReadError::Failed)?;
        self.try_response(method == "HEAD")
    }

    /// Reads one answer to a request that was not HEAD.
    ///
    /// # Panics
    /// There is none.
    #[track_caller]
    pub fn response(&mut self) -> Response {
        self.try_response(false).unwrap_or_else(|error| panic!("no answer: {error}"))
    }

    /// Reads one answer, informational heads before it included; leaves the connection at the next one.
    ///
    /// # Errors
    /// Why there is no complete answer.
    pub fn try_response(&mut self, to_head: bool) -> Result<Response, ReadError> {
        let mut response = Response::default();
        loop {
            self.read_head(&mut response)?;
            if !(100..200).contains(&response.status) || response.status == 101 {
                break;
            }
            response.informational.push(response.status);
        }
        self.read_body(response, to_head)
    }

    /// Reads the next head of any kind and no byte further.
    ///
    /// # Panics
    /// There is none.
    #[track_caller]
    pub fn head(&mut self) -> Response {
        let mut response = Response::default();
        self.read_head(&mut response).unwrap_or_else(|error| panic!("no head: {error}"));
        response
    }

    fn read_head(&mut self, response: &mut Response) -> Result<(), ReadError> {
        let length = loop {
            if let Some(length) = head_length(&self.ahead) {
                break length;
            }
            if !self.fill()? {
                let came = std::mem::take(&mut self.ahead);
                if came.is_empty() {
                    return Err(ReadError::Closed);
                }
                return Err(ReadError::Invalid(String::from_utf8_lossy(&came).into_owned()));
            }
        };
        let head: Vec<u8> = self.ahead.drain(..length).collect();
        response.head = String::from_utf8_lossy(&head).into_owned();
        let mut words = response.head.split(' ');
        let is_http = words.next().is_some_and(|version| version.starts_with("HTTP/1."));
        match words.next().and_then(|status| status.get(..3)?.parse().ok()) {
            Some(status) if is_http => response.status = status,
            _ => return Err(ReadError::Invalid(response.head.clone())),
        }
        response.headers = fields(&response.head, true);
        Ok(())
    }

    fn read_body(&mut self, mut response: Response, to_head: bool) -> Result<Response, ReadError> {
        match response_framing(response.status, &response.headers, to_head) {
            Framing::Length(length) => {
                while self.ahead.len() < length {
                    if !self.fill().unwrap_or(false) {
                        response.body = std::mem::take(&mut self.ahead);
                        return Err(ReadError::Truncated(Box::new(response)));
                    }
                }
                response.body = self.ahead.drain(..length).collect();
            }
            Framing::Chunked => loop {
                match parse_chunked(&self.ahead) {
                    Ok(Some(chunked)) => {
                        self.ahead.drain(..chunked.consumed);
                        response.body = chunked.data;
                        response.trailers = chunked.trailers;
                        break;
                    }
                    Ok(None) => {}
                    Err(what) => return Err(ReadError::Invalid(what)),
                }
                if !self.fill().unwrap_or(false) {
                    response.body = std::mem::take(&mut self.ahead);
                    return Err(ReadError::Truncated(Box::new(response)));
                }
            },
            Framing::UntilClose => {
                loop {
                    match self.fill() {
                        Ok(true) => {}
                        Ok(false) => break,
                        Err(_) => {
                            response.body = std::mem::take(&mut self.ahead);
                            return Err(ReadError::Truncated(Box::new(response)));
                        }
                    }
                }
                response.body = std::mem::take(&mut self.ahead);
            }
        }
        Ok(response)
    }

    /// Reads `count` bytes that follow, for protocols after an upgrade.
    ///
    /// # Panics
    /// They do not come.
    #[track_caller]
    pub fn read_exactly(&mut self, count: usize) -> Vec<u8> {
        while self.ahead.len() < count {
            match self.fill() {
                Ok(true) => {}
                other => panic!("only {} of {count} bytes came: {other:?}", self.ahead.len()),
            }
        }
        self.ahead.drain(..count).collect()
    }

    /// Bytes that were read beyond the last message and not used yet.
    pub fn take_ahead(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.ahead)
    }

    /// Reads what comes next, behind what was read ahead; false at the end.
    pub(crate) fn read_more(&mut self) -> io::Result<bool> {
        match self.fill() {
            Ok(more) => Ok(more),
            Err(ReadError::Failed(error)) => Err(error),
            Err(other) => Err(io::Error::other(other.to_string())),
        }
    }

    /// Gives back bytes of [`RawClient::take_ahead`] that were not used.
    pub(crate) fn put_back(&mut self, bytes: Vec<u8>) {
        self.ahead = bytes;
    }

    /// Everything until the peer closes; what came before a reset counts.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        while let Ok(true) = self.fill() {}
        std::mem::take(&mut self.ahead)
    }

    /// Whether the peer closes or resets the connection without another byte, within the given time.
    pub fn is_closed_within(&mut self, time: Duration) -> bool {
        let end = Instant::now() + time;
        let _ = self.stream().set_read_timeout(Some(time));
        let mut byte = [0];
        let closed = loop {
            match self.stream.read(&mut byte) {
                Ok(0) => break true,
                Ok(_) => break false,
                Err(error) if is_timeout(&error) && Instant::now() < end => {}
                Err(error) => break !is_timeout(&error),
            }
        };
        let _ = self.stream().set_read_timeout(Some(self.patience));
        closed && self.ahead.is_empty()
    }

    /// Reads more; false at the end of the stream.
    fn fill(&mut self) -> Result<bool, ReadError> {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => Ok(false),
            Ok(count) => {
                self.ahead.extend_from_slice(&buffer[..count]);
                Ok(true)
            }
            Err(error) => Err(ReadError::Failed(error)),
        }
    }
}

pub(crate) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}
