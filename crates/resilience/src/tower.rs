//! Layers for tower services: a breaker, or a whole policy; those by key are in `tower/keyed.rs`. A request that may be sent more than once is cloned, and so is
//! the service, as tower's own retry does. Read next: `policy.rs`.

mod keyed;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower_layer::Layer;
use tower_service::Service;

use crate::{CircuitBreaker, Error, Policy};

pub use keyed::{CoalesceLayer, KeyedService, LastGoodLayer};

type Plain<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;
type Boxed<T, E> = Plain<T, Error<E>>;
type IsFailure<T, E> = Arc<dyn Fn(&Result<T, E>) -> bool + Send + Sync>;

/// Puts a circuit breaker around a service. The breaker is asked before the service is asked whether it is ready.
pub struct CircuitBreakerLayer<T, E> {
    breaker: Arc<CircuitBreaker>,
    is_failure: IsFailure<T, E>,
}

impl<T: 'static, E: 'static> CircuitBreakerLayer<T, E> {
    /// Every error is a failure.
    pub fn new(breaker: impl Into<Arc<CircuitBreaker>>) -> Self {
        Self { breaker: breaker.into(), is_failure: Arc::new(Result::is_err) }
    }

    /// Says what counts as a failure, such as a response with a 5xx status.
    #[must_use]
    pub fn with_failures(mut self, is_failure: impl Fn(&Result<T, E>) -> bool + Send + Sync + 'static) -> Self {
        self.is_failure = Arc::new(is_failure);
        self
    }
}

impl<T, E> Clone for CircuitBreakerLayer<T, E> {
    fn clone(&self) -> Self {
        Self { breaker: Arc::clone(&self.breaker), is_failure: Arc::clone(&self.is_failure) }
    }
}

impl<S, T, E> Layer<S> for CircuitBreakerLayer<T, E> {
    type Service = CircuitBreakerService<S, T, E>;

    fn layer(&self, inner: S) -> Self::Service {
        CircuitBreakerService { inner, layer: self.clone() }
    }
}

/// A service behind a circuit breaker. See [`CircuitBreakerLayer`].
pub struct CircuitBreakerService<S, T, E> {
    inner: S,
    layer: CircuitBreakerLayer<T, E>,
}

impl<S: Clone, T, E> Clone for CircuitBreakerService<S, T, E> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), layer: self.layer.clone() }
    }
}

impl<S, Request> Service<Request> for CircuitBreakerService<S, S::Response, S::Error>
where
    S: Service<Request> + Clone + Send + 'static,
    S::Future: Send,
    S::Response: Send + 'static,
    S::Error: Send + 'static,
    Request: Send + 'static,
{
    type Response = S::Response;
    type Error = Error<S::Error>;
    type Future = Boxed<S::Response, S::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let (service, layer) = (self.inner.clone(), self.layer.clone());
        Box::pin(
            async move { layer.breaker.call_with(send(service, request), |result| (layer.is_failure)(result)).await },
        )
    }
}

/// Puts a whole [`Policy`] around a service.
pub struct PolicyLayer<T, E> {
    policy: Policy<T, E>,
}

impl<T, E> PolicyLayer<T, E> {
    /// A layer of that policy.
    pub fn new(policy: Policy<T, E>) -> Self {
        Self { policy }
    }
}

impl<T, E> Clone for PolicyLayer<T, E> {
    fn clone(&self) -> Self {
        Self { policy: self.policy.clone() }
    }
}

impl<S, T, E> Layer<S> for PolicyLayer<T, E> {
    type Service = PolicyService<S, T, E>;

    fn layer(&self, inner: S) -> Self::Service {
        PolicyService { inner, policy: self.policy.clone() }
    }
}

/// A service within a [`Policy`]. See [`PolicyLayer`].
pub struct PolicyService<S, T, E> {
    inner: S,
    policy: Policy<T, E>,
}

impl<S: Clone, T, E> Clone for PolicyService<S, T, E> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), policy: self.policy.clone() }
    }
}

impl<S, Request> Service<Request> for PolicyService<S, S::Response, S::Error>
where
    S: Service<Request> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Response: Send + 'static,
    S::Error: Send + 'static,
    Request: Clone + Send + Sync + 'static,
{
    type Response = S::Response;
    type Error = Error<S::Error>;
    type Future = Boxed<S::Response, S::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let (service, policy) = (self.inner.clone(), self.policy.clone());
        Box::pin(async move { policy.call(|| send(service.clone(), request.clone())).await })
    }
}

/// Waits until the service is ready and calls it.
async fn send<S: Service<Request>, Request>(mut service: S, request: Request) -> Result<S::Response, S::Error> {
    std::future::poll_fn(|cx| service.poll_ready(cx)).await?;
    service.call(request).await
}
