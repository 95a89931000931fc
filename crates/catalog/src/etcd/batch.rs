//! Proposals on their way through etcd: what is decided about each, which transactions that means, and what is answered.
//!
//! Several changes of one instance in a batch are one part of a transaction with what comes of all of them; what changes nothing is a
//! part that only compares, so that nothing is said on the ground of what is over. A proposal is open until its
//! part was kept; one that met somebody else's change is decided again. It sends nothing: that is `writer.rs`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use meshwright_etcd::{Compare, RequestOp, TxnRequest};
use meshwright_registry::{
    Action, Care, Change, Entry, Expected, InstanceKey, Outcome, Proposal, Reason, Refusal, Registry, Stage,
};
use tokio::sync::oneshot;

use super::layout::Layout;
use super::transaction::{Committed, Part, Transaction, pack};
use crate::StoreError;
use crate::record;
use crate::shared::Shared;
use crate::writer::{Answers, Job};

/// Proposals of several jobs that are decided and committed together.
pub(super) struct Batch {
    items: Vec<Item>,
    /// Where the answers of each job go, and how many there are.
    replies: Vec<(oneshot::Sender<Answers>, usize)>,
    /// What is to be written in this round: the instance, and which proposals wait for it.
    writes: Vec<Write>,
    /// Instances that are evicted.
    evicted: Vec<Arc<Entry>>,
}

struct Item {
    job: usize,
    proposal: Proposal,
    state: State,
    /// What it would have removed when nobody knows whether it did.
    removing: Option<Arc<Entry>>,
}

enum State {
    Open,
    /// This, when the transaction is kept.
    Decided(Result<Outcome, Refusal>),
    Final(Result<Outcome, Refusal>),
    /// Nobody knows whether it was kept, and it cannot be repeated.
    Lost,
}

struct Write {
    key: InstanceKey,
    /// Revision of its registration, when it is there.
    created: Option<u64>,
    items: Vec<usize>,
}

impl Batch {
    pub(super) fn new(jobs: Vec<Job>) -> Self {
        let mut batch = Self { items: Vec::new(), replies: Vec::new(), writes: Vec::new(), evicted: Vec::new() };
        for (job, Job { proposals, reply }) in jobs.into_iter().enumerate() {
            batch.replies.push((reply, proposals.len()));
            let item = |proposal| Item { job, proposal, state: State::Open, removing: None };
            batch.items.extend(proposals.into_iter().map(item));
        }
        batch
    }

    /// Decides about everything that is open, on the ground of what is registered now. The transactions that follow.
    pub(super) fn decide(&mut self, shared: &Shared, layout: &Layout, me: &str) -> Vec<Transaction> {
        self.writes.clear();
        let mut heard = Vec::new();
        let parts = shared.read(|registry| {
            let mut stage = Stage::new(registry);
            let mut registered = HashSet::new();
            for item in self.items.iter_mut().filter(|item| matches!(item.state, State::Open)) {
                let key = &item.proposal.key;
                let expired = matches!(item.proposal.action, Action::Remove(Reason::Expired));
                let mut answer = match expired && (registered.contains(key) || shared.leases().contains(key)) {
                    // It came back after its lease was found to be over, or somebody else looks after it.
                    true => Err(Refusal::Conflict { key: key.clone(), modified: None }),
                    false => stage.propose(item.proposal.clone()),
                };
                if let (Err(Refusal::NotFound(_)), Some(entry)) = (&answer, &item.removing) {
                    answer = Ok(Outcome { entry: Arc::clone(entry), changed: true });
                }
                if let (Action::Register(_), Ok(outcome)) = (&item.proposal.action, &answer) {
                    registered.insert(key.clone());
                    if !outcome.changed {
                        heard.push(key.clone());
                    }
                }
                if let (true, Ok(outcome)) = (expired, &answer) {
                    self.evicted.push(Arc::clone(&outcome.entry));
                }
                item.state = State::Decided(answer);
            }
            let mut changes: HashMap<InstanceKey, Change> = HashMap::new();
            for event in stage.into_events() {
                changes.insert(event.key, event.change);
            }
            self.group(registry);
            let mut parts = Vec::with_capacity(self.writes.len());
            for (number, write) in self.writes.iter_mut().enumerate() {
                let change = changes.get(&write.key);
                let owner = registered.contains(&write.key).then_some(me);
                match request(registry, shared, layout, (&write.key, change), owner) {
                    Ok((changes, request)) => {
                        let removed = change.filter(|_| changes).and_then(Change::reason);
                        parts.push(Part { write: number, changes, reason: removed, request });
                    }
                    Err(_) => {
                        for index in std::mem::take(&mut write.items) {
                            self.items[index].state = State::Lost;
                        }
                    }
                }
            }
            parts
        });
        // Who registers as it is known has its lease from this moment on.
        shared.change_hands(heard);
        pack(parts)
    }

    /// Which proposals wait for which instance. Those that could not be made whatever is registered wait for none.
    fn group(&mut self, registry: &Registry) {
        let mut numbers: HashMap<InstanceKey, usize> = HashMap::new();
        for (index, item) in self.items.iter_mut().enumerate() {
            let State::Decided(answer) = &item.state else { continue };
            let expired = matches!(item.proposal.action, Action::Remove(Reason::Expired));
            let settled = match answer {
                Ok(_) => false,
                Err(Refusal::NotFound(_) | Refusal::Conflict { .. }) => expired,
                Err(Refusal::Invalid(_) | Refusal::Full { .. }) => true,
            };
            if settled {
                item.settle(Some(0), None, false);
                continue;
            }
            let key = &item.proposal.key;
            let number = *numbers.entry(key.clone()).or_insert_with(|| {
                let created = registry.instance(key).map(|entry| entry.created);
                self.writes.push(Write { key: key.clone(), created, items: Vec::new() });
                self.writes.len() - 1
            });
            self.writes[number].items.push(index);
        }
    }

    /// Takes in what came of the transactions. Whether nothing is open any more.
    pub(super) fn settle(&mut self, committed: Vec<Committed>) -> bool {
        for result in committed {
            let revision = result.revision();
            let failed = result.failure().is_some();
            let Write { created, items, .. } = &mut self.writes[result.write];
            for index in std::mem::take(items) {
                self.items[index].settle(revision, *created, failed);
            }
        }
        !self.items.iter().any(|item| matches!(item.state, State::Open))
    }

    /// Answers every job: with what came of its proposals, or with `failure` when that is not known of all of them.
    pub(super) fn answer(self, shared: &Shared, failure: &str) {
        shared.keep(&self.evicted);
        let mut answers: Vec<Vec<Result<Outcome, Refusal>>> = self.replies.iter().map(|_| Vec::new()).collect();
        for item in self.items {
            if let State::Final(answer) = item.state {
                answers[item.job].push(answer);
            }
        }
        for ((reply, proposals), answers) in self.replies.into_iter().zip(answers) {
            let whole = answers.len() == proposals;
            let _ = reply.send(if whole { Ok(answers) } else { Err(StoreError(failure.to_owned())) });
        }
    }
}

impl Item {
    /// Its transaction was kept with `revision`, failed without anybody knowing what came of it, or met another change.
    /// `created` is the revision of the registration, when that was before.
    fn settle(&mut self, revision: Option<u64>, created: Option<u64>, failed: bool) {
        let State::Decided(answer) = std::mem::replace(&mut self.state, State::Open) else { return };
        match revision {
            Some(revision) => {
                let puts = !matches!(self.proposal.action, Action::Remove(_));
                let at = |outcome| if puts { outcome_at(outcome, revision, created) } else { outcome };
                self.state = State::Final(answer.map(at));
            }
            None if failed && self.proposal.expected != Expected::Any => self.state = State::Lost,
            None if failed => {
                if let (Action::Remove(_), Ok(outcome)) = (&self.proposal.action, answer) {
                    self.removing = Some(outcome.entry);
                }
            }
            None => {}
        }
    }
}

/// The outcome with the revisions that etcd gave it instead of those it was decided with.
fn outcome_at(outcome: Outcome, revision: u64, created: Option<u64>) -> Outcome {
    if !outcome.changed || revision == 0 {
        return outcome;
    }
    let entry = Entry { created: created.unwrap_or(revision), modified: revision, ..Entry::clone(&outcome.entry) };
    Outcome { entry: Arc::new(entry), changed: true }
}

/// What is asked of etcd about one instance, on the ground of what is registered, with its change if there is one, and whether it
/// changes the instance. `owner` is who is to own it from now on.
fn request(
    registry: &Registry,
    shared: &Shared,
    layout: &Layout,
    (key, change): (&InstanceKey, Option<&Change>),
    owner: Option<&str>,
) -> Result<(bool, TxnRequest), serde_json::Error> {
    let place = layout.instance(key);
    let before = registry.instance(key);
    let number = |revision: u64| i64::try_from(revision).unwrap_or(i64::MAX);
    let mut compare = vec![Compare::modified(place.clone(), before.map_or(0, |entry| number(entry.modified)))];
    let mine = shared.ownership().is_some_and(|ownership| ownership.owners().care(key) == Care::Mine);
    let owner = owner.map(|owner| RequestOp::put(layout.owner(key), owner.as_bytes().to_vec()));
    let success = match change {
        Some(Change::Put(entry)) => {
            let record = record::write_shared(entry)?;
            [RequestOp::put(place, record)].into_iter().chain(owner).collect()
        }
        Some(Change::Remove { reason, .. }) if before.is_some() => {
            if *reason == Reason::Expired {
                let revision = shared.ownership().map_or(0, |ownership| ownership.owners().revision(key));
                compare.push(Compare::modified(layout.owner(key), number(revision)));
            }
            vec![RequestOp::delete(place), RequestOp::delete(layout.owner(key))]
        }
        Some(Change::Remove { .. }) => return Ok((false, TxnRequest { compare, success: Vec::new() })),
        // Who registers here as it is known elsewhere is ours from now on, before anybody evicts it.
        None => return Ok((false, TxnRequest { compare, success: owner.into_iter().filter(|_| !mine).collect() })),
    };
    Ok((true, TxnRequest { compare, success }))
}
