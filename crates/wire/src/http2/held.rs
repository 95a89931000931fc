//! What a stream has received and nobody takes yet, without the cost of the frames it came in.
//!
//! `h2` keeps every DATA frame apart, at some 250 bytes each whatever is in it, and ends the whole connection when there are
//! too many. Messages of a call are often small: while their destination is slow they are gathered here. Order is kept, and no
//! large piece is copied. The window of the stream bounds how much there can be; it is opened by whoever takes.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Pieces of fewer bytes are gathered; a larger one stays as it is.
const SMALL: usize = 1024;

/// Pieces in their order.
#[derive(Debug, Default)]
pub(super) struct Held {
    pieces: VecDeque<Bytes>,
    /// Small ones, behind all `pieces`.
    gathered: BytesMut,
}

impl Held {
    /// Puts a piece behind all others.
    pub(super) fn push(&mut self, piece: Bytes) {
        if piece.len() < SMALL {
            self.gathered.extend_from_slice(&piece);
            return;
        }
        if !self.gathered.is_empty() {
            self.pieces.push_back(self.gathered.split().freeze());
        }
        self.pieces.push_back(piece);
    }

    /// Takes the first piece.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        let gathered = || (!self.gathered.is_empty()).then(|| std::mem::take(&mut self.gathered).freeze());
        self.pieces.pop_front().or_else(gathered)
    }

    /// Nothing is here.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.gathered.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_put_in_comes_out_in_its_order(
            steps in prop::collection::vec((prop::sample::select(vec![0, 1, 5, 1023, 1024, 9000]), any::<bool>()), 0..60),
        ) {
            let (mut held, mut put, mut taken) = (Held::default(), Vec::new(), Vec::new());
            for (number, (length, pop)) in steps.into_iter().enumerate() {
                let piece = vec![number as u8; length];
                put.extend_from_slice(&piece);
                held.push(piece.into());
                if pop && let Some(piece) = held.pop() {
                    prop_assert!(!piece.is_empty());
                    taken.extend_from_slice(&piece);
                }
                prop_assert_eq!(held.is_empty(), put.len() == taken.len());
            }
            while let Some(piece) = held.pop() {
                taken.extend_from_slice(&piece);
            }
            prop_assert!(put == taken);
        }
    }

    #[test]
    fn small_pieces_become_one_and_large_ones_are_not_copied() {
        let mut held = Held::default();
        let large = Bytes::from(vec![b'l'; 5000]);
        for piece in [Bytes::from_static(b"a"), Bytes::from_static(b"bc"), large.clone(), Bytes::from_static(b"d")] {
            held.push(piece);
        }
        assert_eq!(held.pop().as_deref(), Some(&b"abc"[..]));
        assert_eq!(held.pop().map(|piece| piece.as_ptr()), Some(large.as_ptr()));
        assert_eq!(held.pop().as_deref(), Some(&b"d"[..]));
        assert!(held.pop().is_none() && held.is_empty());
    }
}
