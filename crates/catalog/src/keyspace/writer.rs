//! The one writer of keys that nobody shares: takes what waits as one batch, decides one after the other on a copy that is ahead, commits,
//! applies, answers. It runs on a thread of its own because a commit waits for the disk.

use std::sync::Arc;
use std::time::Instant;

use meshwright_registry::{KeyAction, KeyAnswer, KeyChange, KeyStep, Keys, decide};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;
use tracing::{error, info};

use super::{KeyError, State};
use crate::StoreError;
use crate::store::Memory;

/// Most actions of one commit, and about as many bytes of values.
const LARGEST_BATCH: usize = 1024;
const LARGEST_BYTES: usize = 8 << 20;

/// The changes of one revision.
pub(crate) struct KeyEvent {
    pub(crate) revision: u64,
    pub(crate) changes: Vec<KeyChange>,
}

/// An action that somebody waits for.
pub(super) struct Job {
    pub(super) action: KeyAction,
    pub(super) reply: oneshot::Sender<Result<KeyAnswer, KeyError>>,
}

impl Job {
    fn bytes(&self) -> usize {
        let of_step = |step: &KeyStep| if let KeyStep::Put { value, .. } = step { value.len() } else { 0 };
        match &self.action {
            KeyAction::Put { value, .. } => value.len(),
            KeyAction::Transaction(steps) => steps.iter().map(of_step).sum(),
            _ => 0,
        }
    }
}

/// A place for committed keys.
pub(super) trait KeyStore: Send {
    /// Keeps `events`, all or none, on top of `before`.
    fn commit(&mut self, before: &Keys, events: &[KeyEvent]) -> Result<(), StoreError>;
}

impl KeyStore for Memory {
    fn commit(&mut self, _before: &Keys, _events: &[KeyEvent]) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Works until every handle is gone.
pub(super) fn run(state: &Arc<State>, mut store: Box<dyn KeyStore>, jobs: &mut UnboundedReceiver<Job>) {
    let mut ahead = state.read(Keys::clone);
    let mut failing = false;
    while let Some(first) = jobs.blocking_recv() {
        let mut bytes = first.bytes();
        let mut batch = vec![first];
        while batch.len() < LARGEST_BATCH
            && bytes < LARGEST_BYTES
            && let Ok(job) = jobs.try_recv()
        {
            bytes += job.bytes();
            batch.push(job);
        }
        let failed = work(state, store.as_mut(), &mut ahead, batch);
        match &failed {
            Some(reason) if !failing => error!(%reason, "keys cannot be written; reading them goes on"),
            None if failing => info!("keys can be written again"),
            _ => {}
        }
        failing = failed.is_some();
    }
}

/// Why the batch was not kept, when it was not.
fn work(state: &State, store: &mut dyn KeyStore, ahead: &mut Keys, batch: Vec<Job>) -> Option<StoreError> {
    let mut events = Vec::new();
    let mut answers = Vec::with_capacity(batch.len());
    let now = Instant::now();
    for Job { action, reply } in batch {
        let mut clock = state.clock();
        let answer = decide(ahead, &clock, &action, now).map(|decision| {
            if !decision.changes.is_empty() {
                // What comes later in the batch must find locks delayed by what came before.
                decision.changes.iter().for_each(|change| clock.observe(ahead, change, now));
                let revision = ahead.revision() + 1;
                ahead.apply(revision, &decision.changes);
                events.push(KeyEvent { revision, changes: decision.changes });
            }
            decision.answer
        });
        answers.push((reply, answer.map_err(KeyError::from)));
    }
    let result = match events.is_empty() {
        true => Ok(()),
        // Only this thread changes the keys: what was decided still holds when it is applied.
        false => state.read(|keys| store.commit(keys, &events)),
    };
    if let Err(error) = result {
        *ahead = state.read(Keys::clone);
        state.keep(now);
        for (reply, _) in answers {
            let _ = reply.send(Err(KeyError::Unavailable(error.to_string())));
        }
        return Some(error);
    }
    state.apply(events.iter().map(|event| (event.revision, event.changes.as_slice())));
    for (reply, answer) in answers {
        let _ = reply.send(answer);
    }
    None
}
