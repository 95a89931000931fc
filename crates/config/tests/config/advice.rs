//! What a finding advises is right itself, and one mistake leads to one finding.

use meshwright_model::Diagnostic;

use crate::case::{
    destination_rule, document, error, errors, expect, read, read_with, routes, virtual_service, warning,
};

const ROUTE: &str = "route: [{destination: {host: a}}]";

/// The only finding of a text, with one service `a` of which one endpoint has a label.
fn only(text: &str) -> Diagnostic {
    let outcome = read_with(text, &["a=:1;version=v1"]);
    let [finding] = outcome.diagnostics.as_slice() else { panic!("{:#?}\nin\n{text}", outcome.diagnostics) };
    finding.clone()
}

#[test]
fn an_invalid_subset_name_gets_a_valid_suggestion_and_no_second_finding() {
    let destination = |subset: &str| routes(&format!("- route: [{{destination: {{host: a, subset: {subset}}}}}]"));
    let subsets = |fields: &str| destination_rule(&format!("host: a\nsubsets: [{{{fields}labels: {{version: v9}}}}]"));
    let cases = [
        (destination("V_1!"), "rename it, for example to v-1"),
        (destination("'!!'"), "rename it"),
        (destination("''"), "write for example v1, or leave the field out"),
        (subsets("name: V_1!, "), "rename it, for example to v-1"),
        (subsets("name: -v.1-, "), "rename it, for example to v-1"),
        (subsets("name: '', "), "add for example `name: v1`"),
        (subsets(""), "add for example `name: v1`"),
    ];
    for (text, suggestion) in cases {
        let finding = only(&text);
        assert_eq!((finding.code, finding.suggestion.as_deref()), ("invalid-name", Some(suggestion)), "{text}");
    }
}

#[test]
fn an_invalid_object_name_gets_a_valid_suggestion() {
    let named = |metadata: &str| routes(&format!("- {ROUTE}")).replace("name: test", metadata);
    for (metadata, suggestion) in [
        ("name: My_App..1!", "rename it, for example to \"my-app.1\""),
        ("name: '!'", "rename it"),
        ("name: test\n  namespace: My.Team_", "rename it, for example to \"my-team\""),
    ] {
        let outcome = read_with(&named(metadata), &["a=:1"]);
        let finding = errors(&outcome).find(|finding| finding.code == "invalid-name").expect(metadata);
        assert_eq!(finding.suggestion.as_deref(), Some(suggestion), "{metadata}");
    }
}

#[test]
fn a_host_that_is_no_name_is_not_advised_as_a_service() {
    for host in ["'*'", "'*.b'", "a_b", "10.0.0.1", "'a b'"] {
        let finding = only(&routes(&format!("- route: [{{destination: {{host: {host}}}}}]")));
        assert_eq!(finding.code, "invalid-host", "{host}");
    }
    for host in ["'*a'", "a_b", "'a b'", "''"] {
        assert_eq!(only(&destination_rule(&format!("host: {host}"))).code, "invalid-host", "{host}");
    }
    for host in ["'*'", "'*.b.example.com'"] {
        let outcome = read(&destination_rule(&format!("host: {host}")));
        let [finding] = outcome.diagnostics.as_slice() else { panic!("{:#?}", outcome.diagnostics) };
        let suggestion = finding.suggestion.as_deref().unwrap_or_default();
        assert_eq!(finding.code, "IST0174", "{host}");
        assert!(suggestion.starts_with("add a service that the host covers"), "{suggestion}");
    }
}

#[test]
fn an_empty_condition_is_advised_what_its_field_takes() {
    for (entry, code, advice) in [
        ("uri: {prefix: ''}", "empty-condition", "write `prefix: /`"),
        ("uri: {regex: ''}", "empty-condition", "write `prefix: /`"),
        ("authority: {prefix: ''}", "empty-condition", "remove the condition"),
        ("headers: {x: {prefix: ''}}", "empty-condition", "write `{}`"),
        ("queryParams: {uri: {prefix: ''}}", "empty-condition", "write `{}`"),
        ("uri: {}", "null-condition", "write for example `uri: {prefix: /}`"),
        ("method: {}", "null-condition", "write for example `method: {exact: GET}`"),
        ("authority: {}", "null-condition", "write for example `authority: {exact: api.example.com}`"),
    ] {
        let finding = only(&routes(&format!("- match: [{{{entry}}}]\n  {ROUTE}")));
        let suggestion = finding.suggestion.as_deref().unwrap_or_default();
        assert_eq!(finding.code, code, "{entry}");
        assert!(suggestion.starts_with(advice), "{entry}: {suggestion}");
    }
}

#[test]
fn conditions_that_no_request_meets_are_named() {
    for (entry, field, suggestion) in [
        ("uri: {exact: §api}", "uri.exact", "write `exact: /api`"),
        ("uri: {exact: §''}", "uri.exact", "write `exact: /`"),
        ("uri: {prefix: §api/}", "uri.prefix", "write `prefix: /api/`"),
        ("uri: {prefix: §'*'}", "uri.prefix", "write `prefix: /` to match every path"),
        ("uri: {prefix: §'https://a.example.com/b'}", "uri.prefix", "write `prefix: /b`"),
        ("uri: {exact: §'https://a.example.com'}", "uri.exact", "write `exact: /`"),
        ("scheme: {exact: §HTTPS}", "scheme.exact", "write `exact: https`"),
        ("scheme: {exact: §grpc}", "scheme.exact", "write `exact: http` or `exact: https`, or remove the condition"),
        (
            "authority: {exact: §'https://a.example.com/b'}",
            "authority.exact",
            "write `exact: a.example.com`; a path belongs in `uri`",
        ),
        (
            "authority: {prefix: §a.example.com/}",
            "authority.prefix",
            "write `prefix: a.example.com`; a path belongs in `uri`",
        ),
        ("authority: {prefix: §/a}", "authority.prefix", "write the host alone, for example `exact: api.example.com`"),
        ("method: {exact: §get}", "method.exact", "write `exact: GET`"),
        ("method: {exact: §patch}", "method.exact", "write `exact: PATCH`"),
    ] {
        let text = routes(&format!("- match: [{{{entry}}}]\n  {ROUTE}"));
        let path = format!("spec.http[0].match[0].{field}");
        expect(&text, &warning("never-matches", path.leak(), "can never be met"));
        let finding = only(&text.replace('§', ""));
        assert_eq!(finding.suggestion.as_deref(), Some(suggestion), "{entry}");
        assert!(finding.effect.is_some_and(|effect| effect.starts_with("no request can match")), "{entry}");
    }
}

#[test]
fn conditions_that_a_request_can_meet_are_left_alone() {
    for entry in [
        "uri: {exact: '*'}",
        "uri: {exact: /}",
        "uri: {prefix: /api}",
        "uri: {regex: 'api'}",
        "scheme: {exact: http}",
        "scheme: {exact: https}",
        "scheme: {prefix: ht}",
        "authority: {exact: 'a.example.com:8080'}",
        "authority: {prefix: a.}",
        "method: {exact: GET}",
        "method: {exact: purge}",
        "headers: {x: {exact: api}}",
        "queryParams: {uri: {exact: api}, method: {exact: get}}",
    ] {
        let outcome = read_with(&routes(&format!("- match: [{{{entry}}}]\n  {ROUTE}")), &["a=:1"]);
        assert!(outcome.diagnostics.is_empty(), "{entry}: {:?}", outcome.diagnostics);
    }
}

#[test]
fn a_port_that_repeats_name_and_number_is_told_both_at_once() {
    let port = |number: &str, name: &str| format!("{{number: {number}, name: {name}, protocol: HTTP}}");
    let first = port("80", "a");
    for (more, paths) in [
        (vec![port("80", "a")], vec!["spec.ports[1].number", "spec.ports[1].name"]),
        (vec![port("81", "a"), port("81", "b")], vec!["spec.ports[1].name", "spec.ports[2].number"]),
        (vec![port("0", "a")], vec!["spec.ports[1].number", "spec.ports[1].name"]),
        (vec![port("81", "b")], vec![]),
    ] {
        let spec = format!(
            "hosts: [b.example.com]\nports: [{first}, {}]\nresolution: STATIC\nendpoints: [{{address: 10.0.0.1}}]",
            more.join(", ")
        );
        let outcome = read(&document("ServiceEntry", &spec));
        let found: Vec<&str> = errors(&outcome).map(|finding| finding.path.as_str()).collect();
        assert_eq!(found, paths, "{spec}");
    }
    let twice = document("ServiceEntry", &format!("hosts: [b]\nports: [{first}, {first}]"));
    let outcome = read(&twice);
    let values: Vec<Option<&str>> = errors(&outcome).map(|finding| finding.value.as_deref()).collect();
    assert_eq!(values, [Some("80"), Some("a")]);
}

#[test]
fn a_key_given_twice_has_the_path_of_its_mapping() {
    for (text, path) in [
        ("a: 1\n§a: 2", ""),
        ("spec:\n  a: 1\n  §a: 2", "spec"),
        ("spec:\n  http:\n  - b: 1\n  - a: 1\n    §a: 2", "spec.http[1]"),
        ("spec: {http: [{match: [{uri: {exact: /a, §exact: /b}}]}]}", "spec.http[0].match[0].uri"),
        ("spec: {labels: {app.io/name: {a: 1, §a: 2}}}", "spec.labels[\"app.io/name\"]"),
        ("spec:\n  <<: {a: 1, §a: 2}\n  b: 1", "spec"),
        ("spec:\n  <<: [{a: {b: 1, §b: 2}}]", "spec"),
        ("spec: [{a: 1}]\n---\nother: [{a: 1, §a: 2}]", "other[0]"),
    ] {
        expect(text, &error("duplicate-key", path, "the key `"));
    }
}

#[test]
fn missing_hosts_are_named_before_what_istio_says_of_them() {
    for (spec, message) in [
        ("gateways: [g]\n", "`hosts` is missing: delegate virtual service must have no gateways specified"),
        ("gateways: [g]\nhosts: []\n", "`hosts` is missing: delegate virtual service must have no gateways specified"),
        ("", "virtual service must have at least one host (`hosts` is missing)"),
    ] {
        let outcome = read_with(&virtual_service(&format!("{spec}http:\n- {ROUTE}")), &["a=:1"]);
        let messages: Vec<&str> = errors(&outcome).map(|finding| finding.message.as_str()).collect();
        assert_eq!(messages, [message], "{spec}");
    }
}
