//! WebSocket: the opening handshake over HTTP/1.1 (RFC 6455) and HTTP/2 (RFC 8441), and the echo of what comes.
//!
//! Text and binary messages come back whole, fragments joined; pings are answered; a close is closed. What a frame is stands
//! in `frame`.

use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use http::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::header::{SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION};
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;

use super::answer::{ECHO_NAME, json};
use super::body::EchoBody;
use super::connection::Connection;
use super::frame::{self, Decoder, Message, Opcode};

/// What RFC 6455 has every server append to the key.
const MAGIC: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Room that is made before every read.
const READ: usize = 16 * 1024;
/// How long a peer may go on sending after the end.
const LINGER: Duration = Duration::from_secs(1);

/// Whether a request asks for a WebSocket.
pub fn is_wanted(request: &Request<Incoming>) -> bool {
    if request.method() == Method::CONNECT {
        return request.extensions().get::<Protocol>().is_some_and(|protocol| protocol.as_str() == "websocket");
    }
    has_token(request.headers(), &UPGRADE, "websocket")
}

/// Agrees to a WebSocket and serves it in a task of its own, or says what is wrong with the request.
pub fn open(connection: &Connection, mut request: Request<Incoming>) -> Response<EchoBody> {
    let mut response = match agreement(&request) {
        Ok(response) => response,
        Err((status, sentence)) => {
            let answer = serde_json::json!({ "name": connection.echo.settings.name, "error": sentence });
            let mut response = json(status, format!("{answer:#}\n"), None);
            if status == StatusCode::UPGRADE_REQUIRED {
                response.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            }
            return response;
        }
    };
    if let Ok(name) = HeaderValue::from_str(&connection.echo.settings.name) {
        response.headers_mut().insert(ECHO_NAME, name);
    }
    let first_offer = |value: &HeaderValue| value.to_str().ok()?.split(',').next()?.trim().parse::<HeaderValue>().ok();
    if let Some(protocol) = request.headers().get(SEC_WEBSOCKET_PROTOCOL).and_then(first_offer) {
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    let upgrade = hyper::upgrade::on(&mut request);
    let stopping = connection.stopping.clone();
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => {
                if let Err(error) = echo(TokioIo::new(upgraded), stopping).await {
                    tracing::debug!(%error, "WebSocket ended early");
                }
            }
            Err(error) => tracing::debug!(%error, "WebSocket not opened"),
        }
    });
    response
}

/// The head that agrees, or status and reason of a refusal.
fn agreement(request: &Request<Incoming>) -> Result<Response<EchoBody>, (StatusCode, &'static str)> {
    let headers = request.headers();
    if headers.get(SEC_WEBSOCKET_VERSION).map(HeaderValue::as_bytes) != Some(b"13") {
        return Err((StatusCode::UPGRADE_REQUIRED, "the version of WebSocket spoken here is 13"));
    }
    let mut response = Response::new(EchoBody::stream(0, None));
    if request.method() == Method::CONNECT {
        return Ok(response);
    }
    if request.method() != Method::GET || !has_token(headers, &CONNECTION, "upgrade") {
        return Err((StatusCode::BAD_REQUEST, "a WebSocket is asked for with GET and Connection: Upgrade"));
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).map_or(&b""[..], HeaderValue::as_bytes);
    if STANDARD.decode(key).map(|bytes| bytes.len()) != Ok(16) {
        return Err((StatusCode::BAD_REQUEST, "Sec-WebSocket-Key is 16 bytes in base64"));
    }
    let accept = HeaderValue::from_str(&accept_of(key))
        .map_err(|_| (StatusCode::INTERNAL_SERVER_ERROR, "the answer to the key cannot be written"))?;
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
    response.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
    Ok(response)
}

/// The proof that a key was read: RFC 6455, section 4.2.2. SHA-1 protects nothing here.
fn accept_of(key: &[u8]) -> String {
    STANDARD.encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &[key, MAGIC].concat()))
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case(token))
}

/// Sends back what comes, until either side closes. Told to stop, it says that it goes away and waits for the other's close.
async fn echo(mut io: impl AsyncRead + AsyncWrite + Unpin, mut stopping: watch::Receiver<()>) -> std::io::Result<()> {
    let mut decoder = Decoder::default();
    let mut out = BytesMut::new();
    let mut leaving = false;
    loop {
        match decoder.next() {
            Ok(Some(message)) => {
                let closes = message.opcode == Opcode::Close;
                if !(closes && leaving) {
                    reply(&message, &mut out);
                }
                io.write_all_buf(&mut out).await?;
                if closes {
                    return end(io).await;
                }
                continue;
            }
            Ok(None) => {}
            Err(violation) => {
                frame::encode_close(violation.code, violation.reason, &mut out);
                io.write_all_buf(&mut out).await?;
                return end(io).await;
            }
        }
        decoder.buffer.reserve(READ);
        tokio::select! {
            read = io.read_buf(&mut decoder.buffer) => {
                if read? == 0 {
                    return Ok(());
                }
            }
            _ = stopping.changed(), if !leaving => {
                leaving = true;
                frame::encode_close(frame::GOING_AWAY, "the backend ends", &mut out);
                io.write_all_buf(&mut out).await?;
            }
        }
    }
}

/// Says that nothing more comes, and reads on for a moment: bytes that nobody read would reset the connection, and the close
/// frame might never be seen.
async fn end(mut io: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
    io.shutdown().await?;
    let mut sink = tokio::io::sink();
    let _ = tokio::time::timeout(LINGER, tokio::io::copy(&mut io, &mut sink)).await;
    Ok(())
}

/// What a message is answered with: itself, a pong, the same close code; a pong with nothing.
fn reply(message: &Message, out: &mut BytesMut) {
    match message.opcode {
        Opcode::Ping => frame::encode(Opcode::Pong, &message.payload, out),
        Opcode::Pong | Opcode::Continuation => {}
        Opcode::Close if message.payload.is_empty() => frame::encode_close(frame::NORMAL, "", out),
        Opcode::Close => frame::encode(Opcode::Close, &message.payload[..2], out),
        opcode => frame::encode(opcode, &message.payload, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_the_rfc_is_answered_as_in_the_rfc() {
        assert_eq!(accept_of(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
