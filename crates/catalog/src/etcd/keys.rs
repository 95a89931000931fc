//! Keys and sessions in etcd: an action is decided on the ground of what the watch has brought, kept by a transaction that compares
//! all of that ground, and acknowledged when the watch brings it back. What somebody else changed meanwhile is decided again, so that
//! of two processes that want a lock one gets it.
//!
//! Each process counts the time of every session; renewals are written, so that all of them hear of each, and whoever finds a session to
//! be over ends it only as it was. Delays of locks begin in each process when it sees the session end.

use std::sync::Arc;
use std::time::Instant;

use meshwright_etcd::{Compare, RequestOp, TxnRequest};
use meshwright_registry::{Decision, Ground, KeyAction, KeyAnswer, KeyChange, KeyRefusal};
use tokio::sync::watch;
use tokio::time::{timeout, timeout_at};

use super::Link;
use super::layout::Layout;
use super::writer::{NEWS, PATIENCE, reach};
use crate::keyspace::{KeyError, State, record};

/// Keys and sessions that one transaction compares, and changes: etcd takes no more by default.
const MOST_COMPARED: usize = 128;

/// The way of a change of keys into etcd.
#[derive(Clone)]
pub(crate) struct KeyPath {
    state: Arc<State>,
    link: watch::Receiver<Link>,
    layout: Layout,
}

impl KeyPath {
    pub(super) fn new(state: Arc<State>, link: watch::Receiver<Link>, layout: Layout) -> Self {
        Self { state, link, layout }
    }

    pub(crate) fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// What is answered to the action, once it is kept.
    pub(crate) async fn propose(&self, action: &KeyAction) -> Result<KeyAnswer, KeyError> {
        let deadline = Instant::now() + PATIENCE;
        let (mut link, mut revisions) = (self.link.clone(), self.state.revisions());
        let mut failure = "another process changes it all the time".to_owned();
        while Instant::now() < deadline {
            let client = reach(&mut link, deadline).await.map_err(KeyError::Unavailable)?;
            revisions.mark_unchanged();
            let (grounds, changes, answer, decided) = match self.state.decide(action) {
                Ok(Decision { grounds, changes, .. }) if grounds.len().max(changes.len()) > MOST_COMPARED => {
                    let what = "keys in one transaction of a registry that processes share";
                    return Err(KeyRefusal::Full { what, limit: MOST_COMPARED }.into());
                }
                Ok(decision) => (decision.grounds, decision.changes, Ok(decision.answer), decision.revision),
                // Perhaps it is not known here yet.
                Err(KeyRefusal::NoSession(id)) => {
                    let ground = Ground::Session(id.as_str().into(), 0);
                    (vec![ground], Vec::new(), Err(KeyRefusal::NoSession(id)), 0)
                }
                Err(refusal) => return Err(refusal.into()),
            };
            let request =
                self.transaction(&grounds, &changes).map_err(|error| KeyError::Unavailable(error.to_string()))?;
            match client.transaction(&request).await {
                Ok(kept) if kept.succeeded => {
                    let revision = kept.header.map_or(0, |header| u64::try_from(header.revision).unwrap_or(0));
                    let seen = |known: &u64| changes.is_empty() || *known >= revision;
                    if timeout_at(deadline.into(), revisions.wait_for(seen)).await.is_err() {
                        return Err(KeyError::Unavailable(
                            "it was written, and etcd's watch does not bring it".to_owned(),
                        ));
                    }
                    return answer.map(|answer| answer.at(decided, revision)).map_err(KeyError::from);
                }
                Ok(_) => {}
                Err(error) if !action.is_repeatable() => return Err(KeyError::Unavailable(error.to_string())),
                Err(error) => failure = error.to_string(),
            }
            let _ = timeout(NEWS, revisions.changed()).await;
        }
        Err(KeyError::Unavailable(failure))
    }

    fn transaction(&self, grounds: &[Ground], changes: &[KeyChange]) -> Result<TxnRequest, serde_json::Error> {
        let number = |revision: u64| i64::try_from(revision).unwrap_or(i64::MAX);
        let compare = grounds.iter().map(|ground| match ground {
            Ground::Key(key, revision) => Compare::modified(self.layout.key(key), number(*revision)),
            Ground::Session(id, revision) => Compare::modified(self.layout.session(id), number(*revision)),
            Ground::Prefix(prefix, revision) => Compare::none_since(self.layout.key(prefix), number(*revision)),
        });
        let success = changes.iter().map(|change| {
            Ok(match change {
                KeyChange::Put(pair) => RequestOp::put(self.layout.key(&pair.key), record::write_pair(pair, false)?),
                KeyChange::Delete(key) => RequestOp::delete(self.layout.key(key)),
                KeyChange::Open(session) => {
                    RequestOp::put(self.layout.session(&session.id), record::write_session(session, false)?)
                }
                KeyChange::Close(id) => RequestOp::delete(self.layout.session(id)),
            })
        });
        Ok(TxnRequest { compare: compare.collect(), success: success.collect::<Result<_, serde_json::Error>>()? })
    }
}
