//! Which route a request takes, and what the route changes.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use meshwright_testkit::{Config, GATEWAY, Launch, Meshwright, Origin, binary, gateway_routes};

/// A process with services `one`, `two` and `three`, each of which answers with what it saw.
struct Setting {
    process: Meshwright,
    one: Origin,
    two: Origin,
    three: Origin,
    _config: Config,
}

impl Setting {
    fn new(documents: &[&str]) -> Self {
        let (one, two, three) = (Origin::named("one"), Origin::named("two"), Origin::named("three"));
        let config = Config::new(documents);
        let process = Launch::run(binary!())
            .file(config.path())
            .service_at("one", one.address())
            .service_at("two", two.address())
            .service_at("three", three.address())
            .args(&["--access-log", "text", "--no-watch"])
            .start();
        Self { process, one, two, three, _config: config }
    }

    fn routes(http: &str) -> Self {
        Self::new(&[&gateway_routes(http)])
    }

    /// The body or the status of the answer to a request.
    fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> String {
        self.ask_host("x", method, target, headers)
    }

    fn ask_host(&self, host: &str, method: &str, target: &str, headers: &[(&str, &str)]) -> String {
        let answer = self.process.connect().request(method, host, target, headers, b"");
        if answer.status == 200 { answer.text() } else { answer.status.to_string() }
    }
}

#[test]
fn the_first_route_that_matches_wins_and_prefixes_are_plain() {
    let setting = Setting::routes(
        "- match: [{uri: {exact: /users}}]
  route: [{destination: {host: one}}]
- match: [{uri: {prefix: /users}}]
  route: [{destination: {host: two}}]
- match: [{uri: {prefix: /users/admin}}, {uri: {regex: '/item/[0-9]+'}}]
  route: [{destination: {host: three}}]",
    );
    for (target, expected) in [
        ("/users", "one"),
        ("/users?x=1", "one"),
        ("/users/", "two"),
        ("/users/admin", "two"),
        ("/usersandmore", "two"),
        ("/item/42", "three"),
        ("/item/42?q", "three"),
        ("/item/42/x", "404"),
        ("/item/x", "404"),
        ("/Users", "404"),
        ("/", "404"),
    ] {
        assert_eq!(setting.ask("GET", target, &[]), expected, "{target}");
    }
    assert_eq!(setting.process.record_of("/").flags(), "NR");
    setting.process.metric_becomes("istio_requests_total", &[("response_flags", "NR")], 4.0);
}

#[test]
fn paths_may_be_compared_without_case() {
    let setting = Setting::routes(
        "- match: [{uri: {prefix: /Users}, ignoreUriCase: true}]
  route: [{destination: {host: one}}]",
    );
    assert_eq!(setting.ask("GET", "/uSERS/1", &[]), "one");
    assert_eq!(setting.ask("GET", "/user", &[]), "404");
}

#[test]
fn conditions_of_one_alternative_all_hold_and_alternatives_are_either_or() {
    let setting = Setting::routes(
        "- match:
    - method: {exact: POST}
      headers: {x-tenant: {exact: a}, x-any: {}}
      queryParams: {v: {regex: '[0-9]+'}}
    - headers: {x-prefix: {prefix: ab}}
    - authority: {exact: 'x.example.com:8080'}
    - withoutHeaders: {x-not: {}}
      uri: {exact: /without}
  route: [{destination: {host: one}}]
- route: [{destination: {host: two}}]",
    );
    let all = [("x-tenant", "a"), ("X-Any", "")];
    assert_eq!(setting.ask("POST", "/?v=12", &all), "one");
    assert_eq!(setting.ask("POST", "/?w=1&v=12", &all), "one");
    assert_eq!(setting.ask("GET", "/?v=12", &all), "two");
    assert_eq!(setting.ask("POST", "/?v=1x", &all), "two");
    assert_eq!(setting.ask("POST", "/?v=12", &all[..1]), "two");
    assert_eq!(setting.ask("POST", "/?v=12", &[("x-tenant", "a"), ("x-tenant", "a"), ("x-any", "1")]), "two");
    assert_eq!(setting.ask("GET", "/", &[("x-prefix", "abc")]), "one");
    assert_eq!(setting.ask("GET", "/", &[("x-prefix", "a")]), "two");
    assert_eq!(setting.ask_host("x.example.com:8080", "GET", "/", &[]), "one");
    assert_eq!(setting.ask_host("x.example.com", "GET", "/", &[]), "two");
    assert_eq!(setting.ask("GET", "/without", &[]), "one");
    assert_eq!(setting.ask("GET", "/without", &[("x-not", "1")]), "two");
}

#[test]
fn a_port_condition_sees_the_port_of_the_configuration() {
    let gateway = "\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gateway}
spec:
  servers:
    - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}
    - {port: {number: 8443, name: other, protocol: HTTP}, hosts: ['*']}
";
    let routes = gateway_routes(
        "- match: [{port: 8443}]
  route: [{destination: {host: two}}]
- route: [{destination: {host: one}}]",
    );
    let routes = routes.split_once("---\n").unwrap().1;
    let (one, two) = (Origin::named("one"), Origin::named("two"));
    let config = Config::new(&[gateway, routes]);
    let process = Launch::run(binary!())
        .args(&["--map-port", "8443=0"])
        .file(config.path())
        .service_at("one", one.address())
        .service_at("two", two.address())
        .start();
    let ask = |port| {
        let address = process.listener(port).unwrap();
        meshwright_testkit::RawClient::connect(address).get("x", "/").text()
    };
    assert_eq!((ask(80), ask(8443)), ("one".to_owned(), "two".to_owned()));
}

#[test]
fn hosts_are_found_exactly_then_by_the_longest_wildcard() {
    let service = |name: &str, host: &str| {
        format!(
            "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}}}
spec:
  hosts: ['{host}']
  gateways: [gateway]
  http: [{{route: [{{destination: {{host: {name}}}}}]}}]
"
        )
    };
    let setting = Setting::new(&[
        GATEWAY,
        &service("one", "a.example.com"),
        &service("two", "*.example.com"),
        &service("three", "*.b.example.com"),
    ]);
    for (host, expected) in [
        ("a.example.com", "one"),
        ("A.Example.Com:1234", "one"),
        ("a.example.com.", "one"),
        ("b.example.com", "two"),
        ("x.b.example.com", "three"),
        ("y.x.b.example.com", "three"),
        ("example.com", "404"),
        ("other.org", "404"),
    ] {
        assert_eq!(setting.ask_host(host, "GET", "/", &[]), expected, "{host}");
    }
}

#[test]
fn a_rewrite_changes_path_and_authority_and_keeps_the_query() {
    let setting = Setting::routes(
        "- match: [{uri: {prefix: /old}}]
  rewrite: {uri: /new, authority: inner.example}
  route: [{destination: {host: one}}]
- match: [{uri: {exact: /exact}}]
  rewrite: {uri: /whole}
  route: [{destination: {host: one}}]
- match: [{uri: {prefix: /items}}]
  rewrite: {uriRegexRewrite: {match: '/items/([a-z]+)/([0-9]+)', rewrite: '/\\2/\\1'}}
  route: [{destination: {host: one}}]",
    );
    let ask = |target: &str| {
        assert_eq!(setting.ask("GET", target, &[]), "one", "{target}");
        let received = setting.one.last();
        (received.target.clone(), received.header("host").unwrap().to_owned(), received)
    };
    let (target, host, received) = ask("/old/7?q=1");
    assert_eq!((target.as_str(), host.as_str()), ("/new/7?q=1", "inner.example"));
    assert_eq!(received.header("x-envoy-original-path"), Some("/old/7?q=1"));
    assert_eq!(ask("/older").0, "/newer");
    assert_eq!(ask("/exact?a").0, "/whole?a");
    assert_eq!(ask("/items/ab/12").0, "/12/ab");
    // The log has the path as the client sent it.
    assert_eq!(setting.process.record_of("/old/7?q=1").status(), 200);
}

#[test]
fn a_redirect_says_where() {
    let setting = Setting::routes(
        "- match: [{uri: {exact: /a}}]
  redirect: {uri: /b, authority: other.example, redirectCode: 302}
- match: [{uri: {prefix: /v1}}]
  redirect: {prefixRewrite: /v2}
- match: [{uri: {exact: /s}}]
  redirect: {scheme: https}
- match: [{uri: {exact: /port}}]
  redirect: {port: 8080, redirectCode: 308}",
    );
    let ask = |target: &str| {
        let answer = setting.process.get("x.example", target);
        (answer.status, answer.header("location").unwrap().to_owned())
    };
    assert_eq!(ask("/a?k=v"), (302, "http://other.example/b?k=v".to_owned()));
    assert_eq!(ask("/v1/1?q"), (301, "http://x.example/v2/1?q".to_owned()));
    assert_eq!(ask("/s"), (301, "https://x.example/s".to_owned()));
    assert_eq!(ask("/port"), (308, "http://x.example:8080/port".to_owned()));
    let record = setting.process.record_of("/a?k=v");
    assert_eq!((record.status(), record.details()), (302, "direct_response"));
}

#[test]
fn https_redirect_of_a_server_answers_everything_with_301() {
    let gateway = GATEWAY.replace("      hosts: ['*']", "      hosts: ['*']\n      tls: {httpsRedirect: true}");
    let routes = gateway_routes("- route: [{destination: {host: one}}]");
    let routes = routes.split_once("---\n").unwrap().1;
    let setting = Setting::new(&[&gateway, routes]);
    let answer = setting.process.get("secure.example", "/path?q");
    assert_eq!((answer.status, answer.header("location")), (301, Some("https://secure.example/path?q")));
    assert_eq!(setting.one.count(), 0);
}

#[test]
fn a_direct_response_has_its_status_and_body_and_leaves_the_connection_open() {
    let setting = Setting::routes(
        "- match: [{uri: {exact: /teapot}}]
  directResponse: {status: 418, body: {string: short and stout}}
  headers: {response: {set: {x-from: route}}}
- directResponse: {status: 503}",
    );
    let mut client = setting.process.connect();
    for _ in 0..2 {
        let answer = client.request("POST", "x", "/teapot", &[], b"dropped");
        assert_eq!((answer.status, answer.text().as_str()), (418, "short and stout"));
        assert_eq!(answer.header("content-type"), Some("text/plain"));
        assert_eq!(answer.header("x-from"), Some("route"));
    }
    let head = client.request("HEAD", "x", "/teapot", &[], b"");
    assert_eq!((head.status, head.header("content-length")), (418, Some("15")));
    assert_eq!(client.get("x", "/else").status, 503);
    let record = setting.process.record_of("/else");
    assert_eq!((record.flags(), record.details()), ("-", "direct_response"));
}

#[test]
fn header_operations_apply_to_request_and_response_route_before_destination() {
    let setting = Setting::routes(
        "- headers:
    request: {set: {x-set: route, host: set.example}, add: {x-add: route}, remove: [x-gone]}
    response: {set: {x-answer: route}, remove: [x-scripted]}
  route:
    - destination: {host: one}
      headers:
        request: {set: {x-set: destination}, add: {x-add: destination}}
        response: {add: {x-answer: destination}}",
    );
    let answer = setting.process.connect().request(
        "GET",
        "x",
        "/",
        &[("x-set", "client"), ("x-add", "client"), ("x-gone", "1"), ("X-Gone", "2")],
        b"",
    );
    assert_eq!(answer.values("x-answer"), ["route", "destination"]);
    let received = setting.one.last();
    assert_eq!(received.values("x-set"), ["destination"]);
    assert_eq!(received.values("x-add"), ["client", "route", "destination"]);
    assert_eq!(received.header("x-gone"), None);
    assert_eq!(received.values("host"), ["set.example"]);
}

#[test]
fn weights_of_zero_get_nothing_and_a_missing_subset_is_503_nc() {
    let setting = Setting::routes(
        "- match: [{uri: {exact: /weights}}]
  route:
    - {destination: {host: one}, weight: 0}
    - {destination: {host: two}, weight: 3}
    - {destination: {host: three}, weight: 1}
- match: [{uri: {exact: /subset}}]
  route: [{destination: {host: one, subset: nobody}}]
- route: [{destination: {host: nobody}}]",
    );
    for _ in 0..200 {
        assert_ne!(setting.ask("GET", "/weights", &[]), "one");
    }
    let (two, three) = (setting.two.count(), setting.three.count());
    // Five standard deviations of a binomial distribution with n = 200, p = 1/4 are 31.
    assert!((19..=81).contains(&three), "{two} to {three}");
    assert_eq!(setting.ask("GET", "/subset", &[]), "503");
    assert_eq!(setting.ask("GET", "/nobody", &[]), "503");
    for target in ["/subset", "/nobody"] {
        let record = setting.process.record_of(target);
        assert_eq!((record.flags(), record.details()), ("NC", "cluster_not_found"));
        assert!(record.reason().is_some_and(|reason| reason.contains("does not exist")), "{record:?}");
    }
}

#[test]
fn route_names_are_logged() {
    let setting = Setting::routes(
        "- name: users
  match: [{name: by-id, uri: {prefix: /users/}}, {uri: {exact: /users}}]
  route: [{destination: {host: one}}]
- route: [{destination: {host: two}}]",
    );
    for target in ["/users/1", "/users", "/else"] {
        setting.ask("GET", target, &[]);
    }
    assert_eq!(setting.process.record_of("/users/1").route_name(), "users.by-id");
    assert_eq!(setting.process.record_of("/users").route_name(), "users");
    assert_eq!(setting.process.record_of("/else").route_name(), "-");
}
