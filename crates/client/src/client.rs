//! A registry as a program sees it. What happens afterwards is in `registered.rs` and `discovery.rs`.

use std::fmt;
use std::sync::Arc;

use hyper::Method;

use crate::discovery::{self, Discovery, Query};
use crate::line::{Ask, Line, Registry};
use crate::registered::Registered;
use crate::{Error, Instance, Registration};

/// A registry. Cheap to clone; opens no connection before it is asked something.
#[derive(Clone)]
pub struct Client {
    registry: Arc<Registry>,
}

impl Client {
    /// The registry at `urls`: `http://host:port`, or several of one registry separated by commas, which are tried in turn.
    /// Without a port it is 15000, without a scheme `http`.
    ///
    /// # Errors
    /// One of them is no address.
    pub fn new(urls: &str) -> Result<Self, Error> {
        Registry::new(urls).map(|registry| Self { registry: Arc::new(registry) })
    }

    /// The same with a token, which goes with every request.
    ///
    /// # Errors
    /// It has characters that no header may have.
    pub fn with_token(self, token: &str) -> Result<Self, Error> {
        let registry = self.own().with_token(token)?;
        Ok(Self { registry: Arc::new(registry) })
    }

    /// The same for another namespace than `default`.
    #[must_use]
    pub fn with_namespace(self, namespace: &str) -> Self {
        let mut registry = self.own();
        namespace.clone_into(&mut registry.namespace);
        Self { registry: Arc::new(registry) }
    }

    fn own(&self) -> Registry {
        Registry::clone(&self.registry)
    }

    /// Registers an instance and keeps it registered until the answer is dropped or closed.
    ///
    /// # Errors
    /// The registry cannot be reached, or refuses.
    pub async fn register(&self, registration: Registration) -> Result<Registered, Error> {
        Registered::now(Arc::clone(&self.registry), registration).await
    }

    /// Registers an instance in the background, for as long as that takes: for a service that must start while the registry
    /// is away. [`Registered::standing`] says how it goes.
    pub fn register_in_background(&self, registration: Registration) -> Registered {
        Registered::soon(Arc::clone(&self.registry), registration)
    }

    /// The instances that fit, with every change from now on. A name of a service is a query for its healthy instances.
    ///
    /// # Errors
    /// The registry cannot be reached, or refuses. Later on neither ends anything: the last instances stay.
    pub async fn discover(&self, query: impl Into<Query>) -> Result<Discovery, Error> {
        Discovery::start(Arc::clone(&self.registry), query.into()).await
    }

    /// The instances that fit, once.
    ///
    /// # Errors
    /// The registry cannot be reached, or refuses.
    pub async fn instances(&self, query: impl Into<Query>) -> Result<Vec<Instance>, Error> {
        let target = query.into().target(&self.registry.namespace);
        let answer = Line::new(Arc::clone(&self.registry)).ask(&Ask::new(Method::GET, target)).await?;
        discovery::instances(&answer)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (addresses, namespace) = (self.registry.addresses(), &self.registry.namespace);
        f.debug_struct("Client").field("addresses", &addresses).field("namespace", namespace).finish_non_exhaustive()
    }
}
