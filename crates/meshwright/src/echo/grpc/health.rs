//! The standard health service, `grpc.health.v1.Health`: whether the backend serves, asked once or watched.
//!
//! It serves unless it is broken at the moment or about to end.

use bytes::Bytes;

use super::call::{Inbound, Outbound};
use super::status::{Code, Status};
use crate::echo::Echo;
use crate::echo::connection::Connection;

/// Names that may be asked for; the empty one is the whole backend.
const SERVICES: [&str; 3] = ["", "meshwright.Echo", "grpc.health.v1.Health"];

/// `HealthCheckResponse.ServingStatus`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Serving {
    Yes = 1,
    No = 2,
    UnknownService = 3,
}

impl Serving {
    fn of(echo: &Echo) -> Self {
        if echo.is_broken() { Self::No } else { Self::Yes }
    }

    /// `HealthCheckResponse`: field 1, a number.
    fn message(self) -> [u8; 2] {
        [0x08, self as u8]
    }
}

/// Answers once.
///
/// # Errors
/// The service is not known, or the request is no such message.
pub async fn check(echo: &Echo, mut inbound: Inbound, out: &mut Outbound) -> Result<(), Status> {
    let service = service_of(&inbound.only().await?)?;
    if !SERVICES.contains(&service.as_str()) {
        return Err(Status::new(Code::NOT_FOUND, format!("there is no service `{service}` here")));
    }
    out.send(&Serving::of(echo).message()).await
}

/// Answers now and at every change, until the backend ends.
///
/// # Errors
/// The request is no such message; the client is gone; the backend ends.
pub async fn watch(connection: &Connection, mut inbound: Inbound, out: &mut Outbound) -> Result<(), Status> {
    let service = service_of(&inbound.only().await?)?;
    let echo = &connection.echo;
    let (mut broken, mut stopping) = (echo.settings.broken.clone(), connection.stopping.clone());
    let is_known = SERVICES.contains(&service.as_str());
    let mut told = None;
    loop {
        broken.mark_unchanged();
        let now = if is_known { Serving::of(echo) } else { Serving::UnknownService };
        if told != Some(now) {
            out.send(&now.message()).await?;
            told = Some(now);
        }
        tokio::select! {
            Ok(()) = broken.changed() => {}
            _ = stopping.changed() => {
                if is_known {
                    out.send(&Serving::No.message()).await?;
                }
                return Err(Status::new(Code::UNAVAILABLE, "the backend ends"));
            }
        }
    }
}

/// Field 1 of `HealthCheckRequest`, a string; the last one counts. Other fields are skipped, as protobuf wants it.
fn service_of(message: &Bytes) -> Result<String, Status> {
    read(message).ok_or_else(|| Status::new(Code::INVALID_ARGUMENT, "this is not a HealthCheckRequest"))
}

fn read(mut rest: &[u8]) -> Option<String> {
    let mut service = String::new();
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        let length = match tag & 7 {
            0 => {
                varint(&mut rest)?;
                continue;
            }
            1 => 8,
            2 => usize::try_from(varint(&mut rest)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (value, after) = rest.split_at_checked(length)?;
        if tag == 0x0a {
            service = std::str::from_utf8(value).ok()?.to_owned();
        }
        rest = after;
    }
    Some(service)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_is_found_among_other_fields() {
        assert_eq!(read(b"").as_deref(), Some(""));
        assert_eq!(read(b"\x0a\x03abc").as_deref(), Some("abc"));
        assert_eq!(read(b"\x10\x96\x01\x1a\x02xy\x0a\x01s\x25\0\0\0\0\x21\0\0\0\0\0\0\0\0").as_deref(), Some("s"));
        for broken in
            [&b"\x0a"[..], b"\x0a\x05ab", b"\x0a\x01\xff", b"\x0b", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"]
        {
            assert_eq!(read(broken), None, "{broken:x?}");
        }
    }
}
