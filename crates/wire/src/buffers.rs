//! Memory of one worker: a scratch area that every read goes through, and spare buffers for what must wait.
//!
//! An idle connection owns no buffer at all. Bytes are read into the scratch area and used in the same poll; only what
//! cannot be handed on at once is copied into a spare buffer, which goes back as soon as it is empty.

use std::cell::{Cell, RefCell, RefMut};

use crate::splice::Pipe;

/// Size of the scratch area: one read of a large body fills at most this.
const SCRATCH: usize = 64 * 1024;
/// Spare buffers kept at most.
const SPARE: usize = 4096;
/// Spare pipes kept at most. One is needed while bytes move, and longer only for a destination that is slow.
const SPARE_PIPES: usize = 16;
/// A buffer that has grown beyond this is not kept.
const LARGEST_SPARE: usize = 2 * SCRATCH;

/// Buffers of one worker thread.
pub struct Buffers {
    scratch: RefCell<Box<[u8]>>,
    spare: Spare<Vec<u8>>,
    pipes: Spare<Pipe>,
}

impl Default for Buffers {
    fn default() -> Self {
        let scratch = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
        Self { scratch, spare: Spare::new(SPARE), pipes: Spare::new(SPARE_PIPES) }
    }
}

impl Buffers {
    /// The scratch area. What is in it is valid until the task yields: never hold it across an await.
    pub fn scratch(&self) -> RefMut<'_, Box<[u8]>> {
        self.scratch.borrow_mut()
    }

    /// An empty buffer.
    pub fn take(&self) -> Vec<u8> {
        self.spare.take().unwrap_or_default()
    }

    /// Makes `buffer` an empty one without memory, and keeps the memory for others.
    pub fn give_back(&self, buffer: &mut Vec<u8>) {
        if buffer.capacity() == 0 {
            return;
        }
        let mut returned = std::mem::take(buffer);
        returned.clear();
        if returned.capacity() <= LARGEST_SPARE {
            self.spare.keep(returned);
        }
    }

    /// An empty pipe; `None` when there are no file descriptors left.
    pub(crate) fn take_pipe(&self) -> Option<Pipe> {
        self.pipes.take().or_else(|| Pipe::open().ok())
    }

    /// Keeps a pipe for others. One with something in it is closed: what is in it is nobody else's.
    pub(crate) fn give_back_pipe(&self, pipe: Pipe) {
        if pipe.is_empty() {
            self.pipes.keep(pipe);
        }
    }

    /// Gives memory that is no longer needed back to the allocator; to be called about once a second.
    pub fn trim(&self) {
        self.spare.trim();
        self.pipes.trim();
    }
}

/// Things that are expensive to make, kept for the next who needs one. What a burst left behind goes away again: each
/// [`Spare::trim`] drops half of what nobody asked for since the one before.
pub struct Spare<T> {
    kept: RefCell<Vec<T>>,
    most: usize,
    /// The fewest that were kept at any moment since the last trim.
    unused: Cell<usize>,
}

impl<T> Spare<T> {
    /// Keeps nothing yet, and never more than `most`.
    pub fn new(most: usize) -> Self {
        Self { kept: RefCell::new(Vec::new()), most, unused: Cell::new(0) }
    }

    /// Takes one, when there is one.
    pub fn take(&self) -> Option<T> {
        let mut kept = self.kept.borrow_mut();
        let taken = kept.pop();
        self.unused.set(self.unused.get().min(kept.len()));
        taken
    }

    /// Keeps one, or drops it when there are enough.
    pub fn keep(&self, one: T) {
        let mut kept = self.kept.borrow_mut();
        if kept.len() < self.most {
            kept.push(one);
        }
    }

    /// Drops half of what was not needed since the last call.
    pub fn trim(&self) {
        let mut kept = self.kept.borrow_mut();
        let drop = self.unused.get().div_ceil(2).min(kept.len());
        kept.drain(..drop);
        self.unused.set(kept.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_burst_left_behind_goes_away_and_what_is_in_use_stays() {
        let spare = Spare::new(100);
        (0..200).for_each(|number| spare.keep(number));
        assert_eq!(spare.kept.borrow().len(), 100);
        spare.trim();
        assert_eq!(spare.kept.borrow().len(), 100, "nothing is known of the time before the first trim");
        spare.trim();
        assert_eq!(spare.kept.borrow().len(), 50);
        let used: Vec<_> = std::iter::from_fn(|| spare.take()).take(40).collect();
        used.into_iter().for_each(|number| spare.keep(number));
        spare.trim();
        assert_eq!(spare.kept.borrow().len(), 45, "ten were not needed, half of them go");
    }
}
