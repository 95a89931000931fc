//! Bulkheads by key, made when they are first asked for: one for each tenant, route or destination. Read next: `bulkhead.rs`.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use crate::Bulkhead;

/// A bulkhead for every key, from one rule: who fills his own takes no place of another.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use meshwright_resilience::{Bulkhead, Bulkheads};
///
/// let bulkheads = Bulkheads::new(|_| Bulkhead::new(5));
/// let users = bulkheads.named("user-service");
/// let call = async { Ok::<_, std::io::Error>("Ada") };
/// assert_eq!(users.call(call).await.unwrap(), "Ada");
/// assert!(std::sync::Arc::ptr_eq(&users, &bulkheads.named("user-service")));
/// # }
/// ```
///
/// Bulkheads are kept for good, so keys must come from the program or its configuration, never from a peer.
pub struct Bulkheads {
    bulkhead_of: Box<dyn Fn(&str) -> Bulkhead + Send + Sync>,
    /// Held to look a key up, and once per key to insert it.
    bulkheads: RwLock<HashMap<Box<str>, Arc<Bulkhead>>>,
}

impl Bulkheads {
    /// Bulkheads that follow from their key.
    pub fn new(bulkhead_of: impl Fn(&str) -> Bulkhead + Send + Sync + 'static) -> Self {
        Self { bulkhead_of: Box::new(bulkhead_of), bulkheads: RwLock::default() }
    }

    /// The bulkhead of that key.
    pub fn named(&self, key: &str) -> Arc<Bulkhead> {
        let known = self.bulkheads.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned();
        known.unwrap_or_else(|| {
            let new = Arc::new((self.bulkhead_of)(key));
            let mut bulkheads = self.bulkheads.write().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(bulkheads.entry(key.into()).or_insert(new))
        })
    }
}

impl fmt::Debug for Bulkheads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bulkheads = self.bulkheads.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_map().entries(bulkheads.iter()).finish()
    }
}
