//! WebSocket handshakes between the protocols: HTTP/1 asks by `Upgrade` and proves by a key that it was understood
//! (RFC 6455, section 4), HTTP/2 by an extended CONNECT that needs no key (RFC 8441, section 5).

use meshwright_codec::{WebSocketKey, is_websocket};
use meshwright_message::{HeaderName, RequestHead, Version};
use meshwright_model::{Failure, FailureKind, Stage};
use meshwright_wire::Protocol;

use crate::connection::Connection;
use crate::exchange::Exchange;

const KEY: &str = "sec-websocket-key";
const ACCEPT: &str = "sec-websocket-accept";

/// Makes the handshake of the client one of the endpoint's protocol. `key` keeps what the answer is proved with, on the side
/// that has a key.
pub(crate) fn translate(
    connection: &Connection,
    head: &mut RequestHead,
    to: Protocol,
    key: &mut Option<Box<Box<[u8]>>>,
) {
    let Some(protocol) = head.upgrade.as_deref().filter(|protocol| is_websocket(protocol)) else { return };
    match (head.version, to) {
        (Version::Http2, Protocol::Http1) => {
            let mut random = [0; 16];
            connection.worker.rng.borrow_mut().fill(&mut random);
            let made = WebSocketKey::from_random(random);
            head.headers.set(KEY, made.as_bytes());
            *key = Some(Box::new(made.as_bytes().into()));
        }
        (Version::Http10 | Version::Http11, Protocol::Http2) => {
            *key = head.headers.get(KEY).map(|key| Box::new(key.into()));
            head.headers.remove(KEY.as_bytes());
            debug_assert!(!protocol.is_empty(), "an upgrade names a protocol");
        }
        _ => {}
    }
}

/// Whether an endpoint may switch to `chosen` when `asked` was asked for (RFC 9110, section 7.8). One that does not say what it
/// switches to is asked no further.
pub(crate) fn was_offered(chosen: Option<&str>, asked: &str) -> bool {
    let names = |list: &str| list.split(',').map(|name| name.trim().to_ascii_lowercase()).collect::<Vec<_>>();
    let asked = names(asked);
    chosen.is_none_or(|chosen| names(chosen).iter().all(|name| asked.contains(name)))
}

/// Makes the accepted handshake one of the client's protocol.
///
/// # Errors
/// The endpoint did not prove that it has understood, or the client sent no key that we could prove it with.
pub(crate) fn accept(connection: &Connection, exchange: &mut Exchange) -> Result<(), Failure> {
    let mut response = connection.worker.response.borrow_mut();
    if response.upgrade.is_none() {
        // An endpoint that speaks HTTP/2 accepts without naming the protocol.
        response.upgrade = exchange.request.upgrade.clone();
    }
    let Some(key) = exchange.websocket_key.take() else { return Ok(()) };
    let expected = WebSocketKey::accept_of(&key);
    if exchange.request.version != Version::Http2 {
        response.headers.set(ACCEPT, &expected);
        return Ok(());
    }
    let proved = response.headers.get(ACCEPT).is_some_and(|value| value == expected.as_slice());
    response.headers.remove(ACCEPT.as_bytes());
    response.headers.remove_known(HeaderName::Upgrade);
    if proved {
        Ok(())
    } else {
        Err(Failure::new(Stage::Forward, FailureKind::UpstreamProtocol).because("its WebSocket handshake is not valid"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_asked_for_is_switched_to() {
        assert!(was_offered(Some("websocket"), "websocket") && was_offered(Some("WebSocket"), "websocket"));
        assert!(was_offered(Some("b/2"), "a/1, b/2") && was_offered(None, "websocket"));
        assert!(!was_offered(Some("foo"), "websocket") && !was_offered(Some("websocket, foo"), "websocket"));
        assert!(!was_offered(Some(""), "websocket"));
    }
}
