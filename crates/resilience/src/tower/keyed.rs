//! Layers by key: the last good response, and one call for requests that are the same. The key of a request is the caller's; a
//! request without one only passes through. Read next: `coalesce.rs`.

use std::hash::Hash;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower_layer::Layer;
use tower_service::Service;

use super::{Plain, send};
use crate::{Coalesce, LastGood};

type KeyOf<R, K> = Arc<dyn Fn(&R) -> Option<K> + Send + Sync>;
type Shares<T, E> = Arc<dyn Fn(&Result<T, E>) -> bool + Send + Sync>;
type StandsIn<E> = Arc<dyn Fn(&E) -> bool + Send + Sync>;

/// A service whose requests are told apart by their keys. See [`LastGoodLayer`] and [`CoalesceLayer`].
#[derive(Clone)]
pub struct KeyedService<S, L> {
    inner: S,
    layer: L,
}

/// Puts a [`LastGood`] around a service: for a request that fails the last good response of its key stands in.
pub struct LastGoodLayer<R, K, T, E> {
    last_good: Arc<LastGood<K, T>>,
    key: KeyOf<R, K>,
    stands_in: StandsIn<E>,
}

impl<R, K, T, E: 'static> LastGoodLayer<R, K, T, E> {
    /// Requests of the same key have the same response; nothing is kept for those without one. A response stands in for any error.
    pub fn new(
        last_good: impl Into<Arc<LastGood<K, T>>>,
        key: impl Fn(&R) -> Option<K> + Send + Sync + 'static,
    ) -> Self {
        Self { last_good: last_good.into(), key: Arc::new(key), stands_in: Arc::new(|_| true) }
    }

    /// Says for which errors a response stands in; any other takes it away.
    #[must_use]
    pub fn for_errors(mut self, stands_in: impl Fn(&E) -> bool + Send + Sync + 'static) -> Self {
        self.stands_in = Arc::new(stands_in);
        self
    }
}

impl<R, K, T, E> Clone for LastGoodLayer<R, K, T, E> {
    fn clone(&self) -> Self {
        Self {
            last_good: Arc::clone(&self.last_good),
            key: Arc::clone(&self.key),
            stands_in: Arc::clone(&self.stands_in),
        }
    }
}

impl<S, R, K, T, E> Layer<S> for LastGoodLayer<R, K, T, E> {
    type Service = KeyedService<S, Self>;

    fn layer(&self, inner: S) -> Self::Service {
        KeyedService { inner, layer: self.clone() }
    }
}

impl<S, R, K> Service<R> for KeyedService<S, LastGoodLayer<R, K, S::Response, S::Error>>
where
    S: Service<R> + Clone + Send + 'static,
    S::Future: Send,
    S::Response: Clone + Send + 'static,
    S::Error: Send + 'static,
    R: Send + 'static,
    K: Clone + Eq + Hash + Send + Sync + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Plain<S::Response, S::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> Self::Future {
        let (service, layer) = (self.inner.clone(), self.layer.clone());
        Box::pin(async move {
            match (layer.key)(&request) {
                Some(key) => {
                    let call = send(service, request);
                    layer.last_good.call_when(key, call, |error| (layer.stands_in)(error)).await
                }
                None => send(service, request).await,
            }
        })
    }
}

/// Puts a [`Coalesce`] around a service: of requests with the same key at the same time one is sent, and all get its response.
pub struct CoalesceLayer<R, K, T, E> {
    coalesce: Coalesce<K, Result<T, E>>,
    key: KeyOf<R, K>,
    shares: Shares<T, E>,
}

impl<R, K, T: 'static, E: 'static> CoalesceLayer<R, K, T, E> {
    /// Requests of the same key are the same; those without one are sent alone. Every result is for all, errors too.
    pub fn new(coalesce: Coalesce<K, Result<T, E>>, key: impl Fn(&R) -> Option<K> + Send + Sync + 'static) -> Self {
        Self { coalesce, key: Arc::new(key), shares: Arc::new(|_| true) }
    }

    /// Says which results are for all; for any other each request is sent itself.
    #[must_use]
    pub fn sharing(mut self, shares: impl Fn(&Result<T, E>) -> bool + Send + Sync + 'static) -> Self {
        self.shares = Arc::new(shares);
        self
    }
}

impl<R, K, T, E> Clone for CoalesceLayer<R, K, T, E> {
    fn clone(&self) -> Self {
        Self { coalesce: self.coalesce.clone(), key: Arc::clone(&self.key), shares: Arc::clone(&self.shares) }
    }
}

impl<S, R, K, T, E> Layer<S> for CoalesceLayer<R, K, T, E> {
    type Service = KeyedService<S, Self>;

    fn layer(&self, inner: S) -> Self::Service {
        KeyedService { inner, layer: self.clone() }
    }
}

impl<S, R, K> Service<R> for KeyedService<S, CoalesceLayer<R, K, S::Response, S::Error>>
where
    S: Service<R> + Clone + Send + 'static,
    S::Future: Send,
    S::Response: Clone + Send + 'static,
    S::Error: Clone + Send + 'static,
    R: Send + 'static,
    K: Clone + Eq + Hash + Send + Sync + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Plain<S::Response, S::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> Self::Future {
        let (service, layer) = (self.inner.clone(), self.layer.clone());
        Box::pin(async move {
            match (layer.key)(&request) {
                Some(key) => {
                    let call = || send(service, request);
                    layer.coalesce.call_when(key, call, |result| (layer.shares)(result)).await
                }
                None => send(service, request).await,
            }
        })
    }
}
