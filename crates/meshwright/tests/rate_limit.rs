//! Rate limits of a resilience policy: who is refused, what they are told, and who is not.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use meshwright_testkit::{
    Config, Http2Client, Launch, Meshwright, Origin, Response, Signal, binary, eventually, gateway_routes, gateway_to,
    resilience_policy,
};

const SVC: [(&str, &str); 1] = [("cluster_name", "outbound|80||svc.default.svc.cluster.local")];

/// A gateway to `svc` with this rate limit, over two workers.
fn with(limit: &str, routes: &str) -> (Config, Meshwright, Origin) {
    let origin = Origin::named("ok");
    let config = Config::new(&[routes, &resilience_policy("svc", &format!("rateLimit: {{{limit}}}"))]);
    let process = Launch::run(binary!())
        .file(config.path())
        .service_at("svc", origin.address())
        .args(&["--workers", "2", "--no-watch", "--access-log", "text"])
        .start();
    (config, process, origin)
}

fn of_user(process: &Meshwright, user: &str) -> Response {
    process.connect().request("GET", "x", "/", &[("x-user", user)], b"")
}

#[test]
fn requests_beyond_the_rate_are_refused_and_told_when_to_come_again() {
    let (_config, process, origin) = with("requests: 3, per: 1h, headers: true", &gateway_to("svc"));
    let answers: Vec<Response> = (0..5).map(|_| process.get("x", "/")).collect();
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 200, 200, 429, 429], "all workers share the bucket");
    assert_eq!(origin.count(), 3);
    assert_eq!(answers[0].header("ratelimit-policy"), Some("\"default\";q=3;w=3600"));
    assert_eq!(answers[0].header("ratelimit"), Some("\"default\";r=2;t=1200"));
    let refused = process.get("x", "/refused");
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1_000..=1_200).contains(&wait), "{wait}");
    assert_eq!((refused.text().as_str(), refused.header("x-envoy-ratelimited")), ("local_rate_limited", Some("true")));
    assert!(refused.header("ratelimit").is_some_and(|value| value.starts_with("\"default\";r=0;t=3")));
    let record = process.record_of("/refused");
    assert_eq!((record.status(), record.flags(), record.details()), (429, "RL", "local_rate_limited"));
    process.metric_becomes("meshwright_cluster_rate_limited_total", &SVC, 3.0);
    assert!(process.admin_get("/clusters").text().contains("rate_limit::keys::1"));
    let answer = Http2Client::connect(process.gateway()).get("x", "/");
    assert_eq!((answer.status, answer.header("retry-after").is_some()), (429, true));
}

#[test]
fn every_key_has_its_own_rate() {
    let (_config, process, _origin) = with("requests: 1, per: 1h, key: {header: X-User}", &gateway_to("svc"));
    let statuses = ["a", "b", "a", "b", "c"].map(|user| of_user(&process, user).status);
    assert_eq!(statuses, [200, 200, 429, 429, 200]);
    assert_eq!([process.get("x", "/").status, process.get("x", "/").status], [200, 429], "those without it are one");
    assert_eq!(process.get("x", "/").header("ratelimit"), None, "only where it is asked for");
}

#[test]
fn routes_and_sources_can_be_keys() {
    let routes = gateway_routes(
        "- match: [{uri: {prefix: /one}}]\n  route: [{destination: {host: svc}}]\n- route: [{destination: {host: svc}}]",
    );
    let (_config, process, _origin) = with("requests: 1, per: 1h, key: {route: true, sourceIp: true}", &routes);
    let statuses = ["/one", "/two", "/one", "/two"].map(|target| process.get("x", target).status);
    assert_eq!(statuses, [200, 200, 429, 429]);
}

#[test]
fn keys_are_bounded_and_the_rest_shares() {
    let (_config, process, origin) =
        with("requests: 1, per: 1h, maxKeys: 16, key: {header: x-user}", &gateway_to("svc"));
    let mut client = process.connect();
    for user in 0..200 {
        client.request("GET", "x", "/", &[("x-user", &user.to_string())], b"");
    }
    assert!((16..=32).contains(&origin.count()), "{} of 200 strangers passed", origin.count());
}

#[test]
fn a_rate_limit_that_observes_counts_and_refuses_nothing() {
    let (_config, process, origin) = with("requests: 1, per: 1h, mode: OBSERVE", &gateway_to("svc"));
    assert!((0..4).all(|_| process.get("x", "/").status == 200));
    assert_eq!(origin.count(), 4);
    process.metric_becomes("meshwright_cluster_rate_limited_total", &SVC, 3.0);
    assert!(process.admin_get("/clusters").text().contains("rate_limit::mode::observe"));
}

#[test]
fn tokens_come_again_and_buckets_survive_reloads_that_do_not_change_them() {
    let limit = "requests: 1, per: 1h";
    let (config, process, _origin) = with(limit, &gateway_to("svc"));
    assert_eq!([process.get("x", "/").status, process.get("x", "/").status], [200, 429]);
    let policy = resilience_policy("svc", &format!("rateLimit: {{{limit}}}\nretries: {{attempts: 1}}"));
    config.replace(&[&gateway_to("svc"), &policy]);
    process.signal(Signal::HUP);
    process.generation_becomes(2.0);
    assert_eq!(process.get("x", "/").status, 429);
    config.replace(&[&gateway_to("svc"), &resilience_policy("svc", "rateLimit: {requests: 20, burst: 1}")]);
    process.signal(Signal::HUP);
    process.generation_becomes(3.0);
    assert_eq!(process.get("x", "/").status, 200);
    eventually("a token comes", || process.get("x", "/").status == 200);
}
