//! The last good answer of a service as what stands in for a failure: which answers are kept, which are found, how one is given.
//!
//! What may be kept and for how long is the codec's (`shared_cache.rs`), what goes when there is no room is `traffic`'s (`kept.rs`).
//! Clusters without the policy pay one look per request. With it a request costs its key, a good answer a copy of its body, up to the
//! bound for one, and a short lock. Read next: `fallback.rs`.

use std::sync::Arc;
use std::time::Instant;

use meshwright_codec::{Lifetime, freshened, is_about, is_shareable, lifetime, takes_kept};
use meshwright_message::{BodyLength, HeaderName, Method, ResponseHead, Scheme};
use meshwright_model::LastGood;
use meshwright_snapshot::{Action, Forward, WeightedCluster};
use meshwright_telemetry::ClusterCounter;
use meshwright_traffic::{KeptAnswer, KeptAnswers};
use meshwright_wire::Protocol;

use crate::connection::{After, Connection};
use crate::exchange::Exchange;
use crate::view::WorkerCluster;
use crate::{fallback, own_answer, respond};

/// What a request has to do with answers that are kept.
pub(crate) struct Keeping {
    answers: Arc<KeptAnswers>,
    /// Scheme and authority of the client, authority and target that the service gets.
    key: Vec<u8>,
    purpose: Purpose,
    takes_kept: bool,
    /// Index of the destination that was chosen, whose changes of the head a kept answer gets too.
    destination: usize,
    /// The head of an answer whose body is being copied.
    copied: Option<Box<Copied>>,
    /// What stands in.
    found: Option<Arc<KeptAnswer>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Its answer may be one for everybody.
    Share,
    /// It may change what is answered (RFC 9111, section 4.4).
    Invalidate,
}

struct Copied {
    fields: Vec<(Vec<u8>, Vec<u8>)>,
    life: Lifetime,
    at: Instant,
}

/// Looks at the request as the client sent it.
pub(crate) fn begin(exchange: &mut Exchange, cluster: &WorkerCluster, forward: &Forward, chosen: &WeightedCluster) {
    let Some(answers) = &cluster.cluster.last_good else { return };
    let request = &exchange.request;
    let is_safe = matches!(request.method, Method::Get | Method::Head | Method::Options | Method::Trace);
    let purpose = match is_shareable(request) {
        true if !exchange.is_grpc => Purpose::Share,
        _ if is_safe => return,
        _ => Purpose::Invalidate,
    };
    let mut key = Vec::with_capacity(2 * request.authority.len() + request.target.len() + 8);
    key.push(if request.scheme == Scheme::Https { b's' } else { b'p' });
    key.extend_from_slice(request.authority.to_ascii_lowercase().as_bytes());
    exchange.keeping = Some(Box::new(Keeping {
        answers: Arc::clone(answers),
        key,
        purpose,
        takes_kept: takes_kept(request),
        destination: forward.destinations.iter().position(|one| std::ptr::eq(one, chosen)).unwrap_or(0),
        copied: None,
        found: None,
    }));
}

/// Looks at the request as the service gets it: the route may have changed it.
pub(crate) fn rewritten(exchange: &mut Exchange) {
    let Some(keeping) = &mut exchange.keeping else { return };
    let request = &exchange.request;
    if keeping.purpose == Purpose::Share && !is_shareable(request) {
        exchange.keeping = None;
        return;
    }
    // Neither has a space in it.
    for part in [&request.authority, &request.target] {
        keeping.key.push(b' ');
        keeping.key.extend_from_slice(part.as_bytes());
    }
}

/// Looks at the head of the answer as the service gave it.
pub(crate) fn judge(connection: &Connection, exchange: &mut Exchange, response: &ResponseHead) {
    let is_stream = exchange.upstream.as_ref().is_some_and(|lease| lease.protocol() == Protocol::Http2);
    let Some(keeping) = &mut exchange.keeping else { return };
    if exchange.fell_back {
        return;
    }
    if keeping.purpose == Purpose::Invalidate {
        if (200..400).contains(&response.status) {
            keeping.answers.remove(&*keeping.key);
        }
        return;
    }
    let Some(last_good) = exchange.record.cluster.as_ref().and_then(|cluster| policy(cluster)) else { return };
    let at = exchange.answered_at.unwrap_or_else(Instant::now);
    if response.status == 304 {
        return refresh(connection, keeping, last_good, response, at);
    }
    // The end of a body that ends with its connection is no proof that it is whole.
    let shows_its_end = is_stream || response.body != BodyLength::UntilClose;
    let fits = !matches!(response.body, BodyLength::Sized(length) if length > last_good.max_answer_bytes.into());
    match lifetime(response, connection.worker.clock.wall(at)) {
        Some(life) if shows_its_end && fits => {
            keeping.copied = Some(Box::new(Copied { fields: fields(connection, response, at), life, at }));
        }
        // What the service says now is no answer for everybody, or none any more.
        _ if response.status < 500 && !matches!(response.status, 408 | 429) => {
            keeping.answers.remove(&*keeping.key);
        }
        _ => {}
    }
}

fn policy(cluster: &WorkerCluster) -> Option<&LastGood> {
    cluster.cluster.fallback.as_ref()?.last_good.as_ref()
}

/// The fields of a head that are kept: `Age` and framing are written anew, and a `Date` is always there.
fn fields(connection: &Connection, head: &ResponseHead, at: Instant) -> Vec<(Vec<u8>, Vec<u8>)> {
    let stays = |name: &[u8]| !name.eq_ignore_ascii_case(b"age") && !name.eq_ignore_ascii_case(b"content-length");
    let fields = head.headers.iter().filter(|(_, name, _)| stays(name));
    let mut fields: Vec<_> = fields.map(|(_, name, value)| (name.to_vec(), value.to_vec())).collect();
    if !head.headers.has(HeaderName::Date) {
        fields.push((b"date".to_vec(), connection.worker.clock.http_date(at, <[u8]>::to_vec)));
    }
    fields
}

/// The service says that the answer which the client has is good still: where that is the one that is kept, by its validator, it is
/// as good as new.
fn refresh(connection: &Connection, keeping: &Keeping, of: &LastGood, not_modified: &ResponseHead, at: Instant) {
    let Some(kept) = keeping.answers.find(&*keeping.key, at) else { return };
    if !is_about(not_modified, &kept.fields) {
        return;
    }
    let head = freshened(&kept.fields, not_modified);
    match lifetime(&head, connection.worker.clock.wall(at)) {
        Some(life) => put(keeping, of, fields(connection, &head, at), Arc::clone(&kept.body), (life, at)),
        None => keeping.answers.remove(&*keeping.key),
    }
}

/// Keeps an answer that came then, where it may ever be used.
fn put(
    keeping: &Keeping,
    of: &LastGood,
    fields: Vec<(Vec<u8>, Vec<u8>)>,
    body: Arc<Vec<u8>>,
    (life, at): (Lifetime, Instant),
) {
    let usable = life.in_errors(of.stale_if_error);
    if usable.is_zero() {
        return keeping.answers.remove(&*keeping.key);
    }
    let answer = KeptAnswer { fields, body, age: life.age, at };
    let size = answer.size(&keeping.key);
    keeping.answers.keep(keeping.key.as_slice().into(), Arc::new(answer), size, at.checked_add(usable));
}

/// Lets the body be copied on its way down, where the answer may be kept.
pub(crate) fn copy(exchange: &mut Exchange) {
    if let (Some(keeping), Some(relay)) = (&exchange.keeping, &mut exchange.relay)
        && keeping.copied.is_some()
        && let Some(last_good) = exchange.record.cluster.as_ref().and_then(|cluster| policy(cluster))
    {
        relay.download.keep_copy(last_good.max_answer_bytes as usize);
    }
}

/// Keeps the answer that was handed on whole.
pub(crate) fn keep(exchange: &mut Exchange) {
    let (Some(keeping), Some(relay)) = (&mut exchange.keeping, &mut exchange.relay) else { return };
    let Some(copied) = keeping.copied.take() else { return };
    let Some(last_good) = exchange.record.cluster.as_ref().and_then(|cluster| policy(cluster)) else { return };
    match relay.download.take_copy() {
        Some(body) if relay.download.has_ended() && relay.download.trailers().is_none() => {
            let Copied { fields, life, at } = *copied;
            put(keeping, last_good, fields, Arc::new(body), (life, at));
        }
        // Longer than is kept, or with trailers: what was kept before is no longer the last good answer.
        _ => keeping.answers.remove(&*keeping.key),
    }
}

/// Whether there is an answer that can stand in; it is held until it is given.
pub(crate) fn find(exchange: &mut Exchange) -> bool {
    let Some(keeping) = &mut exchange.keeping else { return false };
    if keeping.purpose == Purpose::Share && keeping.takes_kept {
        keeping.found = keeping.answers.find(&*keeping.key, Instant::now());
    }
    keeping.found.is_some()
}

/// Whether one was found.
pub(crate) fn is_found(exchange: &Exchange) -> bool {
    exchange.keeping.as_ref().is_some_and(|keeping| keeping.found.is_some())
}

/// Gives the answer that was found, changed as route and destination say; `None` when there is none.
pub(crate) async fn respond(
    connection: &mut Connection,
    exchange: &mut Exchange,
    cluster: &WorkerCluster,
) -> Option<After> {
    let keeping = exchange.keeping.as_mut()?;
    let answer = keeping.found.take()?;
    let destination = keeping.destination;
    cluster.metrics.count(ClusterCounter::FallbackLastGood);
    exchange.record.status = 200;
    exchange.record.details = "fallback_last_good";
    {
        let head = &mut *connection.worker.response.borrow_mut();
        head.become_local(200, None, answer.body.len());
        for (name, value) in &answer.fields {
            head.headers.push(name, value);
        }
        let age = answer.age_at(Instant::now()).as_secs();
        head.headers.set("age", age.to_string().as_bytes());
        if let (Some(listener), Some((host, rule, _))) = (&exchange.record.listener, exchange.record.route) {
            let route = &listener.listener.virtual_hosts[host as usize].routes[rule as usize];
            respond::change_response(head, &route.headers);
            if let Action::Forward(forward) = &route.action
                && let Some(of) = forward.destinations.get(destination)
            {
                respond::change_response(head, &of.headers);
            }
        }
        head.headers.set(fallback::MARK, b"last-good");
    }
    Some(own_answer::send(connection, exchange, &answer.body, false).await)
}
