//! Identical GETs that come while one is on its way wait for its answer, where the cluster wants that and the answer is one for
//! everybody; else each is sent itself, all at once.
//!
//! Who leads and who follows is `traffic`'s (`coalesce.rs`), which requests are identical is in `shareable.rs`. A request costs a short
//! lock when it comes, one that leads another when its answer is whole. One that waits holds its connection and its head, and no place
//! of a limit, a breaker or a budget. Read next: `forward.rs`.

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use meshwright_codec::Lifetime;
use meshwright_message::HeaderList;
use meshwright_model::{Failure, FailureKind, Stage};
use meshwright_snapshot::CoalescedRequests;
use meshwright_telemetry::ClusterCounter;
use meshwright_traffic::{KeptAnswer, Turn};

use crate::again;
use crate::connection::{After, Connection};
use crate::exchange::Exchange;
use crate::forward::Tries;
use crate::shareable::{self, Purpose};

/// A request that others may wait for.
pub(crate) type Leader = meshwright_traffic::Leader<Arc<[u8]>, Arc<KeptAnswer>>;
/// A request that waits.
pub(crate) type Follower = meshwright_traffic::Follower<Arc<[u8]>, Arc<KeptAnswer>>;

/// What an answer says that came of another request (RFC 9211, section 2.6).
const COLLAPSED: &[u8] = b"meshwright; fwd=miss; collapsed";

/// Takes part, where the request can: it is followed from now on, or has somebody to follow.
pub(crate) fn join(exchange: &mut Exchange) -> Option<Follower> {
    let shareable = exchange.shareable.as_mut()?;
    let of = shareable.cluster.shared_answers()?.coalescing.as_ref()?;
    if shareable.purpose != Purpose::Share || !shareable.takes_kept || shareable.is_conditional {
        return None;
    }
    let now = Instant::now();
    let turn = of.coalescer.join(shareable.key.as_slice().into(), now, now.checked_add(of.policy.timeout));
    let counter = match turn {
        Turn::Follow(follower) => return Some(follower),
        Turn::Lead(leader) => {
            shareable.leader = Some(leader);
            ClusterCounter::CoalescingLeaders
        }
        Turn::Alone => ClusterCounter::CoalescingOverflow,
    };
    shareable.cluster.metrics.count(counter);
    None
}

/// Waits for the answer of the request that is under way, which is held until it is given; false when the request has to be sent
/// itself, from the start and with the time that is left.
pub(crate) async fn wait(
    connection: &mut Connection,
    exchange: &mut Exchange,
    follower: Follower,
    tries: &mut Tries<'_>,
) -> Result<bool, Failure> {
    let over = exchange.relay.as_ref().and_then(|relay| relay.deadlines.route);
    let until = follower.until().into_iter().chain(over).min();
    let answer = {
        let mut timer = pin!(async {
            match until {
                Some(until) => tokio::time::sleep_until(until.into()).await,
                None => std::future::pending().await,
            }
        });
        let mut follower = pin!(follower);
        let Connection { side, worker, .. } = connection;
        std::future::poll_fn(|cx| {
            if let std::task::Poll::Ready(answer) = follower.as_mut().poll(cx) {
                return std::task::Poll::Ready(Ok(answer));
            }
            if timer.as_mut().poll(cx).is_ready() {
                return std::task::Poll::Ready(Ok(None));
            }
            let gone = |cause| Err(Failure::new(Stage::Forward, FailureKind::DownstreamClosed).because(cause));
            side.poll_gone(cx, &worker.buffers).map(gone)
        })
        .await?
    };
    let Some(shareable) = &mut exchange.shareable else { return Ok(false) };
    let metrics = &shareable.cluster.metrics;
    let now = Instant::now();
    if answer.is_some() {
        metrics.count(ClusterCounter::CoalescingFollowers);
        shareable.found = answer;
        return Ok(true);
    }
    if over.is_some_and(|over| now >= over) {
        metrics.count(ClusterCounter::UpstreamRqTimeout);
        return Err(Failure::new(Stage::Forward, FailureKind::Timeout)
            .because("the identical request that it waited for had no answer in time"));
    }
    metrics.count(ClusterCounter::CoalescingReleased);
    tries.began = now;
    again::start_again(exchange, tries);
    Ok(false)
}

/// The answer of a request that leads is whole: those who wait get it, where it is short enough and not stale already.
pub(crate) fn land(leader: Leader, of: &CoalescedRequests, answer: Arc<KeptAnswer>, life: &Lifetime) {
    let is_short = answer.body.len() <= of.policy.max_answer_bytes as usize;
    if is_short && life.is_fresh_after(answer.at.elapsed()) {
        leader.land(answer);
    }
}

/// Gives the answer of the other request.
pub(crate) async fn respond(connection: &mut Connection, exchange: &mut Exchange) -> After {
    let mark = |headers: &mut HeaderList| headers.push(b"cache-status", COLLAPSED);
    shareable::give(connection, exchange, "coalesced", mark).await.unwrap_or(After::Abort)
}
