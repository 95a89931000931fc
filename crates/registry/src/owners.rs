//! Who answers for which instance where several processes share one registry: the process that an instance renews at.
//!
//! ```text
//!              heard here, and a third of the lease has passed since the last change
//!   another's ──────────────────────────────────────────────────────────▶ mine
//!      │  its process is gone                       heard here              ▲
//!      └──────────────────────▶ orphan, everybody's ────────────────────────┘
//! ```
//!
//! Only who answers for an instance ends its lease and carries out its checks. What is written here was committed before; the
//! wish to own an instance is a claim that the caller commits. It knows no store and no lease, only keys.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::InstanceKey;

/// An instance that renews at several processes in turn changes its owner once in this part of its lease at most. It must
/// leave room for one more renewal before the lease ends at the owner.
const SETTLED_PART: u32 = 3;
/// What stands for the lease of an instance that has none.
const WITHOUT_LEASE: Duration = Duration::from_secs(30);
/// A claim that nothing came of may be made again after this time.
const CLAIM_AGAIN: Duration = Duration::from_secs(1);

/// Who answers for an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Care {
    /// This process.
    Mine,
    /// Nobody: its process is gone. Every process looks after it until one of them owns it.
    Orphan,
    /// Another process that is there.
    Other,
}

#[derive(Debug)]
struct Owner {
    member: Arc<str>,
    revision: u64,
    /// When it was seen to become the owner; `None` when that was before this process looked.
    since: Option<Instant>,
}

/// The owners of all instances.
#[derive(Debug)]
pub struct Owners {
    me: Arc<str>,
    others: HashSet<Arc<str>>,
    owners: HashMap<InstanceKey, Owner>,
    claimed: HashMap<InstanceKey, Instant>,
}

impl Owners {
    /// Nobody owns anything yet; this process is the member `me`.
    pub fn new(me: &str) -> Self {
        Self { me: me.into(), others: HashSet::new(), owners: HashMap::new(), claimed: HashMap::new() }
    }

    /// The id of this process.
    pub fn me(&self) -> &Arc<str> {
        &self.me
    }

    /// Number of processes, with this one.
    pub fn members(&self) -> usize {
        self.others.len() + 1
    }

    /// The other processes that are there.
    pub fn others(&self) -> Vec<Arc<str>> {
        self.others.iter().cloned().collect()
    }

    /// A process is there. Returns the instances that somebody answers for again.
    pub fn join(&mut self, member: &str) -> Vec<InstanceKey> {
        match member != &*self.me && self.others.insert(member.into()) {
            true => self.owned_by(member),
            false => Vec::new(),
        }
    }

    /// A process is gone. Returns the instances that nobody answers for now.
    pub fn leave(&mut self, member: &str) -> Vec<InstanceKey> {
        match self.others.remove(member) {
            true => self.owned_by(member),
            false => Vec::new(),
        }
    }

    fn owned_by(&self, member: &str) -> Vec<InstanceKey> {
        let owned = self.owners.iter().filter(|(_, owner)| &*owner.member == member);
        owned.map(|(key, _)| key.clone()).collect()
    }

    /// `member` owns the instance by the change `revision`, seen at `now`, or at a time that is not known. Returns whether
    /// that is another owner than before.
    pub fn assign(&mut self, key: &InstanceKey, member: &str, revision: u64, now: Option<Instant>) -> bool {
        self.claimed.remove(key);
        // One copy of each name.
        let known = self.others.get(member).or_else(|| (*self.me == *member).then_some(&self.me));
        let member = known.map_or_else(|| Arc::from(member), Arc::clone);
        let owner = Owner { member: Arc::clone(&member), revision, since: now };
        self.owners.insert(key.clone(), owner).is_none_or(|before| before.member != member)
    }

    /// Nobody owns the instance any more; it is gone, usually.
    pub fn forget(&mut self, key: &InstanceKey) {
        self.owners.remove(key);
        self.claimed.remove(key);
    }

    /// Who answers for the instance.
    pub fn care(&self, key: &InstanceKey) -> Care {
        match self.owners.get(key) {
            Some(owner) if owner.member == self.me => Care::Mine,
            Some(owner) if self.others.contains(&owner.member) => Care::Other,
            _ => Care::Orphan,
        }
    }

    /// Revision of the change that gave the instance its owner; 0 without one.
    pub fn revision(&self, key: &InstanceKey) -> u64 {
        self.owners.get(key).map_or(0, |owner| owner.revision)
    }

    /// The instance was heard of here: whether this process is to claim it now. `ttl` is its lease.
    pub fn heard(&mut self, key: &InstanceKey, ttl: Option<Duration>, now: Instant) -> bool {
        let wanted = match self.care(key) {
            Care::Mine => false,
            Care::Orphan => true,
            Care::Other => {
                let settled = ttl.unwrap_or(WITHOUT_LEASE) / SETTLED_PART;
                let since = self.owners.get(key).and_then(|owner| owner.since);
                since.is_none_or(|since| now.saturating_duration_since(since) >= settled)
            }
        };
        let again = |at: &Instant| now.saturating_duration_since(*at) >= CLAIM_AGAIN;
        let claims = wanted && self.claimed.get(key).is_none_or(again);
        if claims {
            self.claimed.insert(key.clone(), now);
        }
        claims
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test has to begin at some moment")]
mod tests {
    use super::*;
    use crate::ServiceKey;

    fn key(id: &str) -> InstanceKey {
        InstanceKey::new(ServiceKey::new("", "users").unwrap(), id).unwrap()
    }

    #[test]
    fn instances_of_a_process_that_is_gone_are_everybodys_until_it_is_back() {
        let mut owners = Owners::new("a");
        owners.join("b");
        let now = Instant::now();
        owners.assign(&key("1"), "a", 1, Some(now));
        owners.assign(&key("2"), "b", 2, Some(now));
        let care = |owners: &Owners| [owners.care(&key("1")), owners.care(&key("2")), owners.care(&key("3"))];
        assert_eq!(care(&owners), [Care::Mine, Care::Other, Care::Orphan]);
        assert_eq!(owners.leave("b"), [key("2")]);
        assert_eq!(care(&owners), [Care::Mine, Care::Orphan, Care::Orphan]);
        assert_eq!(owners.join("b"), [key("2")]);
        assert_eq!(care(&owners), [Care::Mine, Care::Other, Care::Orphan]);
        assert!(owners.leave("a").is_empty(), "what this process owns, it looks after, whatever others see of it");
    }

    #[test]
    fn an_instance_is_claimed_where_it_is_heard_and_not_at_every_turn() {
        let mut owners = Owners::new("a");
        owners.join("b");
        let (start, ttl) = (Instant::now(), Some(Duration::from_secs(30)));
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        owners.assign(&key("1"), "b", 1, Some(start));
        assert!(!owners.heard(&key("1"), ttl, at(9)), "it may be on its way between the two");
        assert!(owners.heard(&key("1"), ttl, at(10)));
        assert!(!owners.heard(&key("1"), ttl, at(10)), "the claim is on its way");
        assert!(owners.heard(&key("1"), ttl, at(12)), "nothing came of it");
        owners.assign(&key("1"), "a", 2, Some(at(12)));
        assert!(!owners.heard(&key("1"), ttl, at(40)));
        owners.assign(&key("2"), "b", 3, None);
        assert!(owners.heard(&key("2"), ttl, start), "nobody knows for how long the other one has not heard of it");
        owners.assign(&key("3"), "c", 4, Some(start));
        assert!(owners.heard(&key("3"), ttl, start), "its owner is gone");
    }
}
