//! How keys and sessions are written down: a line of JSON, and for a key the bytes of its value behind it. It is the store's own shape;
//! nobody else reads it.

use std::sync::Arc;
use std::time::Duration;

use meshwright_registry::{Behavior, InstanceKey, Invalid, Pair, ServiceKey, Session, SessionCheck};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct PairRecord {
    #[serde(default, skip_serializing_if = "is_zero")]
    flags: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    #[serde(default, skip_serializing_if = "is_zero")]
    lock_index: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    lock_delay_ms: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    created: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    modified: u64,
}

#[derive(Serialize, Deserialize)]
struct SessionRecord {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    name: String,
    lock_delay_ms: u64,
    behavior: String,
    ttl_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    node_checks: Vec<String>,
    /// Namespace, service, id of the instance, id of the check.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    checks: Vec<(String, String, String, String)>,
    #[serde(default, skip_serializing_if = "is_zero")]
    created: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    modified: u64,
}

/// Why a record is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    #[error("{0}")]
    Invalid(#[from] Invalid),
    #[error("it has no line of its own")]
    NoLine,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The record of a key; a store that gives revisions itself wants none in it.
pub(crate) fn write_pair(pair: &Pair, revisions: bool) -> Result<Vec<u8>, serde_json::Error> {
    let record = PairRecord {
        flags: pair.flags,
        session: pair.session.as_deref().map(str::to_owned),
        lock_index: pair.lock_index,
        lock_delay_ms: milliseconds(pair.lock_delay),
        created: if revisions { pair.created } else { 0 },
        modified: if revisions { pair.modified } else { 0 },
    };
    let mut bytes = serde_json::to_vec(&record)?;
    bytes.push(b'\n');
    bytes.extend_from_slice(&pair.value);
    Ok(bytes)
}

/// The key that a record holds.
pub(crate) fn read_pair(key: &str, bytes: &[u8]) -> Result<Pair, Unreadable> {
    let line = bytes.iter().position(|byte| *byte == b'\n').ok_or(Unreadable::NoLine)?;
    let record: PairRecord = serde_json::from_slice(&bytes[..line])?;
    Ok(Pair {
        key: key.into(),
        value: bytes[line + 1..].into(),
        flags: record.flags,
        session: record.session.map(Arc::from),
        lock_index: record.lock_index,
        lock_delay: Duration::from_millis(record.lock_delay_ms).min(Session::LONGEST_DELAY),
        created: record.created,
        modified: record.modified,
    })
}

/// The record of a session; a store that gives revisions itself wants none in it.
pub(crate) fn write_session(session: &Session, revisions: bool) -> Result<Vec<u8>, serde_json::Error> {
    let check = |check: &SessionCheck| {
        let service = &check.instance.service;
        let (namespace, name) = (service.namespace().to_owned(), service.name().to_owned());
        (namespace, name, check.instance.id().to_owned(), check.check.clone())
    };
    serde_json::to_vec(&SessionRecord {
        name: session.name.clone(),
        lock_delay_ms: milliseconds(session.lock_delay),
        behavior: session.behavior.as_str().to_owned(),
        ttl_ms: session.ttl.map(milliseconds),
        node_checks: session.node_checks.clone(),
        checks: session.checks.iter().map(check).collect(),
        created: if revisions { session.created } else { 0 },
        modified: if revisions { session.modified } else { 0 },
    })
}

/// The session that a record holds.
pub(crate) fn read_session(id: &str, bytes: &[u8]) -> Result<Session, Unreadable> {
    let record: SessionRecord = serde_json::from_slice(bytes)?;
    let check = |(namespace, name, id, check): (String, String, String, String)| {
        let instance = InstanceKey::new(ServiceKey::new(&namespace, &name)?, &id)?;
        Ok::<_, Invalid>(SessionCheck { instance, check })
    };
    let session = Session {
        id: id.into(),
        name: record.name,
        lock_delay: Duration::from_millis(record.lock_delay_ms),
        behavior: record.behavior.parse::<Behavior>()?,
        ttl: record.ttl_ms.map(Duration::from_millis),
        node_checks: record.node_checks,
        checks: record.checks.into_iter().map(check).collect::<Result<_, _>>()?,
        created: record.created,
        modified: record.modified,
    };
    session.validate()?;
    Ok(session)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_down_is_read_again_as_it_was() {
        let pair = Pair {
            key: "a/ä b".into(),
            value: b"\n{}\n\xff\0"[..].into(),
            flags: u64::MAX,
            session: Some("s".into()),
            lock_index: 3,
            lock_delay: Duration::from_millis(1500),
            created: 2,
            modified: 9,
        };
        assert_eq!(read_pair(&pair.key, &write_pair(&pair, true).unwrap()).unwrap(), pair);
        let instance = InstanceKey::new(ServiceKey::new("shop", "web").unwrap(), "a/b").unwrap();
        let session = Session {
            id: "s-1".into(),
            name: "lock".into(),
            lock_delay: Duration::from_secs(15),
            behavior: Behavior::Delete,
            ttl: Some(Duration::from_secs(10)),
            node_checks: vec!["serfHealth".into()],
            checks: vec![SessionCheck { instance, check: "service:web".into() }],
            created: 4,
            modified: 5,
        };
        assert_eq!(read_session("s-1", &write_session(&session, true).unwrap()).unwrap(), session);
        assert!(read_pair("a", b"{}").is_err() && read_session("", b"{}").is_err());
    }
}
