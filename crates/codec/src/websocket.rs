//! The key of a WebSocket handshake and the proof that it was understood (RFC 6455, sections 4.1 and 4.2.2).
//!
//! Knows nothing of frames: a WebSocket is a tunnel here.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha1::{Digest, Sha1};

/// What the key is joined with before it is hashed.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A key that a client sends: 16 random bytes in base64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSocketKey(String);

impl WebSocketKey {
    /// The key of these random bytes.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(BASE64.encode(bytes))
    }

    /// As it is written in `Sec-WebSocket-Key`.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// `Sec-WebSocket-Accept` for a key as it was sent.
    pub fn accept_of(key: &[u8]) -> Vec<u8> {
        // SHA-1 is what the RFC asks for; nothing is kept secret by it.
        BASE64.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize()).into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc_is_accepted_as_it_says() {
        assert_eq!(WebSocketKey::accept_of(b"dGhlIHNhbXBsZSBub25jZQ=="), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(WebSocketKey::from_random(*b"the sample nonce").as_bytes(), b"dGhlIHNhbXBsZSBub25jZQ==");
    }
}
