//! How a guarded call may fail: by itself, or because it was refused or cut off. Read next: `policy.rs`.

use std::sync::Arc;
use std::time::Duration;

use meshwright_traffic::BreakerRefusal;

/// The error of a guarded call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error<E> {
    /// The call was made and failed with its own error.
    #[error("{0}")]
    Inner(#[source] E),
    /// A circuit breaker refused the call.
    #[error("{breaker}: {refusal}")]
    Open {
        /// Name of the breaker.
        breaker: Arc<str>,
        /// Why, and until when.
        refusal: BreakerRefusal,
    },
    /// The call, or all its tries together, took too long and was dropped.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// A rate limit refused the call.
    #[error("rate limit reached, {retry_after:?} until the next call")]
    RateLimited {
        /// Time until a call may pass.
        retry_after: Duration,
    },
    /// A bulkhead had no place for the call.
    #[error("bulkhead is full")]
    BulkheadFull,
    /// An adaptive limit had no place for the call.
    #[error("concurrency limit reached")]
    Overloaded,
}

impl<E> Error<E> {
    /// The call was not made: it says nothing about what would have been called.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Inner(_) | Self::Timeout(_) => false,
            Self::Open { .. } | Self::RateLimited { .. } | Self::BulkheadFull | Self::Overloaded => true,
        }
    }

    /// When a call is likely to be let through, where that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Open { refusal: BreakerRefusal::Open { retry_after }, .. } | Self::RateLimited { retry_after } => {
                Some(*retry_after)
            }
            _ => None,
        }
    }

    /// The call's own error, when it was made and failed.
    pub fn into_inner(self) -> Option<E> {
        match self {
            Self::Inner(error) => Some(error),
            _ => None,
        }
    }
}
