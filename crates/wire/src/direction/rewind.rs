//! Sending what was retained to another endpoint, from its start. Read next: `direction.rs`.

use super::Direction;

impl Direction {
    /// Sends everything retained once more.
    pub fn rewind(&mut self) {
        debug_assert!(self.retain, "only a retained direction can start again");
        self.sent = 0;
        self.touched = false;
        self.flushing = false;
        self.broken = None;
    }

    /// Replaces a value in the head, which is the first `head` retained bytes, before it is sent again: what stands between
    /// `name` (with its colon) and the end of the line. Returns the length of the head as it is now.
    pub fn replace_value(&mut self, head: usize, name: &[u8], value: &[u8]) -> usize {
        debug_assert!(self.sent == 0, "only before the first byte is sent");
        let found = self.out[..head].windows(name.len()).position(|window| window == name);
        let Some(start) = found.map(|at| at + name.len()) else { return head };
        let length = self.out[start..head].iter().take_while(|byte| **byte != b'\r').count();
        self.out.splice(start..start + length, value.iter().copied());
        head + value.len() - length
    }
}
