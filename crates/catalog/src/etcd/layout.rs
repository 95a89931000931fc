//! What is where in etcd.
//!
//! ```text
//!  PREFIX instances/NAMESPACE/SERVICE/ID   the record of an instance
//!  PREFIX owners/NAMESPACE/SERVICE/ID      the member that answers for it
//!  PREFIX kv/KEY                           the record of a key, with its value
//!  PREFIX sessions/ID                      the record of a session
//!  PREFIX members/MEMBER                   a process that is there; the only keys with a lease
//!  PREFIX removal                          why the last instance was removed, set by the transaction that removes it
//! ```

use meshwright_etcd::prefix_end;
use meshwright_registry::{InstanceKey, Reason, ServiceKey};

/// Keys of one answer while everything is read; values of keys may be of 512 KiB.
const PAGE: i64 = 1000;
const PAGE_OF_KEYS: i64 = 100;

/// Builds and reads keys.
#[derive(Clone)]
pub(super) struct Layout {
    prefix: String,
}

/// What a key stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    Instance(InstanceKey),
    Owner(InstanceKey),
    Member(String),
    Removal,
    Key(String),
    Session(String),
}

impl Layout {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// First key, and the first behind the last one.
    pub(super) fn range(&self) -> (Vec<u8>, Vec<u8>) {
        (self.prefix.clone().into_bytes(), prefix_end(self.prefix.as_bytes()))
    }

    /// The same range in parts, each with how many keys one answer may have: values are larger than anything else.
    pub(super) fn parts(&self) -> [(Vec<u8>, Vec<u8>, i64); 3] {
        let (first, last) = self.range();
        let keys = self.key("");
        let behind = prefix_end(&keys);
        [(first, keys.clone(), PAGE), (keys, behind.clone(), PAGE_OF_KEYS), (behind, last, PAGE)]
    }

    fn of(&self, kind: &str, key: &InstanceKey) -> Vec<u8> {
        let (service, id) = (&key.service, key.id());
        format!("{}{kind}/{}/{}/{id}", self.prefix, service.namespace(), service.name()).into_bytes()
    }

    pub(super) fn instance(&self, key: &InstanceKey) -> Vec<u8> {
        self.of("instances", key)
    }

    pub(super) fn owner(&self, key: &InstanceKey) -> Vec<u8> {
        self.of("owners", key)
    }

    pub(super) fn member(&self, member: &str) -> Vec<u8> {
        format!("{}members/{member}", self.prefix).into_bytes()
    }

    pub(super) fn removal(&self) -> Vec<u8> {
        format!("{}removal", self.prefix).into_bytes()
    }

    pub(super) fn key(&self, key: &str) -> Vec<u8> {
        format!("{}kv/{key}", self.prefix).into_bytes()
    }

    pub(super) fn session(&self, id: &str) -> Vec<u8> {
        format!("{}sessions/{id}", self.prefix).into_bytes()
    }

    /// What `key` stands for; `None` when it is not ours.
    pub(super) fn place(&self, key: &[u8]) -> Option<Place> {
        let key = std::str::from_utf8(key).ok()?.strip_prefix(&self.prefix)?;
        if key == "removal" {
            return Some(Place::Removal);
        }
        let (kind, rest) = key.split_once('/')?;
        match kind {
            "instances" => instance_key(rest).map(Place::Instance),
            "owners" => instance_key(rest).map(Place::Owner),
            "kv" => Some(Place::Key(rest.to_owned())),
            "sessions" => Some(Place::Session(rest.to_owned())),
            "members" => Some(Place::Member(rest.to_owned())),
            _ => None,
        }
    }
}

/// An id may contain slashes; the names before it cannot.
fn instance_key(path: &str) -> Option<InstanceKey> {
    let mut parts = path.splitn(3, '/');
    let service = ServiceKey::new(parts.next()?, parts.next()?).ok()?;
    InstanceKey::new(service, parts.next()?).ok()
}

/// The reason that a removal gives; who deletes keys by hand gives none.
pub(super) fn reason(value: &[u8]) -> Reason {
    let all = [Reason::Expired, Reason::ConnectionClosed, Reason::Critical];
    all.into_iter().find(|reason| reason.as_str().as_bytes() == value).unwrap_or(Reason::Deregistered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_were_built() {
        let layout = Layout::new("/mesh/test/");
        let key = InstanceKey::new(ServiceKey::new("shop", "cart.v2").unwrap(), "host:a/b:80").unwrap();
        assert_eq!(layout.instance(&key), b"/mesh/test/instances/shop/cart.v2/host:a/b:80");
        assert_eq!(layout.place(&layout.instance(&key)), Some(Place::Instance(key.clone())));
        assert_eq!(layout.place(&layout.owner(&key)), Some(Place::Owner(key)));
        assert_eq!(layout.place(&layout.member("a1")), Some(Place::Member("a1".to_owned())));
        assert_eq!(layout.place(&layout.removal()), Some(Place::Removal));
        assert_eq!(layout.place(&layout.key("a//b")), Some(Place::Key("a//b".to_owned())));
        assert_eq!(layout.place(&layout.session("s")), Some(Place::Session("s".to_owned())));
        for foreign in
            ["", "/mesh/other/removal", "/mesh/test/instances/a", "/mesh/test/instances/a/b", "/mesh/test/x/y"]
        {
            assert_eq!(layout.place(foreign.as_bytes()), None, "{foreign}");
        }
        let (start, end) = layout.range();
        assert!(start <= layout.removal() && layout.removal() < end);
        let [(first, keys, _), (same, behind, _), (rest, last, _)] = layout.parts();
        assert_eq!((first, last), (start, end));
        assert!(keys == same && behind == rest && keys <= layout.key("") && layout.key("\u{10ffff}") < behind);
    }

    #[test]
    fn reasons_are_read_as_they_were_written() {
        for reason_ in [Reason::Deregistered, Reason::Expired, Reason::ConnectionClosed, Reason::Critical] {
            assert_eq!(reason(reason_.as_str().as_bytes()), reason_);
        }
        assert_eq!(reason(b""), Reason::Deregistered);
    }
}
