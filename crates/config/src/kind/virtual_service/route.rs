//! One entry of `http[]`: its one action and what goes with it.

use meshwright_model::{Diagnostic, HttpRoute, RouteAction};

use super::{action, condition, headers, retry};
use crate::finding::Reporter;
use crate::record::{Data, Record};

/// Reads a route; `None` when it has no usable action (said already).
pub(super) fn read(record: &Record, index: usize, namespace: &str, reporter: &mut Reporter<'_>) -> Option<HttpRoute> {
    check_one_action(record, index, reporter);
    let matches = record.records("match").map(|entry| condition::read(entry, namespace, reporter)).collect();
    let timeout = record.duration("timeout").filter(|timeout| !timeout.is_zero());
    let retries = retry::read(record, timeout, reporter);
    let mut rewrite = action::read_rewrite(record, reporter);
    let operations = headers::read(record, reporter);
    if let Some((host, place)) = operations.host {
        let rewrite = rewrite.get_or_insert_default();
        match &rewrite.authority {
            Some(first) => reporter.add(&place, headers::host_twice(first, &host)),
            None => rewrite.authority = Some(host),
        }
    }
    let destinations = action::read_destinations(record, reporter);
    let redirect = action::read_redirect(record, reporter);
    let direct_response = action::read_direct_response(record, reporter);
    let action = match (redirect, direct_response) {
        (Some(redirect), _) => RouteAction::Redirect(redirect),
        (None, Some(response)) => RouteAction::DirectResponse(response),
        (None, None) if destinations.is_empty() => return None,
        (None, None) => RouteAction::Forward(destinations),
    };
    Some(HttpRoute {
        name: record.text("name").filter(|name| !name.is_empty()).map(str::to_owned),
        matches,
        action,
        rewrite,
        timeout,
        retries,
        headers: operations.headers,
        origin: reporter.subject.origin(&record.place),
    })
}

/// Pairs that cannot stand in one route, with Istio's words.
const CONFLICTS: &[(&str, &str, &str)] = &[
    ("route", "redirect", "HTTP route cannot contain both route and redirect"),
    ("route", "directResponse", "HTTP route cannot contain both route and direct_response"),
    ("redirect", "directResponse", "HTTP route cannot contain both redirect and direct_response"),
    ("fault", "redirect", "HTTP route cannot contain both fault and redirect"),
    ("rewrite", "redirect", "HTTP route rule cannot contain both rewrite and redirect"),
    ("rewrite", "directResponse", "HTTP route rule cannot contain both rewrite and direct_response"),
    ("mirror", "mirrors", "HTTP route cannot contain both mirror and mirrors"),
];

fn check_one_action(record: &Record, index: usize, reporter: &mut Reporter<'_>) {
    let given =
        |name: &str| record.item(name).is_some_and(|item| !matches!(&item.data, Data::List(items) if items.is_empty()));
    let called = match record.text("name").filter(|name| !name.is_empty()) {
        Some(name) => format!("route {name:?}"),
        None => format!("http[{index}]"),
    };
    if !["route", "redirect", "directResponse", "delegate"].into_iter().any(given) {
        let finding = Diagnostic::error(
            "missing-field",
            format!("HTTP route, redirect or direct_response is required (in {called})"),
        )
        .with_allowed("exactly one of route, redirect, directResponse")
        .with_effect("nobody would know what to do with a request that matches")
        .with_suggestion("add `route: [{destination: {host: my-service}}]`");
        reporter.add(&record.place, finding);
    }
    for (first, second, message) in CONFLICTS {
        if given(first) && given(second) {
            let finding = Diagnostic::error("choice", format!("{message} (in {called})"))
                .with_value(*second)
                .with_allowed(format!("`{first}` or `{second}`"))
                .with_effect("one of the two would be without effect")
                .with_suggestion(format!("remove `{first}` or `{second}`, or make two routes of it"));
            reporter.add(&record.key_of(second), finding);
        }
    }
}
