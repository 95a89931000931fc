//! Bodies of echo answers: a text, or any number of bytes made while they are sent.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Either;
use tokio::sync::OwnedSemaphorePermit;

use super::grpc::CallBody;

/// The body of any answer: made beforehand, or of a gRPC call.
pub type AnyBody = Either<EchoBody, CallBody>;

/// What streamed answers consist of; slices of it are sent without copying.
static PATTERN: [u8; 64 * 1024] = [b'x'; 64 * 1024];

/// A body of known length in constant memory. It holds the permit of its request until it is sent or dropped,
/// so that a slow reader occupies the backend as it would occupy a real one.
pub struct EchoBody {
    text: Bytes,
    remaining: u64,
    _permit: Option<OwnedSemaphorePermit>,
}

impl EchoBody {
    /// A body of these bytes.
    pub fn text(text: impl Into<Bytes>, permit: Option<OwnedSemaphorePermit>) -> Self {
        Self { text: text.into(), remaining: 0, _permit: permit }
    }

    /// A body of `length` bytes.
    pub fn stream(length: u64, permit: Option<OwnedSemaphorePermit>) -> Self {
        Self { text: Bytes::new(), remaining: length, _permit: permit }
    }

    fn left(&self) -> u64 {
        self.remaining + u64::try_from(self.text.len()).unwrap_or(u64::MAX)
    }
}

impl Body for EchoBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if !self.text.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.text)))));
        }
        if self.remaining == 0 {
            return Poll::Ready(None);
        }
        let length = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(PATTERN.len());
        self.remaining -= u64::try_from(length).unwrap_or(self.remaining);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&PATTERN[..length])))))
    }

    fn is_end_stream(&self) -> bool {
        self.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left())
    }
}
