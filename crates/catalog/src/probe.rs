//! One check carried out: HTTP, TCP or gRPC, within its time. It knows no schedule and no instance but its address.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use meshwright_registry::{Check, Probe, Status, is_of_an_instance};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};

/// Largest head of an answer.
const LARGEST_HEAD: usize = 16 * 1024;
/// Largest answer of the gRPC health service.
const LARGEST_MESSAGE: usize = 4 * 1024;

/// Carries `check` out on the instance at `address`:`port`; what it says and why.
pub(crate) async fn carry_out(check: &Check, address: &str, port: u16) -> (Status, String) {
    let here = match address.contains(':') {
        true => format!("[{address}]:{port}"),
        false => format!("{address}:{port}"),
    };
    let work = async {
        match &check.probe {
            Probe::Ttl(_) | Probe::Word => Ok((Status::Critical, String::new())),
            Probe::Http { authority, path } => http(authority.as_deref().unwrap_or(&here), path).await,
            Probe::Tcp { authority } => tcp(authority.as_deref().unwrap_or(&here)).await,
            Probe::Grpc { authority, service } => grpc(authority.as_deref().unwrap_or(&here), service).await,
        }
    };
    match tokio::time::timeout(check.timeout, work).await {
        Ok(Ok(result)) => result,
        Ok(Err(error)) => (Status::Critical, error.to_string()),
        Err(_) => (Status::Critical, format!("no answer in {} ms", milliseconds(check.timeout))),
    }
}

fn milliseconds(time: Duration) -> u128 {
    time.as_millis()
}

async fn connect(authority: &str) -> io::Result<TcpStream> {
    // The default port of http, where a URL names none.
    let addresses: Vec<SocketAddr> = match authority.rsplit_once(':') {
        Some((_, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => lookup_host(authority).await?.collect(),
        _ => lookup_host(format!("{authority}:80")).await?.collect(),
    };
    // A name is judged by what it means now, so that it cannot mean something else once it was let in.
    match addresses.iter().find(|address| !is_of_an_instance(address.ip())) {
        Some(foreign) => Err(io::Error::other(format!("{} is not probed", foreign.ip()))),
        None => TcpStream::connect(addresses.as_slice()).await,
    }
}

async fn tcp(authority: &str) -> io::Result<(Status, String)> {
    connect(authority).await?;
    Ok((Status::Passing, format!("{authority} accepts connections")))
}

async fn http(authority: &str, path: &str) -> io::Result<(Status, String)> {
    let mut stream = connect(authority).await?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {authority}\r\nuser-agent: meshwright-check\r\naccept: */*\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut received = Vec::with_capacity(1024);
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 128];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(&received).map_err(|error| io::Error::other(format!("no HTTP: {error}")))?;
        if let (true, Some(code)) = (parsed.is_complete(), response.code) {
            let status = match code {
                200..=299 => Status::Passing,
                429 => Status::Warning,
                _ => Status::Critical,
            };
            return Ok((status, format!("GET {path} answered {code}")));
        }
        if received.len() >= LARGEST_HEAD {
            return Err(io::Error::other("the head of the answer is larger than 16 KiB"));
        }
        if stream.read_buf(&mut received).await? == 0 {
            return Err(io::Error::other("the connection was closed before an answer"));
        }
    }
}

/// `grpc.health.v1.Health/Check` (the gRPC health checking protocol), in clear text.
async fn grpc(authority: &str, service: &str) -> io::Result<(Status, String)> {
    let stream = connect(authority).await?;
    let (mut client, connection) = h2::client::handshake(stream).await.map_err(io::Error::other)?;
    let driver = tokio::spawn(connection);
    let result = ask(&mut client, authority, service).await;
    driver.abort();
    result
}

async fn ask(
    client: &mut h2::client::SendRequest<Bytes>,
    authority: &str,
    service: &str,
) -> io::Result<(Status, String)> {
    let request = http::Request::post(format!("http://{authority}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .map_err(io::Error::other)?;
    let (response, mut body) = client.send_request(request, false).map_err(io::Error::other)?;
    body.send_data(health_request(service), true).map_err(io::Error::other)?;
    let response = response.await.map_err(io::Error::other)?;
    let refused = |headers: &http::HeaderMap| {
        let status = headers.get("grpc-status")?.to_str().ok()?.to_owned();
        let message = headers.get("grpc-message").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        (status != "0").then(|| (Status::Critical, format!("gRPC status {status} {message}").trim_end().to_owned()))
    };
    if response.status() != http::StatusCode::OK {
        return Ok((Status::Critical, format!("HTTP status {}", response.status().as_u16())));
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
            return Err(io::Error::other("the answer is larger than 4 KiB"));
        }
    }
    if let Some(trailers) = stream.trailers().await.map_err(io::Error::other)?
        && let Some(refusal) = refused(&trailers)
    {
        return Ok(refusal);
    }
    Ok(match serving(&message) {
        Some(1) => (Status::Passing, "SERVING".to_owned()),
        Some(2) => (Status::Critical, "NOT_SERVING".to_owned()),
        Some(3) => (Status::Critical, "SERVICE_UNKNOWN".to_owned()),
        _ => (Status::Critical, "the health service gave no status".to_owned()),
    })
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
