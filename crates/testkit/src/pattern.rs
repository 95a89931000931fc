//! Bytes that can be made and checked anywhere in a stream without keeping it: whoever loses, doubles or reorders some of
//! them is found out.

/// Length of the repeated block; a prime, so that no buffer size of the product divides it.
const PERIOD: usize = 65_521;

/// A position in the endless stream.
#[derive(Clone, Debug)]
pub struct Pattern {
    block: Vec<u8>,
    offset: usize,
    total: u64,
}

impl Default for Pattern {
    fn default() -> Self {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let block = (0..PERIOD)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()[3]
            })
            .collect();
        Self { block, offset: 0, total: 0 }
    }
}

impl Pattern {
    /// The next bytes, at most `most` of them.
    pub fn next(&mut self, most: usize) -> &[u8] {
        let length = most.min(PERIOD - self.offset);
        let start = self.offset;
        self.advance(length);
        &self.block[start..start + length]
    }

    /// Whether `bytes` are the next ones; goes on behind them.
    pub fn check(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let length = bytes.len().min(PERIOD - self.offset);
            if bytes[..length] != self.block[self.offset..self.offset + length] {
                return false;
            }
            self.advance(length);
            bytes = &bytes[length..];
        }
        true
    }

    /// Bytes made or checked so far.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The first `length` bytes of the stream.
    pub fn bytes(length: usize) -> Vec<u8> {
        let mut pattern = Self::default();
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            let missing = length - bytes.len();
            bytes.extend_from_slice(pattern.next(missing));
        }
        bytes
    }

    fn advance(&mut self, length: usize) {
        self.offset = (self.offset + length) % PERIOD;
        self.total += length as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_or_doubled_byte_is_found() {
        let bytes = Pattern::bytes(200_000);
        assert!(Pattern::default().check(&bytes));
        let mut lost = bytes.clone();
        lost.remove(70_000);
        assert!(!Pattern::default().check(&lost));
        let mut doubled = bytes;
        doubled.insert(150_000, doubled[150_000]);
        assert!(!Pattern::default().check(&doubled));
    }
}
