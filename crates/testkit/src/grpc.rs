//! gRPC on top of the HTTP/2 peers: messages, statuses and deadlines. Messages are bytes.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::message::find;
use crate::{Ask, Http2Body, Http2Client, Http2Exchange, Http2Failure, Http2Origin, Http2Stream, Response};

/// A message as it is on the wire: not compressed, four bytes of length, the bytes.
fn framed(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).expect("a message below 4 GiB");
    [&[0][..], &length.to_be_bytes(), message].concat().into()
}

/// Takes messages out of a body.
#[derive(Default)]
struct Messages {
    buffer: VecDeque<u8>,
}

impl Messages {
    fn buffered(&mut self) -> Option<Vec<u8>> {
        let prefix: Vec<u8> = self.buffer.iter().take(5).copied().collect();
        let [_, length @ ..] = <[u8; 5]>::try_from(prefix).ok()?;
        let length = u32::from_be_bytes(length) as usize;
        if self.buffer.len() < 5 + length {
            return None;
        }
        self.buffer.drain(..5);
        Some(self.buffer.drain(..length).collect())
    }

    /// The next message; `None` at the end of the body.
    fn next(&mut self, body: &mut Http2Body) -> Result<Option<Vec<u8>>, Http2Failure> {
        loop {
            if let Some(message) = self.buffered() {
                return Ok(Some(message));
            }
            match body.read_some()? {
                Some(data) => self.buffer.extend(data),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(Http2Failure::Other("the body ended in the middle of a message".to_owned())),
            }
        }
    }
}

/// How a call ended.
#[derive(Clone, Debug, Default)]
pub struct GrpcEnd {
    /// Messages of the server that were not read before.
    pub messages: Vec<Vec<u8>>,
    /// `grpc-status`; `None` when there is none, as after a reset.
    pub status: Option<u16>,
    /// `grpc-message`, decoded.
    pub message: String,
    /// Whether the status came in the only head, without messages.
    pub trailers_only: bool,
    /// The head; `None` when none came.
    pub head: Option<Response>,
    /// Why there is no status.
    pub failure: Option<Http2Failure>,
}

/// A client of one server on one connection.
pub struct Grpc<'a> {
    client: &'a Http2Client,
    authority: String,
}

impl<'a> Grpc<'a> {
    /// Calls go to this authority.
    pub fn new(client: &'a Http2Client, authority: &str) -> Self {
        Self { client, authority: authority.to_owned() }
    }

    /// Calls with one message and waits for the end.
    ///
    /// # Panics
    /// The call cannot be begun.
    #[track_caller]
    pub fn unary(&self, path: &str, metadata: &[(&str, &str)], message: &[u8]) -> GrpcEnd {
        let mut call = self.call(path, metadata);
        // A server may end a call without reading it.
        let _ = call.send(message).and_then(|()| call.finish_sending());
        call.end()
    }

    /// Begins a call.
    ///
    /// # Panics
    /// The connection takes no stream.
    #[track_caller]
    pub fn call(&self, path: &str, metadata: &[(&str, &str)]) -> GrpcCall {
        let mut ask = Ask::get(&self.authority, path)
            .method("POST")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .left_open();
        for (name, value) in metadata {
            ask = ask.header(name, value);
        }
        let exchange = self.client.start(&ask).unwrap_or_else(|failure| panic!("{path}: {failure}"));
        GrpcCall { exchange, messages: Messages::default() }
    }
}

/// A call in progress. Dropped before its end, it is cancelled.
pub struct GrpcCall {
    /// The stream below.
    pub exchange: Http2Exchange,
    messages: Messages,
}

impl GrpcCall {
    /// Sends a message.
    ///
    /// # Errors
    /// The call has ended.
    pub fn send(&mut self, message: &[u8]) -> Result<(), Http2Failure> {
        self.exchange.sender.send(framed(message))
    }

    /// Says that no further message comes.
    ///
    /// # Errors
    /// The call has ended.
    pub fn finish_sending(&mut self) -> Result<(), Http2Failure> {
        self.exchange.sender.finish()
    }

    /// The next message; `None` when there is none any more.
    ///
    /// # Errors
    /// The stream or the connection ended early.
    #[track_caller]
    pub fn message(&mut self) -> Result<Option<Vec<u8>>, Http2Failure> {
        self.exchange.try_head()?;
        self.messages.next(self.exchange.body())
    }

    /// Reads to the end.
    #[track_caller]
    pub fn end(&mut self) -> GrpcEnd {
        let mut end = GrpcEnd::default();
        end.failure = self.read_end(&mut end).err();
        end
    }

    #[track_caller]
    fn read_end(&mut self, end: &mut GrpcEnd) -> Result<(), Http2Failure> {
        let head = self.exchange.try_head()?;
        end.head = Some(head.clone());
        while let Some(message) = self.message()? {
            end.messages.push(message);
        }
        let trailers = self.exchange.body().trailers()?;
        end.trailers_only = find(&trailers, "grpc-status").is_none() && head.header("grpc-status").is_some();
        let fields = if end.trailers_only { &head.headers } else { &trailers };
        end.status = find(fields, "grpc-status").and_then(|status| status.parse().ok());
        end.message = percent_decoded(find(fields, "grpc-message").unwrap_or_default());
        Ok(())
    }

    /// Ends the call with RST_STREAM and CANCEL.
    pub fn cancel(&mut self) {
        self.exchange.sender.reset(8);
    }
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Http2Stream {
    /// Begins the answer of a call.
    ///
    /// # Errors
    /// The stream or the connection ended.
    pub fn begin_call(&mut self, metadata: &[(&str, &str)]) -> Result<(), Http2Failure> {
        self.head(200, &[&[("content-type", "application/grpc")], metadata].concat())
    }

    /// Sends a message of a call.
    ///
    /// # Errors
    /// The stream or the connection ended.
    pub fn send_message(&mut self, message: &[u8]) -> Result<(), Http2Failure> {
        self.sender().send(framed(message))
    }

    /// Ends a call behind its messages.
    ///
    /// # Errors
    /// The stream or the connection ended.
    pub fn end_call(&mut self, status: u16, message: &str) -> Result<(), Http2Failure> {
        let status = status.to_string();
        self.sender().finish_with(&[("grpc-status", &status), ("grpc-message", message)])
    }

    /// Ends a call that had no message, with one head.
    ///
    /// # Errors
    /// The stream or the connection ended.
    pub fn refuse_call(&mut self, status: u16, message: &str) -> Result<(), Http2Failure> {
        let status = status.to_string();
        let fields = [("content-type", "application/grpc"), ("grpc-status", &status), ("grpc-message", message)];
        self.only_head(200, &fields)
    }
}

impl Http2Origin {
    /// Sends every message of every call back as it comes, and ends with OK.
    pub fn echoes_messages() -> Self {
        Self::start(|stream| {
            stream.begin_call(&[])?;
            let mut messages = Messages::default();
            while let Some(message) = messages.next(&mut stream.body)? {
                stream.send_message(&message)?;
            }
            stream.end_call(0, "")
        })
    }

    /// Ends every call at once with one head.
    pub fn refuses_calls(status: u16, message: &str) -> Self {
        let message = message.to_owned();
        Self::start(move |stream| {
            stream.request()?;
            stream.refuse_call(status, &message)
        })
    }
}
