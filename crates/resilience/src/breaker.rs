//! A circuit breaker around calls: the state machine of `meshwright-traffic` with a name, a clock, a listener and permits
//! that cannot be lost. Knows no retry. Read next: `breakers.rs` for many by name.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use meshwright_traffic::{
    BreakerMode, BreakerPolicy, BreakerRefusal, BreakerState, BreakerView, CircuitBreaker as Core, Outcome, Permit,
    StateChange,
};

use crate::Error;
use crate::clock::{dice, now};

/// Is told of every change of state, outside of any lock.
type Listener = Box<dyn Fn(&str, StateChange) + Send + Sync>;

/// A circuit breaker for async and for blocking calls. Share it with an `Arc`.
///
/// A call that returns an error or panics is a failure; a future that is dropped before it ends counts neither way and
/// gives its place back.
pub struct CircuitBreaker {
    name: Arc<str>,
    core: Core,
    listener: Option<Listener>,
}

/// What the end of a call says to a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Success,
    Failure,
    /// The call was not made after all.
    Nothing,
}

impl CircuitBreaker {
    /// A closed breaker. `name` stands in errors and events.
    pub fn new(name: impl Into<Arc<str>>, policy: BreakerPolicy) -> Self {
        Self { name: name.into(), core: Core::new(policy), listener: None }
    }

    /// Tells `listener` its name and every change of state.
    ///
    /// ```
    /// # use meshwright_resilience::{BreakerPolicy, CircuitBreaker};
    /// let breaker = CircuitBreaker::new("user-service", BreakerPolicy::hystrix())
    ///     .on_state_change(|name, change| eprintln!("{name}: {change}"));
    /// ```
    #[must_use]
    pub fn on_state_change(mut self, listener: impl Fn(&str, StateChange) + Send + Sync + 'static) -> Self {
        self.listener = Some(Box::new(listener));
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its state; an open breaker whose time is over turns half-open here.
    pub fn state(&self) -> BreakerState {
        let now = now();
        self.tell(self.core.advance(now, &mut dice()));
        self.core.view(now).state
    }

    /// All about it at this moment.
    pub fn view(&self) -> BreakerView {
        self.core.view(now())
    }

    /// Its policy, every value in its range.
    pub fn policy(&self) -> &BreakerPolicy {
        self.core.policy()
    }

    /// Says who decides, and starts anew: [`BreakerMode::Automatic`] is also how to reset it.
    pub fn set_mode(&self, mode: BreakerMode) {
        self.tell(Some(self.core.set_mode(mode, now())));
    }

    /// Makes the call, unless the breaker is open.
    ///
    /// # Errors
    /// [`Error::Open`] when the call was refused, [`Error::Inner`] when it failed.
    pub async fn call<T, E>(&self, call: impl Future<Output = Result<T, E>>) -> Result<T, Error<E>> {
        self.call_with(call, Result::is_err).await
    }

    /// Makes the call, unless the breaker is open; `is_failure` says what counts as one. A 503 may be an `Ok` that is a
    /// failure, a "not found" an `Err` that is none.
    ///
    /// # Errors
    /// [`Error::Open`] when the call was refused, [`Error::Inner`] when it returned an error.
    pub async fn call_with<T, E>(
        &self,
        call: impl Future<Output = Result<T, E>>,
        is_failure: impl FnOnce(&Result<T, E>) -> bool,
    ) -> Result<T, Error<E>> {
        let judge = |result: &Result<T, E>| if is_failure(result) { Verdict::Failure } else { Verdict::Success };
        self.run(call, judge).await.map_err(|refusal| self.refused(refusal))?.map_err(Error::Inner)
    }

    /// Makes a call that blocks, unless the breaker is open.
    ///
    /// # Errors
    /// [`Error::Open`] when the call was refused, [`Error::Inner`] when it failed.
    pub fn call_sync<T, E>(&self, call: impl FnOnce() -> Result<T, E>) -> Result<T, Error<E>> {
        let mut permit = self.try_acquire().map_err(|refusal| self.refused(refusal))?;
        permit.watch = Watch::Running;
        let result = call();
        permit.end(if result.is_err() { Verdict::Failure } else { Verdict::Success });
        result.map_err(Error::Inner)
    }

    /// A permit by hand, for what is not one future or one closure. Say how the call went; a permit that is dropped says
    /// that it was given up, or that it failed when it is dropped by a panic.
    ///
    /// # Errors
    /// Why the call is refused.
    ///
    /// ```
    /// # use meshwright_resilience::{BreakerPolicy, BreakerRefusal, CircuitBreaker};
    /// # fn main() -> Result<(), BreakerRefusal> {
    /// # let breaker = CircuitBreaker::new("user-service", BreakerPolicy::hystrix());
    /// let permit = breaker.try_acquire()?;
    /// // ... the call ...
    /// permit.success();
    /// # Ok(()) }
    /// ```
    pub fn try_acquire(&self) -> Result<CallPermit<'_>, BreakerRefusal> {
        let admission = self.core.try_acquire(now(), &mut dice());
        self.tell(admission.change);
        let permit = admission.permit?;
        let watch = Watch::ByHand { already_panicking: std::thread::panicking() };
        Ok(CallPermit { breaker: self, permit: Some(permit), watch })
    }

    /// Runs a future under a permit, whatever it gives; the permit ends with the verdict of `judge`.
    pub(crate) async fn run<R>(
        &self,
        call: impl Future<Output = R>,
        judge: impl FnOnce(&R) -> Verdict,
    ) -> Result<R, BreakerRefusal> {
        let mut permit = self.try_acquire()?;
        let mut call = pin!(call);
        let result = std::future::poll_fn(|cx| {
            // Only a panic of the call itself is its failure, not one that drops this future from outside.
            permit.watch = Watch::Running;
            let polled = call.as_mut().poll(cx);
            permit.watch = Watch::Idle;
            polled
        })
        .await;
        permit.end(judge(&result));
        Ok(result)
    }

    pub(crate) fn refused<E>(&self, refusal: BreakerRefusal) -> Error<E> {
        Error::Open { breaker: Arc::clone(&self.name), refusal }
    }

    fn tell(&self, change: Option<StateChange>) {
        if let (Some(change), Some(listener)) = (change, &self.listener) {
            listener(&self.name, change);
        }
    }
}

impl fmt::Debug for CircuitBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreaker").field("name", &self.name).field("core", &self.core).finish_non_exhaustive()
    }
}

/// Leave to make one call. See [`CircuitBreaker::try_acquire`].
#[derive(Debug)]
#[must_use = "a permit that is dropped says that the call was given up"]
pub struct CallPermit<'a> {
    breaker: &'a CircuitBreaker,
    /// Taken when it ends.
    permit: Option<Permit>,
    watch: Watch,
}

/// How to know at the drop of a permit whether its call panicked.
#[derive(Debug)]
enum Watch {
    /// By whether the thread panics now and did not before.
    ByHand { already_panicking: bool },
    /// The call runs: whatever drops the permit now is its panic.
    Running,
    /// The call waits: whatever drops the permit now gives it up.
    Idle,
}

impl CallPermit<'_> {
    /// The call succeeded.
    pub fn success(self) {
        self.end(Verdict::Success);
    }

    /// The call failed.
    pub fn failure(self) {
        self.end(Verdict::Failure);
    }

    fn end(mut self, verdict: Verdict) {
        self.give_back(verdict);
    }

    fn give_back(&mut self, verdict: Verdict) {
        let Some(permit) = self.permit.take() else { return };
        let outcome = match verdict {
            Verdict::Success => Outcome::Success,
            Verdict::Failure => Outcome::Failure,
            Verdict::Nothing => return self.breaker.core.release(permit),
        };
        self.breaker.tell(self.breaker.core.record(permit, outcome, now(), &mut dice()));
    }
}

impl Drop for CallPermit<'_> {
    fn drop(&mut self) {
        let panicked = match self.watch {
            Watch::ByHand { already_panicking } => !already_panicking && std::thread::panicking(),
            Watch::Running => true,
            Watch::Idle => false,
        };
        self.give_back(if panicked { Verdict::Failure } else { Verdict::Nothing });
    }
}
