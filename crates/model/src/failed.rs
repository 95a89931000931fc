//! A request that failed: where on its way, with what kind of failure, and the cause in words. What follows from the kind is in
//! `failure.rs`.

use std::borrow::Cow;

use crate::FailureKind;

/// Where on its way a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Reading the request.
    Read,
    /// Finding the route.
    Route,
    /// Policies before forwarding.
    Admit,
    /// Choosing an endpoint, connecting, sending, waiting for the answer.
    Forward,
    /// Handing the answer on.
    Respond,
}

/// A failed request: where, what, and the cause in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Where.
    pub stage: Stage,
    /// What; decides everything.
    pub kind: FailureKind,
    /// What was seen, for people: an operating-system error, a header name. Never decides behaviour.
    pub cause: Option<Cow<'static, str>>,
}

impl Failure {
    /// A failure without a cause in words.
    pub const fn new(stage: Stage, kind: FailureKind) -> Self {
        Self { stage, kind, cause: None }
    }

    /// Adds what was seen.
    pub fn because(mut self, cause: impl Into<Cow<'static, str>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// The reason in one sentence, with the cause.
    pub fn sentence(&self) -> String {
        let reason = self.kind.outcome().reason;
        match &self.cause {
            Some(cause) if cause != reason => format!("{reason}: {cause}"),
            _ => reason.to_owned(),
        }
    }
}
