//! The last good answer of a service as what stands in for a failure: how one is kept, refreshed, found and given.
//!
//! Which requests and answers have a part in it is in `shareable.rs`, what goes when there is no room is `traffic`'s (`kept.rs`). An
//! answer that is kept or given costs a short lock. Read next: `fallback.rs`.

use std::sync::Arc;
use std::time::Instant;

use meshwright_codec::{Lifetime, freshened, is_about, lifetime};
use meshwright_message::ResponseHead;
use meshwright_snapshot::LastGoodAnswers;
use meshwright_telemetry::ClusterCounter;
use meshwright_traffic::KeptAnswer;

use crate::connection::{After, Connection};
use crate::exchange::Exchange;
use crate::shareable::Purpose;
use crate::view::WorkerCluster;
use crate::{fallback, shareable};

/// Keeps an answer, where it may ever be used; else takes the earlier one away.
pub(crate) fn put(of: &LastGoodAnswers, key: &[u8], answer: &Arc<KeptAnswer>, life: &Lifetime) {
    let usable = life.in_errors(of.policy.stale_if_error);
    if usable.is_zero() || answer.body.len() > of.policy.max_answer_bytes as usize {
        return of.answers.remove(key);
    }
    of.answers.keep(key.into(), Arc::clone(answer), answer.size(key), answer.at.checked_add(usable));
}

/// The service says that the answer which the client has is good still: where that is the one that is kept, by its validator, it is
/// as good as new.
pub(crate) fn refresh(
    connection: &Connection,
    of: &LastGoodAnswers,
    key: &[u8],
    not_modified: &ResponseHead,
    at: Instant,
) {
    let Some(kept) = of.answers.find(key, at) else { return };
    if !is_about(not_modified, &kept.fields) {
        return;
    }
    let head = freshened(&kept.fields, not_modified);
    match lifetime(&head, connection.worker.clock.wall(at)) {
        Some(life) => {
            let fields = shareable::fields(connection, &head, at);
            let answer = KeptAnswer { fields, body: Arc::clone(&kept.body), age: life.age, at };
            put(of, key, &Arc::new(answer), &life);
        }
        None => of.answers.remove(key),
    }
}

/// Whether there is an answer that can stand in; it is held until it is given.
pub(crate) fn find(exchange: &mut Exchange) -> bool {
    let Some(shareable) = &mut exchange.shareable else { return false };
    if shareable.purpose == Purpose::Share
        && shareable.takes_kept
        && let Some(of) = shareable.cluster.shared_answers().and_then(|shared| shared.last_good.as_ref())
    {
        shareable.found = of.answers.find(&*shareable.key, Instant::now());
    }
    shareable.found.is_some()
}

/// Whether one was found.
pub(crate) fn is_found(exchange: &Exchange) -> bool {
    exchange.shareable.as_ref().is_some_and(|shareable| shareable.found.is_some())
}

/// Gives the answer that was found; `None` when there is none.
pub(crate) async fn respond(
    connection: &mut Connection,
    exchange: &mut Exchange,
    cluster: &WorkerCluster,
) -> Option<After> {
    if !is_found(exchange) {
        return None;
    }
    cluster.metrics.count(ClusterCounter::FallbackLastGood);
    let mark = |headers: &mut meshwright_message::HeaderList| headers.set(fallback::MARK, b"last-good");
    shareable::give(connection, exchange, "fallback_last_good", mark).await
}
