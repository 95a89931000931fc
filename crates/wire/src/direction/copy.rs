//! A copy of a body on its way, for whoever wants to keep it. Read next: `direction.rs`.

use super::Direction;

/// The bytes of a body as long as they are not too many.
pub(super) struct BodyCopy {
    bytes: Vec<u8>,
    most: usize,
}

impl Direction {
    /// Copies the body on its way, as long as it is not longer than `most` bytes. It is not spliced then.
    pub fn keep_copy(&mut self, most: usize) {
        self.splice = None;
        self.copy = Some(Box::new(BodyCopy { bytes: Vec::new(), most }));
    }

    /// What came of the body since [`Direction::keep_copy`]; `None` when it was longer.
    pub fn take_copy(&mut self) -> Option<Vec<u8>> {
        self.copy.take().map(|copy| copy.bytes)
    }

    /// Takes account of body bytes from the source.
    pub(super) fn note(&mut self, data: &[u8]) {
        self.moved += data.len() as u64;
        if let Some(copy) = &mut self.copy {
            if copy.bytes.len() + data.len() > copy.most {
                self.copy = None;
            } else {
                copy.bytes.extend_from_slice(data);
            }
        }
    }
}
