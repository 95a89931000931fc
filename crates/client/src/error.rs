//! What can go wrong with a registry.

/// Why a registry did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The address of a registry is none.
    #[error("{address:?} is not the address of a registry: {reason}")]
    Address {
        /// As it was given.
        address: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Nobody answers, or the connection broke off. Asking again may help.
    #[error("no registry answers at {address}: {reason}")]
    Unreachable {
        /// Where it was looked for last.
        address: String,
        /// What happened.
        reason: String,
    },
    /// It answered, and not with yes. With 5xx asking again may help.
    #[error("the registry refuses ({status}): {detail}")]
    Refused {
        /// Status of HTTP.
        status: u16,
        /// Its sentence.
        detail: String,
    },
    /// It answered with something that is no answer of a registry.
    #[error("the answer is not what a registry gives: {0}")]
    Broken(String),
    /// The registration was closed before.
    #[error("this registration is closed")]
    Closed,
}

impl Error {
    /// Whether the same question may be answered a moment later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { status, .. } => *status >= 500 || *status == 429,
            Self::Address { .. } | Self::Broken(_) | Self::Closed => false,
        }
    }
}
