//! The one writer: takes what waits as one batch, decides, commits, applies, answers.
//!
//! It runs on a thread of its own because a commit waits for the disk; the longer that takes, the larger the next batch.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use meshwright_registry::{Action, Change, Event, Outcome, Proposal, Reason, Refusal, Stage};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;

use crate::shared::Shared;
use crate::{Store, StoreError};

/// Most proposals of one commit.
const LARGEST_BATCH: usize = 4096;

/// What came of the proposals of one job, one by one; or the store failed, and nothing came of any.
pub(crate) type Answers = Result<Vec<Result<Outcome, Refusal>>, StoreError>;

/// Proposals that somebody waits for.
pub(crate) struct Job {
    pub(crate) proposals: Vec<Proposal>,
    pub(crate) reply: oneshot::Sender<Answers>,
}

/// Works until every [`crate::Catalog`] is gone.
pub(crate) fn run(shared: &Arc<Shared>, mut store: Box<dyn Store>, jobs: &mut UnboundedReceiver<Job>) {
    while let Some(first) = jobs.blocking_recv() {
        let batch = gather(first, jobs);
        work(shared, store.as_mut(), batch);
    }
}

/// `first` and what waits behind it, as far as it fits into one batch.
pub(crate) fn gather(first: Job, jobs: &mut UnboundedReceiver<Job>) -> Vec<Job> {
    let mut size = first.proposals.len();
    let mut batch = vec![first];
    while size < LARGEST_BATCH
        && let Ok(job) = jobs.try_recv()
    {
        size += job.proposals.len();
        batch.push(job);
    }
    batch
}

fn work(shared: &Shared, store: &mut dyn Store, batch: Vec<Job>) {
    let mut decided = Vec::with_capacity(batch.len());
    let mut registered = HashSet::new();
    let mut evicted = Vec::new();
    // Only this thread changes the registry: what is decided here still holds when it is applied.
    let (result, events) = shared.read(|registry| {
        let mut stage = Stage::new(registry);
        for job in batch {
            let mut answers = Vec::with_capacity(job.proposals.len());
            for proposal in job.proposals {
                let key = proposal.key.clone();
                let registers = matches!(proposal.action, Action::Register(_));
                let expired = matches!(proposal.action, Action::Remove(Reason::Expired));
                let answer = match expired && (registered.contains(&key) || shared.leases().contains(&key)) {
                    // It came back after its lease was found to be over.
                    true => Err(Refusal::Conflict { key: key.clone(), modified: None }),
                    false => stage.propose(proposal),
                };
                match &answer {
                    Ok(_) if registers => drop(registered.insert(key)),
                    Ok(outcome) if expired => evicted.push(Arc::clone(&outcome.entry)),
                    _ => {}
                }
                answers.push(answer);
            }
            decided.push((job.reply, answers));
        }
        let events = stage.into_events();
        let result = if events.is_empty() { Ok(()) } else { store.commit(registry, &events) };
        (result, events)
    });
    shared.store_answered(result.as_ref().err());
    if let Err(error) = result {
        shared.keep(&evicted);
        for (reply, _) in decided {
            let _ = reply.send(Err(error.clone()));
        }
        return;
    }
    apply(shared, events, registered);
    for (reply, answers) in decided {
        let _ = reply.send(Ok(answers));
    }
}

fn apply(shared: &Shared, events: Vec<Event>, registered: HashSet<meshwright_registry::InstanceKey>) {
    if !events.is_empty() {
        shared.change(|registry| events.iter().for_each(|event| registry.apply(event.clone())));
    }
    let now = Instant::now();
    shared.read(|registry| {
        let mut leases = shared.leases();
        for event in &events {
            match &event.change {
                Change::Remove { .. } if registry.instance(&event.key).is_none() => leases.remove(&event.key),
                Change::Put(entry) if !leases.contains(&event.key) => {
                    leases.put(&event.key, entry.instance.lease.expires_after(), now);
                }
                _ => {}
            }
        }
        for key in &registered {
            if let Some(entry) = registry.instance(key) {
                leases.put(key, entry.instance.lease.expires_after(), now);
            }
        }
    });
    shared.announce();
}
