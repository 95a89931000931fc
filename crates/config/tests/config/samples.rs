//! The two sample files load as they are.

use std::net::IpAddr;
use std::time::Duration;

use meshwright_config::{Options, Outcome, Source, load};
use meshwright_model::{
    Algorithm, EndpointAddress, EndpointPorts, GatewayRef, HeaderMatch, RouteAction, ServerProtocol, Severity,
    StringMatch,
};

const GATEWAY: &str = include_str!("../data/gateway.yaml");
const CANARY: &str = include_str!("../data/canary.yaml");

fn run(sources: &[(&str, &str)], services: &[&str]) -> Outcome {
    let sources: Vec<Source> = sources.iter().map(|(name, text)| Source::new(name, *text)).collect();
    let services = services.iter().map(|flag| flag.parse().expect("a good flag")).collect();
    load(&sources, &Options { services, ..Options::default() })
}

fn codes(outcome: &Outcome) -> Vec<(&'static str, u32, String)> {
    outcome
        .diagnostics
        .iter()
        .map(|finding| (finding.code, finding.origin.as_ref().map_or(0, |origin| origin.line), finding.path.clone()))
        .collect()
}

#[test]
fn the_gateway_sample_loads_with_the_two_warnings_that_it_deserves() {
    let outcome = run(
        &[("gateway.yaml", GATEWAY)],
        &["user-service=127.0.0.1:9001,127.0.0.1:9002", "post-service=127.0.0.1:9003"],
    );
    assert_eq!(
        codes(&outcome),
        [
            ("alias", 59, "spec.trafficPolicy.circuitBreaker".to_owned()),
            ("deprecated", 60, "spec.trafficPolicy.circuitBreaker.consecutiveErrors".to_owned()),
        ]
    );
    assert!(outcome.diagnostics.iter().all(|finding| finding.severity == Severity::Warning));
    let mesh = outcome.mesh.expect("a mesh");

    let gateway = &mesh.gateways[0];
    assert_eq!((gateway.name.as_str(), gateway.namespace.as_str()), ("api-gateway", "default"));
    assert_eq!(gateway.selector.get("istio").map(String::as_str), Some("ingressgateway"));
    let server = &gateway.servers[0];
    assert_eq!((server.port, server.protocol, server.port_name.as_str()), (80, ServerProtocol::Http, "http"));
    assert_eq!(server.hosts[0].pattern, "api.example.com");
    assert_eq!(server.hosts[0].namespace, None);

    let routes = &mesh.virtual_services[0];
    assert_eq!(routes.hosts, ["api.example.com"]);
    let named = GatewayRef::Named { namespace: "default".to_owned(), name: "api-gateway".to_owned() };
    assert_eq!(routes.gateways, [named]);
    assert_eq!(routes.http.len(), 2);
    assert_eq!(routes.http[0].matches[0].uri, Some(StringMatch::Prefix("/users".to_owned())));
    assert_eq!(routes.http[0].retries, None);
    assert_eq!(routes.http[0].timeout, None);
    assert_eq!(routes.http[0].origin.line, 27);
    let RouteAction::Forward(destinations) = &routes.http[1].action else { panic!("a forwarding route") };
    assert_eq!(destinations[0].destination.host, "post-service");
    assert_eq!(destinations[0].destination.port, Some(8080));
    assert_eq!(destinations[0].weight, 1);

    let rule = &mesh.destination_rules[0];
    assert_eq!(rule.traffic_policy.load_balancer, Some(Algorithm::RoundRobin.into()));
    let pool = rule.traffic_policy.connection_pool.as_ref().expect("a pool");
    assert_eq!(pool.max_connections, Some(100));
    assert_eq!(pool.max_pending_requests, Some(50));
    assert_eq!(pool.max_requests_per_connection, Some(2));
    let detection = rule.traffic_policy.outlier_detection.as_ref().expect("outlier detection");
    assert_eq!(detection.consecutive_5xx, 3);
    assert_eq!(detection.interval, Duration::from_secs(30));
    assert_eq!(detection.base_ejection_time, Duration::from_secs(30));
    assert_eq!(detection.max_ejection_percent, 50);

    let service = &mesh.services[0];
    assert_eq!(service.host, "user-service.default.svc.cluster.local");
    assert_eq!(service.short_name.as_deref(), Some("user-service"));
    assert!(service.ports.is_empty());
    assert_eq!(service.endpoints.len(), 2);
    assert_eq!(service.endpoints[1].ports, EndpointPorts::Fixed(9002));
    assert_eq!(service.endpoints[1].address, EndpointAddress::Ip(IpAddr::from([127, 0, 0, 1])));
}

#[test]
fn the_canary_sample_loads_alone_and_says_what_is_missing() {
    let outcome = run(&[("canary.yaml", CANARY)], &[]);
    assert!(outcome.diagnostics.iter().all(|finding| finding.severity == Severity::Warning));
    assert!(outcome.diagnostics.iter().all(|finding| finding.code == "IST0101"));
    assert_eq!(outcome.diagnostics.len(), 6, "host and subset of each of the three destinations");
    let mesh = outcome.mesh.expect("a mesh");
    let routes = &mesh.virtual_services[0];
    assert_eq!(routes.gateways, [GatewayRef::Mesh]);
    let exact = HeaderMatch::Value(StringMatch::Exact("v2".to_owned()));
    assert_eq!(routes.http[0].matches[0].headers, [("version".to_owned(), exact)]);
    let RouteAction::Forward(destinations) = &routes.http[1].action else { panic!("a forwarding route") };
    let shares: Vec<(Option<&str>, u32)> =
        destinations.iter().map(|entry| (entry.destination.subset.as_deref(), entry.weight)).collect();
    assert_eq!(shares, [(Some("v1"), 90), (Some("v2"), 10)]);
}

#[test]
fn the_canary_sample_is_clean_with_a_rule_and_labelled_endpoints_beside_it() {
    let rule = "\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: user-service}
spec:
  host: user-service
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
";
    let outcome = run(
        &[("canary.yaml", CANARY), ("rule.yaml", rule)],
        &["user-service=127.0.0.1:9001;version=v1,127.0.0.1:9002;version=v2"],
    );
    assert_eq!(codes(&outcome), []);
    let mesh = outcome.mesh.expect("a mesh");
    assert_eq!(mesh.destination_rules[0].subsets[1].labels["version"], "v2");
    assert_eq!(mesh.services[0].endpoints[1].labels["version"], "v2");
}
