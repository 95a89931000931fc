//! Memory of one worker: a scratch area that every read goes through, and spare buffers for what must wait.
//!
//! An idle connection owns no buffer at all. Bytes are read into the scratch area and used in the same poll; only what
//! cannot be handed on at once is copied into a spare buffer, which goes back as soon as it is empty.

use std::cell::{RefCell, RefMut};

/// Size of the scratch area: one read of a large body fills at most this.
const SCRATCH: usize = 64 * 1024;
/// Spare buffers kept; more are given back to the allocator.
const SPARE: usize = 64;
/// A buffer that has grown beyond this is not kept.
const LARGEST_SPARE: usize = 2 * SCRATCH;

/// Buffers of one worker thread.
pub struct Buffers {
    scratch: RefCell<Box<[u8]>>,
    spare: RefCell<Vec<Vec<u8>>>,
}

impl Default for Buffers {
    fn default() -> Self {
        Self { scratch: RefCell::new(vec![0; SCRATCH].into_boxed_slice()), spare: RefCell::new(Vec::new()) }
    }
}

impl Buffers {
    /// The scratch area. What is in it is valid until the task yields: never hold it across an await.
    pub fn scratch(&self) -> RefMut<'_, Box<[u8]>> {
        self.scratch.borrow_mut()
    }

    /// An empty buffer.
    pub fn take(&self) -> Vec<u8> {
        self.spare.borrow_mut().pop().unwrap_or_default()
    }

    /// Makes `buffer` an empty one without memory, and keeps the memory for others.
    pub fn give_back(&self, buffer: &mut Vec<u8>) {
        if buffer.capacity() == 0 {
            return;
        }
        let mut returned = std::mem::take(buffer);
        returned.clear();
        let mut spare = self.spare.borrow_mut();
        if returned.capacity() <= LARGEST_SPARE && spare.len() < SPARE {
            spare.push(returned);
        }
    }
}
