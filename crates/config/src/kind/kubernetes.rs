//! Kubernetes `Service` and `EndpointSlice` documents.
//!
//! Knows one document each; slices are joined to services by `kubernetes.io/service-name` in `union`.

use std::collections::BTreeMap;

use meshwright_model::{Diagnostic, Endpoint, EndpointAddress, EndpointPorts, PortProtocol, ServicePort};

use super::{API_VERSION, Document, KIND, METADATA, Object, STATUS, port_number};
use crate::finding::Reporter;
use crate::name;
use crate::record::{Data, Record};
use crate::table::{Message, PORT, TEXT_MAP, TEXTS, Type, full, ignored, message};
use crate::text::nearest;

pub(super) static SERVICE: Message = message(
    "Service",
    &[API_VERSION, KIND, METADATA, full("spec", Type::Message(&SERVICE_SPEC), "The service."), STATUS],
);

const CLUSTER: &str = "Means something inside a cluster only.";

static SERVICE_SPEC: Message = message(
    "Service.spec",
    &[
        full("ports", Type::List(&Type::Message(&SERVICE_PORT)), "Ports."),
        full("selector", TEXT_MAP, "Labels of WorkloadEntry documents that are its endpoints."),
        full("type", Type::Text, "ExternalName makes it a DNS name; other types are the same here."),
        full("externalName", Type::Text, "The DNS name of an ExternalName service."),
        full("sessionAffinity", Type::Text, "None; ClientIP has no effect."),
        ignored("sessionAffinityConfig", Type::Anything, CLUSTER),
        ignored("clusterIP", Type::Anything, CLUSTER),
        ignored("clusterIPs", Type::Anything, CLUSTER),
        ignored("ipFamilies", Type::Anything, CLUSTER),
        ignored("ipFamilyPolicy", Type::Anything, CLUSTER),
        ignored("externalIPs", Type::Anything, CLUSTER),
        ignored("externalTrafficPolicy", Type::Anything, CLUSTER),
        ignored("internalTrafficPolicy", Type::Anything, CLUSTER),
        ignored("trafficDistribution", Type::Anything, CLUSTER),
        ignored("healthCheckNodePort", Type::Anything, CLUSTER),
        ignored("publishNotReadyAddresses", Type::Anything, CLUSTER),
        ignored("allocateLoadBalancerNodePorts", Type::Anything, CLUSTER),
        ignored("loadBalancerClass", Type::Anything, CLUSTER),
        ignored("loadBalancerIP", Type::Anything, CLUSTER),
        ignored("loadBalancerSourceRanges", Type::Anything, CLUSTER),
    ],
);

static SERVICE_PORT: Message = message(
    "Service.spec.ports",
    &[
        full("name", Type::Text, "Name; the part before the first hyphen is the protocol."),
        full("port", PORT, "Port number that callers name."),
        full("targetPort", Type::NumberOrText, "Port of the endpoints, by number or name."),
        full("protocol", Type::Text, "TCP, UDP or SCTP."),
        full("appProtocol", Type::Text, "What is spoken; wins over the name."),
        ignored("nodePort", Type::Anything, CLUSTER),
    ],
);

pub(super) static ENDPOINT_SLICE: Message = message(
    "EndpointSlice",
    &[
        API_VERSION,
        KIND,
        METADATA,
        full("addressType", Type::Text, "IPv4, IPv6 or FQDN."),
        full("endpoints", Type::List(&Type::Message(&SLICE_ENDPOINT)), "Endpoints."),
        full("ports", Type::List(&Type::Message(&SLICE_PORT)), "Their ports by name of the service port."),
    ],
);

static SLICE_ENDPOINT: Message = message(
    "EndpointSlice.endpoints",
    &[
        full("addresses", TEXTS, "Addresses of one instance; the first is used."),
        full("conditions", Type::Message(&CONDITIONS), "An instance that is not ready is left out."),
        full("zone", Type::Text, "Zone of the instance."),
        ignored("hostname", Type::Anything, CLUSTER),
        ignored("nodeName", Type::Anything, CLUSTER),
        ignored("targetRef", Type::Anything, CLUSTER),
        ignored("hints", Type::Anything, CLUSTER),
        ignored("deprecatedTopology", Type::Anything, CLUSTER),
    ],
);

static CONDITIONS: Message = message(
    "EndpointConditions",
    &[
        full("ready", Type::Boolean, "Whether it takes requests; absent is yes."),
        ignored("serving", Type::Boolean, "As ready, also while it ends."),
        ignored("terminating", Type::Boolean, "Whether it ends."),
    ],
);

static SLICE_PORT: Message = message(
    "EndpointPort",
    &[
        full("name", Type::Text, "Name of the service port."),
        full("port", PORT, "Port number of the endpoints."),
        ignored("protocol", Type::Text, "That of the service port counts."),
        ignored("appProtocol", Type::Text, "That of the service port counts."),
    ],
);

/// Label of a slice that names its service.
pub(crate) const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// Names of protocols, as `appProtocol`, port names and `ServiceEntry` ports have them.
const HTTP: [&str; 3] = ["http", "kubernetes.io/ws", "kubernetes.io/wss"];
const HTTP2: [&str; 4] = ["http2", "grpc", "grpc-web", "kubernetes.io/h2c"];
const STREAMS: [&str; 6] = ["https", "tls", "tcp", "mongo", "redis", "mysql"];
const OTHER: [&str; 3] = ["udp", "http_proxy", "sctp"];

/// A Kubernetes service before its endpoints are joined.
#[derive(Clone, Debug)]
pub(crate) struct KubernetesService {
    /// Ports, with the names of named target ports.
    pub ports: Vec<(ServicePort, Option<String>)>,
    /// Labels of instances; empty selects none.
    pub selector: BTreeMap<String, String>,
    /// The DNS name that it stands for.
    pub external_name: Option<String>,
}

/// The endpoints of one slice.
#[derive(Clone, Debug)]
pub(crate) struct Slice {
    /// Name of the service in the slice's namespace.
    pub service: Option<String>,
    /// Endpoints that are ready.
    pub endpoints: Vec<Endpoint>,
}

/// Reads a service.
pub(super) fn read_service(document: Document<'_>, reporter: &mut Reporter<'_>) -> Object<KubernetesService> {
    let spec = document.spec(&SERVICE_SPEC);
    let external = spec.text("type") == Some("ExternalName");
    let external_name = match spec.text("externalName").filter(|_| external) {
        Some(name) if name::is_domain(&name.trim_end_matches('.').to_ascii_lowercase()) => {
            Some(name.trim_end_matches('.').to_ascii_lowercase())
        }
        _ if !external => None,
        other => {
            let written = other.unwrap_or_default();
            let finding = Diagnostic::error("invalid-host", format!("invalid externalName {written:?}"))
                .with_value(written)
                .with_allowed("a DNS name")
                .with_effect("there would be no name to resolve")
                .with_suggestion("write for example `externalName: api.example.com`");
            reporter.add(&spec.place_of("externalName"), finding);
            None
        }
    };
    if let Some(affinity) = spec.text("sessionAffinity").filter(|affinity| *affinity != "None") {
        let finding = Diagnostic::warning(
            "not-supported",
            format!("sessionAffinity {affinity} is not supported by this version"),
        )
        .with_value(affinity)
        .with_allowed("None")
        .with_effect("each request may go to another endpoint")
        .with_suggestion("remove it");
        reporter.add(&spec.place_of("sessionAffinity"), finding);
    }
    let ports = read_service_ports(&spec, reporter);
    if ports.is_empty() && !spec.has("ports") && !external {
        let finding = Diagnostic::error("missing-field", "the service has no ports")
            .with_allowed("one or more ports")
            .with_effect("no port of it could be called")
            .with_suggestion("add `ports: [{name: http, port: 80, targetPort: 8080}]`");
        reporter.add(&spec.place.field("ports"), finding);
    }
    let selector = spec.text_map("selector").map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    document.object(spec, KubernetesService { ports, selector, external_name })
}

fn read_service_ports(spec: &Record, reporter: &mut Reporter<'_>) -> Vec<(ServicePort, Option<String>)> {
    let several = spec.list("ports").len() > 1;
    let mut ports: Vec<(ServicePort, Option<String>)> = Vec::new();
    for record in spec.records("ports") {
        let name = record.text_or_empty("name").to_owned();
        let protocol = read_service_protocol(record, &name, reporter);
        let Some(number) = port_number(record, "port", reporter) else { continue };
        let unnamed = several && name.is_empty() && (record.text("name").is_some() || !record.has("name"));
        if unnamed || ports.iter().any(|(port, _)| port.name == name) {
            let message = match unnamed {
                true => format!("port name must be set: {number} (a service with several ports names them all)"),
                false => format!("port names in a service must be unique: duplicate name {name}"),
            };
            let finding = Diagnostic::error("duplicate-name", message)
                .with_value(name.clone())
                .with_allowed("a name of its own for every port")
                .with_suggestion(format!("write for example `name: http-{number}`"));
            reporter.add(&record.place_of("name"), finding);
            continue;
        }
        if let Some(index) = ports.iter().position(|(port, _)| port.number == number) {
            if protocol == PortProtocol::Other {
                continue;
            }
            if ports[index].0.protocol != PortProtocol::Other {
                let finding = Diagnostic::error("duplicate-name", format!("the service port {number} is given twice"))
                    .with_value(number.to_string())
                    .with_allowed("every port number once for a transport protocol")
                    .with_suggestion("remove one of them");
                reporter.add(&record.place_of("port"), finding);
                continue;
            }
            ports.remove(index);
        }
        let (target_port, target_name) = match record.item("targetPort").map(|item| &item.data) {
            Some(Data::Whole(0)) | None => (None, None),
            Some(Data::Whole(_)) => (port_number(record, "targetPort", reporter), None),
            Some(Data::Text(name)) => match name.parse::<u16>() {
                Ok(port) if port > 0 => (Some(port), None),
                _ => (None, Some(name.to_string())),
            },
            Some(_) => (None, None),
        };
        ports.push((ServicePort { number, name, protocol, target_port }, target_name));
    }
    ports
}

/// `appProtocol`, else the name up to its first hyphen, else HTTP; UDP and SCTP are never HTTP.
fn read_service_protocol(record: &Record, name: &str, reporter: &mut Reporter<'_>) -> PortProtocol {
    if record.text("protocol").is_some_and(|protocol| !protocol.eq_ignore_ascii_case("TCP")) {
        return other_protocol(record, "protocol", record.text_or_empty("protocol"), reporter);
    }
    if let Some(protocol) = record.text("appProtocol").filter(|protocol| !protocol.is_empty()) {
        return judge_protocol(record, "appProtocol", protocol, reporter)
            .unwrap_or_else(|| other_protocol(record, "appProtocol", protocol, reporter));
    }
    let prefix = match name {
        name if name.starts_with("grpc-web") => "grpc-web",
        name => name.split('-').next().unwrap_or_default(),
    };
    judge_protocol(record, "name", prefix, reporter).unwrap_or(PortProtocol::Http)
}

/// The protocol of a known name; `None` when the name is no protocol.
fn judge_protocol(record: &Record, field: &str, name: &str, reporter: &mut Reporter<'_>) -> Option<PortProtocol> {
    let lower = name.to_ascii_lowercase();
    if HTTP.contains(&lower.as_str()) {
        return Some(PortProtocol::Http);
    }
    if HTTP2.contains(&lower.as_str()) {
        return Some(PortProtocol::Http2);
    }
    if STREAMS.contains(&lower.as_str()) {
        return Some(match lower.as_str() {
            "https" => PortProtocol::Https,
            "tls" => PortProtocol::Tls,
            _ => PortProtocol::Tcp,
        });
    }
    OTHER.contains(&lower.as_str()).then(|| other_protocol(record, field, name, reporter))
}

fn other_protocol(record: &Record, field: &str, name: &str, reporter: &mut Reporter<'_>) -> PortProtocol {
    let finding = Diagnostic::warning("not-supported", format!("{name} ports are not routed by this version"))
        .with_value(name)
        .with_allowed("HTTP, HTTP2, GRPC, HTTPS, TLS or TCP")
        .with_effect("requests cannot be sent to this port")
        .with_suggestion("name the port `http` (or set its protocol to HTTP) if it speaks HTTP");
    reporter.add(&record.place_of(field), finding);
    PortProtocol::Other
}

/// The protocol of a `ServiceEntry` port; an unknown one is an error.
pub(super) fn read_protocol(record: &Record, field: &str, reporter: &mut Reporter<'_>) -> PortProtocol {
    let Some(written) = record.text(field).filter(|text| !text.is_empty()) else { return PortProtocol::Http };
    if let Some(protocol) = judge_protocol(record, field, written, reporter) {
        return protocol;
    }
    let known: Vec<String> = HTTP[..1]
        .iter()
        .chain(&HTTP2[..3])
        .chain(&STREAMS)
        .chain(&OTHER)
        .map(|name| name.to_ascii_uppercase())
        .collect();
    let mut finding = Diagnostic::error("unknown-value", format!("unsupported protocol: {written}"))
        .with_value(written)
        .with_allowed(known.join(", "))
        .with_effect("nobody would know how to speak to the service");
    let near = nearest(written, known.iter().map(String::as_str));
    finding.suggestion = near.map(|near| format!("did you mean {near}?"));
    reporter.add(&record.place_of(field), finding);
    PortProtocol::Other
}

/// Reads a slice.
pub(super) fn read_slice(document: Document<'_>, reporter: &mut Reporter<'_>) -> Object<Slice> {
    let record = document.record.clone();
    let service = document.labels.get(SERVICE_NAME_LABEL).cloned();
    if service.is_none() {
        let finding = Diagnostic::warning("unused-endpoints", "the slice does not say which service it belongs to")
            .with_allowed(format!("the label {SERVICE_NAME_LABEL}"))
            .with_effect("its endpoints are not used")
            .with_suggestion(format!("add the label `{SERVICE_NAME_LABEL}: my-service`"));
        reporter.add(&record.place_of("metadata"), finding);
    }
    let mut ports = BTreeMap::new();
    for port in record.records("ports") {
        if port.has("port")
            && let Some(number) = port_number(port, "port", reporter)
        {
            ports.insert(port.text_or_empty("name").to_owned(), number);
        }
    }
    let labels: BTreeMap<String, String> = document
        .labels
        .iter()
        .filter(|(key, _)| !key.contains("kubernetes.io/"))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    let mut endpoints = Vec::new();
    for endpoint in record.records("endpoints") {
        let ready = endpoint.record("conditions").and_then(|conditions| conditions.boolean("ready"));
        let address = read_slice_address(endpoint, reporter);
        let Some(address) = address.filter(|_| ready != Some(false)) else { continue };
        let zone = endpoint.text_or_empty("zone");
        endpoints.push(Endpoint {
            address,
            ports: EndpointPorts::ByName(ports.clone()),
            labels: labels.clone(),
            weight: 1,
            locality: if zone.is_empty() { String::new() } else { format!("/{zone}") },
            health_check: None,
        });
    }
    document.object(record, Slice { service, endpoints })
}

fn read_slice_address(endpoint: &Record, reporter: &mut Reporter<'_>) -> Option<EndpointAddress> {
    let first = endpoint.texts("addresses").next();
    let refused = endpoint.item("addresses").is_some_and(|item| matches!(item.data, Data::Invalid));
    let (place, text) = match first {
        Some((item, text)) => (item.place.clone(), text),
        None if refused || !endpoint.list("addresses").is_empty() => return None,
        None => (endpoint.place_of("addresses"), ""),
    };
    if let Ok(ip) = text.parse() {
        return Some(EndpointAddress::Ip(ip));
    }
    let lower = text.to_ascii_lowercase();
    if name::is_domain(&lower) && !name::looks_like_ip(text) {
        return Some(EndpointAddress::Name(lower));
    }
    let message = match text {
        "" => "address is required".to_owned(),
        _ => format!("endpoint address {text:?} is not a valid IP address"),
    };
    let finding = Diagnostic::error("invalid-address", message)
        .with_value(text)
        .with_allowed("an IP address, or a DNS name with addressType FQDN")
        .with_suggestion("write for example `addresses: [10.0.0.7]`");
    reporter.add(&place, finding);
    None
}
