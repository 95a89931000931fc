//! Documents, kinds, names, fields: what every document must be, whatever its kind.

use meshwright_config::{Options, Source, load};
use meshwright_model::Severity;

use crate::case::{document, error, errors, expect, mesh, read, warning};

const ISTIO: &str = "apiVersion: networking.istio.io/v1\n";

#[test]
fn a_document_must_say_what_it_is() {
    let cases = [
        ("§- a", error("not-an-object", "", "a document must be an object with apiVersion and kind")),
        ("§hello", error("not-an-object", "", "this is a string")),
        ("§spec: {}", error("not-an-object", "", "apiVersion and kind are missing")),
        ("§apiVersion: v1", error("not-an-object", "", "kind is missing")),
        ("§kind: Service", error("not-an-object", "", "apiVersion is missing")),
        (
            "apiVersion: §networking.istio.io/v2\nkind: Gateway",
            error("unknown-version", "apiVersion", "Gateway has no version \"networking.istio.io/v2\""),
        ),
        (
            "apiVersion: networking.istio.io/v1\nkind: §VirtualServce",
            error("unknown-kind", "kind", "Istio has no kind \"VirtualServce\""),
        ),
        (
            "apiVersion: networking.istio.io/v1alpha3\nkind: §EnvoyFilter",
            warning("kind-without-effect", "kind", "EnvoyFilter (networking.istio.io/v1alpha3) is not read"),
        ),
        ("apiVersion: batch/v1\nkind: §Job", warning("kind-without-effect", "kind", "Job (batch/v1) is not read")),
        (
            "apiVersion: gateway.networking.k8s.io/v1\nkind: §Gateway",
            warning("kind-without-effect", "kind", "Gateway (gateway.networking.k8s.io/v1) is not read"),
        ),
        (
            "apiVersion: security.istio.io/v1\nkind: §AuthorizationPolicy",
            error(
                "security-kind",
                "kind",
                "AuthorizationPolicy is not supported by this version and cannot be left out safely",
            ),
        ),
        (
            "apiVersion: security.istio.io/v1\nkind: §RequestAuthentication",
            error("security-kind", "kind", "RequestAuthentication"),
        ),
        (
            "apiVersion: security.istio.io/v1\nkind: §PeerAuthentication\nspec: {mtls: {mode: STRICT}}",
            error("security-kind", "kind", "PeerAuthentication"),
        ),
        (
            "apiVersion: security.istio.io/v1\nkind: §PeerAuthentication\nspec: {mtls: {mode: PERMISSIVE}}",
            warning("kind-without-effect", "kind", "PeerAuthentication is not read"),
        ),
        ("apiVersion: v1\nkind: List\n§items: 5", error("wrong-type", "items", "expected a list, found the number 5")),
    ];
    for (text, expected) in &cases {
        let moved = text.replace("§items: 5", "items: §5");
        expect(&moved, expected);
    }
}

#[test]
fn an_object_has_a_name_that_nobody_else_has() {
    let spec = "spec: {host: a}";
    let cases = [
        (
            format!("§{ISTIO}kind: DestinationRule\n{spec}"),
            error("missing-field", "metadata.name", "the object has no name"),
        ),
        (
            format!("{ISTIO}kind: DestinationRule\nmetadata: {{§namespace: a}}\n{spec}"),
            error("missing-field", "metadata.name", "the object has no name"),
        ),
        (
            format!("{ISTIO}kind: DestinationRule\nmetadata: {{name: §My_Rule}}\n{spec}"),
            error("invalid-name", "metadata.name", "invalid name: \"My_Rule\""),
        ),
        (
            format!("{ISTIO}kind: DestinationRule\nmetadata: {{name: a, namespace: §a.b}}\n{spec}"),
            error("invalid-name", "metadata.namespace", "invalid namespace: \"a.b\""),
        ),
        (
            format!(
                "{ISTIO}kind: DestinationRule\nmetadata: {{name: a}}\n{spec}\n---\n§apiVersion: \
                 networking.istio.io/v1beta1\nkind: DestinationRule\nmetadata: {{name: a}}\n{spec}"
            ),
            error("duplicate-object", "", "DestinationRule/default/a is defined twice: first at test.yaml:1:1"),
        ),
    ];
    for (text, expected) in &cases {
        expect(text, expected);
    }
}

#[test]
fn unknown_fields_are_named_at_every_depth_with_what_was_meant() {
    let cases = [
        (
            format!("{ISTIO}kind: Gateway\nmetadata: {{name: a}}\n§sepc: {{}}"),
            "sepc",
            "unknown field \"sepc\" in Gateway",
            "did you mean `spec`?",
        ),
        (
            format!("{ISTIO}kind: DestinationRule\nmetadata: {{name: a}}\n§host: a"),
            "host",
            "unknown field \"host\"",
            "`host` is a field of spec: write it inside, indented further",
        ),
        (
            format!("{ISTIO}kind: Gateway\nmetadata: {{§nmae: a}}\nspec: {{}}"),
            "metadata.nmae",
            "unknown field \"nmae\" in ObjectMeta",
            "did you mean `name`?",
        ),
        (
            document("VirtualService", "hosts: [a]\nhttp:\n- route:\n  - destination: {host: a, §subst: v1}"),
            "spec.http[0].route[0].destination.subst",
            "unknown field \"subst\" in Destination",
            "did you mean `subset`?",
        ),
        (
            document("VirtualService", "hosts: [a]\nhttp:\n- route:\n  - {destination: {host: a, §weight: 5}}"),
            "spec.http[0].route[0].destination.weight",
            "unknown field \"weight\" in Destination",
            "`weight` is a field of HTTPRouteDestination: indent it less",
        ),
        (
            document(
                "VirtualService",
                "hosts: [a]\nhttp:\n- fault: {delay: {§fixdDelay: 1s}}\n  route: [{destination: {host: a}}]",
            ),
            "spec.http[0].fault.delay.fixdDelay",
            "unknown field \"fixdDelay\"",
            "did you mean `fixedDelay`?",
        ),
    ];
    for (text, path, phrase, suggestion) in cases {
        expect(&text, &error("unknown-field", path.to_owned().leak(), phrase));
        let outcome = read(&text.replace('§', ""));
        let found = outcome.diagnostics.iter().find(|finding| finding.path == path).expect("the finding");
        assert_eq!(found.suggestion.as_deref(), Some(suggestion));
        assert!(found.allowed.is_some() && found.effect.is_some() && found.value.is_some());
    }
}

#[test]
fn types_are_checked_with_what_was_found_instead() {
    let spec = |text: &str| document("VirtualService", &format!("hosts: [a]\nhttp:\n{text}"));
    let cases = [
        (document("Gateway", "servers: §{}"), "spec.servers", "expected a list, found a mapping"),
        (document("VirtualService", "hosts: §a\nhttp: []"), "spec.hosts", "expected a list, found a string"),
        (spec("- §a"), "spec.http[0]", "expected a mapping, found a string"),
        (
            spec("- route: [{destination: {host: [§a]}}]").replace("[§a]", "§[a]"),
            "spec.http[0].route[0].destination.host",
            "expected a string, found a list",
        ),
        (
            spec("- match: [{ignoreUriCase: §maybe}]"),
            "spec.http[0].match[0].ignoreUriCase",
            "expected true or false, found `maybe`",
        ),
        (spec("- match: [{port: §http}]"), "spec.http[0].match[0].port", "expected a whole number, found `http`"),
        (spec("- match: [{port: §0x50}]"), "spec.http[0].match[0].port", "`0x50` is not a plain decimal number"),
        (
            spec("- directResponse: {status: §-5}"),
            "spec.http[0].directResponse.status",
            "-5 must be in the range 0..4294967295",
        ),
        (spec("- name: §true"), "spec.http[0].name", "expected a string, found the boolean true"),
    ];
    for (text, path, phrase) in cases {
        expect(&text, &error("wrong-type", path.to_owned().leak(), phrase));
    }
}

#[test]
fn a_short_form_that_does_not_exist_is_answered_with_the_long_one() {
    let text = document(
        "VirtualService",
        "hosts: [a]\nhttp:\n- match: [{uri: /x}]\n  route: [{destination: {host: a, port: 8080}}]\n- {route: [{destination: {host: a}}]}",
    );
    let outcome = read(&text);
    let suggestions: Vec<Option<&str>> = errors(&outcome).map(|finding| finding.suggestion.as_deref()).collect();
    assert_eq!(suggestions, [Some("write {exact: /x}"), Some("write {number: 8080}")]);
    let reach = outcome.diagnostics.iter().filter(|finding| finding.code == "IST0130").count();
    assert_eq!(reach, 0, "a condition that could not be read does not count as none");
}

#[test]
fn both_spellings_of_a_field_are_read_and_both_at_once_are_refused() {
    let text = document("DestinationRule", "host: a\ntrafficPolicy: {load_balancer: {simple: RANDOM}}");
    assert!(mesh(&text).destination_rules[0].traffic_policy.load_balancer.is_some());
    expect(
        &document(
            "DestinationRule",
            "host: a\ntraffic_policy: {tls: {mode: DISABLE}}\n§trafficPolicy: {tls: {mode: DISABLE}}",
        ),
        &error("duplicate-key", "spec.trafficPolicy", "given twice, in two spellings"),
    );
}

#[test]
fn all_versions_lists_and_json_are_read() {
    let json = r#"{"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "networking.istio.io/v1alpha3", "kind": "DestinationRule", "metadata": {"name": "a"}, "spec": {"host": "a"}},
        {"apiVersion": "networking.istio.io/v1", "kind": "DestinationRuleList", "items": [
            {"apiVersion": "networking.istio.io/v1beta1", "kind": "DestinationRule", "metadata": {"name": "b", "namespace": "n"}, "spec": {"host": "b"}}
        ]}
    ]}"#;
    let rules = mesh(json).destination_rules;
    let names: Vec<String> = rules.iter().map(|rule| format!("{}/{}", rule.namespace, rule.name)).collect();
    assert_eq!(names, ["default/a", "n/b"]);
    expect(
        "apiVersion: v1\nkind: List\nitems:\n- apiVersion: networking.istio.io/v1\n  kind: DestinationRule\n  metadata: {name: a}\n  spec: {§hots: a, host: a}",
        &error("unknown-field", "items[0].spec.hots", "unknown field \"hots\""),
    );
}

#[test]
fn tags_of_the_core_schema_decide_the_type() {
    let name =
        |text: &str| mesh(&document("DestinationRule", "host: a").replace("name: test", &format!("name: {text}")));
    assert_eq!(name("!!str 5").destination_rules[0].name, "5");
    assert_eq!(name("! 5").destination_rules[0].name, "5");
    assert_eq!(name("'5'").destination_rules[0].name, "5");
}

#[test]
fn empty_documents_comments_and_no_input_are_fine() {
    for text in ["", "# nothing\n", "---\n---\n# a\n---\n", "null", "\u{feff}---\n"] {
        let outcome = read(text);
        assert!(outcome.diagnostics.is_empty(), "{text:?}: {:?}", outcome.diagnostics);
        assert!(outcome.mesh.is_some());
    }
    assert!(load(&[], &Options::default()).mesh.is_some());
}

#[test]
fn anchors_aliases_and_merge_keys_work() {
    let text = "\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: a}
spec:
  host: &host a
  trafficPolicy: &policy
    loadBalancer: {simple: RANDOM}
    connectionPool: {tcp: {maxConnections: 5}}
  subsets:
  - name: v1
    labels: {version: *host}
    trafficPolicy:
      <<: *policy
      connectionPool: {tcp: {maxConnections: 9}}
";
    let rule = &mesh(text).destination_rules[0];
    let subset = &rule.subsets[0];
    assert_eq!(subset.labels["version"], "a");
    assert_eq!(subset.traffic_policy.load_balancer, rule.traffic_policy.load_balancer);
    let pool = subset.traffic_policy.connection_pool.as_ref().expect("a pool");
    assert_eq!(pool.max_connections, Some(9), "a key of one's own wins over a merged one");
}

#[test]
fn all_findings_of_all_sources_come_in_one_pass_in_order() {
    let broken = "apiVersion: networking.istio.io/v1\nkind: [\n";
    let first = document("DestinationRule", "host: a\nsubsts: []\ntrafficPolicy: {tls: {mod: 1}}");
    let last = document("VirtualService", "hosts: ['*']");
    let sources = [Source::new("a.yaml", first), Source::new("b.yaml", broken), Source::new("c.yaml", last)];
    let outcome = load(&sources, &Options::default());
    assert!(outcome.mesh.is_none());
    let places: Vec<(String, &str)> = errors(&outcome)
        .map(|finding| {
            let origin = finding.origin.as_ref().expect("a place");
            (format!("{}:{}", origin.source, origin.line), finding.code)
        })
        .collect();
    assert_eq!(
        places,
        [
            ("a.yaml:7".to_owned(), "unknown-field"),
            ("a.yaml:8".to_owned(), "unknown-field"),
            ("b.yaml:3".to_owned(), "yaml-syntax"),
            ("c.yaml:6".to_owned(), "missing-field"),
            ("c.yaml:6".to_owned(), "invalid-host"),
        ]
    );
}

#[test]
fn a_syntax_error_does_not_hide_what_follows_in_the_same_text() {
    let text = format!("a: [\n---\n{}", document("Gateway", "selector: {a: b}"));
    let outcome = read(&text);
    let found: Vec<(&str, u32)> = errors(&outcome)
        .map(|finding| (finding.code, finding.origin.as_ref().map_or(0, |origin| origin.line)))
        .collect();
    assert_eq!(found, [("yaml-syntax", 2), ("missing-field", 8)]);
}

#[test]
fn every_finding_carries_its_object() {
    let outcome = read(&document("DestinationRule", "host: a\nsubsts: []"));
    let found: Vec<_> = errors(&outcome).collect();
    assert_eq!(found.len(), 1);
    let finding = found[0];
    assert_eq!(finding.severity, Severity::Error);
    assert_eq!(finding.object.as_ref().map(ToString::to_string).as_deref(), Some("DestinationRule/default/test"));
    assert_eq!(finding.length, 6);
    assert_eq!(
        finding.to_string(),
        "test.yaml:7:3: error[unknown-field]: unknown field \"substs\" in DestinationRule.spec (DestinationRule/default/test, spec.substs)"
    );
}

#[test]
fn the_default_namespace_can_be_chosen() {
    let options = Options { namespace: "shop".to_owned(), ..Options::default() };
    let outcome = load(&[Source::new("a", document("DestinationRule", "host: a"))], &options);
    assert_eq!(outcome.mesh.expect("a mesh").destination_rules[0].namespace, "shop");
}
