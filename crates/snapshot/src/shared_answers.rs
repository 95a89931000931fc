//! What a cluster does with answers that are for everybody: the last good ones are kept, and identical requests wait for one answer.
//!
//! What of it is live goes over to the next snapshot as long as its policy is the same. Which answers are for everybody is decided in
//! `meshwright-codec` (`shared_cache.rs`). Read next: `crates/proxy/src/shareable.rs`.

use std::sync::Arc;

use meshwright_model::{Coalescing, LastGood, ResilienceSettings};
use meshwright_traffic::{CoalesceBounds, Coalescer, KeptAnswer, KeptAnswers, KeptBounds};

/// Identical requests that are under way.
pub type RequestCoalescer = Coalescer<Arc<[u8]>, Arc<KeptAnswer>>;

/// What is done with answers for everybody; at least one of both.
#[derive(Clone, Debug)]
pub struct SharedAnswers {
    /// Answers that are kept for the fallback; `None` keeps none.
    pub last_good: Option<LastGoodAnswers>,
    /// Requests that wait for the answer of another; `None` lets none wait.
    pub coalescing: Option<CoalescedRequests>,
}

/// The answers that are kept.
#[derive(Clone, Debug)]
pub struct LastGoodAnswers {
    /// Where they are.
    pub answers: Arc<KeptAnswers>,
    /// Which and for how long.
    pub policy: LastGood,
}

/// The requests that are waited for.
#[derive(Clone, Debug)]
pub struct CoalescedRequests {
    /// Who leads and who follows.
    pub coalescer: Arc<RequestCoalescer>,
    /// For how long.
    pub policy: Coalescing,
}

impl SharedAnswers {
    /// That of these settings, with what is alive of `previous` where its policy is the same.
    pub(crate) fn of(settings: &ResilienceSettings, previous: Option<&Self>) -> Option<Self> {
        let last_good = settings.fallback.as_ref().and_then(|fallback| fallback.last_good).map(|policy| {
            let before = previous.and_then(|before| before.last_good.as_ref()).filter(|before| before.policy == policy);
            before.cloned().unwrap_or_else(|| LastGoodAnswers::new(policy))
        });
        let coalescing = settings.coalescing.map(|policy| {
            let before =
                previous.and_then(|before| before.coalescing.as_ref()).filter(|before| before.policy == policy);
            before.cloned().unwrap_or_else(|| CoalescedRequests::new(policy))
        });
        (last_good.is_some() || coalescing.is_some()).then_some(Self { last_good, coalescing })
    }
}

impl LastGoodAnswers {
    fn new(policy: LastGood) -> Self {
        let bounds = KeptBounds { entries: policy.max_entries as usize, bytes: policy.max_bytes as usize };
        Self { answers: Arc::new(KeptAnswers::new(bounds)), policy }
    }
}

impl CoalescedRequests {
    fn new(policy: Coalescing) -> Self {
        let bounds = CoalesceBounds { keys: policy.max_keys as usize, waiters: policy.max_waiters };
        Self { coalescer: Arc::new(Coalescer::new(bounds)), policy }
    }
}
