//! Which entries of a table can match a path, by exact paths and plain prefixes. Knows entry numbers, not what they
//! mean. Read next: `table.rs`.

use std::collections::HashMap;

/// Entry numbers by path. Every list is ascending, which is the order of priority.
#[derive(Debug, Default)]
pub(crate) struct PathIndex {
    exact: HashMap<Box<[u8]>, Vec<u32>>,
    /// Sorted by prefix.
    prefixes: Vec<Prefix>,
}

#[derive(Debug)]
struct Prefix {
    text: Box<[u8]>,
    /// The longest other prefix that this one starts with.
    parent: Option<u32>,
    entries: Vec<u32>,
    /// The smallest entry number here or at any parent: where to stop climbing.
    least: u32,
}

impl PathIndex {
    /// An index of (path, entry) pairs; entry numbers ascend in each argument.
    pub(crate) fn new<'a>(
        exact: impl Iterator<Item = (&'a [u8], u32)>,
        prefixes: impl Iterator<Item = (&'a [u8], u32)>,
    ) -> Self {
        let mut index = Self::default();
        for (path, entry) in exact {
            index.exact.entry(path.into()).or_default().push(entry);
        }
        let mut sorted: Vec<(&[u8], u32)> = prefixes.collect();
        sorted.sort_unstable();
        // The prefixes that the present one starts with, shortest first.
        let mut ancestors: Vec<u32> = Vec::new();
        for (text, entry) in sorted {
            if let Some(last) = index.prefixes.last_mut().filter(|last| &*last.text == text) {
                last.entries.push(entry);
                continue;
            }
            while ancestors.last().is_some_and(|&last| !text.starts_with(&index.prefixes[last as usize].text)) {
                ancestors.pop();
            }
            let parent = ancestors.last().copied();
            let least = parent.map_or(entry, |parent| entry.min(index.prefixes[parent as usize].least));
            ancestors.push(index.prefixes.len() as u32);
            index.prefixes.push(Prefix { text: text.into(), parent, entries: vec![entry], least });
        }
        index
    }

    /// The smallest entry below `bound` whose path matches and for which `holds` is true; otherwise `bound`.
    pub(crate) fn first(&self, path: &[u8], mut bound: u32, mut holds: impl FnMut(u32) -> bool) -> u32 {
        if let Some(entries) = self.exact.get(path) {
            bound = first_of(entries, bound, &mut holds);
        }
        let mut candidate = self.longest_prefix(path);
        while let Some(prefix) = candidate.filter(|prefix| prefix.least < bound) {
            bound = first_of(&prefix.entries, bound, &mut holds);
            candidate = self.parent(prefix);
        }
        bound
    }

    /// The longest prefix of `path`. A prefix of a text sorts at or before it, and everything that sorts between the
    /// two starts with that prefix as well; so it is the last text that does not sort behind `path`, or a parent of
    /// that.
    fn longest_prefix(&self, path: &[u8]) -> Option<&Prefix> {
        let behind = self.prefixes.partition_point(|prefix| &*prefix.text <= path);
        let mut candidate = self.prefixes[..behind].last();
        while let Some(prefix) = candidate.filter(|prefix| !path.starts_with(&prefix.text)) {
            candidate = self.parent(prefix);
        }
        candidate
    }

    fn parent(&self, prefix: &Prefix) -> Option<&Prefix> {
        prefix.parent.map(|parent| &self.prefixes[parent as usize])
    }
}

/// The first of `entries` below `bound` that `holds`; otherwise `bound`.
pub(crate) fn first_of(entries: &[u32], bound: u32, holds: &mut impl FnMut(u32) -> bool) -> u32 {
    entries.iter().copied().take_while(|&entry| entry < bound).find(|&entry| holds(entry)).unwrap_or(bound)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn the_first_entry_is_the_one_that_a_scan_finds(
            paths in prop::collection::vec(("[ab/]{0,5}", any::<bool>(), any::<bool>()), 0..30),
            path in "[ab/]{0,7}",
        ) {
            let numbered = || paths.iter().zip(0u32..);
            let exact =
                numbered().filter(|((_, exact, _), _)| *exact).map(|((text, ..), entry)| (text.as_bytes(), entry));
            let prefixes =
                numbered().filter(|((_, exact, _), _)| !*exact).map(|((text, ..), entry)| (text.as_bytes(), entry));
            let index = PathIndex::new(exact, prefixes);
            let holds = |entry: u32| paths[entry as usize].2;
            let scanned = numbered().find(|((text, exact, holds), _)| {
                *holds && if *exact { path == *text } else { path.starts_with(text.as_str()) }
            });
            let found = index.first(path.as_bytes(), u32::MAX, holds);
            prop_assert_eq!(found, scanned.map_or(u32::MAX, |(_, entry)| entry));
        }
    }
}
