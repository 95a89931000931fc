//! One timer per connection, re-armed as rarely as possible.
//!
//! Moving a timer of the runtime costs more than a request should pay. A deadline that moves to a later time leaves the
//! timer where it is; when that fires too early, it is set again. Only a deadline that moves to an earlier time than the
//! timer touches it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

/// A deadline that is polled beside the input and output it limits.
#[derive(Default)]
pub struct Deadline {
    at: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    /// Sets the deadline.
    pub fn set(&mut self, at: Instant) {
        self.at = Some(at);
        if let Some(timer) = &mut self.timer
            && timer.deadline() > at.into()
        {
            timer.as_mut().reset(at.into());
        }
    }

    /// Sets the deadline to `now + after`; a duration too long for the clock is no deadline.
    pub fn set_after(&mut self, now: Instant, after: Duration) {
        match now.checked_add(after) {
            Some(at) => self.set(at),
            None => self.clear(),
        }
    }

    /// No deadline.
    pub fn clear(&mut self) {
        self.at = None;
    }

    /// The deadline, when there is one.
    pub fn at(&self) -> Option<Instant> {
        self.at
    }

    /// Ready when the deadline is over; otherwise the task is woken no later than then.
    pub fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at.into())));
        while timer.as_mut().poll(cx).is_ready() {
            if timer.deadline() >= at.into() {
                return Poll::Ready(());
            }
            timer.as_mut().reset(at.into());
        }
        Poll::Pending
    }
}
