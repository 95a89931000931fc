//! A copy of a body on its way, for whoever wants to keep it. Read next: `direction.rs`.

use super::Direction;

/// The bytes of a body as long as they are not too many.
pub(super) struct BodyCopy {
    bytes: Vec<u8>,
    most: usize,
    then: Box<dyn FnOnce(Option<Vec<u8>>)>,
}

impl Direction {
    /// Copies the body on its way, as long as it is not longer than `most` bytes; it is not spliced then. Its end is told to `then` as
    /// soon as it comes from the source, whether the destination has taken it or not: the body, or `None` for one that is longer or
    /// has trailers. A body that is broken off drops `then`.
    pub fn keep_copy(&mut self, most: usize, then: Box<dyn FnOnce(Option<Vec<u8>>)>) {
        self.splice = None;
        self.copy = Some(Box::new(BodyCopy { bytes: Vec::new(), most, then }));
        if self.ended {
            self.finish_copy();
        }
    }

    /// Takes account of body bytes from the source.
    pub(super) fn note(&mut self, data: &[u8]) {
        self.moved += data.len() as u64;
        if let Some(copy) = &mut self.copy {
            if copy.bytes.len() + data.len() <= copy.most {
                copy.bytes.extend_from_slice(data);
            } else if let Some(copy) = self.copy.take() {
                (copy.then)(None);
            }
        }
    }

    /// The body has ended.
    pub(super) fn finish_copy(&mut self) {
        if let Some(copy) = self.copy.take() {
            let is_all = self.trailers().is_none();
            (copy.then)(is_all.then_some(copy.bytes));
        }
    }
}
