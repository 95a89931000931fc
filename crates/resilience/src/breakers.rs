//! Circuit breakers by name, made when they are first asked for. Knows no configuration format. Read next:
//! `settings.rs`.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use meshwright_traffic::{BreakerPolicy, StateChange};

use crate::CircuitBreaker;

type PolicyOf = Box<dyn Fn(&str) -> BreakerPolicy + Send + Sync>;
type Listener = Arc<dyn Fn(&str, StateChange) + Send + Sync>;

/// A breaker for every destination, from one rule.
///
/// ```
/// use meshwright_resilience::{BreakerPolicy, CircuitBreakers};
///
/// let breakers = CircuitBreakers::new(BreakerPolicy::for_service);
/// let users = breakers.named("user-service");
/// assert_eq!(users.policy().probes, 5);
/// assert!(std::sync::Arc::ptr_eq(&users, &breakers.named("user-service")));
/// ```
///
/// Breakers are kept for good, so names must come from the program or its configuration, never from a peer.
pub struct CircuitBreakers {
    policy_of: PolicyOf,
    listener: Option<Listener>,
    /// Held to look a name up, and once per name to insert it.
    breakers: RwLock<HashMap<Arc<str>, Arc<CircuitBreaker>>>,
}

impl CircuitBreakers {
    /// Breakers whose policy follows from their name.
    pub fn new(policy_of: impl Fn(&str) -> BreakerPolicy + Send + Sync + 'static) -> Self {
        Self { policy_of: Box::new(policy_of), listener: None, breakers: RwLock::default() }
    }

    /// Tells `listener` of every change of every breaker that is made from now on.
    #[must_use]
    pub fn on_state_change(mut self, listener: impl Fn(&str, StateChange) + Send + Sync + 'static) -> Self {
        self.listener = Some(Arc::new(listener));
        self
    }

    /// The breaker of that name.
    pub fn named(&self, name: &str) -> Arc<CircuitBreaker> {
        let known = self.breakers.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        if let Some(breaker) = known {
            return breaker;
        }
        let mut breaker = CircuitBreaker::new(name, (self.policy_of)(name));
        if let Some(listener) = self.listener.clone() {
            breaker = breaker.on_state_change(move |name, change| listener(name, change));
        }
        let mut breakers = self.breakers.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(breakers.entry(name.into()).or_insert_with(|| Arc::new(breaker)))
    }

    /// All breakers there are, by name.
    pub fn all(&self) -> Vec<Arc<CircuitBreaker>> {
        let breakers = self.breakers.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = breakers.values().cloned().collect();
        all.sort_by(|a, b| a.name().cmp(b.name()));
        all
    }
}

impl fmt::Debug for CircuitBreakers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all().iter().map(|breaker| breaker.name().to_owned())).finish()
    }
}
