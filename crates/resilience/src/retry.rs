//! Trying again: how often, after which pause, for which ends, under which budget. Knows no breaker. Read next:
//! `hedge.rs`, which shares the budget.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use meshwright_traffic::{Backoff, BudgetPolicy, RetryBudget as Core};

use crate::Error;
use crate::clock::{dice, now};

/// How many retries and hedges there may be, together, for all calls that share it. See [`BudgetPolicy`].
#[derive(Debug)]
pub struct RetryBudget {
    core: Core,
}

impl RetryBudget {
    /// A budget with nothing deposited.
    pub fn new(policy: BudgetPolicy) -> Self {
        Self { core: Core::new(policy, now()) }
    }

    pub(crate) fn deposit(&self) {
        self.core.deposit(now());
    }

    pub(crate) fn try_withdraw(&self) -> bool {
        self.core.try_withdraw(now())
    }
}

type Wanted<T, E> = dyn Fn(&Result<T, Error<E>>) -> bool + Send + Sync;
type PauseOf<T, E> = dyn Fn(&Result<T, Error<E>>) -> Option<Duration> + Send + Sync;

/// When a call is made again.
///
/// A budget is part of it: without one, retries multiply the load of a destination exactly when it bears least. Only
/// repeat what may be done twice.
pub struct Retry<T, E> {
    retries: u32,
    backoff: Backoff,
    budget: Arc<RetryBudget>,
    wanted: Arc<Wanted<T, E>>,
    pause_of: Option<Arc<PauseOf<T, E>>>,
}

impl<T, E> Retry<T, E> {
    /// At most `retries` further tries after the first, with a back-off of 25 ms base (Envoy's, full jitter), under a budget
    /// of 20 % of the calls and 10 a second (Finagle's), when the call failed or timed out. What was refused, by a breaker
    /// or a limit, is not tried again.
    pub fn new(retries: u32) -> Self {
        Self {
            retries,
            backoff: Backoff { base: Duration::from_millis(25) },
            budget: Arc::new(RetryBudget::new(BudgetPolicy::default())),
            wanted: Arc::new(|result| result.as_ref().is_err_and(|error| !error.is_refusal())),
            pause_of: None,
        }
    }

    /// Another base of the pauses.
    #[must_use]
    pub fn with_backoff(mut self, base: Duration) -> Self {
        self.backoff = Backoff { base };
        self
    }

    /// Another budget, which may be shared.
    #[must_use]
    pub fn with_budget(mut self, budget: Arc<RetryBudget>) -> Self {
        self.budget = budget;
        self
    }

    /// Another condition: which ends are tried again. It also sees answers, such as a 503.
    #[must_use]
    pub fn when(mut self, wanted: impl Fn(&Result<T, Error<E>>) -> bool + Send + Sync + 'static) -> Self {
        self.wanted = Arc::new(wanted);
        self
    }

    /// Takes the pause from the end of the try where that names one, such as `Retry-After`; it is taken as it is.
    #[must_use]
    pub fn with_pause_of(
        mut self,
        pause_of: impl Fn(&Result<T, Error<E>>) -> Option<Duration> + Send + Sync + 'static,
    ) -> Self {
        self.pause_of = Some(Arc::new(pause_of));
        self
    }

    /// The budget, to share it.
    pub fn budget(&self) -> &Arc<RetryBudget> {
        &self.budget
    }

    /// Makes the call until its end is not to be tried again.
    ///
    /// # Errors
    /// The error of the last try.
    pub async fn call<F, Fut>(&self, call: F) -> Result<T, Error<E>>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.run(|| async { call().await.map_err(Error::Inner) }).await
    }

    pub(crate) async fn run<F, Fut>(&self, call: F) -> Result<T, Error<E>>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, Error<E>>>,
    {
        self.budget.deposit();
        let mut retry = 0;
        loop {
            let result = call().await;
            if retry == self.retries || !(self.wanted)(&result) || !self.budget.try_withdraw() {
                return result;
            }
            retry += 1;
            let named = self.pause_of.as_ref().and_then(|pause_of| pause_of(&result));
            drop(result);
            let pause = named.unwrap_or_else(|| self.backoff.delay(retry, &mut dice()));
            tokio::time::sleep(pause).await;
        }
    }
}

impl<T, E> fmt::Debug for Retry<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry").field("retries", &self.retries).field("backoff", &self.backoff).finish_non_exhaustive()
    }
}
