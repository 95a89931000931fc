//! Host names and wildcards to whatever belongs to them. Does not know ports: strip them first
//! (`meshwright_model::host::without_port`). Read next: `table.rs`.

use std::collections::HashMap;

/// Longest host name that is folded to lower case without allocating; DNS names have at most 253 characters.
const FOLDED: usize = 256;

/// A map from host patterns to `T`: exact names, wildcards such as `*.example.com`, and `*`.
///
/// An exact name wins over a wildcard, a longer wildcard over a shorter one, `*` is last. `*.example.com` covers
/// `a.example.com` and `a.b.example.com`, but not `example.com`. Case does not matter.
#[derive(Clone, Debug)]
pub struct HostTable<T> {
    exact: HashMap<Box<str>, T>,
    /// By what follows the asterisk, byte-wise because a suffix may be asked for at any byte of a host.
    suffixes: HashMap<Box<[u8]>, T>,
    /// Lengths of the keys of `suffixes`, longest first, each once.
    lengths: Vec<usize>,
    any: Option<T>,
}

impl<T> Default for HostTable<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), suffixes: HashMap::new(), lengths: Vec::new(), any: None }
    }
}

impl<T> HostTable<T> {
    /// A table without patterns.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives `pattern` a value, and returns the value that it had before.
    pub fn insert(&mut self, pattern: &str, value: T) -> Option<T> {
        let pattern = pattern.to_ascii_lowercase();
        match pattern.strip_prefix('*') {
            None => self.exact.insert(pattern.into(), value),
            Some("") => self.any.replace(value),
            Some(suffix) => {
                if let Err(place) = self.lengths.binary_search_by(|length| suffix.len().cmp(length)) {
                    self.lengths.insert(place, suffix.len());
                }
                self.suffixes.insert(suffix.as_bytes().into(), value)
            }
        }
    }

    /// The value of exactly this pattern.
    pub fn of_pattern(&self, pattern: &str) -> Option<&T> {
        let pattern = pattern.to_ascii_lowercase();
        match pattern.strip_prefix('*') {
            None => self.exact.get(pattern.as_str()),
            Some("") => self.any.as_ref(),
            Some(suffix) => self.suffixes.get(suffix.as_bytes()),
        }
    }

    /// The value of the most specific pattern that covers `host`, which has neither port nor trailing dot.
    /// Does not allocate for names up to 256 bytes.
    pub fn find(&self, host: &str) -> Option<&T> {
        if !host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return self.find_folded(host);
        }
        let mut buffer = [0; FOLDED];
        match buffer.get_mut(..host.len()) {
            Some(folded) => {
                folded.copy_from_slice(host.as_bytes());
                folded.make_ascii_lowercase();
                // Folding ASCII leaves UTF-8 as it was.
                std::str::from_utf8(folded).ok().and_then(|folded| self.find_folded(folded))
            }
            None => self.find_folded(&host.to_ascii_lowercase()),
        }
    }

    fn find_folded(&self, host: &str) -> Option<&T> {
        if let Some(value) = self.exact.get(host) {
            return Some(value);
        }
        let bytes = host.as_bytes();
        self.lengths
            .iter()
            .filter(|&&length| length < bytes.len())
            .find_map(|length| self.suffixes.get(&bytes[bytes.len() - length..]))
            .or(self.any.as_ref())
    }

    /// Number of patterns.
    pub fn len(&self) -> usize {
        self.exact.len() + self.suffixes.len() + usize::from(self.any.is_some())
    }

    /// True when there is no pattern.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use meshwright_model::host::covers;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn exact_beats_wildcard_and_longer_wildcards_beat_shorter_ones() {
        let mut table = HostTable::new();
        for pattern in ["*", "*.foo.com", "a.foo.com", "*.b.foo.com", "foo.com"] {
            assert_eq!(table.insert(pattern, pattern), None);
        }
        let found = |host: &str| table.find(host).copied();
        assert_eq!(found("a.foo.com"), Some("a.foo.com"));
        assert_eq!(found("c.foo.com"), Some("*.foo.com"));
        assert_eq!(found("x.b.foo.com"), Some("*.b.foo.com"));
        assert_eq!(found("b.foo.com"), Some("*.foo.com"));
        assert_eq!(found("foo.com"), Some("foo.com"));
        assert_eq!(found("other"), Some("*"));
        assert_eq!(found("A.Foo.COM"), Some("a.foo.com"));
        assert_eq!(found(&"X".repeat(400)), Some("*"));
        assert_eq!(found(&format!("{}.b.FOO.com", "X".repeat(400))), Some("*.b.foo.com"));
    }

    #[test]
    fn a_wildcard_does_not_cover_its_own_suffix() {
        let mut table = HostTable::new();
        table.insert("*.foo.com", ());
        assert_eq!(table.find(".foo.com"), None);
        assert_eq!(table.find("foo.com"), None);
        assert_eq!(table.find(""), None);
    }

    #[test]
    fn a_second_insert_replaces_and_returns_the_first() {
        let mut table = HostTable::new();
        assert_eq!(table.insert("*.A.com", 1), None);
        assert_eq!(table.insert("*.a.com", 2), Some(1));
        assert_eq!(table.of_pattern("*.a.COM"), Some(&2));
        assert_eq!(table.of_pattern("*"), None);
        assert_eq!(table.len(), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn the_table_finds_what_comparing_every_pattern_finds(
            patterns in prop::collection::vec(r"(\*|\*\.[ab](\.[ab]){0,2}|[ab](\.[ab]){0,3})", 0..12),
            host in r"[ab](\.[ab]){0,4}",
        ) {
            let mut table = HostTable::new();
            for pattern in &patterns {
                table.insert(pattern, pattern.clone());
            }
            let covering = patterns.iter().filter(|pattern| covers(pattern, &host));
            let best = covering.max_by_key(|pattern| (!pattern.starts_with('*'), pattern.len()));
            prop_assert_eq!(table.find(&host), best);
            prop_assert_eq!(table.find(&host.to_ascii_uppercase()), best);
        }
    }
}
