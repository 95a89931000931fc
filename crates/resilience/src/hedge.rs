//! Hedging: a call that takes longer than most is made once more, and whoever answers first wins (Dean and Barroso, "The
//! Tail at Scale"). Knows no breaker. Read next: `policy.rs`.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use meshwright_traffic::LatencyQuantile;

use crate::clock::now;
use crate::{Error, RetryBudget};

/// Calls that must be known before a percentile means anything.
const FEWEST: u32 = 100;

/// Latencies are remembered for one to two of these.
const WINDOW: Duration = Duration::from_secs(30);

/// When a call is made once more while the first is still under way.
///
/// The calls that lose are dropped. Hedge only what may be done twice; every hedge is paid from the budget.
#[derive(Debug)]
pub struct Hedge {
    delay: Delay,
    hedges: usize,
    budget: Arc<RetryBudget>,
}

#[derive(Debug)]
enum Delay {
    Fixed(Duration),
    /// Held to add a latency and to ask for the quantile.
    Percentile(Mutex<LatencyQuantile>),
}

impl Hedge {
    /// Hedges once, after that time.
    pub fn after(delay: Duration, budget: Arc<RetryBudget>) -> Self {
        Self { delay: Delay::Fixed(delay), hedges: 1, budget }
    }

    /// Hedges once, when a call takes longer than `percent` of the calls of the last 30 to 60 s. Until 100 calls are known,
    /// nothing is hedged.
    pub fn at_percentile(percent: f64, budget: Arc<RetryBudget>) -> Self {
        let quantile = LatencyQuantile::new(percent, WINDOW, now());
        Self { delay: Delay::Percentile(Mutex::new(quantile)), hedges: 1, budget }
    }

    /// Hedges so many times, each after the same delay again.
    #[must_use]
    pub fn with_hedges(mut self, hedges: usize) -> Self {
        self.hedges = hedges;
        self
    }

    /// Makes the call, and once more when it is late. The first success wins; when all that are under way fail, the last
    /// error is returned.
    ///
    /// # Errors
    /// The error of the call that failed last.
    pub async fn call<T, E, F, Fut>(&self, call: F) -> Result<T, Error<E>>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.deposit();
        self.run(|| async { call().await.map_err(Error::Inner) }).await
    }

    /// Counts a call, for those who do not count it otherwise.
    pub(crate) fn deposit(&self) {
        self.budget.deposit();
    }

    pub(crate) async fn run<T, E, F, Fut>(&self, call: F) -> Result<T, Error<E>>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, Error<E>>>,
    {
        let began = now();
        let mut calls: Vec<Pin<Box<Fut>>> = vec![Box::pin(call())];
        let mut hedges_left = self.hedges;
        let mut delay = self.delay();
        let result = loop {
            let wait = async {
                match delay {
                    Some(delay) if hedges_left > 0 => tokio::time::sleep(delay).await,
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                result = first_success(&mut calls) => break result,
                () = wait => {
                    if self.budget.try_withdraw() {
                        calls.push(Box::pin(call()));
                        hedges_left -= 1;
                    } else {
                        delay = None;
                    }
                }
            }
        };
        if let (Delay::Percentile(quantile), Ok(_)) = (&self.delay, &result) {
            let now = now();
            let took = now.saturating_duration_since(began);
            quantile.lock().unwrap_or_else(PoisonError::into_inner).record(took, now);
        }
        result
    }

    fn delay(&self) -> Option<Duration> {
        match &self.delay {
            Delay::Fixed(delay) => Some(*delay),
            Delay::Percentile(quantile) => quantile.lock().unwrap_or_else(PoisonError::into_inner).value(FEWEST, now()),
        }
    }
}

/// The first that succeeds, or the last that fails.
async fn first_success<T, E, Fut>(calls: &mut Vec<Pin<Box<Fut>>>) -> Result<T, Error<E>>
where
    Fut: Future<Output = Result<T, Error<E>>>,
{
    std::future::poll_fn(|cx| {
        let mut at = 0;
        while at < calls.len() {
            match calls[at].as_mut().poll(cx) {
                Poll::Pending => at += 1,
                Poll::Ready(result) => {
                    drop(calls.swap_remove(at));
                    if result.is_ok() || calls.is_empty() {
                        return Poll::Ready(result);
                    }
                }
            }
        }
        Poll::Pending
    })
    .await
}
