//! One list of services out of `--service` flags, `ServiceEntry` and Kubernetes `Service` documents, and the registry.
//!
//! A flag replaces other sources of its name. Otherwise services of one full name are united: endpoints joined, ports
//! united; on a conflict the earlier by `ServiceSource` and then by input is kept, and a warning names both. The registry
//! adds names that nobody else has; its instances join those of documents at run time.
//! Read next: `kind/service_entry.rs`, `kind/kubernetes.rs`, `flag.rs`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use meshwright_model::{
    Diagnostic, Endpoint, EndpointAddress, EndpointPorts, HealthCheck, Origin, Resolution, Service, ServicePort,
    ServiceSource, host,
};

use crate::Options;
use crate::finding::{Findings, Reporter, Subject};
use crate::health;
use crate::kind::kubernetes::KubernetesService;
use crate::kind::{Object, Objects};
use crate::node::{Path, Place, Span};

/// A service of one source.
struct Draft {
    service: Service,
    subject: Subject,
    place: Place,
}

/// All services, at most one for a full name. `flags` is the position of the flags among the sources.
pub(crate) fn services(objects: &Objects, options: &Options, flags: usize, findings: &mut Findings) -> Vec<Service> {
    let flagged = flag_drafts(options, flags);
    let mut used = vec![false; objects.workload_entries.len()];
    let mut drafts = Vec::new();
    for object in &objects.service_entries {
        entry_drafts(object, objects, &mut used, &mut drafts, findings);
    }
    let mut slices_used = vec![false; objects.slices.len()];
    let mut pods_used = vec![false; objects.pods.len()];
    for object in &objects.services {
        let mut draft = kubernetes_draft(object, objects, &mut used, &mut slices_used, findings);
        health::of_pods(object, objects, &mut draft.service.endpoints, &mut pods_used, findings);
        drafts.push(draft);
    }
    if !objects.incomplete {
        health::report_unused(objects, &pods_used, findings);
        report_unused(objects, &used, &slices_used, findings);
    }
    let drafts = replace_by_flags(&flagged, drafts, findings);
    let mut services = unite(flagged.into_iter().chain(drafts), findings);
    let known: HashSet<String> = services.iter().map(|service| service.host.clone()).collect();
    let registered = options.registered.iter().map(|(namespace, name)| registered_service(namespace, name));
    services.extend(registered.filter(|service| !known.contains(&service.host)));
    services
}

/// The service that instances registered as `name` in `namespace` belong to, when no other source has its name. It serves
/// every port; its endpoints come at run time.
pub fn registered_service(namespace: &str, name: &str) -> Service {
    let (host, namespace, aliases, short_name) = names_of(name, namespace);
    Service {
        host,
        namespace,
        aliases,
        short_name,
        ports: Vec::new(),
        resolution: Resolution::Static,
        endpoints: Vec::new(),
        source: ServiceSource::Registry,
        origin: Origin::flag("registry"),
    }
}

/// The names of a service: canonical host, namespace, aliases, short name.
fn names_of(name: &str, namespace: &str) -> (String, String, Vec<String>, Option<String>) {
    let suffix = format!(".svc.{}", host::CLUSTER_DOMAIN);
    let (short, namespace) = if host::is_short(name) {
        (name.to_owned(), namespace.to_owned())
    } else {
        let parts = name.strip_suffix(&suffix).and_then(|bare| bare.split_once('.'));
        match parts.filter(|(short, namespace)| !namespace.contains('.') && *short != "*") {
            Some((short, namespace)) => (short.to_owned(), namespace.to_owned()),
            None => return (name.to_owned(), namespace.to_owned(), Vec::new(), None),
        }
    };
    let aliases = vec![format!("{short}.{namespace}"), format!("{short}.{namespace}.svc")];
    (host::fully_qualified(&short, &namespace), namespace, aliases, Some(short))
}

fn flag_drafts(options: &Options, index: usize) -> Vec<Draft> {
    let namespace = options.namespace.as_str();
    let health_check = options.health.as_ref().map(|path| Arc::new(HealthCheck::http(path, "--health")));
    let mut drafts = Vec::new();
    for flag in &options.services {
        let full = match flag.mesh_name(namespace) {
            Some((short, namespace)) => host::fully_qualified(&short, &namespace),
            None => flag.name.clone(),
        };
        let (host, namespace, aliases, short_name) = names_of(&full, namespace);
        let endpoints: Vec<Endpoint> = flag
            .endpoints
            .iter()
            .map(|endpoint| Endpoint {
                address: endpoint.address.clone(),
                ports: EndpointPorts::Fixed(endpoint.port),
                labels: endpoint.labels.clone(),
                weight: endpoint.weight,
                locality: endpoint.locality.clone(),
                health_check: health_check.clone(),
            })
            .collect();
        let named = endpoints.iter().any(|endpoint| matches!(endpoint.address, EndpointAddress::Name(_)));
        let service = Service {
            host,
            namespace,
            aliases,
            short_name,
            ports: Vec::new(),
            resolution: if named { Resolution::Dns } else { Resolution::Static },
            endpoints,
            source: ServiceSource::Flag,
            origin: Origin::flag("--service"),
        };
        let subject = Subject { index, source: Arc::from("--service"), object: None };
        let place = Place { span: Span { line: 0, column: 0, length: 1 }, path: Path::default() };
        drafts.push(Draft { service, subject, place });
    }
    drafts
}

fn entry_drafts(
    object: &Object<crate::kind::service_entry::ServiceEntry>,
    objects: &Objects,
    used: &mut [bool],
    drafts: &mut Vec<Draft>,
    findings: &mut Findings,
) {
    let entry = &object.model;
    let mut endpoints = entry.endpoints.clone();
    if let Some(selector) = &entry.selector {
        let found = select(selector, &object.namespace, objects, used);
        if found.is_empty() && !objects.incomplete {
            report_empty_selector(object, "workloadSelector", selector, findings);
        }
        for (instance, endpoint) in found {
            let by_name = matches!(endpoint.address, EndpointAddress::Name(_));
            if by_name && entry.resolution == Some(Resolution::Static) {
                report_name_in_static(&objects.workload_entries[instance], &endpoint, findings);
            } else {
                endpoints.push(endpoint);
            }
        }
    }
    let Some(resolution) = entry.resolution else { return };
    for name in &entry.hosts {
        let (host, namespace, aliases, short_name) = names_of(name, &object.namespace);
        let own = resolution != Resolution::Static && endpoints.is_empty() && entry.selector.is_none();
        let endpoints = match own {
            true => vec![named_endpoint(name)],
            false => endpoints.clone(),
        };
        let service = Service {
            host,
            namespace,
            aliases,
            short_name,
            ports: entry.ports.clone(),
            resolution,
            endpoints,
            source: ServiceSource::ServiceEntry,
            origin: object.subject.origin(&object.place),
        };
        drafts.push(Draft { service, subject: object.subject.clone(), place: object.place.clone() });
    }
}

fn named_endpoint(name: &str) -> Endpoint {
    Endpoint {
        address: EndpointAddress::Name(name.to_owned()),
        ports: EndpointPorts::ByName(BTreeMap::new()),
        labels: BTreeMap::new(),
        weight: 1,
        locality: String::new(),
        health_check: None,
    }
}

/// The instances of a namespace whose labels include all of `selector`.
fn select(
    selector: &BTreeMap<String, String>,
    namespace: &str,
    objects: &Objects,
    used: &mut [bool],
) -> Vec<(usize, Endpoint)> {
    let mut found = Vec::new();
    for (index, object) in objects.workload_entries.iter().enumerate() {
        let Some(endpoint) = &object.model.endpoint else { continue };
        let matches = selector.iter().all(|(key, value)| endpoint.labels.get(key) == Some(value));
        if object.namespace == namespace && matches {
            used[index] = true;
            found.push((index, endpoint.clone()));
        }
    }
    found
}

fn kubernetes_draft(
    object: &Object<KubernetesService>,
    objects: &Objects,
    used: &mut [bool],
    slices_used: &mut [bool],
    findings: &mut Findings,
) -> Draft {
    let model = &object.model;
    let name = object.subject.object.as_ref().map_or("", |object| object.name.as_str());
    let mut endpoints = Vec::new();
    for (index, slice) in objects.slices.iter().enumerate() {
        if slice.namespace == object.namespace && slice.model.service.as_deref() == Some(name) {
            slices_used[index] = true;
            endpoints.extend(slice.model.endpoints.iter().cloned());
        }
    }
    if !model.selector.is_empty() {
        for (_, mut endpoint) in select(&model.selector, &object.namespace, objects, used) {
            resolve_named_targets(model, &mut endpoint);
            endpoints.push(endpoint);
        }
    }
    if let Some(external) = &model.external_name {
        endpoints = vec![named_endpoint(external)];
    } else if endpoints.is_empty() && !objects.incomplete {
        report_no_endpoints(object, findings);
    }
    let by_name = endpoints.iter().any(|endpoint| matches!(endpoint.address, EndpointAddress::Name(_)));
    let (host, namespace, aliases, short_name) = names_of(name, &object.namespace);
    let service = Service {
        host,
        namespace,
        aliases,
        short_name,
        ports: model.ports.iter().map(|(port, _)| port.clone()).collect(),
        resolution: if by_name { Resolution::Dns } else { Resolution::Static },
        endpoints,
        source: ServiceSource::Kubernetes,
        origin: object.subject.origin(&object.place),
    };
    Draft { service, subject: object.subject.clone(), place: object.place.clone() }
}

/// A port of an instance may carry the name of the target port instead of that of the service port.
fn resolve_named_targets(model: &KubernetesService, endpoint: &mut Endpoint) {
    let EndpointPorts::ByName(ports) = &mut endpoint.ports else { return };
    for (port, target) in &model.ports {
        let number = target.as_ref().and_then(|target| ports.get(target).copied());
        if let Some(number) = number.filter(|_| !ports.contains_key(&port.name)) {
            ports.insert(port.name.clone(), number);
        }
    }
}

/// Drops what a flag replaces, with a warning that names it.
fn replace_by_flags(flagged: &[Draft], drafts: Vec<Draft>, findings: &mut Findings) -> Vec<Draft> {
    let by_name: HashMap<&str, &Draft> = flagged
        .iter()
        .flat_map(|draft| {
            draft.service.aliases.iter().chain([&draft.service.host]).map(move |name| (name.as_str(), draft))
        })
        .collect();
    let mut kept = Vec::new();
    for draft in drafts {
        let Some(flag) = by_name.get(draft.service.host.as_str()) else {
            kept.push(draft);
            continue;
        };
        let service = &draft.service;
        let message = format!(
            "{} of {} at {} is replaced by --service {}",
            service.source,
            service.host,
            service.origin,
            flag.service.short_name.as_deref().unwrap_or(&flag.service.host)
        );
        let finding = Diagnostic::warning("service-replaced", message)
            .with_value(service.host.clone())
            .with_effect(format!("its {} endpoints and its ports are not used", service.endpoints.len()))
            .with_suggestion("leave the flag out to use the document");
        Reporter { findings, subject: &draft.subject }.add(&draft.place, finding);
    }
    kept
}

fn unite(drafts: impl Iterator<Item = Draft>, findings: &mut Findings) -> Vec<Service> {
    let mut services: Vec<Service> = Vec::new();
    let mut positions: HashMap<String, usize> = HashMap::new();
    for draft in drafts {
        match positions.get(&draft.service.host) {
            Some(position) => join(&mut services[*position], draft, findings),
            None => {
                positions.insert(draft.service.host.clone(), services.len());
                services.push(draft.service);
            }
        }
    }
    services
}

/// Adds a later source of the same name; `winner` keeps what they disagree about.
fn join(winner: &mut Service, draft: Draft, findings: &mut Findings) {
    let Draft { service: loser, subject, place } = draft;
    let mut reporter = Reporter { findings, subject: &subject };
    let rule = match winner.source == loser.source {
        true => "the earlier in the input wins",
        false => "--service wins over ServiceEntry, ServiceEntry over Service",
    };
    let mut conflict = |what: String, effect: String| {
        let message = format!(
            "{} of {} at {} and {} at {} disagree: {what}",
            winner.source, winner.host, winner.origin, loser.source, loser.origin
        );
        let finding = Diagnostic::warning("service-conflict", message)
            .with_value(loser.host.clone())
            .with_allowed(rule)
            .with_effect(effect)
            .with_suggestion("make both say the same, or remove one of them");
        reporter.add(&place, finding);
    };
    let mut ports: Vec<ServicePort> = winner.ports.clone();
    for port in &loser.ports {
        let same_number = ports.iter().find(|other| other.number == port.number);
        let same_name = ports.iter().find(|other| other.name == port.name && other.number != port.number);
        match (same_number, same_name) {
            (Some(other), _) if other.name == port.name && other.protocol == port.protocol => {}
            (Some(other), _) => conflict(
                format!("port {} is {:?} there and {:?} here", port.number, describe(other), describe(port)),
                format!("port {} is {:?}", port.number, describe(other)),
            ),
            (None, Some(other)) => conflict(
                format!("the port name {:?} is {} there and {} here", port.name, other.number, port.number),
                format!("port {} of the later source is left out", port.number),
            ),
            (None, None) => ports.push(port.clone()),
        }
    }
    let fits = |endpoint: &Endpoint| {
        winner.resolution != Resolution::Static || matches!(endpoint.address, EndpointAddress::Ip(_))
    };
    if winner.resolution != loser.resolution {
        let left_out = loser.endpoints.iter().filter(|endpoint| !fits(endpoint)).count();
        conflict(
            format!("resolution is {:?} there and {:?} here", winner.resolution, loser.resolution),
            format!("{:?} is used; {left_out} endpoints that do not fit it are left out", winner.resolution),
        );
    }
    let more: Vec<Endpoint> = loser
        .endpoints
        .iter()
        .filter(|endpoint| fits(endpoint))
        .map(|endpoint| moved(endpoint, &loser, &ports))
        .collect();
    let mut known: HashMap<EndpointAddress, Vec<usize>> = HashMap::new();
    for (index, endpoint) in winner.endpoints.iter().enumerate() {
        known.entry(endpoint.address.clone()).or_default().push(index);
    }
    for endpoint in more {
        let same = known.entry(endpoint.address.clone()).or_default();
        if !same.iter().any(|index| winner.endpoints[*index] == endpoint) {
            same.push(winner.endpoints.len());
            winner.endpoints.push(endpoint);
        }
    }
    winner.ports = ports;
    for alias in loser.aliases {
        if !winner.aliases.contains(&alias) {
            winner.aliases.push(alias);
        }
    }
    winner.short_name = winner.short_name.take().or(loser.short_name);
}

fn describe(port: &ServicePort) -> String {
    format!("{} ({:?})", port.name, port.protocol)
}

/// The endpoint with its ports under the names of the united service.
fn moved(endpoint: &Endpoint, from: &Service, ports: &[ServicePort]) -> Endpoint {
    let EndpointPorts::ByName(_) = &endpoint.ports else { return endpoint.clone() };
    let mut by_name = BTreeMap::new();
    for port in &from.ports {
        if let Some(united) = ports.iter().find(|united| united.number == port.number) {
            by_name.insert(united.name.clone(), from.socket_port(endpoint, port.number));
        }
    }
    Endpoint { ports: EndpointPorts::ByName(by_name), ..endpoint.clone() }
}

fn report_empty_selector<M>(
    object: &Object<M>,
    field: &str,
    selector: &BTreeMap<String, String>,
    findings: &mut Findings,
) {
    let labels: Vec<String> = selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let message = format!("no WorkloadEntry of namespace {} has the labels {}", object.namespace, labels.join(", "));
    let finding = Diagnostic::warning("IST0127", message)
        .with_value(labels.join(", "))
        .with_allowed("the labels of a WorkloadEntry in the same namespace")
        .with_effect("requests get 503 UH: there is no endpoint")
        .with_suggestion("correct the labels, or add a WorkloadEntry that has them");
    Reporter { findings, subject: &object.subject }.add(&object.spec.key_of(field), finding);
}

fn report_name_in_static(
    object: &Object<crate::kind::workload_entry::Workload>,
    endpoint: &Endpoint,
    findings: &mut Findings,
) {
    let message = format!("endpoint address \"{}\" is not a valid IP address", endpoint.address);
    let finding = Diagnostic::warning("invalid-address", message)
        .with_value(endpoint.address.to_string())
        .with_allowed("an IP address, because its ServiceEntry has resolution STATIC")
        .with_effect("the instance is left out")
        .with_suggestion("write the IP address, or `resolution: DNS` in the ServiceEntry");
    Reporter { findings, subject: &object.subject }.add(&object.spec.place_of("address"), finding);
}

fn report_no_endpoints(object: &Object<KubernetesService>, findings: &mut Findings) {
    let finding = Diagnostic::warning("no-endpoints", "the service has no endpoints here")
        .with_allowed("EndpointSlice documents, WorkloadEntry documents that its selector finds, or --service")
        .with_effect("requests get 503 UH: there is no endpoint")
        .with_suggestion("add `--service NAME=ADDRESS:PORT`, or a WorkloadEntry with the labels of its selector");
    Reporter { findings, subject: &object.subject }.add(&object.place, finding);
}

fn report_unused(objects: &Objects, used: &[bool], slices_used: &[bool], findings: &mut Findings) {
    for (object, _) in objects.workload_entries.iter().zip(used).filter(|(_, used)| !**used) {
        let finding = Diagnostic::warning("unused-endpoints", "no service of its namespace selects this instance")
            .with_allowed("labels that a ServiceEntry's workloadSelector or a Service's selector asks for")
            .with_effect("it gets no requests")
            .with_suggestion("correct its labels or namespace");
        Reporter { findings, subject: &object.subject }.add(&object.place, finding);
    }
    for (object, _) in objects.slices.iter().zip(slices_used).filter(|(_, used)| !**used) {
        let Some(service) = &object.model.service else { continue };
        let message = format!("there is no Service {service:?} in namespace {}", object.namespace);
        let finding = Diagnostic::warning("unused-endpoints", message)
            .with_value(service.clone())
            .with_allowed("the name of a Service document of the same namespace")
            .with_effect("the endpoints of the slice are not used")
            .with_suggestion("add the Service document");
        Reporter { findings, subject: &object.subject }.add(&object.place, finding);
    }
}
