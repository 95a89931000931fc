//! The check by gRPC: `grpc.health.v1.Health/Check` (the gRPC health checking protocol).

use std::io;

use bytes::{BufMut, Bytes, BytesMut};

use crate::{Answer, ProbeError, Serving, Stream};

/// Largest answer of the health service.
const LARGEST_MESSAGE: usize = 4 * 1024;
/// Largest list of fields, as we announce it.
const LARGEST_HEAD: u32 = 16 * 1024;

/// Asks about `service`; the empty one is the server as a whole.
pub(crate) async fn check(
    stream: Box<dyn Stream>,
    authority: &str,
    service: &str,
    over_tls: bool,
) -> Result<Answer, ProbeError> {
    let mut builder = h2::client::Builder::new();
    builder.enable_push(false).max_header_list_size(LARGEST_HEAD);
    let (mut client, connection) = builder.handshake(stream).await.map_err(io::Error::other)?;
    let scheme = if over_tls { "https" } else { "http" };
    let work = ask(&mut client, format!("{scheme}://{authority}/grpc.health.v1.Health/Check"), service);
    // Nothing outlives the check, also when its time is over. A connection that ended has told the call how.
    let connection = async {
        let _ = connection.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        answer = work => answer,
        () = connection => Err(ProbeError::Protocol("the connection was closed before an answer".to_owned())),
    }
}

async fn ask(client: &mut h2::client::SendRequest<Bytes>, uri: String, service: &str) -> Result<Answer, ProbeError> {
    let request = http::Request::post(uri)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "meshwright-check")
        .body(())
        .map_err(io::Error::other)?;
    let (response, mut body) = client.send_request(request, false).map_err(io::Error::other)?;
    body.send_data(health_request(service), true).map_err(io::Error::other)?;
    let response = response.await.map_err(io::Error::other)?;
    if response.status() != http::StatusCode::OK {
        return Ok(Answer::Status(response.status().as_u16()));
    }
    if let Some(refusal) = refused(response.headers()) {
        return Ok(refusal);
    }
    let mut stream = response.into_body();
    let mut message = BytesMut::new();
    while let Some(data) = stream.data().await {
        let data = data.map_err(io::Error::other)?;
        let _ = stream.flow_control().release_capacity(data.len());
        message.extend_from_slice(&data);
        if message.len() > LARGEST_MESSAGE {
            return Err(ProbeError::Protocol("the answer is larger than 4 KiB".to_owned()));
        }
    }
    if let Some(trailers) = stream.trailers().await.map_err(io::Error::other)?
        && let Some(refusal) = refused(&trailers)
    {
        return Ok(refusal);
    }
    Ok(Answer::Serving(match serving(&message) {
        Some(1) => Serving::Serving,
        Some(2) => Serving::NotServing,
        Some(3) => Serving::ServiceUnknown,
        _ => Serving::Unknown,
    }))
}

/// The status of a call that failed.
fn refused(headers: &http::HeaderMap) -> Option<Answer> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let status = text("grpc-status")?;
    let message = text("grpc-message").unwrap_or_default();
    (status != "0").then(|| Answer::Grpc(format!("{status} {message}").trim_end().to_owned()))
}

/// A gRPC message of `HealthCheckRequest { string service = 1 }`.
fn health_request(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.put_u8((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.put_u8((length & 0x7f) as u8);
        message.put_slice(service.as_bytes());
    }
    let mut framed = BytesMut::with_capacity(5 + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put(message);
    framed.freeze()
}

/// The status of a gRPC message of `HealthCheckResponse { ServingStatus status = 1 }`; an empty one is 0.
fn serving(framed: &[u8]) -> Option<u8> {
    let message = framed.get(5..)?;
    match message {
        [] => Some(0),
        [0x08, status, ..] if *status < 0x80 => Some(*status),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_messages_of_the_health_service_are_written_and_read() {
        assert_eq!(&health_request("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&health_request("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(health_request(&"x".repeat(300)).len(), 5 + 3 + 300);
        assert_eq!(serving(&[0, 0, 0, 0, 2, 8, 1]), Some(1));
        assert_eq!(serving(&[0, 0, 0, 0, 0]), Some(0));
        assert_eq!(serving(&[0, 0]), None);
    }
}
