//! Everything around one call, in one fixed order. The order is in the crate's documentation. Read next: `lib.rs`.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use meshwright_traffic::{Criticality, LimitSample};
use tokio::sync::SemaphorePermit;
use tokio::time::Instant;

use crate::adaptive::Place;
use crate::breaker::Verdict;
use crate::{AdaptiveLimiter, Bulkhead, CircuitBreaker, Error, Hedge, RateLimiter, Retry};

type Fallback<T, E> = dyn Fn(Error<E>) -> Pin<Box<dyn Future<Output = Result<T, Error<E>>> + Send>> + Send + Sync;
type IsFailure<T, E> = dyn Fn(&Result<T, E>) -> bool + Send + Sync;

/// What surrounds a call that gives `T` or fails with `E`. Empty at first; cloning shares every part.
pub struct Policy<T, E> {
    fallback: Option<Arc<Fallback<T, E>>>,
    deadline: Option<Duration>,
    retry: Option<Arc<Retry<T, E>>>,
    hedge: Option<Arc<Hedge>>,
    breaker: Option<Arc<CircuitBreaker>>,
    is_failure: Option<Arc<IsFailure<T, E>>>,
    timeout: Option<Duration>,
    rate: Option<Arc<RateLimiter>>,
    limiter: Option<Arc<AdaptiveLimiter>>,
    bulkhead: Option<Arc<Bulkhead>>,
}

impl<T, E> Policy<T, E> {
    /// A policy that does nothing.
    pub fn new() -> Self {
        Self {
            fallback: None,
            deadline: None,
            retry: None,
            hedge: None,
            breaker: None,
            is_failure: None,
            timeout: None,
            rate: None,
            limiter: None,
            bulkhead: None,
        }
    }

    /// Answers instead of the last error: with another destination, a kept answer, or the error again.
    #[must_use]
    pub fn with_fallback<F, Fut>(mut self, fallback: F) -> Self
    where
        F: Fn(Error<E>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, Error<E>>> + Send + 'static,
    {
        self.fallback = Some(Arc::new(move |error| Box::pin(fallback(error))));
        self
    }

    /// Answers with this value instead of any error.
    #[must_use]
    pub fn with_fallback_value(self, value: T) -> Self
    where
        T: Clone + Send + Sync + 'static,
        E: Send + 'static,
    {
        self.with_fallback(move |_| std::future::ready(Ok(value.clone())))
    }

    /// Bounds all tries and pauses together.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Tries again.
    #[must_use]
    pub fn with_retry(mut self, retry: impl Into<Arc<Retry<T, E>>>) -> Self {
        self.retry = Some(retry.into());
        self
    }

    /// Hedges each try. A hedge within a [`Retry`] should share its budget ([`Retry::budget`]).
    #[must_use]
    pub fn with_hedge(mut self, hedge: impl Into<Arc<Hedge>>) -> Self {
        self.hedge = Some(hedge.into());
        self
    }

    /// Breaks the circuit. One breaker may serve many policies.
    #[must_use]
    pub fn with_breaker(mut self, breaker: impl Into<Arc<CircuitBreaker>>) -> Self {
        self.breaker = Some(breaker.into());
        self
    }

    /// What counts as a failure for the breaker and as overload for the adaptive limit; by default every error does for
    /// the breaker and none for the limit.
    #[must_use]
    pub fn with_failures(mut self, is_failure: impl Fn(&Result<T, E>) -> bool + Send + Sync + 'static) -> Self {
        self.is_failure = Some(Arc::new(is_failure));
        self
    }

    /// Bounds each try, the wait for a place included.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Limits the rate of tries.
    #[must_use]
    pub fn with_rate_limiter(mut self, rate: impl Into<Arc<RateLimiter>>) -> Self {
        self.rate = Some(rate.into());
        self
    }

    /// Limits concurrency by what the destination bears.
    #[must_use]
    pub fn with_adaptive_limiter(mut self, limiter: impl Into<Arc<AdaptiveLimiter>>) -> Self {
        self.limiter = Some(limiter.into());
        self
    }

    /// Limits concurrency by a number.
    #[must_use]
    pub fn with_bulkhead(mut self, bulkhead: impl Into<Arc<Bulkhead>>) -> Self {
        self.bulkhead = Some(bulkhead.into());
        self
    }

    /// Makes the call, as [`Criticality::Critical`].
    ///
    /// # Errors
    /// The last error, unless a fallback answers for it.
    pub async fn call<F, Fut>(&self, call: F) -> Result<T, Error<E>>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.call_as(Criticality::Critical, call).await
    }

    /// Makes a call of that criticality, which an adaptive limit asks for.
    ///
    /// # Errors
    /// The last error, unless a fallback answers for it.
    pub async fn call_as<F, Fut>(&self, criticality: Criticality, call: F) -> Result<T, Error<E>>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let call = || self.within_breaker(criticality, &call);
        let until = self.deadline.map(|deadline| (deadline, Instant::now() + deadline));
        let result = within(until, self.within_retry(&call)).await;
        match (result, &self.fallback) {
            (Err(error), Some(fallback)) => fallback(error).await,
            (result, _) => result,
        }
    }

    async fn within_retry<F, Fut>(&self, call: &F) -> Result<T, Error<E>>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, Error<E>>>,
    {
        match (&self.retry, &self.hedge) {
            (None, None) => call().await,
            (Some(retry), None) => retry.run(call).await,
            (None, Some(hedge)) => {
                hedge.deposit();
                hedge.run(call).await
            }
            (Some(retry), Some(hedge)) => retry.run(|| hedge.run(call)).await,
        }
    }

    async fn within_breaker<F, Fut>(&self, criticality: Criticality, call: &F) -> Result<T, Error<E>>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let one_try = self.one_try(criticality, call);
        match &self.breaker {
            None => one_try.await.0,
            Some(breaker) => breaker.run(one_try, |end| end.1).await.map_err(|refusal| breaker.refused(refusal))?.0,
        }
    }

    /// Waits for places and makes the call, all within the timeout; also says what the end means to the breaker.
    async fn one_try<F, Fut>(&self, criticality: Criticality, call: &F) -> (Result<T, Error<E>>, Verdict)
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let until = self.timeout.map(|timeout| (timeout, Instant::now() + timeout));
        let mut places = match within(until, self.places(criticality)).await {
            Ok(places) => places,
            // Whoever waited in vain for a place of ours was not answered late by the destination.
            Err(error) => return (Err(error), Verdict::Nothing),
        };
        let sent = within(until, async { Ok(call().await) }).await;
        let failed = match &sent {
            Ok(result) => self.is_failure.as_ref().map_or(result.is_err(), |is_failure| is_failure(result)),
            Err(_) => true,
        };
        if let Some(place) = &mut places.adaptive {
            place.sample = match &sent {
                Err(_) => LimitSample::Dropped,
                Ok(_) if failed && self.is_failure.is_some() => LimitSample::Dropped,
                Ok(Ok(_)) => LimitSample::Success,
                Ok(Err(_)) => LimitSample::Ignored,
            };
        }
        let verdict = if failed { Verdict::Failure } else { Verdict::Success };
        (sent.and_then(|result| result.map_err(Error::Inner)), verdict)
    }

    async fn places(&self, criticality: Criticality) -> Result<Places<'_>, Error<E>> {
        if let Some(rate) = &self.rate {
            rate.acquire(()).await?;
        }
        let bulkhead = match &self.bulkhead {
            Some(bulkhead) => Some(bulkhead.enter().await.ok_or(Error::BulkheadFull)?),
            None => None,
        };
        // The last, so that its latency is that of the call alone.
        let adaptive = match &self.limiter {
            Some(limiter) => Some(limiter.enter(criticality).ok_or(Error::Overloaded)?),
            None => None,
        };
        Ok(Places { adaptive, _bulkhead: bulkhead })
    }
}

/// What a call holds while it is under way.
struct Places<'a> {
    adaptive: Option<Place<'a>>,
    _bulkhead: Option<SemaphorePermit<'a>>,
}

/// The end of a future, or [`Error::Timeout`] when that time is over first.
async fn within<R, E>(
    until: Option<(Duration, Instant)>,
    future: impl Future<Output = Result<R, Error<E>>>,
) -> Result<R, Error<E>> {
    match until {
        None => future.await,
        Some((timeout, until)) => tokio::time::timeout_at(until, future).await.unwrap_or(Err(Error::Timeout(timeout))),
    }
}

impl<T, E> Default for Policy<T, E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, E> Clone for Policy<T, E> {
    fn clone(&self) -> Self {
        Self {
            fallback: self.fallback.clone(),
            deadline: self.deadline,
            retry: self.retry.clone(),
            hedge: self.hedge.clone(),
            breaker: self.breaker.clone(),
            is_failure: self.is_failure.clone(),
            timeout: self.timeout,
            rate: self.rate.clone(),
            limiter: self.limiter.clone(),
            bulkhead: self.bulkhead.clone(),
        }
    }
}

impl<T, E> fmt::Debug for Policy<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("fallback", &self.fallback.is_some())
            .field("deadline", &self.deadline)
            .field("retry", &self.retry)
            .field("hedge", &self.hedge)
            .field("breaker", &self.breaker)
            .field("timeout", &self.timeout)
            .field("rate", &self.rate)
            .field("limiter", &self.limiter)
            .field("bulkhead", &self.bulkhead)
            .finish_non_exhaustive()
    }
}
