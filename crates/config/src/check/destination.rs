//! Destinations of routes and hosts of destination rules: do service, port and subset exist, and what is behind them.

use std::collections::HashMap;

use meshwright_model::{
    ClientTlsPolicy, DestinationRule, Diagnostic, EndpointAddress, PortProtocol, Service, TrafficPolicy, host,
};

use super::World;
use super::binding::{MAX_SUGGESTED, missing};
use crate::finding::{Findings, Reporter};
use crate::kind::Object;
use crate::name;
use crate::record::Record;

/// The namespace whose destination rules hold for everybody.
const ROOT_NAMESPACE: &str = "istio-system";

/// Destination rules by the full name of their host; wildcards apart.
struct RuleIndex<'r> {
    exact: HashMap<String, Vec<&'r DestinationRule>>,
    wildcards: Vec<(String, &'r DestinationRule)>,
}

impl<'r> RuleIndex<'r> {
    fn new(world: &World<'r>) -> Self {
        let mut index = Self { exact: HashMap::new(), wildcards: Vec::new() };
        for rule in world.rules {
            let name = canonical(world, &rule.host, &rule.namespace);
            match name.starts_with('*') {
                true => index.wildcards.push((name, rule)),
                false => index.exact.entry(name).or_default().push(rule),
            }
        }
        index
    }

    /// The rules of which one can be what a caller in `namespace` uses for a host.
    fn rules(&self, world: &World<'_>, host: &str, namespace: &str) -> Vec<&'r DestinationRule> {
        let name = canonical(world, host, namespace);
        let service_namespace = world.service(host, namespace).map(|service| service.namespace.as_str());
        let exact = self.exact.get(&name).into_iter().flatten().copied();
        let covering = self.wildcards.iter().filter(|(pattern, _)| host::covers(pattern, &name));
        exact
            .chain(covering.map(|(_, rule)| *rule))
            .filter(|rule| {
                rule.namespace == namespace
                    || Some(rule.namespace.as_str()) == service_namespace
                    || rule.namespace == ROOT_NAMESPACE
            })
            .collect()
    }
}

/// The full name of a host that is written in `namespace`.
fn canonical(world: &World<'_>, name: &str, namespace: &str) -> String {
    match world.service(name, namespace) {
        Some(service) => service.host.clone(),
        None if host::is_short(name) => host::fully_qualified(name, namespace),
        None => name.to_owned(),
    }
}

pub(super) fn check(world: &World<'_>, findings: &mut Findings) {
    let rules = RuleIndex::new(world);
    for object in &world.objects.virtual_services {
        let mut reporter = Reporter { findings, subject: &object.subject };
        for list in ["http", "tls", "tcp"] {
            for destination in object.spec.records(list).flat_map(|route| route.records("route")) {
                if let Some(record) = destination.record("destination") {
                    let traffic = if list == "http" { Traffic::Requests } else { Traffic::Connections };
                    let place = Place { world, rules: &rules, namespace: &object.namespace };
                    destination_exists(&place, traffic, record, &mut reporter);
                }
            }
        }
    }
    for object in &world.objects.destination_rules {
        rule_finds_something(world, object, findings);
    }
    for object in &world.objects.resilience_policies {
        let policy = &object.model;
        if services_of(world, &policy.host, &policy.namespace).is_some_and(|services| services.is_empty()) {
            let mut reporter = Reporter { findings, subject: &object.subject };
            let what = ("resilience-policy-host", "ResiliencePolicy", "the policy has no effect");
            no_service(world, &policy.host, what, &object.spec, &mut reporter);
        }
    }
}

/// What a destination gets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Traffic {
    Requests,
    Connections,
}

impl Traffic {
    /// What becomes of it without a destination.
    fn lost(self, why: &str) -> String {
        match self {
            Self::Requests => format!("requests get 503 NC: {why}"),
            Self::Connections => format!("connections are closed: {why}"),
        }
    }
}

/// Where a destination is written.
struct Place<'a> {
    world: &'a World<'a>,
    rules: &'a RuleIndex<'a>,
    namespace: &'a str,
}

/// IST0101 and IST0112.
fn destination_exists(place: &Place<'_>, traffic: Traffic, record: &Record, reporter: &mut Reporter<'_>) {
    let Place { world, rules, namespace } = *place;
    let Some(written) = record.text("host").filter(|host| !host.is_empty()) else { return };
    let lower = written.to_ascii_lowercase();
    let lower = lower.strip_suffix('.').unwrap_or(&lower);
    // What is no name at all was said where it was read; advice to add a service of that name would be wrong.
    if !name::is_domain(lower) || name::looks_like_ip(lower) {
        return;
    }
    let service = world.service(lower, namespace);
    if let Some(subset) = record.text("subset").filter(|subset| name::is_dns_label(subset)) {
        subset_exists(&rules.rules(world, lower, namespace), record, (lower, subset, traffic), reporter);
    }
    let Some(service) = service else {
        let mut finding = missing("host", written, &world.names, &traffic.lost("there is no such service"));
        let known = finding.suggestion.as_deref().is_some_and(|text| text.starts_with("did you mean"));
        if !known {
            finding = finding.with_suggestion(format!(
                "add `--service {written}=ADDRESS:PORT`, a ServiceEntry or a Service, or register an instance of it"
            ));
        }
        reporter.add(&record.place_of("host"), finding);
        return;
    };
    let numbers: Vec<u16> = service.ports.iter().map(|port| port.number).collect();
    match record.record("port").and_then(|port| port.whole("number")) {
        Some(number) => {
            let known = numbers.is_empty() || numbers.iter().any(|port| i64::from(*port) == number);
            if !known {
                let text = format!("{written}:{number}");
                let list: Vec<String> = numbers.iter().map(u16::to_string).collect();
                let finding = missing("port", &text, &[], &traffic.lost("the service has no such port"))
                    .with_value(number.to_string())
                    .with_allowed(list.join(", "))
                    .with_suggestion("use a port of the service");
                let place =
                    record.record("port").map_or_else(|| record.place_of("port"), |port| port.place_of("number"));
                reporter.add(&place, finding);
            } else if traffic == Traffic::Requests {
                speaks_tls(service, number, &rules.rules(world, lower, namespace), record, reporter);
            }
        }
        None if numbers.len() > 1 => {
            let message = format!(
                "This VirtualService routes to a host {written:?} that exposes multiple ports {numbers:?}. Specifying a \
                 port in the destination is required to disambiguate"
            );
            let finding = Diagnostic::warning("IST0112", message)
                .with_value(written)
                .with_allowed("`port: {number: N}` with a port of the service")
                .with_effect(format!(
                    "the port that it came in on is used; else {}",
                    traffic.lost("there is no such port")
                ))
                .with_suggestion(format!("add `port: {{number: {}}}`", numbers[0]));
            reporter.add(&record.place_of("host"), finding);
        }
        None => {}
    }
}

/// Requests to a port that says HTTPS or TLS need a rule that makes it so, or they are sent in clear text.
fn speaks_tls(
    service: &Service,
    number: i64,
    rules: &[&DestinationRule],
    record: &Record,
    reporter: &mut Reporter<'_>,
) {
    let port = service.ports.iter().find(|port| i64::from(port.number) == number);
    let Some(port) = port.filter(|port| matches!(port.protocol, PortProtocol::Https | PortProtocol::Tls)) else {
        return;
    };
    let originates = |policy: &TrafficPolicy| {
        let of_ports = policy.port_level.iter().filter_map(|own| own.tls.as_ref());
        policy.tls.iter().chain(of_ports).any(|tls| matches!(tls, ClientTlsPolicy::Originate(_)))
    };
    let any = rules.iter().any(|rule| {
        originates(&rule.traffic_policy) || rule.subsets.iter().any(|subset| originates(&subset.traffic_policy))
    });
    if any {
        return;
    }
    let message = format!("port {} of {} speaks TLS, and no DestinationRule begins it", port.number, service.host);
    let finding = Diagnostic::warning("clear-text-to-tls", message)
        .with_value(port.number.to_string())
        .with_allowed("a DestinationRule for the host with `trafficPolicy: {tls: {mode: SIMPLE}}`")
        .with_effect("requests are sent in clear text, which the service does not understand")
        .with_suggestion("add the DestinationRule");
    let place = record.record("port").map_or_else(|| record.place_of("port"), |port| port.place_of("number"));
    reporter.add(&place, finding);
}

fn subset_exists(
    rules: &[&DestinationRule],
    record: &Record,
    (host, subset, traffic): (&str, &str, Traffic),
    reporter: &mut Reporter<'_>,
) {
    if rules.iter().any(|rule| rule.subsets.iter().any(|known| known.name == subset)) {
        return;
    }
    let names: Vec<&str> = rules.iter().flat_map(|rule| &rule.subsets).map(|subset| subset.name.as_str()).collect();
    let effect = traffic.lost("no DestinationRule of the host declares the subset");
    let text = format!("{host}+{subset}");
    let mut finding = missing("host+subset in destinationrule", &text, &names, &effect).with_value(subset);
    finding.suggestion = Some(match crate::text::nearest(subset, names) {
        Some(near) => format!("did you mean {near}?"),
        None => format!(
            "add a DestinationRule with `host: {host}` and `subsets: [{{name: {subset}, labels: {{version: {subset}}}}}]`"
        ),
    });
    reporter.add(&record.place_of("subset"), finding);
}

/// The services that a host written in `namespace` covers; `None` when it is no host at all, which was said already.
fn services_of<'w>(world: &World<'w>, host: &str, namespace: &str) -> Option<Vec<&'w Service>> {
    if name::host_problem(host).is_some() {
        return None;
    }
    match world.directory.find(host, namespace) {
        Some(id) => Some(vec![&world.services[id.0]]),
        None if host.starts_with('*') => {
            Some(world.services.iter().filter(|service| host::covers(host, &service.host)).collect())
        }
        None => Some(Vec::new()),
    }
}

/// A rule or policy whose host is the host of nothing.
fn no_service(
    world: &World<'_>,
    host: &str,
    (code, kind, effect): (&'static str, &str, &str),
    spec: &Record,
    reporter: &mut Reporter<'_>,
) {
    let message = format!("The host {host} defined in the {kind} does not match any services in the mesh");
    let near = crate::text::nearest(host, world.names.iter().copied().take(MAX_SUGGESTED));
    let finding = Diagnostic::warning(code, message)
        .with_value(host)
        .with_allowed("the name of a service")
        .with_effect(effect)
        .with_suggestion(match near {
            Some(near) => format!("did you mean {near}?"),
            None if host.starts_with('*') => {
                "add a service that the host covers: with --service, a ServiceEntry or a Service".to_owned()
            }
            None => format!("add `--service {host}=ADDRESS:PORT`, a ServiceEntry or a Service"),
        });
    reporter.add(&spec.place_of("host"), finding);
}

/// IST0174 and IST0173, and ejection that cannot help.
fn rule_finds_something(world: &World<'_>, object: &Object<DestinationRule>, findings: &mut Findings) {
    let rule = &object.model;
    let Some(services) = services_of(world, &rule.host, &rule.namespace) else { return };
    let mut reporter = Reporter { findings, subject: &object.subject };
    if services.is_empty() {
        let what = ("IST0174", "DestinationRule", "the rule has no effect");
        no_service(world, &rule.host, what, &object.spec, &mut reporter);
        return;
    }
    for (subset, record) in rule.subsets.iter().zip(object.spec.records("subsets")) {
        let selects = |service: &&Service| {
            service
                .endpoints
                .iter()
                .any(|endpoint| subset.labels.iter().all(|(key, value)| endpoint.labels.get(key) == Some(value)))
        };
        let known = services.iter().any(|service| !service.endpoints.is_empty());
        let named = name::is_dns_label(&subset.name);
        if known && named && !services.iter().any(selects) {
            let message = format!("The Subset {} defined in the DestinationRule does not select any pods", subset.name);
            let labels: Vec<String> = subset.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let finding = Diagnostic::warning("IST0173", message)
                .with_value(labels.join(", "))
                .with_allowed("labels that an endpoint of the service has")
                .with_effect("requests for the subset get 503 UH: it has no endpoint")
                .with_suggestion(format!(
                    "give an endpoint these labels, for example `--service '{}=127.0.0.1:9001;{}'`",
                    if rule.host.starts_with('*') { &services[0].host } else { &rule.host },
                    labels.join(";")
                ));
            reporter.add(&record.place_of("name"), finding);
        }
    }
    ejection_helps(object, &services, &mut reporter);
}

/// One endpoint may always be ejected, and a small percentage of few endpoints is not more than that.
fn ejection_helps(object: &Object<DestinationRule>, services: &[&Service], reporter: &mut Reporter<'_>) {
    let Some(detection) = &object.model.traffic_policy.outlier_detection else { return };
    let [service] = services else { return };
    let by_name = service.endpoints.iter().any(|endpoint| matches!(endpoint.address, EndpointAddress::Name(_)));
    let count = service.endpoints.len();
    let share = usize::try_from(detection.max_ejection_percent).unwrap_or(100) * count;
    if by_name || count < 3 || share >= 200 {
        return;
    }
    let message = format!(
        "of {count} endpoints only one may be ejected at a time (maxEjectionPercent {})",
        detection.max_ejection_percent
    );
    let finding = Diagnostic::warning("few-ejections", message)
        .with_value(detection.max_ejection_percent.to_string())
        .with_allowed("a percentage that lets more than one endpoint go")
        .with_effect("a second failing endpoint keeps its share of the requests")
        .with_suggestion("write for example `maxEjectionPercent: 50`");
    let policy = object.spec.record("trafficPolicy");
    let block = policy.and_then(|policy| policy.record("outlierDetection").or_else(|| policy.record("circuitBreaker")));
    reporter.add(&block.map_or_else(|| object.place.clone(), |block| block.place_of("maxEjectionPercent")), finding);
}
