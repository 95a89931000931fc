//! Keys and sessions on disk: a table of each, by key and by id. How the file is made and kept is in `crate::disk`.

use meshwright_registry::{KeyChange, KeyLimits, Keys};
use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};

use super::record;
use super::writer::{KeyEvent, KeyStore};
use crate::StoreError;
use crate::disk::{Contents, DiskOf};
use crate::medium::Medium;

const KEYS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("keys");
const SESSIONS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("sessions");

impl<M: Medium> KeyStore for DiskOf<Keys, M> {
    fn commit(&mut self, before: &Keys, events: &[KeyEvent]) -> Result<(), StoreError> {
        self.keep(before, events)
    }
}

fn bytes(written: Result<Vec<u8>, serde_json::Error>) -> Result<Vec<u8>, redb::Error> {
    written.map_err(|error| redb::Error::Io(error.into()))
}

impl Contents for Keys {
    type Limits = KeyLimits;
    type Change = KeyEvent;
    const WHAT: &'static str = "keys";
    const FILE: &'static str = "keys.redb";
    const LOSS: &'static str = "there are no keys and no sessions then";

    fn empty(limits: KeyLimits) -> Self {
        Self::new(limits)
    }

    fn at(&self) -> u64 {
        self.revision()
    }

    fn revision_of(event: &KeyEvent) -> u64 {
        event.revision
    }

    fn load(transaction: &ReadTransaction, limits: KeyLimits, revision: u64) -> Result<(Self, u64), String> {
        let mut size = 0;
        let mut pairs = Vec::new();
        let table = transaction.open_table(KEYS).map_err(|error| error.to_string())?;
        for row in table.iter().map_err(|error| error.to_string())? {
            let (key, value) = row.map_err(|error| error.to_string())?;
            size += key.value().len() as u64 + value.value().len() as u64;
            let pair = record::read_pair(key.value(), value.value());
            pairs.push(pair.map_err(|error| format!("key {:?}: {error}", key.value()))?);
        }
        let mut sessions = Vec::new();
        let table = transaction.open_table(SESSIONS).map_err(|error| error.to_string())?;
        for row in table.iter().map_err(|error| error.to_string())? {
            let (id, value) = row.map_err(|error| error.to_string())?;
            size += value.value().len() as u64;
            let session = record::read_session(id.value(), value.value());
            sessions.push(session.map_err(|error| format!("session {}: {error}", id.value()))?);
        }
        Ok((Self::restore(limits, pairs, sessions, revision), size))
    }

    fn fill(&self, transaction: &WriteTransaction) -> Result<(), redb::Error> {
        let mut keys = transaction.open_table(KEYS)?;
        for pair in self.with_prefix("") {
            keys.insert(&*pair.key, bytes(record::write_pair(pair, true))?.as_slice())?;
        }
        let mut sessions = transaction.open_table(SESSIONS)?;
        for session in self.sessions() {
            sessions.insert(&*session.id, bytes(record::write_session(session, true))?.as_slice())?;
        }
        Ok(())
    }

    fn write(transaction: &WriteTransaction, events: &[KeyEvent]) -> Result<(), redb::Error> {
        let mut keys = transaction.open_table(KEYS)?;
        let mut sessions = transaction.open_table(SESSIONS)?;
        for change in events.iter().flat_map(|event| &event.changes) {
            match change {
                KeyChange::Put(pair) => {
                    drop(keys.insert(&*pair.key, bytes(record::write_pair(pair, true))?.as_slice())?);
                }
                KeyChange::Delete(key) => drop(keys.remove(&**key)?),
                KeyChange::Open(session) => {
                    drop(sessions.insert(&*session.id, bytes(record::write_session(session, true))?.as_slice())?);
                }
                KeyChange::Close(id) => drop(sessions.remove(&**id)?),
            }
        }
        Ok(())
    }
}
