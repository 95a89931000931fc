//! What is asked of a `VirtualService`.

use std::time::Duration;

use meshwright_model::{GatewayRef, HeaderMatch, Mesh, RedirectPort, RetryOn, RetryPolicy, RouteAction, StringMatch};

use crate::case::{error, expect, mesh, routes, virtual_service, warning};

const ROUTE: &str = "route: [{destination: {host: a}}]";

#[test]
fn every_mistake_at_the_top_is_named_at_its_place() {
    let http = format!("http:\n- {ROUTE}");
    let cases = [
        (
            "§hosts: [a.example.com]".to_owned(),
            error("missing-field", "spec.http", "http, tcp or tls must be provided in virtual service"),
        ),
        (
            format!("§gateways: [g]\n{http}"),
            error("missing-field", "spec.hosts", "delegate virtual service must have no gateways specified"),
        ),
        (format!("§{http}"), error("missing-field", "spec.hosts", "must have at least one host")),
        (
            format!("hosts: [§'*']\n{http}"),
            error(
                "invalid-host",
                "spec.hosts[0]",
                "wildcard host * is not allowed for virtual services bound to the mesh gateway",
            ),
        ),
        (
            format!("hosts: [§'*foo.com']\n{http}"),
            error("invalid-host", "spec.hosts[0]", "partial wildcard \"*foo.com\" not allowed"),
        ),
        (
            format!("hosts: [a, §a.default.svc.cluster.local]\n{http}"),
            error("duplicate-name", "spec.hosts[1]", "duplicate hosts in virtual service: a & a.default.svc"),
        ),
        (
            format!("hosts: ['*.com', §'*.foo.com']\n{http}"),
            error("duplicate-name", "spec.hosts[1]", "duplicate hosts in virtual service: *.com & *.foo.com"),
        ),
        (
            format!("hosts: [a]\ngateways: [§ns/]\n{http}"),
            error("invalid-name", "spec.gateways[0]", "config namespace and gateway name cannot be empty"),
        ),
        (
            format!("hosts: [a]\ngateways: [§a/b/c]\n{http}"),
            error("invalid-name", "spec.gateways[0]", "invalid value for gateway name: \"a/b/c\""),
        ),
        (
            format!("hosts: [a]\nexportTo: ['*', §.]\n{http}"),
            error("export", "spec.exportTo[1]", "cannot have both public (*) and non-public exportTo values"),
        ),
        (
            format!("hosts: [a]\nexportTo: [§.]\n{http}"),
            warning("not-supported", "spec.exportTo[0]", "exportTo \".\" is not supported"),
        ),
        (
            format!("hosts: [a]\n{http}\n§tcp: [{{route: [{{destination: {{host: a}}}}]}}]"),
            warning("not-supported", "spec.tcp", "`tcp` routes of the mesh"),
        ),
    ];
    for (spec, expected) in &cases {
        expect(&virtual_service(spec), expected);
    }
}

#[test]
fn a_route_has_exactly_one_action() {
    let cases = [
        (
            "- §match: [{uri: {prefix: /a}}]",
            error("missing-field", "spec.http[0]", "HTTP route, redirect or direct_response is required"),
        ),
        (
            "- route: [{destination: {host: a}}]\n  §redirect: {uri: /b}",
            error("choice", "spec.http[0].redirect", "HTTP route cannot contain both route and redirect"),
        ),
        (
            "- route: [{destination: {host: a}}]\n  §directResponse: {status: 200}",
            error("choice", "spec.http[0].directResponse", "HTTP route cannot contain both route and direct_response"),
        ),
        (
            "- fault: {delay: {fixedDelay: 1s}}\n  §redirect: {uri: /b}",
            error("choice", "spec.http[0].redirect", "HTTP route cannot contain both fault and redirect"),
        ),
        (
            "- rewrite: {uri: /a}\n  §redirect: {uri: /b}",
            error("choice", "spec.http[0].redirect", "HTTP route rule cannot contain both rewrite and redirect"),
        ),
        (
            "- route: [{destination: {host: a}}]\n  mirror: {host: b}\n  §mirrors: [{destination: {host: b}}]",
            error("choice", "spec.http[0].mirrors", "HTTP route cannot contain both mirror and mirrors"),
        ),
        ("- §delegate: {name: other}", error("not-supported", "spec.http[0].delegate", "cannot be left out safely")),
    ];
    for (http, expected) in &cases {
        expect(&routes(http), expected);
    }
}

#[test]
fn destinations_and_weights_are_checked() {
    let cases = [
        (
            "- route: [{§weight: 1}]",
            error("missing-field", "spec.http[0].route[0].destination", "destination is required"),
        ),
        (
            "- route: [{destination: {host: §'*'}}]",
            error("invalid-host", "spec.http[0].route[0].destination.host", "invalid destination host *"),
        ),
        (
            "- route: [{destination: {§subset: v1}}]",
            error("invalid-host", "spec.http[0].route[0].destination.host", "invalid destination host"),
        ),
        (
            "- route: [{destination: {host: a, subset: §V_1}}]",
            error("invalid-name", "spec.http[0].route[0].destination.subset", "subset name is invalid: V_1"),
        ),
        (
            "- route: [{destination: {host: a, subset: §''}}]",
            error("invalid-name", "spec.http[0].route[0].destination.subset", "subset name cannot be empty"),
        ),
        (
            "- route: [{destination: {host: a, port: {number: §99999}}}]",
            error(
                "port-range",
                "spec.http[0].route[0].destination.port.number",
                "port number 99999 must be in the range",
            ),
        ),
        (
            "- route: [{destination: {host: a}, weight: §-1}, {destination: {host: b}, weight: 5}]",
            error("range", "spec.http[0].route[0].weight", "weight -1 < 0"),
        ),
        (
            "- §route: [{destination: {host: a}, weight: 0}, {destination: {host: b}}]",
            error("weights", "spec.http[0].route", "total destination weight = 0 (0 + 0)"),
        ),
        (
            "- §route: [{destination: {host: a}, weight: 90}, {destination: {host: b}, weight: 9}]",
            warning("weights", "spec.http[0].route", "the weights sum to 99, not to 100 (90 + 9)"),
        ),
    ];
    for (http, expected) in &cases {
        expect(&routes(http), expected);
    }
}

#[test]
fn conditions_that_would_match_too_much_are_errors() {
    let long = "a".repeat(1025);
    let path = "spec.http[0].match[0]";
    let cases = [
        ("uri: {regex: §'(?=x)'}", "regex", "uri.regex", "\"uri\": error parsing regexp: look-around"),
        ("uri: {regex: §'a[b'}", "regex", "uri.regex", "Istio uses RE2 style regex-based match"),
        (
            &format!("uri: {{regex: §{long}}}"),
            "regex",
            "uri.regex",
            "\"uri\": regex is too large, max length allowed is 1024",
        ),
        ("uri: {prefix: §''}", "empty-condition", "uri.prefix", "\"uri\": prefix string match should not be empty"),
        (
            "headers: {x-user: {regex: §''}}",
            "empty-condition",
            "headers.x-user.regex",
            "\"x-user\": regex string match should not be empty",
        ),
        ("headers: {§x-user: null}", "null-condition", "headers.x-user", "header match x-user cannot be null"),
        (
            "withoutHeaders: {§x-user: null}",
            "null-condition",
            "withoutHeaders.x-user",
            "header match x-user cannot be null",
        ),
        ("queryParams: {§q: null}", "null-condition", "queryParams.q", "header match q cannot be null"),
        ("headers: {§'': {exact: a}}", "header-name", "headers[\"\"]", "header name cannot be empty"),
        (
            "headers: {§'x user': {exact: a}}",
            "header-name",
            "headers[\"x user\"]",
            "header name x user is not a valid header name",
        ),
        ("headers: {§method: {exact: GET}}", "header-name", "headers.method", "`method` is no header"),
        (
            "headers: {§'@request.auth.claims.sub': {exact: a}}",
            "not-supported",
            "headers[\"@request.auth.claims.sub\"]",
            "matches claims of a token",
        ),
        ("uri: §{}", "null-condition", "uri", "the condition `uri` says nothing"),
        ("§uri: null", "null-condition", "uri", "the condition `uri` has no value"),
        ("uri: {exact: /a, §prefix: /b}", "choice", "uri.prefix", "`exact` and `prefix` cannot both be given"),
        ("§sourceLabels: {app: a}", "not-supported", "sourceLabels", "cannot be left out safely"),
        ("§sourceNamespace: a", "not-supported", "sourceNamespace", "cannot be left out safely"),
        ("port: §0", "port-range", "port", "port number 0 must be in the range"),
    ];
    for (entry, code, field, phrase) in cases {
        let full = format!("{path}.{field}").replace(".[", "[");
        let expected = error(code, full.leak(), phrase);
        expect(&routes(&format!("- match: [{{{entry}}}]\n  {ROUTE}")), &expected);
    }
}

#[test]
fn a_slip_of_indentation_is_recognised() {
    let text = routes("- match:\n  - uri:\n    §exact: /a\n  route: [{destination: {host: a}}]");
    expect(
        &text,
        &error("unknown-field", "spec.http[0].match[0].exact", "unknown field \"exact\" in HTTPMatchRequest"),
    );
    let outcome = crate::case::read(&text.replace('§', ""));
    let slip = outcome.diagnostics.iter().find(|finding| finding.code == "unknown-field").expect("a finding");
    assert_eq!(slip.suggestion.as_deref(), Some("`exact` belongs inside `uri`: indent it by two more spaces"));
}

#[test]
fn redirects_rewrites_and_direct_responses_are_checked() {
    let cases = [
        (
            "redirect: {§redirectCode: 301}",
            "missing-field",
            "redirect",
            "redirect must specify URI, authority, scheme, or port",
        ),
        (
            "redirect: {uri: /a, redirectCode: §200}",
            "unknown-value",
            "redirect.redirectCode",
            "200 is not a valid redirect code, must be 3xx",
        ),
        (
            "redirect: {uri: /a, redirectCode: §305}",
            "unknown-value",
            "redirect.redirectCode",
            "305 is not a redirect that can be made",
        ),
        (
            "redirect: {uri: /a, §prefixRewrite: /b}",
            "choice",
            "redirect.prefixRewrite",
            "redirect may only specify one of uri or prefix_rewrite",
        ),
        (
            "redirect: {§prefixRewrite: /b}",
            "contradiction",
            "redirect.prefixRewrite",
            "redirect prefix_rewrite requires all URI matches to use prefix match type",
        ),
        ("redirect: {scheme: §ftp}", "unknown-value", "redirect.scheme", "invalid redirect scheme \"ftp\""),
        (
            "redirect: {port: 1, §derivePort: FROM_REQUEST_PORT}",
            "choice",
            "redirect.derivePort",
            "cannot both be given",
        ),
        (
            "directResponse: {§body: {string: a}}",
            "range",
            "directResponse.status",
            "HTTP status 0 is not in range 200-599",
        ),
        ("directResponse: {status: §700}", "range", "directResponse.status", "HTTP status 700 is not in range 200-599"),
        (
            "route: [{destination: {host: a}}]\n  rewrite: {uri: /a, §uriRegexRewrite: {match: a, rewrite: b}}",
            "choice",
            "rewrite.uriRegexRewrite",
            "rewrite may only contain one of URI or UriRegexRewrite",
        ),
        (
            "route: [{destination: {host: a}}]\n  rewrite: §{}",
            "missing-field",
            "rewrite",
            "rewrite must specify at least one of URI, UriRegexRewrite, or authority",
        ),
        (
            "route: [{destination: {host: a}}]\n  rewrite: {uriRegexRewrite: {§match: a}}",
            "missing-field",
            "rewrite.uriRegexRewrite",
            "UriRegexRewrite requires both Rewrite and Match fields to be specified",
        ),
        (
            "route: [{destination: {host: a}}]\n  rewrite: {uriRegexRewrite: {match: '(a)', rewrite: §'\\2'}}",
            "regex",
            "rewrite.uriRegexRewrite.rewrite",
            "the replacement uses \\2",
        ),
    ];
    for (entry, code, field, phrase) in cases {
        let expected = error(code, format!("spec.http[0].{field}").leak(), phrase);
        expect(&routes(&format!("- {entry}")), &expected);
    }
}

#[test]
fn a_large_direct_response_is_a_warning_and_a_larger_one_an_error() {
    let text =
        |size: usize| routes(&format!("- directResponse: {{status: 200, body: §{{string: {}}}}}", "x".repeat(size)));
    let phrase = "large direct_responses may impact control plane performance";
    let path = "spec.http[0].directResponse.body";
    // The place of a mapping is its first key, one character after the brace that the mark stands before.
    let moved = |size: usize| text(size).replace("§{", "{§");
    expect(&moved(200_000), &warning("large-body", path, phrase));
    expect(&moved(1_048_577), &error("range", path, "must be less than 1MB"));
}

#[test]
fn durations_and_retries_are_checked() {
    let retries = |text: &str| format!("retries: {{{text}}}\n  {ROUTE}");
    let cases = [
        (format!("timeout: §5\n  {ROUTE}"), "duration", "timeout", "invalid duration: 5"),
        (format!("timeout: §500us\n  {ROUTE}"), "duration", "timeout", "duration must be greater than 1ms"),
        (
            format!("timeout: §1.0005s\n  {ROUTE}"),
            "duration",
            "timeout",
            "only durations to ms precision are supported",
        ),
        (format!("timeout: §soon\n  {ROUTE}"), "duration", "timeout", "invalid duration: soon"),
        (
            retries("attempts: 1, perTryTimeout: §0s"),
            "duration",
            "retries.perTryTimeout",
            "duration must be greater than 1ms",
        ),
        (retries("attempts: §-1"), "range", "retries.attempts", "attempts cannot be negative"),
        (
            retries("attempts: 0, §retryOn: 5xx"),
            "contradiction",
            "retries.retryOn",
            "http retry policy configured when attempts are set to 0 (disabled)",
        ),
        (
            retries("attempts: 1, retryOn: §'5xx,gatewayerror'"),
            "unknown-value",
            "retries.retryOn",
            "\"gatewayerror\" is not a valid retryOn policy",
        ),
    ];
    for (entry, code, field, phrase) in &cases {
        let expected = error(code, format!("spec.http[0].{field}").leak(), phrase);
        expect(&routes(&format!("- {entry}")), &expected);
    }
    let slow = format!("- timeout: 5s\n  retries: {{attempts: 2, perTryTimeout: §2s}}\n  {ROUTE}");
    let phrase = "3 tries of 2s do not fit into the timeout of 5s";
    expect(&routes(&slow), &warning("retry-time", "spec.http[0].retries.perTryTimeout", phrase));
}

#[test]
fn header_operations_are_checked() {
    let cases = [
        (
            "rewrite: {authority: b}\n  headers: {request: {set: {Host: §c}}}",
            error(
                "duplicate-name",
                "spec.http[0].headers.request.set.Host",
                "authority header cannot be set multiple times",
            ),
        ),
        (
            "headers: {request: {add: {§'x y': c}}}",
            error(
                "header-name",
                "spec.http[0].headers.request.add[\"x y\"]",
                "header name x y is not a valid header name",
            ),
        ),
        (
            "headers: {response: {set: {a: §\"b\\nc\"}}}",
            error("header-value", "spec.http[0].headers.response.set.a", "is invalid"),
        ),
        (
            "headers: {response: {set: {a: §50%}}}",
            error(
                "header-value",
                "spec.http[0].headers.response.set.a",
                "header value configuration \"50%\" is invalid",
            ),
        ),
        (
            "headers: {response: {set: {a: §'%PROTOCOL%'}}}",
            warning("not-supported", "spec.http[0].headers.response.set.a", "%PROTOCOL% is not evaluated"),
        ),
        (
            "headers: {request: {set: {§Content-Length: '5'}}}",
            warning("ineffective", "spec.http[0].headers.request.set.Content-Length", "cannot be changed"),
        ),
        (
            "headers: {request: {remove: [§host]}}",
            warning("ineffective", "spec.http[0].headers.request.remove[0]", "host cannot be removed"),
        ),
    ];
    for (entry, expected) in &cases {
        expect(&routes(&format!("- {entry}\n  {ROUTE}")), expected);
    }
}

#[test]
fn what_is_not_supported_yet_is_named_with_its_effect() {
    for (entry, field, effect) in [
        ("§fault: {abort: {httpStatus: 500}}", "fault", "no fault is injected"),
        ("§mirror: {host: b}", "mirror", "nothing is mirrored"),
        ("§corsPolicy: {allowOrigins: [{exact: a}]}", "corsPolicy", "preflight requests go to the service"),
    ] {
        let text = routes(&format!("- {entry}\n  {ROUTE}"));
        expect(
            &text,
            &warning("not-supported", format!("spec.http[0].{field}").leak(), "is not supported by this version"),
        );
        let outcome = crate::case::read(&text.replace('§', ""));
        let finding = outcome.diagnostics.iter().find(|finding| finding.code == "not-supported").expect("a finding");
        assert!(finding.effect.as_deref().is_some_and(|text| text.contains(effect)), "{finding:?}");
    }
}

#[test]
fn a_prefix_rewritten_to_a_slash_is_hinted_at() {
    let text = routes(&format!("- match: [{{uri: {{prefix: /foo}}}}]\n  rewrite: {{uri: §/}}\n  {ROUTE}"));
    expect(&text, &warning("double-slash", "spec.http[0].rewrite.uri", "/foo/x is rewritten to //x"));
}

fn only_route(mesh: &Mesh) -> &meshwright_model::HttpRoute {
    &mesh.virtual_services[0].http[0]
}

#[test]
fn everything_that_a_route_can_say_is_read() {
    let mesh = mesh(&routes(
        "- name: r
  match:
  - name: m
    uri: {regex: '/a/\\d+'}
    ignoreUriCase: true
    method: {exact: GET}
    authority: {prefix: a.}
    scheme: {exact: http}
    headers: {X-User: {}, x-kind: {regex: '*'}, x-v: {exact: ''}}
    without_headers: {X-Debug: {prefix: on}}
    queryParams: {Q: {exact: '1'}}
    port: 80
    gateways: [ns/g, mesh]
  route:
  - destination: {host: B.example.com., subset: v1, port: {number: 8080}}
    weight: 3
    headers: {request: {set: {Host: inner, X-A: '1'}, remove: [X-B]}}
  - destination: {host: c}
    weight: 1
  - destination: {host: d}
    weight: 0
  rewrite: {uri: /b}
  timeout: 1m1.5s
  retries: {attempts: 3, perTryTimeout: 2s, retryOn: '5xx, 503, unavailable', backoff: 50ms, retryIgnorePreviousHosts: false}
  headers: {request: {set: {':authority': outer}, add: {a: 100%%}}, response: {remove: [Server]}}",
    ));
    let route = only_route(&mesh);
    let condition = &route.matches[0];
    assert_eq!(route.name.as_deref(), Some("r"));
    assert_eq!(condition.uri, Some(StringMatch::Regex("/a/\\d+".to_owned())));
    assert!(condition.ignore_uri_case);
    assert_eq!(condition.headers[0], ("x-user".to_owned(), HeaderMatch::Present));
    assert_eq!(condition.headers[1], ("x-kind".to_owned(), HeaderMatch::Present));
    assert_eq!(condition.headers[2].1, HeaderMatch::Value(StringMatch::Exact(String::new())));
    assert_eq!(condition.without_headers[0].0, "x-debug");
    assert_eq!(condition.query[0].0, "Q");
    assert_eq!(condition.port, Some(80));
    let named = GatewayRef::Named { namespace: "ns".to_owned(), name: "g".to_owned() };
    assert_eq!(condition.gateways, Some(vec![named, GatewayRef::Mesh]));
    let RouteAction::Forward(destinations) = &route.action else { panic!("a forwarding route") };
    assert_eq!(destinations.len(), 2, "a destination without weight gets nothing");
    assert_eq!(destinations[0].destination.host, "b.example.com");
    assert_eq!(
        destinations[0].headers.request_set,
        [("x-a".to_owned(), "1".to_owned()), ("host".to_owned(), "inner".to_owned())]
    );
    assert_eq!(destinations[0].headers.request_remove, ["x-b"]);
    let rewrite = route.rewrite.as_ref().expect("a rewrite");
    assert_eq!(rewrite.authority.as_deref(), Some("outer"));
    assert_eq!(route.timeout, Some(Duration::from_millis(61_500)));
    assert_eq!(
        route.retries,
        Some(RetryPolicy {
            attempts: 3,
            per_try_timeout: Some(Duration::from_secs(2)),
            on: RetryOn { server_error: true, status_codes: vec![503], grpc: vec![14], ..RetryOn::default() },
            backoff: Duration::from_millis(50),
            avoid_previous_hosts: false,
            ..RetryPolicy::ISTIO
        })
    );
    assert_eq!(route.headers.request_add, [("a".to_owned(), "100%".to_owned())]);
    assert_eq!(route.headers.response_remove, ["server"]);
}

#[test]
fn redirects_and_direct_responses_are_read() {
    let redirected =
        mesh(&routes("- redirect: {authority: b.example.com, scheme: HTTPS, derivePort: 1, redirectCode: 308}"));
    let RouteAction::Redirect(redirect) = &only_route(&redirected).action else { panic!("a redirect") };
    assert_eq!(redirect.scheme.as_deref(), Some("https"));
    assert_eq!((redirect.port, redirect.status), (RedirectPort::FromRequest, 308));
    let answered = mesh(&routes("- directResponse: {status: 503, body: {bytes: aGVsbG8=}}"));
    let RouteAction::DirectResponse(response) = &only_route(&answered).action else { panic!("a response") };
    assert_eq!((response.status, response.body.as_slice()), (503, b"hello".as_slice()));
}

#[test]
fn a_timeout_of_zero_is_no_timeout_and_absent_retries_are_left_open() {
    let mesh = mesh(&routes(&format!("- timeout: 0s\n  {ROUTE}")));
    assert_eq!(only_route(&mesh).timeout, None);
    assert_eq!(only_route(&mesh).retries, None);
    let off = crate::case::mesh(&routes(&format!("- retries: {{attempts: 0}}\n  {ROUTE}")));
    assert_eq!(only_route(&off).retries.as_ref().map(|retries| retries.attempts), Some(0));
}
