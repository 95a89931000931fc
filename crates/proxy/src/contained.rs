//! A defect of ours costs the request that met it, and nobody else.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;

/// A future that panicked; the panic hook has reported it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Panicked;

/// Drives `future` to its end, or to its first panic. Costs nothing as long as there is none.
///
/// What the future had borrowed is as the panic left it: its owner may look at it, and should give it up soon.
pub(crate) fn contained<F: Future>(mut future: Pin<&mut F>) -> impl Future<Output = Result<F::Output, Panicked>> {
    std::future::poll_fn(move |cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(polled) => polled.map(Ok),
        Err(_) => Poll::Ready(Err(Panicked)),
    })
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
        pin!(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_panic_ends_the_future_and_not_the_thread() {
        let silent = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let panics = async {
            if std::hint::black_box(true) {
                panic!("a defect");
            }
            1
        };
        let ended = poll_once(contained(pin!(panics)));
        std::panic::set_hook(silent);
        assert_eq!(ended, Poll::Ready(Err(Panicked)));
        assert_eq!(poll_once(contained(pin!(async { 2 }))), Poll::Ready(Ok(2)));
        assert!(poll_once(contained(pin!(std::future::pending::<()>()))).is_pending());
    }
}
