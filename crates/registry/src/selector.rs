//! Which instances a reader wants. It knows no order and no shape of an answer.

use crate::Entry;

/// What an instance must be to be shown; the default is every instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// Only those that new requests may go to.
    pub healthy: bool,
    /// Every one of these tags.
    pub tags: Vec<String>,
    /// Every one of these labels, as subsets see them: metadata, `version`, tags.
    pub labels: Vec<(String, String)>,
}

impl Selector {
    /// Whether `entry` is wanted.
    pub fn matches(&self, entry: &Entry) -> bool {
        let instance = &entry.instance;
        if self.healthy && !instance.status().is_healthy() {
            return false;
        }
        if !self.tags.iter().all(|tag| instance.tags.contains(tag)) {
            return false;
        }
        if self.labels.is_empty() {
            return true;
        }
        let labels = instance.labels();
        self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}
