//! Regular expressions with RE2's meaning on top of the `regex` crate, which has the same class of syntax and the same
//! linear time. Knows nothing of requests. Read next: `condition.rs`, and `re2` in `meshwright-model` for the
//! differences.

use std::fmt;

use meshwright_model::re2;
use regex::{Regex, RegexBuilder, bytes};

/// Most memory for the lazily built automaton that one thread keeps for one expression.
const AUTOMATON_LIMIT: usize = 512 << 10;

/// A regular expression or a substitution that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternError {
    /// As written.
    pub pattern: String,
    /// What is wrong with it.
    pub message: String,
}

impl PatternError {
    pub(crate) fn new(pattern: &str, message: impl Into<String>) -> Self {
        Self { pattern: pattern.to_owned(), message: message.into() }
    }
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.pattern, self.message)
    }
}

impl std::error::Error for PatternError {}

/// An expression that must match a whole value, which may hold any bytes.
pub(crate) fn whole(pattern: &str, ignore_case: bool) -> Result<bytes::Regex, PatternError> {
    // Alone first: `a)(b` must not become valid by what is put around it.
    part(pattern)?;
    bytes::RegexBuilder::new(&format!("^(?:{})$", re2::translate(pattern)))
        .case_insensitive(ignore_case)
        .size_limit(re2::PROGRAM_LIMIT)
        .dfa_size_limit(AUTOMATON_LIMIT)
        .build()
        .map_err(|error| PatternError::new(pattern, error.to_string()))
}

/// An expression that may match anywhere in a text.
pub(crate) fn part(pattern: &str) -> Result<Regex, PatternError> {
    RegexBuilder::new(&re2::translate(pattern))
        .size_limit(re2::PROGRAM_LIMIT)
        .dfa_size_limit(AUTOMATON_LIMIT)
        .build()
        .map_err(|error| PatternError::new(pattern, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        whole(pattern, false).expect("the pattern is valid").is_match(text.as_bytes())
    }

    #[test]
    fn the_whole_value_must_match_with_alternatives_too() {
        assert!(matches("a|bc", "bc"));
        assert!(!matches("a|bc", "abc"));
        assert!(!matches("a", "a\n"));
        assert!(matches("", ""));
        assert!(whole("a)(b", false).is_err());
        assert!(whole("(", false).is_err());
    }

    #[test]
    fn perl_classes_are_ascii_as_in_re2() {
        assert!(matches(r"\d+", "12"));
        assert!(!matches(r"\d", "٣"));
        assert!(!matches(r"\w", "é"));
        assert!(matches(r"[\w-]+", "a_b-9"));
        assert!(matches(r"[^\d]", "é"));
        assert!(matches(r"[\D]", "x"));
        assert!(!matches(r"[\D]", "7"));
        assert!(matches(r"a\b.*", "a b"));
        assert!(matches(r"\\d", r"\d"));
        assert!(matches(r"\s\S\W", " a-"));
    }

    #[test]
    fn brackets_and_doubled_signs_in_a_class_are_plain_characters_as_in_re2() {
        assert!(matches("[[a]+", "[a"));
        assert!(matches("[]a]+", "]a"));
        assert!(!matches("[^]a]", "]"));
        assert!(matches("[a&&b]+", "a&b"));
        assert!(matches("[a~~b]+", "a~b"));
        assert!(matches("[+--]+", "+,-"));
        assert!(matches("[[:alpha:]_]+", "ab_"));
        assert!(matches("[a-z]+[0-9]", "xy7"));
    }

    #[test]
    fn an_expression_that_would_need_too_much_memory_is_refused() {
        assert!(whole("((a{0,100}){0,100}){0,100}", false).is_err());
        assert!(whole(r"/users/[\w.-]{1,256}/.{0,256}", false).is_ok());
    }

    #[test]
    fn bytes_that_are_not_utf8_do_not_match_a_dot() {
        assert!(!whole(".*", false).expect("valid").is_match(b"\xff"));
    }
}
