//! `WorkloadEntry`: one instance of a service, as a document of its own or as an endpoint of a `ServiceEntry`.

use std::collections::BTreeMap;

use meshwright_model::{Diagnostic, Endpoint, EndpointAddress, EndpointPorts};

use super::workload_group::GROUP_ANNOTATION;
use super::{API_VERSION, Document, KIND, METADATA, Object, STATUS};
use crate::finding::Reporter;
use crate::name;
use crate::record::Record;
use crate::table::{Message, PORT, TEXT_MAP, Type, UINT32, full, ignored, message, warned};

pub(super) static DOCUMENT: Message = message(
    "WorkloadEntry",
    &[API_VERSION, KIND, METADATA, full("spec", Type::Message(&WORKLOAD), "The instance."), STATUS],
);

/// The fields of an instance.
pub(super) static WORKLOAD: Message = message(
    "WorkloadEntry.spec",
    &[
        full("address", Type::Text, "IP address; a DNS name where the service is resolved by DNS."),
        full("ports", Type::Map(&PORT), "Port by name of the service port; wins over the service's target port."),
        full("labels", TEXT_MAP, "Labels that services and subsets select by."),
        warned("network", Type::Text, "Network of the instance.", "instances are called directly in every network"),
        full("locality", Type::Text, "`region/zone/subzone`."),
        full("weight", UINT32, "Relative weight; 0 and absent are 1."),
        ignored("serviceAccount", Type::Text, "Identity; instances are called in clear text."),
    ],
);

/// An instance before it is known whose it is.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    /// The endpoint; `None` when it cannot be used (said already).
    pub endpoint: Option<Endpoint>,
    /// The group that it names.
    pub group: Option<String>,
}

/// Reads a document.
pub(super) fn read(document: Document<'_>, reporter: &mut Reporter<'_>) -> Object<Workload> {
    let spec = document.spec(&WORKLOAD);
    let mut endpoint = read_endpoint(&spec, reporter);
    if let Some(endpoint) = &mut endpoint {
        for (key, value) in &document.labels {
            endpoint.labels.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    let metadata = document.record.record("metadata");
    let mut annotations = metadata.iter().flat_map(|metadata| metadata.text_map("annotations"));
    let group = annotations.find(|(key, _)| *key == GROUP_ANNOTATION).map(|(_, name)| name.to_owned());
    document.object(spec, Workload { endpoint, group })
}

/// Reads the fields of an instance.
pub(super) fn read_endpoint(record: &Record, reporter: &mut Reporter<'_>) -> Option<Endpoint> {
    let ports = read_ports(record, reporter);
    for (key, span, item) in record.map("labels") {
        super::check_label(key, &record.map_key("labels", key, *span), item.as_ref(), reporter);
    }
    let address = read_address(record, reporter)?;
    Some(Endpoint {
        address,
        ports: EndpointPorts::ByName(ports),
        labels: record.text_map("labels").map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        weight: record.whole("weight").and_then(|weight| u32::try_from(weight).ok()).unwrap_or(1).max(1),
        locality: record.text_or_empty("locality").to_owned(),
        health_check: None,
    })
}

fn read_address(record: &Record, reporter: &mut Reporter<'_>) -> Option<EndpointAddress> {
    let place = record.place_of("address");
    let text = match record.text("address") {
        Some(text) => text,
        None if record.has("address") => return None,
        None => "",
    };
    if let Ok(ip) = text.parse() {
        return Some(EndpointAddress::Ip(ip));
    }
    if text.starts_with("unix:") {
        let has_ports = !record.map("ports").is_empty();
        let finding = match has_ports {
            true => Diagnostic::error("contradiction", format!("unix endpoint {text} must not include ports"))
                .with_allowed("ports with an IP address only"),
            false => Diagnostic::warning("not-supported", "unix sockets are not supported by this version")
                .with_allowed("an IP address")
                .with_effect("this endpoint is left out"),
        };
        reporter.add(&place, finding.with_value(text).with_suggestion("write the IP address of the instance"));
        return None;
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
        .with_allowed("an IP address, or a DNS name with resolution DNS")
        .with_effect("no connection could be made")
        .with_suggestion("write for example `address: 10.0.0.7`; ports go into `ports`");
    reporter.add(&place, finding);
    None
}

fn read_ports(record: &Record, reporter: &mut Reporter<'_>) -> BTreeMap<String, u16> {
    let mut ports = BTreeMap::new();
    for (name, _, item) in record.map("ports") {
        let Some(item) = item else { continue };
        let crate::record::Data::Whole(number) = item.data else { continue };
        match u16::try_from(number) {
            Ok(port) if port > 0 => {
                ports.insert(name.to_string(), port);
            }
            _ => {
                let finding =
                    Diagnostic::error("port-range", format!("port number {number} must be in the range 1..65535"))
                        .with_value(number.to_string())
                        .with_allowed("1..65535")
                        .with_suggestion("write the port that the instance listens on");
                reporter.add(&item.place, finding);
            }
        }
    }
    ports
}
