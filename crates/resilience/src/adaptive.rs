//! A limit of concurrency that learns from latency, around calls. Knows no rule of learning. Read next:
//! `meshwright-traffic`, `adaptive.rs`.

use std::future::Future;
use std::pin::pin;

use meshwright_traffic::{AdaptiveLimit, AdaptivePolicy, AdaptiveView, Criticality, LimitSample, Slot};

use crate::Error;
use crate::clock::{dice, now};

/// At most as many calls at once as the destination seems to bear. Calls of less criticality find it full earlier.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use meshwright_resilience::{AdaptiveLimiter, AdaptivePolicy, Criticality, Error};
///
/// let limiter = AdaptiveLimiter::new(AdaptivePolicy::default());
/// let answer = limiter.call(Criticality::Sheddable, async { Ok::<_, std::io::Error>(1) }).await;
/// assert_eq!(answer.unwrap(), 1);
/// # }
/// ```
#[derive(Debug)]
pub struct AdaptiveLimiter {
    limit: AdaptiveLimit,
}

impl AdaptiveLimiter {
    /// A limit that has learnt nothing yet.
    pub fn new(policy: AdaptivePolicy) -> Self {
        Self { limit: AdaptiveLimit::new(policy) }
    }

    /// The limit at this moment.
    pub fn view(&self) -> AdaptiveView {
        self.limit.view()
    }

    /// Makes the call when there is a place for it. Its latency counts when it succeeds; an error says nothing.
    ///
    /// # Errors
    /// [`Error::Overloaded`] when there was no place, [`Error::Inner`] when the call failed.
    pub async fn call<T, E>(
        &self,
        criticality: Criticality,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Error<E>> {
        let judge = |result: &Result<T, E>| if result.is_ok() { LimitSample::Success } else { LimitSample::Ignored };
        self.call_with(criticality, call, judge).await
    }

    /// Makes the call when there is a place for it; `judge` says what its end means to the limit.
    ///
    /// # Errors
    /// [`Error::Overloaded`] when there was no place, [`Error::Inner`] when the call failed.
    pub async fn call_with<T, E>(
        &self,
        criticality: Criticality,
        call: impl Future<Output = Result<T, E>>,
        judge: impl FnOnce(&Result<T, E>) -> LimitSample,
    ) -> Result<T, Error<E>> {
        let mut place = self.enter(criticality).ok_or(Error::Overloaded)?;
        let call = pin!(call);
        let result = call.await;
        place.sample = judge(&result);
        result.map_err(Error::Inner)
    }

    pub(crate) fn enter(&self, criticality: Criticality) -> Option<Place<'_>> {
        let slot = self.limit.try_acquire(criticality, now())?;
        Some(Place { limit: &self.limit, slot: Some(slot), sample: LimitSample::Ignored })
    }
}

/// A place that gives itself back; what it says is ignored unless `sample` was set.
pub(crate) struct Place<'a> {
    limit: &'a AdaptiveLimit,
    slot: Option<Slot>,
    pub(crate) sample: LimitSample,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.limit.end(slot, self.sample, now(), &mut dice());
        }
    }
}
