//! A request body that has to be there in time: who sends it drop by drop does not keep a connection for ever.
//!
//! What is too large is refused elsewhere; what the body means is not known here.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::time::Sleep;

/// A body with a deadline for all of it. What is late is an [`io::ErrorKind::TimedOut`].
pub(crate) struct Timed {
    body: Body,
    deadline: Pin<Box<Sleep>>,
}

impl Timed {
    /// `body`, which has to end within `time` from now. A body that is empty costs nothing.
    pub(crate) fn limit(body: Body, time: Duration) -> Body {
        match body.is_end_stream() {
            true => body,
            false => Body::new(Self { body, deadline: Box::pin(tokio::time::sleep(time)) }),
        }
    }
}

impl HttpBody for Timed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.deadline.as_mut().poll(context).is_ready() {
            let late = io::Error::new(io::ErrorKind::TimedOut, "the body did not come in time");
            return Poll::Ready(Some(Err(axum::Error::new(late))));
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Whether reading a body failed because it did not come in time.
pub fn is_late(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// A body that never ends.
    struct Silent;

    impl HttpBody for Silent {
        type Data = Bytes;
        type Error = axum::Error;

        fn poll_frame(
            self: Pin<&mut Self>,
            _context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_is_late_and_one_that_is_there_is_not() {
        let mut silent = Timed::limit(Body::new(Silent), Duration::from_millis(1));
        let frame = poll_fn(|context| Pin::new(&mut silent).poll_frame(context)).await;
        assert!(is_late(&frame.unwrap().unwrap_err()));
        let mut present = Timed::limit(Body::from("all"), Duration::from_secs(3600));
        let frame = poll_fn(|context| Pin::new(&mut present).poll_frame(context)).await;
        assert_eq!(frame.unwrap().unwrap().into_data().unwrap(), "all");
    }
}
