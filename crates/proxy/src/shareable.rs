//! GETs whose answer may be one for everybody: which they are, the key that says which are the same, and the copy of an answer on its
//! way. What is done with it is in `kept.rs` (the last good answer) and `coalesce.rs` (requests that wait for one answer).
//!
//! What may be kept and for how long is the codec's (`shared_cache.rs`). Clusters without either policy pay one look per request.
//! With one a request costs its key, an answer that may be kept a copy of its body, up to the bound for one.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use meshwright_codec::{Lifetime, is_conditional, is_shareable, lifetime, takes_kept};
use meshwright_message::{BodyLength, HeaderList, HeaderName, Method, ResponseHead, Scheme};
use meshwright_snapshot::{Action, Forward, SharedAnswers, WeightedCluster};
use meshwright_traffic::KeptAnswer;
use meshwright_wire::Protocol;

use crate::coalesce::{self, Leader};
use crate::connection::{After, Connection};
use crate::exchange::Exchange;
use crate::view::WorkerCluster;
use crate::{kept, own_answer, rate, respond};

/// What a request has to do with answers that are for everybody.
pub(crate) struct Shareable {
    pub(crate) cluster: Rc<WorkerCluster>,
    /// Scheme and authority of the client, authority and target that the service gets.
    pub(crate) key: Vec<u8>,
    pub(crate) purpose: Purpose,
    /// The client takes an answer that was kept.
    pub(crate) takes_kept: bool,
    /// The client wants to know whether it has the answer already.
    pub(crate) is_conditional: bool,
    /// Index of the destination that was chosen, whose changes of the head a kept answer gets too.
    destination: usize,
    /// Others wait for the answer, or may.
    pub(crate) leader: Option<Leader>,
    /// An answer whose body will be copied.
    copied: Option<Box<Copied>>,
    /// What is given instead of an answer of the service.
    pub(crate) found: Option<Arc<KeptAnswer>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Its answer may be one for everybody.
    Share,
    /// It may change what is answered (RFC 9111, section 4.4).
    Invalidate,
}

/// An answer on its way, and who gets it.
struct Copied {
    cluster: Rc<WorkerCluster>,
    key: Vec<u8>,
    leader: Option<Leader>,
    fields: Vec<(Vec<u8>, Vec<u8>)>,
    life: Lifetime,
    at: Instant,
}

impl WorkerCluster {
    pub(crate) fn shared_answers(&self) -> Option<&SharedAnswers> {
        self.cluster.shared_answers.as_ref()
    }
}

/// Looks at the request as the client sent it.
pub(crate) fn begin(exchange: &mut Exchange, cluster: &Rc<WorkerCluster>, forward: &Forward, chosen: &WeightedCluster) {
    if cluster.shared_answers().is_none() {
        return;
    }
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
    exchange.shareable = Some(Box::new(Shareable {
        cluster: Rc::clone(cluster),
        key,
        purpose,
        takes_kept: takes_kept(request),
        is_conditional: is_conditional(request),
        destination: forward.destinations.iter().position(|one| std::ptr::eq(one, chosen)).unwrap_or(0),
        leader: None,
        copied: None,
        found: None,
    }));
}

/// Looks at the request as the service gets it: the route may have changed it.
pub(crate) fn rewritten(exchange: &mut Exchange) {
    let Some(shareable) = &mut exchange.shareable else { return };
    let request = &exchange.request;
    if shareable.purpose == Purpose::Share && !is_shareable(request) {
        exchange.shareable = None;
        return;
    }
    // Neither has a space in it.
    for part in [&request.authority, &request.target] {
        shareable.key.push(b' ');
        shareable.key.extend_from_slice(part.as_bytes());
    }
}

/// Looks at the head of the answer as the service gave it.
pub(crate) fn judge(connection: &Connection, exchange: &mut Exchange, response: &ResponseHead) {
    let is_stream = exchange.upstream.as_ref().is_some_and(|lease| lease.protocol() == Protocol::Http2);
    let Some(shareable) = &mut exchange.shareable else { return };
    let cluster = Rc::clone(&shareable.cluster);
    // What another destination answers is no answer of the service.
    let Some(shared) = cluster.shared_answers().filter(|_| !exchange.fell_back) else { return };
    if shareable.purpose == Purpose::Invalidate {
        if (200..400).contains(&response.status) {
            shared.last_good.iter().for_each(|of| of.answers.remove(&*shareable.key));
            shared.coalescing.iter().for_each(|of| of.coalescer.detach(&*shareable.key));
        }
        return;
    }
    let leader = shareable.leader.take();
    let at = exchange.answered_at.unwrap_or_else(Instant::now);
    if response.status == 304 {
        let refreshed = shared.last_good.iter();
        return refreshed.for_each(|of| kept::refresh(connection, of, &shareable.key, response, at));
    }
    // The end of a body that ends with its connection is no proof that it is whole.
    let shows_its_end = is_stream || response.body != BodyLength::UntilClose;
    let most = most(shared, leader.is_some()) as u64;
    let fits = most > 0 && !matches!(response.body, BodyLength::Sized(length) if length > most);
    match lifetime(response, connection.worker.clock.wall(at)) {
        Some(life) if shows_its_end && fits => {
            let (key, fields) = (std::mem::take(&mut shareable.key), fields(connection, response, at));
            shareable.copied = Some(Box::new(Copied { cluster, key, leader, fields, life, at }));
        }
        // What the service says now is no answer for everybody, or none any more.
        _ if response.status < 500 && !matches!(response.status, 408 | 429) => {
            shared.last_good.iter().for_each(|of| of.answers.remove(&*shareable.key));
        }
        _ => {}
    }
}

/// Bytes of a body that somebody has a use for.
fn most(shared: &SharedAnswers, is_led: bool) -> u32 {
    let of_last_good = shared.last_good.as_ref().map(|of| of.policy.max_answer_bytes);
    let of_coalescing = shared.coalescing.as_ref().filter(|_| is_led).map(|of| of.policy.max_answer_bytes);
    of_last_good.max(of_coalescing).unwrap_or_default()
}

/// The fields of a head that are kept: `Age` and framing are written anew, and a `Date` is always there.
pub(crate) fn fields(connection: &Connection, head: &ResponseHead, at: Instant) -> Vec<(Vec<u8>, Vec<u8>)> {
    let stays = |name: &[u8]| !name.eq_ignore_ascii_case(b"age") && !name.eq_ignore_ascii_case(b"content-length");
    let fields = head.headers.iter().filter(|(_, name, _)| stays(name));
    let mut fields: Vec<_> = fields.map(|(_, name, value)| (name.to_vec(), value.to_vec())).collect();
    if !head.headers.has(HeaderName::Date) {
        fields.push((b"date".to_vec(), connection.worker.clock.http_date(at, <[u8]>::to_vec)));
    }
    fields
}

/// Lets the body be copied on its way down, where somebody has a use for it.
pub(crate) fn copy(exchange: &mut Exchange) {
    let (Some(shareable), Some(relay)) = (&mut exchange.shareable, &mut exchange.relay) else { return };
    let Some(copied) = shareable.copied.take() else { return };
    let most = copied.cluster.shared_answers().map_or(0, |shared| most(shared, copied.leader.is_some()));
    // When the exchange is broken off, the leader is dropped with this.
    relay.download.keep_copy(most as usize, Box::new(move |body| copied.came(body)));
}

impl Copied {
    /// The end of the body came; `None` when it was longer than is kept, or had trailers.
    fn came(self, body: Option<Vec<u8>>) {
        let Some(shared) = self.cluster.shared_answers() else { return };
        let Some(body) = body else {
            // What was kept before is no longer the last good answer.
            return shared.last_good.iter().for_each(|of| of.answers.remove(&*self.key));
        };
        let answer = KeptAnswer { fields: self.fields, body: Arc::new(body), age: self.life.age, at: self.at };
        let answer = Arc::new(answer);
        if let Some(of) = &shared.last_good {
            kept::put(of, &self.key, &answer, &self.life);
        }
        if let (Some(leader), Some(of)) = (self.leader, &shared.coalescing) {
            coalesce::land(leader, of, answer, &self.life);
        }
    }
}

/// Nobody waits any longer for what comes of this request.
pub(crate) fn release(exchange: &mut Exchange) {
    if let Some(shareable) = &mut exchange.shareable {
        shareable.leader = None;
    }
}

/// Gives the answer that was found, changed as route and destination say, with what `mark` adds; `None` when there is none.
pub(crate) async fn give(
    connection: &mut Connection,
    exchange: &mut Exchange,
    details: &'static str,
    mark: fn(&mut HeaderList),
) -> Option<After> {
    let shareable = exchange.shareable.as_mut()?;
    let answer = shareable.found.take()?;
    let destination = shareable.destination;
    exchange.record.status = 200;
    exchange.record.details = details;
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
        mark(&mut head.headers);
    }
    rate::tell(connection, exchange);
    Some(own_answer::send(connection, exchange, &answer.body, false).await)
}
