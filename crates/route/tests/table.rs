//! What matches what, and that the index never changes the answer.

use meshwright_message::{BodyLength, Method, RequestHead, Scheme};
use meshwright_model::{HeaderMatch, HttpMatch, StringMatch};
use meshwright_route::{ConditionKind, Found, Reason, ReasonOutcome, RouteTable, Rule, Site};
use proptest::prelude::*;

const SITE: Site = Site { port: 80, scheme: Scheme::Http };

fn get(target: &str) -> RequestHead {
    let path_len = target.find('?').unwrap_or(target.len());
    RequestHead {
        authority: "api.example.com:8080".to_owned(),
        target: target.to_owned(),
        path_len,
        ..RequestHead::default()
    }
}

fn with_headers(fields: &[(&str, &str)]) -> RequestHead {
    let mut head = get("/");
    fields.iter().for_each(|(name, value)| head.headers.push(name.as_bytes(), value.as_bytes()));
    head
}

fn exact(text: &str) -> StringMatch {
    StringMatch::Exact(text.to_owned())
}

fn prefix(text: &str) -> StringMatch {
    StringMatch::Prefix(text.to_owned())
}

fn regex(text: &str) -> StringMatch {
    StringMatch::Regex(text.to_owned())
}

fn path(uri: StringMatch) -> HttpMatch {
    HttpMatch { uri: Some(uri), ..HttpMatch::default() }
}

fn header(name: &str, expected: HeaderMatch) -> HttpMatch {
    HttpMatch { headers: vec![(name.to_owned(), expected)], ..HttpMatch::default() }
}

fn without_header(name: &str, expected: HeaderMatch) -> HttpMatch {
    HttpMatch { without_headers: vec![(name.to_owned(), expected)], ..HttpMatch::default() }
}

fn query(name: &str, expected: HeaderMatch) -> HttpMatch {
    HttpMatch { query: vec![(name.to_owned(), expected)], ..HttpMatch::default() }
}

fn table(rules: Vec<Vec<HttpMatch>>) -> RouteTable {
    let rules: Vec<Rule> = rules.into_iter().map(|matches| Rule { matches }).collect();
    RouteTable::compile(&rules).expect("the rules are valid")
}

fn matches(wanted: HttpMatch, head: &RequestHead) -> bool {
    table(vec![vec![wanted]]).find(head, &SITE).is_some()
}

#[test]
fn the_first_rule_wins_not_the_longest_prefix() {
    let table = table(vec![
        vec![path(prefix("/users/admin/secret"))],
        vec![path(prefix("/users"))],
        vec![path(exact("/users/7"))],
        vec![],
    ]);
    let rule = |target| table.find(&get(target), &SITE).map(|found| found.rule);
    assert_eq!(rule("/users/7"), Some(1));
    assert_eq!(rule("/users/admin/secret/x"), Some(0));
    assert_eq!(rule("/users/admin"), Some(1));
    assert_eq!(rule("/posts?x=/users"), Some(3));
}

#[test]
fn a_prefix_is_plain_text_and_does_not_end_at_a_segment() {
    assert!(matches(path(prefix("/foo")), &get("/foobar")));
    assert!(matches(path(prefix("/foo")), &get("/foo")));
    assert!(!matches(path(prefix("/foo")), &get("/fo")));
    assert!(!matches(path(prefix("/foo")), &get("/FOO")));
}

#[test]
fn the_query_takes_no_part_in_the_path() {
    assert!(matches(path(exact("/foo")), &get("/foo?bar")));
    assert!(matches(path(regex("/f.o")), &get("/foo?bar")));
    assert!(!matches(path(regex("/f")), &get("/foo")));
}

#[test]
fn case_is_ignored_where_asked_but_not_in_regular_expressions() {
    let ignoring = |uri| HttpMatch { uri: Some(uri), ignore_uri_case: true, ..HttpMatch::default() };
    assert!(matches(ignoring(exact("/Foo")), &get("/fOO")));
    assert!(matches(ignoring(prefix("/Foo")), &get("/fOObar")));
    assert!(!matches(ignoring(prefix("/Foo")), &get("/fO")));
    assert!(!matches(ignoring(regex("/foo")), &get("/FOO")));
}

#[test]
fn found_says_which_alternative_matched_and_how_much_of_the_path() {
    let table = table(vec![
        vec![path(exact("/a")), path(prefix("/b")), path(regex("/c.*"))],
        vec![header("x", HeaderMatch::Present)],
        vec![],
    ]);
    let found = |head: &RequestHead| table.find(head, &SITE);
    assert_eq!(found(&get("/a")), Some(Found { rule: 0, matched: Some(0), prefix_len: None }));
    assert_eq!(found(&get("/bcd")), Some(Found { rule: 0, matched: Some(1), prefix_len: Some(2) }));
    assert_eq!(found(&get("/cd")), Some(Found { rule: 0, matched: Some(2), prefix_len: None }));
    let with_x = with_headers(&[("X", "")]);
    assert_eq!(found(&with_x), Some(Found { rule: 1, matched: Some(0), prefix_len: Some(1) }));
    assert_eq!(found(&get("/")), Some(Found { rule: 2, matched: None, prefix_len: Some(1) }));
    assert_eq!(found(&get("*")), Some(Found { rule: 2, matched: None, prefix_len: None }));
}

#[test]
fn all_conditions_of_an_alternative_must_hold() {
    let wanted = HttpMatch {
        uri: Some(prefix("/")),
        method: Some(exact("POST")),
        scheme: Some(exact("http")),
        port: Some(80),
        ..HttpMatch::default()
    };
    let post = RequestHead { method: Method::Post, ..get("/x") };
    assert!(matches(wanted.clone(), &post));
    assert!(!matches(wanted.clone(), &get("/x")));
    let table = table(vec![vec![wanted]]);
    assert!(table.find(&post, &Site { port: 81, ..SITE }).is_none());
    assert!(table.find(&post, &Site { scheme: Scheme::Https, ..SITE }).is_none());
}

#[test]
fn the_authority_is_compared_with_its_port_and_without_case() {
    let wanted = |authority| HttpMatch { authority: Some(authority), ..HttpMatch::default() };
    let head = RequestHead { authority: "API.example.com:8080".to_owned(), ..get("/") };
    assert!(matches(wanted(exact("api.example.com:8080")), &head));
    assert!(!matches(wanted(exact("api.example.com")), &head));
    assert!(matches(wanted(prefix("api.")), &head));
    assert!(matches(wanted(regex(r"[a-z.]+:\d+")), &head));
}

#[test]
fn several_values_of_a_header_are_joined_by_commas() {
    let head = with_headers(&[("X-Tag", "a"), ("other", "z"), ("x-tag", "b"), ("X-TAG", "c")]);
    let value = |wanted| header("x-tag", HeaderMatch::Value(wanted));
    assert!(matches(value(exact("a,b,c")), &head));
    assert!(matches(value(prefix("a,b")), &head));
    assert!(matches(value(regex("a,.,c")), &head));
    assert!(!matches(value(exact("a")), &head));
    assert!(!matches(value(exact("a,b")), &with_headers(&[("x-tag", "a")])));
}

#[test]
fn header_values_need_not_be_text() {
    let mut head = get("/");
    head.headers.push(b"x", b"a\xff");
    assert!(matches(header("x", HeaderMatch::Value(prefix("a"))), &head));
    assert!(!matches(header("x", HeaderMatch::Value(exact("a"))), &head));
    assert!(matches(header("x", HeaderMatch::Present), &head));
}

#[test]
fn a_missing_header_satisfies_without_headers() {
    let is_not_a = without_header("x", HeaderMatch::Value(exact("a")));
    assert!(matches(is_not_a.clone(), &get("/")));
    assert!(matches(is_not_a.clone(), &with_headers(&[("x", "b")])));
    assert!(!matches(is_not_a, &with_headers(&[("x", "a")])));
    let absent = without_header("x", HeaderMatch::Present);
    assert!(matches(absent.clone(), &get("/")));
    assert!(!matches(absent, &with_headers(&[("x", "")])));
}

#[test]
fn pseudo_headers_and_host_look_at_the_request_itself() {
    let value = |name, wanted| header(name, HeaderMatch::Value(wanted));
    let head = RequestHead { method: Method::Other("PURGE".into()), ..get("/a?b=1") };
    assert!(matches(value(":method", exact("PURGE")), &head));
    assert!(matches(value(":path", exact("/a?b=1")), &head));
    assert!(matches(value(":scheme", exact("http")), &head));
    assert!(matches(value(":authority", exact("api.example.com:8080")), &head));
    assert!(matches(value("host", prefix("API.")), &head));
    assert!(!matches(header(":protocol", HeaderMatch::Present), &head));
}

#[test]
fn keys_that_have_fields_of_their_own_are_ignored_among_headers() {
    for name in ["uri", "scheme", "method", "authority"] {
        assert!(matches(header(name, HeaderMatch::Value(exact("nothing has this"))), &get("/")));
        assert!(matches(without_header(name, HeaderMatch::Present), &get("/")));
    }
}

#[test]
fn headers_that_became_typed_fields_can_still_be_matched() {
    let value = |name, wanted| header(name, HeaderMatch::Value(wanted));
    let mut head = RequestHead { upgrade: Some("websocket".into()), body: BodyLength::Sized(120), ..get("/") };
    assert!(matches(value("upgrade", exact("websocket")), &head));
    assert!(matches(value("connection", exact("upgrade")), &head));
    assert!(matches(value("content-length", exact("120")), &head));
    assert!(!matches(header("transfer-encoding", HeaderMatch::Present), &head));
    head.body = BodyLength::Sized(u64::MAX);
    assert!(matches(value("content-length", exact("18446744073709551615")), &head));
    head = RequestHead { body: BodyLength::Chunked, te_trailers: true, expect_continue: true, ..get("/") };
    assert!(matches(value("transfer-encoding", exact("chunked")), &head));
    assert!(matches(value("te", exact("trailers")), &head));
    assert!(matches(value("expect", exact("100-continue")), &head));
    assert!(matches(without_header("upgrade", HeaderMatch::Present), &head));
    assert!(matches(without_header("content-length", HeaderMatch::Present), &head));
}

#[test]
fn the_first_occurrence_of_a_parameter_counts_and_nothing_is_decoded() {
    let value = |wanted| query("a", HeaderMatch::Value(wanted));
    assert!(matches(value(exact("1")), &get("/?b=0&a=1&a=2")));
    assert!(!matches(value(exact("2")), &get("/?a=1&a=2")));
    assert!(matches(value(exact("%20")), &get("/?a=%20")));
    assert!(matches(value(exact("x=y")), &get("/?a=x=y")));
    assert!(matches(value(exact("")), &get("/?a")));
    assert!(matches(query("a", HeaderMatch::Present), &get("/?x&a")));
    assert!(!matches(query("a", HeaderMatch::Present), &get("/?aa=1")));
    assert!(!matches(query("a", HeaderMatch::Present), &get("/a")));
    assert!(matches(value(regex(r"\d+")), &get("/?a=12")));
    assert!(!matches(value(regex(r"\d")), &get("/?a=12")));
}

#[test]
fn an_expression_that_does_not_compile_is_named_with_its_place() {
    let rules =
        [Rule::default(), Rule { matches: vec![path(exact("/")), header("x", HeaderMatch::Value(regex("(")))] }];
    let error = RouteTable::compile(&rules).expect_err("the expression is not closed");
    assert_eq!((error.rule, error.alternative), (1, 1));
    assert_eq!(error.condition, ConditionKind::Header("x".into()));
    assert!(error.to_string().starts_with("http[1].match[1].headers[x]: `(`"), "{error}");
}

#[test]
fn no_rules_match_nothing() {
    assert!(table(vec![]).find(&get("/"), &SITE).is_none());
    assert!(table(vec![]).explain(&get("/"), &SITE).is_empty());
}

#[test]
fn explain_names_every_condition_that_failed_up_to_the_rule_that_matched() {
    let table = table(vec![
        vec![HttpMatch { headers: vec![("x".to_owned(), HeaderMatch::Present)], ..path(prefix("/a")) }],
        vec![],
        vec![path(prefix("/"))],
    ]);
    let reasons = table.explain(&get("/b"), &SITE);
    let [Reason { rule: 0, outcome: ReasonOutcome::Mismatched(mismatches), .. }, last] = &reasons[..] else {
        panic!("two alternatives were looked at: {reasons:?}");
    };
    let lines: Vec<String> = mismatches.iter().map(ToString::to_string).collect();
    assert_eq!(lines, ["uri: expected prefix \"/a\", found \"/b\"", "headers[x]: expected present, found nothing"]);
    assert_eq!(last, &Reason { rule: 1, alternative: None, outcome: ReasonOutcome::Matched });
}

/// The slow oracle: the meaning of a match, straight from the model and without anything of the crate under test.
/// Its expressions are of the form `literal.*`.
fn oracle(rules: &[Rule], head: &RequestHead, site: &Site) -> Option<(usize, Option<usize>)> {
    rules.iter().enumerate().find_map(|(rule, alternatives)| {
        if alternatives.matches.is_empty() {
            return Some((rule, None));
        }
        let matched = alternatives.matches.iter().position(|wanted| means(wanted, head, site))?;
        Some((rule, Some(matched)))
    })
}

fn means(wanted: &HttpMatch, head: &RequestHead, site: &Site) -> bool {
    let lower = |text: &str| text.to_ascii_lowercase();
    let folded = |text: &str| if wanted.ignore_uri_case { lower(text) } else { text.to_owned() };
    let uri = wanted.uri.as_ref().is_none_or(|uri| match uri {
        StringMatch::Exact(text) => folded(head.path()) == folded(text),
        StringMatch::Prefix(text) => folded(head.path()).starts_with(&folded(text)),
        regex @ StringMatch::Regex(_) => text_means(regex, head.path()),
    });
    let header_means = |name: &str, expected: &HeaderMatch| {
        let values: Vec<&[u8]> = head.headers.values(name).collect();
        let joined = String::from_utf8(values.join(&b','));
        value_means(expected, (!values.is_empty()).then(|| joined.expect("values are text")).as_deref())
    };
    let parameter = |name: &str| {
        let pairs = head.query()?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.filter(|(key, _)| *key == name).map(|(_, value)| value).next()
    };
    uri && wanted.port.is_none_or(|port| port == site.port)
        && wanted.method.as_ref().is_none_or(|method| text_means(method, head.method.as_str()))
        && wanted.authority.as_ref().is_none_or(|authority| text_means(authority, &lower(&head.authority)))
        && wanted.headers.iter().all(|(name, expected)| header_means(name, expected))
        && wanted.without_headers.iter().all(|(name, expected)| !header_means(name, expected))
        && wanted.query.iter().all(|(name, expected)| value_means(expected, parameter(name)))
}

fn text_means(expected: &StringMatch, value: &str) -> bool {
    match expected {
        StringMatch::Exact(text) => value == text,
        StringMatch::Prefix(text) => value.starts_with(text.as_str()),
        StringMatch::Regex(pattern) => value.starts_with(pattern.trim_end_matches(".*")),
    }
}

fn value_means(expected: &HeaderMatch, value: Option<&str>) -> bool {
    match (expected, value) {
        (_, None) => false,
        (HeaderMatch::Present, Some(_)) => true,
        (HeaderMatch::Value(expected), Some(value)) => text_means(expected, value),
    }
}

fn any_string(text: &'static str) -> impl Strategy<Value = StringMatch> {
    (0..3, text).prop_map(|(kind, text)| match kind {
        0 => StringMatch::Exact(text),
        1 => StringMatch::Prefix(text),
        _ => StringMatch::Regex(format!("{text}.*")),
    })
}

fn any_value() -> impl Strategy<Value = HeaderMatch> {
    prop_oneof![Just(HeaderMatch::Present), any_string("[12]{0,2}").prop_map(HeaderMatch::Value)]
}

fn any_match() -> impl Strategy<Value = HttpMatch> {
    let named = || prop::collection::vec(("[xy]", any_value()), 0..2);
    let path = prop_oneof![4 => prop::option::weighted(0.9, any_string("/[ab/]{0,3}")), 1 => Just(None)];
    (
        path,
        prop::bool::weighted(0.15),
        prop::option::weighted(0.15, any_string("GET|POST")),
        prop::option::weighted(0.1, any_string("h|hh|hh:80")),
        prop::collection::vec(("[xy]", any_value()), 0..1),
        (named(), named()),
        prop::option::weighted(0.1, 80u16..82),
    )
        .prop_map(|(uri, ignore_uri_case, method, authority, query, (headers, without_headers), port)| HttpMatch {
            uri,
            ignore_uri_case,
            method,
            authority,
            query,
            headers,
            without_headers,
            port,
            ..HttpMatch::default()
        })
}

fn any_head() -> impl Strategy<Value = RequestHead> {
    let fields = prop::collection::vec(("[xyXY]", "[12]{0,2}"), 0..3);
    ("/[abAB/]{0,4}", prop::option::of("[xy]=?[12]?(&[xy]=[12])?"), any::<bool>(), "(h|H){1,2}(:80)?", fields).prop_map(
        |(path, query, post, authority, fields)| {
            let mut head = get(&query.map_or(path.clone(), |query| format!("{path}?{query}")));
            head.method = if post { Method::Post } else { Method::Get };
            head.authority = authority;
            fields.iter().for_each(|(name, value)| head.headers.push(name.as_bytes(), value.as_bytes()));
            head
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_index_the_linear_scan_and_the_oracle_agree(
        rules in prop::collection::vec(prop::collection::vec(any_match(), 0..4), 0..12),
        heads in prop::collection::vec(any_head(), 8),
    ) {
        // A rule without conditions hides all behind it, so most tables only have one at the end.
        let last = rules.len().saturating_sub(1);
        let rules: Vec<Rule> = rules
            .into_iter()
            .enumerate()
            .filter(|(index, matches)| !matches.is_empty() || *index == last)
            .map(|(_, matches)| Rule { matches })
            .collect();
        let table = RouteTable::compile(&rules).expect("the rules are valid");
        for head in &heads {
            let found = table.find(head, &SITE);
            prop_assert_eq!(found, table.find_linear(head, &SITE));
            prop_assert_eq!(found.map(|found| (found.rule, found.matched)), oracle(&rules, head, &SITE));
            let explained = table.explain(head, &SITE).pop();
            let explained = explained.filter(|reason| reason.outcome == ReasonOutcome::Matched);
            prop_assert_eq!(found.map(|found| found.rule), explained.map(|reason| reason.rule));
        }
    }
}
