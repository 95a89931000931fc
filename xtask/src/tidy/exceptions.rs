//! Excused findings: `xtask/tidy-exceptions.txt`, one `key reason` per line.
//!
//! The key is a path, or `path::item` for one function, word or name in it. A line without a reason, and a line that
//! excuses nothing any more, are findings: the list can only stay as short as it is true.

use super::Finding;

/// Where the list is.
pub(super) const FILE: &str = "xtask/tidy-exceptions.txt";

/// Fewer characters than this explain nothing.
const SHORTEST_REASON: usize = 15;

/// The findings that remain, and those about the list itself.
pub(super) fn apply(found: Vec<Finding>, list: &str) -> Vec<Finding> {
    let entries: Vec<(usize, &str, &str)> = list
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(number, line)| match line.split_once(char::is_whitespace) {
            Some((key, reason)) => (number, key, reason.trim()),
            None => (number, line, ""),
        })
        .collect();
    let mut remaining: Vec<Finding> =
        found.iter().filter(|finding| !entries.iter().any(|(_, key, _)| *key == finding.key)).cloned().collect();
    for (number, key, reason) in entries {
        let mut complain = |text: String| {
            remaining.push(Finding { key: format!("{FILE}::{key}"), place: format!("{FILE}:{number}"), text });
        };
        if reason.chars().count() < SHORTEST_REASON {
            complain(format!("the exception for {key} gives no reason"));
        }
        if !found.iter().any(|finding| finding.key == key) {
            complain(format!("the exception for {key} excuses nothing; delete the line"));
        }
    }
    remaining
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(key: &str) -> Finding {
        Finding { key: key.to_owned(), place: key.to_owned(), text: String::new() }
    }

    #[test]
    fn an_excused_finding_disappears_and_others_stay() {
        let left = apply(vec![finding("a.rs"), finding("a.rs::f")], "# list\na.rs::f one long table of constants\n");
        assert_eq!(left, vec![finding("a.rs")]);
    }

    #[test]
    fn an_exception_without_reason_or_use_is_a_finding() {
        let left = apply(vec![finding("a.rs")], "a.rs short\nb.rs a reason that is long enough\n");
        let texts: Vec<&str> = left.iter().map(|finding| finding.text.as_str()).collect();
        assert_eq!(texts.len(), 2);
        assert!(texts[0].contains("gives no reason") && texts[1].contains("excuses nothing"), "{texts:?}");
    }
}
