//! Who comes back to the same endpoint, and who is preferred because of where it is.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use meshwright_testkit::{Config, Launch, Meshwright, Origin, Response, binary, eventually, gateway_to, indent, pass};

/// A destination rule for `svc` with this traffic policy and these annotations, in YAML's flow form.
fn rule(policy: &str, annotations: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: svc, annotations: {{{annotations}}}}}
spec:
  host: svc
  trafficPolicy:
{}",
        indent(policy, 4)
    )
}

struct Stage {
    origins: Vec<Origin>,
    config: Config,
    process: Meshwright,
}

/// `count` origins named a, b, c ... behind a gateway with this rule; `suffix` follows the address of each in `--service`.
fn stage(count: u8, rule: &str, suffix: impl Fn(usize) -> String, arguments: &[&str]) -> Stage {
    let names = (0..count).map(|number| char::from(b'a' + number).to_string());
    let origins: Vec<Origin> = names.map(|name| Origin::named(&name)).collect();
    let endpoints: Vec<String> =
        origins.iter().enumerate().map(|(index, origin)| format!("{}{}", origin.address(), suffix(index))).collect();
    let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
    let config = Config::new(&[&gateway_to("svc"), rule]);
    let process = Launch::run(binary!())
        .file(config.path())
        .service("svc", &endpoints)
        .args(if arguments.contains(&"--workers") { &[] } else { &["--workers", "2"] })
        .args(arguments)
        .start();
    Stage { origins, config, process }
}

fn plain(_: usize) -> String {
    String::new()
}

impl Stage {
    fn get(&self, target: &str, headers: &[(&str, &str)]) -> Response {
        self.process.connect().request("GET", "x", target, headers, b"")
    }

    /// The names of who answers `count` requests, with how often.
    fn spread(&self, count: usize) -> BTreeMap<String, usize> {
        let mut spread = BTreeMap::new();
        (0..count).for_each(|_| *spread.entry(self.get("/", &[]).text()).or_default() += 1);
        spread
    }
}

#[test]
fn the_same_header_value_goes_to_the_same_endpoint_from_every_worker_and_proxy() {
    for table in ["maglev: {}", "ringHash: {minimumRingSize: 2048}"] {
        let policy = format!("loadBalancer: {{consistentHash: {{httpHeaderName: X-User, {table}}}}}");
        let stage = stage(5, &rule(&policy, ""), plain, &[]);
        // Another proxy that learnt the endpoints in another order.
        let endpoints: Vec<String> = stage.origins.iter().rev().map(|origin| origin.address().to_string()).collect();
        let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
        let other = Launch::run(binary!()).file(stage.config.path()).service("svc", &endpoints).start();
        let mut owners = BTreeSet::new();
        for user in 0..20 {
            let user = format!("user-{user}");
            let owner = stage.get("/", &[("X-User", &user)]).text();
            for _ in 0..3 {
                assert_eq!(stage.get("/", &[("X-User", &user)]).text(), owner);
                let elsewhere = other.connect().request("GET", "x", "/", &[("X-User", &user)], b"");
                assert_eq!(elsewhere.text(), owner);
            }
            owners.insert(owner);
        }
        assert!(owners.len() >= 3, "{owners:?}");
    }
}

#[test]
fn query_parameters_and_client_addresses_are_keys_too() {
    let stage = stage(4, &rule("loadBalancer: {consistentHash: {httpQueryParameterName: user}}", ""), plain, &[]);
    let owner = stage.get("/?a=1&user=7", &[]).text();
    assert!((0..10).all(|_| stage.get("/other?user=7&b=2", &[]).text() == owner));
    let other_users: BTreeSet<String> = (0..20).map(|user| stage.get(&format!("/?user={user}"), &[]).text()).collect();
    assert!(other_users.len() > 1);
    stage.config.replace(&[&gateway_to("svc"), &rule("loadBalancer: {consistentHash: {useSourceIp: true}}", "")]);
    stage.process.generation_becomes(2.0);
    assert_eq!(stage.spread(20).len(), 1, "all come from one address");
}

/// The value of a cookie that an answer sets, with the attributes.
fn set_cookie(response: &Response) -> Option<(String, String)> {
    let line = response.header("set-cookie")?;
    let (pair, attributes) = line.split_once("; ").unwrap_or((line, ""));
    Some((pair.to_owned(), attributes.to_owned()))
}

#[test]
fn a_client_without_the_cookie_is_given_one_that_leads_back() {
    let policy = "loadBalancer: {consistentHash: {httpCookie: {name: user, path: /, ttl: 60s}}}";
    let stage = stage(4, &rule(policy, ""), plain, &[]);
    let mut owners = BTreeSet::new();
    for _ in 0..12 {
        let first = stage.get("/", &[]);
        let (cookie, attributes) = set_cookie(&first).expect("a cookie is made");
        assert_eq!(attributes, "Max-Age=60; Path=/; HttpOnly");
        for _ in 0..3 {
            let again = stage.get("/", &[("Cookie", &format!("other=1; {cookie}"))]);
            assert_eq!((again.text(), set_cookie(&again)), (first.text(), None));
        }
        owners.insert(first.text());
    }
    assert!(owners.len() > 1);
    let policy = "loadBalancer: {consistentHash: {httpCookie: {name: user}}}";
    stage.config.replace(&[&gateway_to("svc"), &rule(policy, "")]);
    stage.process.generation_becomes(2.0);
    assert_eq!(set_cookie(&stage.get("/", &[])), None, "without a lifetime no cookie is made");
}

#[test]
fn a_session_cookie_names_its_endpoint_until_that_is_disabled() {
    let annotation = "meshwright.io/session-cookie: 'session; ttl=1h'";
    let stage = stage(3, &rule("loadBalancer: {simple: ROUND_ROBIN}", annotation), plain, &[]);
    let first = stage.get("/", &[]);
    let (cookie, attributes) = set_cookie(&first).expect("a session begins");
    assert_eq!(attributes, "Max-Age=3600; Path=/; HttpOnly");
    let mine = || stage.get("/", &[("Cookie", &cookie)]);
    for _ in 0..9 {
        let again = mine();
        assert_eq!((again.text(), set_cookie(&again)), (first.text(), None));
    }
    assert_eq!(stage.spread(30).len(), 3, "new clients are balanced as ever");
    let index = usize::from(first.text().as_bytes()[0] - b'a');
    let address = stage.origins[index].address();
    let act = |action: &str| {
        let answer = stage.process.admin_post(&format!("/endpoints/svc/{address}/{action}"));
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    act("drain");
    assert_eq!(mine().text(), first.text(), "sessions stay at an endpoint that is drained");
    assert_eq!(stage.spread(30).len(), 2, "new clients do not come to it");
    act("disable");
    let moved = mine();
    assert_ne!(moved.text(), first.text());
    assert!(set_cookie(&moved).is_some(), "the session goes on elsewhere, and the client is told");
}

#[test]
fn the_own_zone_is_preferred_and_the_rest_stands_in_for_it() {
    let policy = "outlierDetection: {consecutive5xxErrors: 3}";
    let zone = |index: usize| format!(";locality=eu/{}", ["a", "a", "b"][index]);
    let stage = stage(3, &rule(policy, ""), zone, &["--locality", "eu/a"]);
    assert_eq!(stage.spread(40).into_keys().collect::<Vec<_>>(), ["a", "b"]);
    for origin in &stage.origins[..2] {
        let answer = stage.process.admin_post(&format!("/endpoints/svc/{}/disable", origin.address()));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(stage.spread(10).into_keys().collect::<Vec<_>>(), ["c"]);
    let clusters = stage.process.admin_get("/clusters?format=json").json();
    let far = &clusters["clusters"][0]["endpoints"][2];
    assert_eq!((far["locality"].as_str(), far["priority"].as_u64()), (Some("eu/b"), Some(1)), "{clusters:#}");
}

#[test]
fn fixed_shares_between_zones_are_kept() {
    let distribute = "{from: 'eu/a/*', to: {'eu/a/*': 75, 'eu/b/*': 25}}";
    let policy = format!("loadBalancer: {{simple: ROUND_ROBIN, localityLbSetting: {{distribute: [{distribute}]}}}}");
    let zone = |index: usize| format!(";locality=eu/{}", ["a", "b", "c"][index]);
    let stage = stage(3, &rule(&policy, ""), zone, &["--locality", "eu/a", "--workers", "1"]);
    let expected = BTreeMap::from([("a".to_owned(), 75), ("b".to_owned(), 25)]);
    assert_eq!(stage.spread(100), expected);
}

#[test]
fn a_new_endpoint_warms_up() {
    let policy = "loadBalancer: {simple: ROUND_ROBIN, warmup: {duration: 4s, minimumPercent: 1}}";
    let names = ["a", "b"];
    let origins = names.map(Origin::named);
    let entry = |count: usize| {
        let endpoints: String = origins[..count]
            .iter()
            .map(|origin| format!("    - {{address: 127.0.0.1, ports: {{http: {}}}}}\n", origin.address().port()))
            .collect();
        format!(
            "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: svc}}
spec:
  hosts: [svc]
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  resolution: STATIC
  endpoints:
{endpoints}"
        )
    };
    let rule = rule(policy, "");
    let config = Config::new(&[&gateway_to("svc"), &rule, &entry(1)]);
    let process = Launch::run(binary!()).file(config.path()).args(&["--workers", "1"]).start();
    assert_eq!(process.get("x", "/").text(), "a");
    // The first endpoint is warm before the second one comes.
    pass(Duration::from_secs(4));
    config.replace(&[&gateway_to("svc"), &rule, &entry(2)]);
    process.generation_becomes(2.0);
    let (begun, count) = (Instant::now(), 100.0);
    let of_new = |count: usize| (0..count).filter(|_| process.get("x", "/").text() == "b").count();
    let new = of_new(100) as f64;
    let warmth = (begun.elapsed().as_secs_f64() / 4.0).clamp(0.01, 1.0);
    let share = warmth / (1.0 + warmth);
    let most = count * share + 4.0 * (count * share).sqrt() + 2.0;
    assert!(new <= most, "{new} of {count} where at most {most} are likely");
    eventually("the new endpoint has its whole share", || of_new(50) >= 24);
}

#[test]
fn peak_ewma_leaves_an_endpoint_alone_that_answers_slowly() {
    let slow = Origin::answers_after(Duration::from_millis(150), "slow");
    let fast = Origin::named("fast");
    let process = Launch::proxy(binary!(), &[slow.address(), fast.address()])
        .args(&["--lb", "peak-ewma", "--workers", "1"])
        .start();
    let mut client = process.connect();
    let answers: Vec<String> = (0..50).map(|_| client.get("x", "/").text()).collect();
    let from_slow = answers.iter().filter(|answer| *answer == "slow").count();
    assert!(from_slow <= 3, "one to learn how slow it is, not {from_slow}");
    let clusters = process.admin_get("/clusters?format=json").json();
    assert_eq!(clusters["clusters"][0]["policy"], "PEAK_EWMA");
    eventually("the latency of the slow endpoint is shown", || {
        let clusters = process.admin_get("/clusters?format=json").json();
        clusters["clusters"][0]["endpoints"][0]["latency_us"].as_u64() > Some(1_000)
    });
}

#[test]
fn an_endpoint_that_refuses_connections_does_not_look_like_the_fastest() {
    let refusing = meshwright_testkit::RefusingPort::new();
    let good = Origin::named("good");
    let process = Launch::proxy(binary!(), &[refusing.address(), good.address()])
        .args(&["--lb", "peak-ewma", "--workers", "1"])
        .start();
    let mut client = process.connect();
    assert!((0..50).all(|_| client.get("x", "/").status == 200), "retries hide the refusals");
    let refused = process.metrics().sum("envoy_cluster_upstream_cx_connect_fail", &[]);
    assert!(refused <= 3.0, "{refused} tries");
}

#[test]
fn prequal_takes_what_endpoints_say_of_themselves_and_else_what_it_knows() {
    let says = |name: &str, load: &str| {
        let load = load.to_owned();
        let name = name.to_owned();
        Origin::sends_by(move |_| {
            format!("HTTP/1.1 200 OK\r\nx-meshwright-load: {load}\r\nContent-Length: {}\r\n\r\n{name}", name.len())
                .into_bytes()
        })
    };
    let busy = says("busy", "in-flight=50, latency-us=90000");
    let idle = says("idle", "in-flight=1, latency-us=900");
    let silent = Origin::answers_after(Duration::from_millis(100), "silent");
    let process = Launch::proxy(binary!(), &[busy.address(), idle.address(), silent.address()])
        .args(&["--lb", "prequal", "--workers", "1"])
        .start();
    let mut client = process.connect();
    let mut names = BTreeMap::new();
    for _ in 0..100 {
        let answer = client.get("x", "/");
        assert_eq!(answer.header("x-meshwright-load"), None, "it is not for the client");
        *names.entry(answer.text()).or_insert(0) += 1;
    }
    assert!(names["idle"] > 60, "{names:?}");
    let clusters = process.admin_get("/clusters?format=json").json();
    let endpoints = &clusters["clusters"][0]["endpoints"];
    assert_eq!(endpoints[1]["load_source"], "reported", "{endpoints:#}");
    assert_eq!(endpoints[2]["load_source"], "local", "{endpoints:#}");
}
