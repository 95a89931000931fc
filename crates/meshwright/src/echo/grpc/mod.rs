//! gRPC: an echo service that needs no protoc, and the standard health service.
//!
//! `/meshwright.Echo/{Unary,ServerStream,ClientStream,Bidi}` send received bytes back; metadata `echo-status`, `echo-delay`
//! and `echo-count` turn the knobs. Read next: `call` (messages and heads on the wire), `status` (codes, deadlines),
//! `health`.

mod call;
mod health;
mod status;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Request, Response, Version};
use hyper::body::Incoming;

use super::body::AnyBody;
use super::connection::Connection;
use crate::args::value::{self, Delay};
pub use call::CallBody;
use call::{Inbound, LARGEST_MESSAGE, Outbound};
use status::{Code, Status};

/// Messages of a server stream, when `echo-count` does not say.
const MESSAGES: u32 = 3;
/// Most messages that `echo-count` may ask for.
const MOST_MESSAGES: u32 = 1_000_000;

/// Whether a request is a gRPC call. gRPC-Web is not: it is answered like any other request.
pub fn is_call(request: &Request<Incoming>) -> bool {
    let content_type = request.headers().get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    let rest = content_type.strip_prefix(b"application/grpc");
    request.method() == Method::POST && rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
}

/// Answers a call. The call runs in a task of its own, which ends with the answer's body, also when the client cancels.
pub async fn answer(connection: Arc<Connection>, request: Request<Incoming>) -> Response<AnyBody> {
    let name = connection.echo.settings.name.clone();
    if request.version() != Version::HTTP_2 {
        let status = Status::new(Code::INTERNAL, "gRPC needs HTTP/2, but this call came over HTTP/1.1");
        return call::without_messages(&status, &name);
    }
    call::run(&name, move |outbound| async move {
        let limit = match status::timeout(request.headers()) {
            Ok(limit) => limit,
            Err(status) => return outbound.finish(&status).await,
        };
        let mut outbound = outbound;
        let call = serve(&connection, request, &mut outbound);
        let outcome = match limit {
            Some(limit) => tokio::time::timeout(limit, call).await.unwrap_or_else(|_| {
                Err(Status::new(Code::DEADLINE_EXCEEDED, "the time that grpc-timeout gave is over"))
            }),
            None => call.await,
        };
        outbound.finish(&outcome.err().unwrap_or(Status::OK)).await;
    })
    .await
}

async fn serve(connection: &Connection, request: Request<Incoming>, out: &mut Outbound) -> Result<(), Status> {
    let (head, body) = request.into_parts();
    let inbound = Inbound::new(body);
    match head.uri.path() {
        "/grpc.health.v1.Health/Check" => health::check(&connection.echo, inbound, out).await,
        "/grpc.health.v1.Health/Watch" => health::watch(connection, inbound, out).await,
        path => match path.strip_prefix("/meshwright.Echo/").and_then(Kind::of) {
            Some(kind) => echo(connection, kind, &head.headers, inbound, out).await,
            None => Err(Status::new(Code::UNIMPLEMENTED, format!("there is no method {path}"))),
        },
    }
}

/// The methods of the echo service.
#[derive(Clone, Copy)]
enum Kind {
    Unary,
    ServerStream,
    ClientStream,
    Bidi,
}

impl Kind {
    fn of(name: &str) -> Option<Self> {
        match name {
            "Unary" => Some(Self::Unary),
            "ServerStream" => Some(Self::ServerStream),
            "ClientStream" => Some(Self::ClientStream),
            "Bidi" => Some(Self::Bidi),
            _ => None,
        }
    }
}

/// What the metadata asks for.
struct Knobs {
    /// How the call ends, after its messages.
    status: Code,
    /// Wait before every message.
    delay: Option<Delay>,
    /// Messages of a server stream; times that Bidi sends every message.
    count: Option<u32>,
}

impl Knobs {
    fn of(metadata: &HeaderMap) -> Result<Self, Status> {
        let count = |text: &str| match text.parse() {
            Ok(count) if count <= MOST_MESSAGES => Ok(count),
            _ => Err(format!("`{text}` is not a number from 0 to {MOST_MESSAGES}")),
        };
        Ok(Self {
            status: knob(metadata, "echo-status", Code::parse)?.unwrap_or(Code::OK),
            delay: knob(metadata, "echo-delay", value::delay)?,
            count: knob(metadata, "echo-count", count)?,
        })
    }

    /// The end that was asked for; a failing call has no message besides.
    fn end(&self) -> Result<(), Status> {
        match self.status {
            Code::OK => Ok(()),
            code => Err(Status::new(code, "as echo-status asked for")),
        }
    }
}

fn knob<T>(metadata: &HeaderMap, name: &str, parse: fn(&str) -> Result<T, String>) -> Result<Option<T>, Status> {
    let Some(value) = metadata.get(name) else { return Ok(None) };
    let parsed = value.to_str().map_err(|_| "this is not ASCII text".to_owned()).and_then(parse);
    parsed.map(Some).map_err(|sentence| Status::new(Code::INVALID_ARGUMENT, format!("metadata {name}: {sentence}")))
}

async fn echo(
    connection: &Connection,
    kind: Kind,
    metadata: &HeaderMap,
    mut inbound: Inbound,
    out: &mut Outbound,
) -> Result<(), Status> {
    let echo = &connection.echo;
    let mut knobs = Knobs::of(metadata)?;
    knobs.delay = knobs.delay.or(echo.settings.delay);
    let _permit = echo.permit().await;
    if echo.is_broken() {
        return Err(Status::new(Code::UNAVAILABLE, "this instance is broken at the moment"));
    }
    let fail = echo.settings.fail;
    if fastrand::f64() * 100.0 < fail {
        return Err(Status::new(Code::UNAVAILABLE, format!("failed on purpose, as {fail} % of requests do")));
    }
    match kind {
        Kind::Unary => {
            let message = inbound.only().await?;
            pause(&knobs).await;
            knobs.end()?;
            out.send(&message).await
        }
        Kind::ServerStream => {
            let message = inbound.only().await?;
            for _ in 0..knobs.count.unwrap_or(MESSAGES) {
                pause(&knobs).await;
                out.send(&message).await?;
            }
            knobs.end()
        }
        Kind::ClientStream => {
            let message = joined(&mut inbound).await?;
            pause(&knobs).await;
            knobs.end()?;
            out.send(&message).await
        }
        Kind::Bidi => {
            while let Some(message) = inbound.next().await? {
                for _ in 0..knobs.count.unwrap_or(1) {
                    pause(&knobs).await;
                    out.send(&message).await?;
                }
            }
            knobs.end()
        }
    }
}

async fn pause(knobs: &Knobs) {
    let wait = knobs.delay.map(|delay| delay.sample(&mut fastrand::Rng::new()));
    if let Some(wait) = wait.filter(|wait| *wait > Duration::ZERO) {
        tokio::time::sleep(wait).await;
    }
}

/// All messages of a client stream, one behind the other.
async fn joined(inbound: &mut Inbound) -> Result<Bytes, Status> {
    let mut whole = BytesMut::new();
    while let Some(message) = inbound.next().await? {
        if whole.len() + message.len() > LARGEST_MESSAGE {
            let limit = format!("the messages together are longer than {LARGEST_MESSAGE} bytes");
            return Err(Status::new(Code::RESOURCE_EXHAUSTED, limit));
        }
        whole.extend_from_slice(&message);
    }
    Ok(whole.freeze())
}
