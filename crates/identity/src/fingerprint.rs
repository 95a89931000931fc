//! Whether two specifications are the same, without keeping their keys: SHA-256 over every part with its length.

use rustls::crypto::hash::Context;

use crate::provider::sha256;

/// Collects parts.
pub(crate) struct Fingerprint(Box<dyn Context>);

impl Fingerprint {
    pub(crate) fn new() -> Self {
        Self(sha256().start())
    }

    /// Adds one part; the order counts.
    pub(crate) fn part(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        self.0.update(bytes);
        self
    }

    /// Adds a part that may be missing.
    pub(crate) fn optional(&mut self, bytes: Option<&[u8]>) -> &mut Self {
        self.part(&[u8::from(bytes.is_some())]).part(bytes.unwrap_or_default())
    }

    /// Adds a list.
    pub(crate) fn list<'a>(&mut self, parts: impl ExactSizeIterator<Item = &'a [u8]>) -> &mut Self {
        self.part(&u64::try_from(parts.len()).unwrap_or(u64::MAX).to_be_bytes());
        for part in parts {
            self.part(part);
        }
        self
    }

    pub(crate) fn finish(self) -> [u8; 32] {
        digest(self.0.finish().as_ref())
    }
}

/// SHA-256 of `bytes`.
pub(crate) fn hash(bytes: &[u8]) -> [u8; 32] {
    digest(sha256().hash(bytes).as_ref())
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    let length = bytes.len().min(32);
    digest[..length].copy_from_slice(&bytes[..length]);
    digest
}
