//! Rules of one virtual service that no request can reach: after a rule that takes everything, repeated, or shadowed.

use std::collections::{BTreeSet, HashMap};

use meshwright_model::{Diagnostic, HeaderMatch, HttpMatch, StringMatch, VirtualService};

use crate::finding::{Findings, Reporter};
use crate::kind::Object;
use crate::record::Record;

/// Alternatives with the same path (or with none) that are compared with a later one; the rest is not looked at.
const MAX_COMPARED: usize = 200;

/// An alternative of an earlier rule.
#[derive(Clone, Copy)]
struct Earlier<'e> {
    rule: usize,
    condition: &'e HttpMatch,
}

/// Earlier alternatives by what their path condition can cover, so that long lists stay cheap.
#[derive(Default)]
struct Index<'e> {
    prefixes: HashMap<&'e str, Vec<Earlier<'e>>>,
    prefix_lengths: BTreeSet<usize>,
    exact: HashMap<&'e str, Vec<Earlier<'e>>>,
    regexes: HashMap<&'e str, Vec<Earlier<'e>>>,
    /// No path condition, or one without regard to case.
    others: Vec<Earlier<'e>>,
}

impl<'e> Index<'e> {
    fn add(&mut self, earlier: Earlier<'e>) {
        let list = match &earlier.condition.uri {
            Some(StringMatch::Regex(text)) => self.regexes.entry(text).or_default(),
            None => &mut self.others,
            Some(_) if earlier.condition.ignore_uri_case => &mut self.others,
            Some(StringMatch::Exact(text)) => self.exact.entry(text).or_default(),
            Some(StringMatch::Prefix(text)) => {
                self.prefix_lengths.insert(text.len());
                self.prefixes.entry(text).or_default()
            }
        };
        if list.len() < MAX_COMPARED {
            list.push(earlier);
        }
    }

    /// The first alternative that certainly takes every request that meets `later`.
    fn taker(&self, later: &HttpMatch) -> Option<Earlier<'e>> {
        let (text, same) = match &later.uri {
            None => ("", None),
            Some(StringMatch::Prefix(text)) => (text.as_str(), None),
            Some(StringMatch::Exact(text)) => (text.as_str(), self.exact.get(text.as_str())),
            Some(StringMatch::Regex(text)) => (literal_start(text), self.regexes.get(text.as_str())),
        };
        let starts = self.prefix_lengths.range(..=text.len()).filter_map(|length| text.get(..*length));
        let prefixes = starts.filter_map(|start| self.prefixes.get(start)).flatten();
        let candidates = prefixes.chain(same.into_iter().flatten()).chain(&self.others);
        candidates.filter(|earlier| covers(earlier.condition, later)).min_by_key(|earlier| earlier.rule).copied()
    }
}

pub(super) fn check(object: &Object<VirtualService>, findings: &mut Findings) {
    let records: Vec<&Record> = object.spec.records("http").collect();
    // A condition that could not be read would look like none at all.
    if records.len() != object.model.http.len() || findings.failed_for(&object.subject) {
        return;
    }
    let mut reporter = Reporter { findings, subject: &object.subject };
    let mut catch_all: Option<usize> = None;
    let mut earlier = Index::default();
    for (index, (route, record)) in object.model.http.iter().zip(&records).enumerate() {
        if let Some(taker) = catch_all {
            unreachable_rule(index, taker, record, &mut reporter);
            continue;
        }
        if route.matches.is_empty() {
            catch_all = Some(index);
            continue;
        }
        let entries: Vec<&Record> = record.records("match").collect();
        for (position, condition) in route.matches.iter().enumerate() {
            let taker = earlier.taker(condition);
            if let (Some(taker), Some(entry)) = (taker, entries.get(position)) {
                ineffective_match((index, position), &taker, condition, entry, &mut reporter);
            } else {
                earlier.add(Earlier { rule: index, condition });
            }
            if takes_everything(condition) {
                catch_all = Some(index);
            }
        }
    }
}

fn unreachable_rule(index: usize, taker: usize, record: &Record, reporter: &mut Reporter<'_>) {
    let name = record.text("name").map_or_else(|| format!("#{index}"), |name| format!("{name:?}"));
    let message = format!("VirtualService rule {name} not used (route without matches defined before: http[{taker}])");
    let finding = Diagnostic::warning("IST0130", message)
        .with_allowed("only the last rule can have no matches")
        .with_effect("no request ever reaches this rule")
        .with_suggestion(format!("move it before http[{taker}]"));
    reporter.add(&record.place, finding);
}

fn ineffective_match(
    (index, position): (usize, usize),
    taker: &Earlier<'_>,
    condition: &HttpMatch,
    entry: &Record,
    reporter: &mut Reporter<'_>,
) {
    let same = same_conditions(taker.condition, condition) && taker.condition.uri == condition.uri;
    let (code, message) = match same {
        true => (
            "IST0131",
            format!(
                "VirtualService rule #{index} match #{position} is not used (duplicate/overlapping match in rule #{})",
                taker.rule
            ),
        ),
        false => (
            "shadowed-match",
            format!(
                "rule #{index} match #{position} is never reached: rule #{} takes every request that it matches ({})",
                taker.rule,
                taker.condition.uri.as_ref().map_or_else(|| "any path".to_owned(), show)
            ),
        ),
    };
    let finding = Diagnostic::warning(code, message)
        .with_allowed("the more specific match first; the first that matches wins")
        .with_effect("no request ever reaches this match")
        .with_suggestion(format!("move http[{index}] before http[{}], or remove the match", taker.rule));
    reporter.add(&entry.place, finding);
}

fn show(uri: &StringMatch) -> String {
    match uri {
        StringMatch::Exact(text) => format!("exact {text}"),
        StringMatch::Prefix(text) => format!("prefix {text}"),
        StringMatch::Regex(text) => format!("regex {text}"),
    }
}

/// No condition at all, or one that every path meets.
fn takes_everything(condition: &HttpMatch) -> bool {
    let any_path = match &condition.uri {
        None => true,
        Some(StringMatch::Prefix(prefix)) => prefix == "/",
        Some(StringMatch::Regex(regex)) => matches!(regex.as_str(), ".*" | "/.*"),
        Some(StringMatch::Exact(_)) => false,
    };
    any_path && same_conditions(condition, &HttpMatch::default())
}

/// Whether every request that meets `later` meets `first` too; false when that is not certain.
fn covers(first: &HttpMatch, later: &HttpMatch) -> bool {
    if takes_everything(first) {
        return false;
    }
    let conditions = same_conditions(first, later) || no_conditions(first);
    conditions && (first.ignore_uri_case || !later.ignore_uri_case) && covers_uri(first, later)
}

fn covers_uri(first: &HttpMatch, later: &HttpMatch) -> bool {
    let fold = first.ignore_uri_case;
    let same = |a: &str, b: &str| if fold { a.eq_ignore_ascii_case(b) } else { a == b };
    match (&first.uri, &later.uri) {
        (None, _) => true,
        (Some(StringMatch::Prefix(a)), Some(StringMatch::Exact(b) | StringMatch::Prefix(b))) => {
            b.get(..a.len()).is_some_and(|start| same(a, start))
        }
        (Some(StringMatch::Prefix(a)), Some(StringMatch::Regex(b))) => {
            !fold && literal_start(b).starts_with(a.as_str())
        }
        (Some(StringMatch::Exact(a)), Some(StringMatch::Exact(b))) => same(a, b),
        (Some(StringMatch::Regex(a)), Some(StringMatch::Regex(b))) => a == b,
        _ => false,
    }
}

/// The characters that every match of an expression starts with, as far as they are plain.
fn literal_start(regex: &str) -> &str {
    let body = regex.strip_prefix('^').unwrap_or(regex);
    if body.contains('|') {
        return "";
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-_~%".contains(c);
    let end = body.find(|c| !plain(c)).unwrap_or(body.len());
    match body[end..].starts_with(['*', '?', '{']) {
        true => &body[..end.saturating_sub(1)],
        false => &body[..end],
    }
}

fn no_conditions(condition: &HttpMatch) -> bool {
    same_conditions(condition, &HttpMatch::default())
}

/// Whether everything but the path is asked for in the same way.
fn same_conditions(a: &HttpMatch, b: &HttpMatch) -> bool {
    a.scheme == b.scheme
        && a.method == b.method
        && a.authority == b.authority
        && same(&a.headers, &b.headers)
        && same(&a.without_headers, &b.without_headers)
        && same(&a.query, &b.query)
        && a.port == b.port
        && a.gateways == b.gateways
}

fn same(a: &[(String, HeaderMatch)], b: &[(String, HeaderMatch)]) -> bool {
    a.len() == b.len() && a.iter().all(|condition| b.contains(condition))
}
