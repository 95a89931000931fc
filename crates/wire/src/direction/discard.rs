//! The rest of a request body that nobody wants: read, decoded and dropped, so that the next request is found behind it.

use std::io;
use std::task::{Context, Poll};

use super::Direction;
use crate::{Buffers, Link};

impl Direction {
    /// Reads the rest of the body and drops it, until `most` bytes were taken. Ready with whether the body is complete.
    pub fn poll_drop(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut Link,
        most: u64,
        buffers: &Buffers,
    ) -> Poll<io::Result<bool>> {
        let most = self.moved.saturating_add(most);
        loop {
            let Some(consumed) = self.skip(source.ahead()) else { return Poll::Ready(Ok(false)) };
            source.use_ahead(consumed, buffers);
            if self.ended || self.moved > most {
                return Poll::Ready(Ok(self.ended));
            }
            let mut scratch = buffers.scratch();
            match source.poll_read(cx, &mut scratch) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(false)),
                Poll::Ready(Ok(count)) => {
                    let Some(consumed) = self.skip(&scratch[..count]) else { return Poll::Ready(Ok(false)) };
                    source.keep(&scratch[consumed..count], buffers);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Decodes body bytes without keeping them; `None` when the framing is invalid.
    fn skip(&mut self, input: &[u8]) -> Option<usize> {
        let mut position = 0;
        while !self.ended && position < input.len() {
            let step = self.decoder.decode(&input[position..]).ok()?;
            position += step.consumed;
            self.moved += step.data.len() as u64;
            self.ended = step.done;
        }
        Some(position)
    }
}
