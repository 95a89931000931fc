//! The compiled rules of one virtual host. Does not know what a rule does, nor hosts and gateways: the compiler of
//! snapshots leaves out alternatives that do not apply. Read next: `condition.rs`, `path_index.rs`.

use std::fmt;

use meshwright_message::{RequestHead, Scheme};
use meshwright_model::{HttpMatch, StringMatch};

use crate::condition::{Condition, Expectation};
use crate::explain::{ConditionKind, Mismatch, Reason, ReasonOutcome};
use crate::path_index::{PathIndex, first_of};
use crate::regular_expression::PatternError;

/// One rule: alternatives of which any may match.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// Alternatives; empty matches every request. `gateways` is not looked at.
    pub matches: Vec<HttpMatch>,
}

/// Where a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// The port, as configuration numbers it.
    pub port: u16,
    /// How the client reached us.
    pub scheme: Scheme,
}

/// The rule that serves a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Index of the rule.
    pub rule: usize,
    /// Index of the alternative that matched; `None` for a rule without conditions.
    pub matched: Option<usize>,
    /// Length of the path prefix that matched, for rewrites; `None` when the whole path matched (exact, regular
    /// expression). An alternative without `uri` matches as the prefix `/`, as Istio translates it.
    pub prefix_len: Option<usize>,
}

/// A rule that cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteError {
    /// Index of the rule.
    pub rule: usize,
    /// Index of the alternative.
    pub alternative: usize,
    /// The condition.
    pub condition: ConditionKind,
    /// What is wrong with it.
    pub error: PatternError,
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http[{}].match[{}].{}: {}", self.rule, self.alternative, self.condition, self.error)
    }
}

impl std::error::Error for RouteError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// An ordered list of rules, compiled. The first rule that matches wins, within it the first alternative.
///
/// Every alternative is one entry, numbered in order. An index finds the entries whose path can match: exact paths by
/// hash, prefixes by binary search and parent links; the others (regular expressions, paths without case, no path at
/// all) are one list. From each list the first entry that holds is taken as long as it beats what was found before, so
/// the result is the same as that of asking every entry in order.
#[derive(Debug)]
pub struct RouteTable {
    entries: Vec<Entry>,
    index: PathIndex,
    unindexed: Vec<u32>,
}

#[derive(Debug)]
struct Entry {
    rule: usize,
    alternative: Option<usize>,
    uri: Option<Expectation>,
    conditions: Box<[Condition]>,
}

impl RouteTable {
    /// Compiles rules in order of priority.
    pub fn compile(rules: &[Rule]) -> Result<Self, RouteError> {
        let mut entries = Vec::new();
        for (rule, alternatives) in rules.iter().enumerate() {
            if alternatives.matches.is_empty() {
                entries.push(Entry { rule, alternative: None, uri: None, conditions: Box::default() });
            }
            for (alternative, conditions) in alternatives.matches.iter().enumerate() {
                let entry = Entry::compile(rule, alternative, conditions).map_err(|(condition, error)| RouteError {
                    rule,
                    alternative,
                    condition,
                    error,
                })?;
                entries.push(entry);
            }
        }
        let numbered = || entries.iter().zip(0u32..);
        let index = PathIndex::new(
            numbered().filter_map(|(entry, number)| match &entry.uri {
                Some(Expectation::Exact(path)) => Some((&**path, number)),
                _ => None,
            }),
            numbered().filter_map(|(entry, number)| match &entry.uri {
                Some(Expectation::Prefix(path)) => Some((&**path, number)),
                _ => None,
            }),
        );
        let is_indexed = |entry: &Entry| matches!(entry.uri, Some(Expectation::Exact(_) | Expectation::Prefix(_)));
        let unindexed = numbered().filter(|(entry, _)| !is_indexed(entry)).map(|(_, number)| number).collect();
        Ok(Self { entries, index, unindexed })
    }

    /// The first rule that matches. Allocates only when a condition looks at a header that was sent more than once.
    pub fn find(&self, head: &RequestHead, site: &Site) -> Option<Found> {
        let indexed = |number: u32| self.entries[number as usize].conditions_hold(head, site);
        let mut any = |number: u32| self.entries[number as usize].holds(head, site);
        let bound = self.index.first(head.path().as_bytes(), u32::MAX, indexed);
        let first = first_of(&self.unindexed, bound, &mut any);
        self.entries.get(first as usize).map(|entry| entry.found(head))
    }

    /// The same as [`RouteTable::find`] by asking every entry in order: what the index is tested against.
    pub fn find_linear(&self, head: &RequestHead, site: &Site) -> Option<Found> {
        self.entries.iter().find(|entry| entry.holds(head, site)).map(|entry| entry.found(head))
    }

    /// What became of every alternative in order, up to the one that matches.
    pub fn explain(&self, head: &RequestHead, site: &Site) -> Vec<Reason> {
        let mut reasons = Vec::new();
        for entry in &self.entries {
            let mismatches = entry.mismatches(head, site);
            let matched = mismatches.is_empty();
            let outcome = if matched { ReasonOutcome::Matched } else { ReasonOutcome::Mismatched(mismatches) };
            reasons.push(Reason { rule: entry.rule, alternative: entry.alternative, outcome });
            if matched {
                break;
            }
        }
        reasons
    }

    /// Number of alternatives over all rules; a rule without conditions counts as one.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when nothing can match.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl Entry {
    fn compile(rule: usize, alternative: usize, wanted: &HttpMatch) -> Result<Self, (ConditionKind, PatternError)> {
        let about = |condition: ConditionKind| move |error: PatternError| (condition, error);
        let uri = match &wanted.uri {
            Some(uri) => {
                Some(Expectation::of_string(uri, wanted.ignore_uri_case, false).map_err(about(ConditionKind::Uri))?)
            }
            None => None,
        };
        let mut conditions: Vec<Condition> = wanted.port.map(Condition::Port).into_iter().collect();
        let mut simple = |expected: &Option<StringMatch>,
                          compile: fn(&StringMatch) -> Result<Condition, PatternError>,
                          kind: ConditionKind| {
            if let Some(expected) = expected {
                conditions.push(compile(expected).map_err(about(kind))?);
            }
            Ok(())
        };
        simple(&wanted.method, Condition::method, ConditionKind::Method)?;
        simple(&wanted.scheme, Condition::scheme, ConditionKind::Scheme)?;
        simple(&wanted.authority, Condition::authority, ConditionKind::Authority)?;
        for (negated, headers) in [(false, &wanted.headers), (true, &wanted.without_headers)] {
            // These four keys have fields of their own; Istio ignores them here.
            let effective = |name: &str| !matches!(name, "uri" | "scheme" | "method" | "authority");
            for (name, expected) in headers.iter().filter(|(name, _)| effective(name)) {
                let kind = if negated { ConditionKind::WithoutHeader } else { ConditionKind::Header };
                let compiled = Condition::header(name, expected, negated);
                conditions.push(compiled.map_err(about(kind(name.as_str().into())))?);
            }
        }
        for (name, expected) in &wanted.query {
            let compiled = Condition::query(name, expected);
            conditions.push(compiled.map_err(about(ConditionKind::Query(name.as_str().into())))?);
        }
        Ok(Self { rule, alternative: Some(alternative), uri, conditions: conditions.into() })
    }

    fn uri_holds(&self, head: &RequestHead) -> bool {
        self.uri.as_ref().is_none_or(|uri| uri.accepts(head.path().as_bytes()))
    }

    fn conditions_hold(&self, head: &RequestHead, site: &Site) -> bool {
        self.conditions.iter().all(|condition| condition.holds(head, site))
    }

    /// The path comes last: it may be a regular expression, and the others are mostly cheaper.
    fn holds(&self, head: &RequestHead, site: &Site) -> bool {
        self.conditions_hold(head, site) && self.uri_holds(head)
    }

    fn found(&self, head: &RequestHead) -> Found {
        let prefix_len = match &self.uri {
            Some(Expectation::Prefix(prefix) | Expectation::PrefixIgnoringCase(prefix)) => Some(prefix.len()),
            Some(_) => None,
            None => head.path().starts_with('/').then_some(1),
        };
        Found { rule: self.rule, matched: self.alternative, prefix_len }
    }

    fn mismatches(&self, head: &RequestHead, site: &Site) -> Vec<Mismatch> {
        let mut mismatches = Vec::new();
        if let Some(uri) = self.uri.as_ref().filter(|_| !self.uri_holds(head)) {
            let (condition, found) = (ConditionKind::Uri, Some(head.path().to_owned()));
            mismatches.push(Mismatch { condition, expected: uri.describe(), found });
        }
        for condition in self.conditions.iter().filter(|condition| !condition.holds(head, site)) {
            let (expected, found) = (condition.expected(), condition.found(head, site));
            mismatches.push(Mismatch { condition: condition.kind(), expected, found });
        }
        mismatches
    }
}
