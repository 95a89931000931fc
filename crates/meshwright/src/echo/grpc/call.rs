//! One gRPC call on the wire: messages behind a prefix of five bytes, a head, trailers with the status.
//!
//! A call that ends before its first message is answered by one head with the status in it ("trailers-only"). After the
//! document "gRPC over HTTP2". It does not know which methods there are.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use http_body_util::channel::{Channel, Sender};
use hyper::body::Incoming;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::status::{Code, Status};
use crate::echo::answer::ECHO_NAME;
use crate::echo::body::{AnyBody, EchoBody};

/// Longest message that is accepted, as in other implementations of gRPC.
pub const LARGEST_MESSAGE: usize = 4 << 20;
/// One byte that says whether the message is compressed, four bytes of length.
const PREFIX: usize = 5;

/// The messages of the client.
pub struct Inbound {
    body: Incoming,
    buffer: BytesMut,
}

impl Inbound {
    /// Reads messages from the body of a request.
    pub fn new(body: Incoming) -> Self {
        Self { body, buffer: BytesMut::new() }
    }

    /// The next message; `None` when the client has no more.
    ///
    /// # Errors
    /// The message is compressed or too long, or the request ends in the middle of one.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(message) = self.buffered()? {
                return Ok(Some(message));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(_)) => return Err(Status::new(Code::CANCELLED, "the request ended early")),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(Status::new(Code::INTERNAL, "the request ended in the middle of a message")),
            }
        }
    }

    /// The one message of a method that takes one.
    ///
    /// # Errors
    /// There is none, there are several, or as for [`Inbound::next`].
    pub async fn only(&mut self) -> Result<Bytes, Status> {
        let one = || Status::new(Code::INVALID_ARGUMENT, "this method takes exactly one message");
        let message = self.next().await?.ok_or_else(one)?;
        match self.next().await? {
            None => Ok(message),
            Some(_) => Err(one()),
        }
    }

    fn buffered(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX>() else { return Ok(None) };
        let [compressed, length @ ..] = *prefix;
        if compressed != 0 {
            return Err(Status::new(Code::UNIMPLEMENTED, "compressed messages are not understood here"));
        }
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > LARGEST_MESSAGE {
            let sentence = format!("a message of {length} bytes is longer than {LARGEST_MESSAGE}");
            return Err(Status::new(Code::RESOURCE_EXHAUSTED, sentence));
        }
        if self.buffer.len() < PREFIX + length {
            return Ok(None);
        }
        self.buffer.advance(PREFIX);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}

/// What the call's task tells first: messages come, or the end without any.
enum Beginning {
    Messages(Channel<Bytes>),
    End(Status),
}

/// The answer of a call.
pub struct Outbound {
    begin: Option<oneshot::Sender<Beginning>>,
    sender: Option<Sender<Bytes>>,
}

impl Outbound {
    /// Sends a message, the head before the first one.
    ///
    /// # Errors
    /// The client is gone.
    pub async fn send(&mut self, message: &[u8]) -> Result<(), Status> {
        if let Some(begin) = self.begin.take() {
            let (sender, channel) = Channel::new(1);
            self.sender = Some(sender);
            let _ = begin.send(Beginning::Messages(channel));
        }
        let mut framed = BytesMut::with_capacity(PREFIX + message.len());
        framed.put_u8(0);
        framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
        framed.put_slice(message);
        let gone = || Status::new(Code::CANCELLED, "the client is gone");
        self.sender.as_mut().ok_or_else(gone)?.send_data(framed.freeze()).await.map_err(|_| gone())
    }

    /// Ends the call.
    pub async fn finish(mut self, status: &Status) {
        if let Some(begin) = self.begin.take() {
            let _ = begin.send(Beginning::End(status.clone()));
        }
        if let Some(mut sender) = self.sender.take() {
            let mut trailers = HeaderMap::new();
            status.write(&mut trailers);
            let _ = sender.send_trailers(trailers).await;
        }
    }
}

/// Runs a call in a task and answers as soon as it is known how the answer begins.
pub async fn run<F>(name: &str, call: impl FnOnce(Outbound) -> F) -> Response<AnyBody>
where
    F: Future<Output = ()> + Send + 'static,
{
    let (begin, beginning) = oneshot::channel();
    // Aborted when this future is dropped, and later with the body: a client that cancels ends the call.
    let task = Task(tokio::spawn(call(Outbound { begin: Some(begin), sender: None })));
    match beginning.await {
        Ok(Beginning::Messages(channel)) => head(AnyBody::Right(CallBody { channel, _task: task }), name),
        Ok(Beginning::End(status)) => without_messages(&status, name),
        Err(_) => without_messages(&Status::new(Code::INTERNAL, "the call ended without a status"), name),
    }
}

/// The answer of a call that has no messages: its status stands in the head.
pub fn without_messages(status: &Status, name: &str) -> Response<AnyBody> {
    let mut response = head(AnyBody::Left(EchoBody::stream(0, None)), name);
    status.write(response.headers_mut());
    response
}

fn head(body: AnyBody, name: &str) -> Response<AnyBody> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    if let Ok(name) = HeaderValue::from_str(name) {
        response.headers_mut().insert(ECHO_NAME, name);
    }
    response
}

struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The messages and trailers of a call, as its task makes them.
pub struct CallBody {
    channel: Channel<Bytes>,
    _task: Task,
}

impl Body for CallBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.channel).poll_frame(context)
    }
}
