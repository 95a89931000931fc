//! Which kinds of documents exist, and reading one of them.
//!
//! Classifies a document by `apiVersion` and `kind`, reads it through its table and hands it to the code of its kind.
//! What documents say about each other is not known here: see `check.rs`. Read next: `virtual_service/mod.rs`.

pub(crate) mod destination_rule;
pub(crate) mod gateway;
pub(crate) mod kubernetes;
mod other;
pub(crate) mod pods;
pub(crate) mod probe;
mod resilience_policy;
mod rules;
pub(crate) mod secret;
pub(crate) mod service_entry;
pub(crate) mod virtual_service;
pub(crate) mod workload_entry;
pub(crate) mod workload_group;

use std::collections::{BTreeMap, HashMap};

use meshwright_model::{
    DestinationRule, Diagnostic, Gateway, ObjectRef, Origin, ResiliencePolicy, Secret, VirtualService,
};

use crate::field;
use crate::finding::{Findings, Reporter, Subject};
use crate::name;
use crate::node::{Node, Path, Place, Value};
use crate::record::Record;
use crate::table::{Field, Message, TEXT_MAP, Type, full, ignored, message};
pub(crate) use rules::port_number;
use rules::{check_export, check_label, read_host};

/// A kind that is read.
pub(crate) struct Kind {
    /// Name as written in `kind`.
    pub name: &'static str,
    /// `apiVersion`s that are read.
    pub api_versions: &'static [&'static str],
    /// Its table, from the root of the document.
    pub message: &'static Message,
    /// What it is for.
    pub doc: &'static str,
}

const ISTIO_VERSIONS: &[&str] =
    &["networking.istio.io/v1", "networking.istio.io/v1beta1", "networking.istio.io/v1alpha3"];

const READINESS: &str = "How the endpoints of services are checked that select these pods.";

const fn workload(name: &'static str) -> Kind {
    Kind { name, api_versions: &["apps/v1"], message: &pods::WORKLOAD, doc: READINESS }
}

/// Every kind that is read.
pub(crate) static KINDS: &[Kind] = &[
    Kind {
        name: "Gateway",
        api_versions: ISTIO_VERSIONS,
        message: &gateway::DOCUMENT,
        doc: "Ports that are opened for clients, and the hosts that are served there.",
    },
    Kind {
        name: "VirtualService",
        api_versions: ISTIO_VERSIONS,
        message: &virtual_service::DOCUMENT,
        doc: "Which requests for a host go where, and what is done to them on the way.",
    },
    Kind {
        name: "DestinationRule",
        api_versions: ISTIO_VERSIONS,
        message: &destination_rule::DOCUMENT,
        doc: "Subsets of a service, and how its endpoints are chosen, limited and ejected.",
    },
    Kind {
        name: "ResiliencePolicy",
        api_versions: resilience_policy::API_VERSIONS,
        message: &resilience_policy::DOCUMENT,
        doc: "Our own: what a service does when it fails, is slow, or is asked for too much.",
    },
    Kind {
        name: "ServiceEntry",
        api_versions: ISTIO_VERSIONS,
        message: &service_entry::DOCUMENT,
        doc: "A service with its ports and endpoints.",
    },
    Kind {
        name: "WorkloadEntry",
        api_versions: ISTIO_VERSIONS,
        message: &workload_entry::DOCUMENT,
        doc: "One instance of a service, selected by labels.",
    },
    Kind {
        name: "WorkloadGroup",
        api_versions: ISTIO_VERSIONS,
        message: &workload_group::DOCUMENT,
        doc: "How the instances are checked that belong to it.",
    },
    Kind {
        name: "Service",
        api_versions: &["v1"],
        message: &kubernetes::SERVICE,
        doc: "A Kubernetes service: ports, and endpoints from EndpointSlice and WorkloadEntry documents.",
    },
    Kind {
        name: "EndpointSlice",
        api_versions: &["discovery.k8s.io/v1"],
        message: &kubernetes::ENDPOINT_SLICE,
        doc: "Endpoints of a Kubernetes service.",
    },
    workload("Deployment"),
    workload("StatefulSet"),
    workload("DaemonSet"),
    workload("ReplicaSet"),
    Kind { name: "Pod", api_versions: &["v1"], message: &pods::POD, doc: READINESS },
    Kind {
        name: "Secret",
        api_versions: &["v1"],
        message: &secret::DOCUMENT,
        doc: "Certificates and keys for TLS, named by `credentialName`.",
    },
];

/// `apiVersion` of every document.
pub(crate) const API_VERSION: Field = full("apiVersion", Type::Text, "Group and version of the kind.");
/// `kind` of every document.
pub(crate) const KIND: Field = full("kind", Type::Text, "The kind of the document.");
/// `metadata` of every document.
pub(crate) const METADATA: Field = full("metadata", Type::Message(&METADATA_MESSAGE), "Name, namespace and labels.");
/// `status` of every document.
pub(crate) const STATUS: Field = ignored("status", Type::Anything, "Written by a cluster; not read.");

static METADATA_MESSAGE: Message = message(
    "ObjectMeta",
    &[
        full("name", Type::Text, "Name of the object, unique for its kind and namespace."),
        full("namespace", Type::Text, "Namespace; `default` when absent."),
        full("labels", TEXT_MAP, "Labels; those of WorkloadEntry documents select endpoints."),
        ignored(
            "annotations",
            TEXT_MAP,
            "Notes; those of DestinationRule documents under `meshwright.io/` count, and an instance's group.",
        ),
        ignored("generateName", Type::Text, "Written for a cluster."),
        ignored("uid", Type::Text, "Written by a cluster."),
        ignored("resourceVersion", Type::Anything, "Written by a cluster."),
        ignored("generation", Type::Anything, "Written by a cluster."),
        ignored("creationTimestamp", Type::Anything, "Written by a cluster."),
        ignored("deletionTimestamp", Type::Anything, "Written by a cluster."),
        ignored("deletionGracePeriodSeconds", Type::Anything, "Written by a cluster."),
        ignored("managedFields", Type::Anything, "Written by a cluster."),
        ignored("ownerReferences", Type::Anything, "Written by a cluster."),
        ignored("finalizers", Type::Anything, "Written by a cluster."),
        ignored("selfLink", Type::Anything, "Written by a cluster."),
        ignored("clusterName", Type::Anything, "Written by a cluster."),
    ],
);

/// An object that was read: its model for the mesh and its record for cross-checks.
pub(crate) struct Object<M> {
    /// Source and name.
    pub subject: Subject,
    /// `metadata.namespace`, or the default.
    pub namespace: String,
    /// The document.
    pub place: Place,
    /// The checked `spec` (the document itself for kinds without one).
    pub spec: Record,
    /// What it means.
    pub model: M,
}

/// All objects in input order.
#[derive(Default)]
pub(crate) struct Objects {
    /// Gateways.
    pub gateways: Vec<Object<Gateway>>,
    /// Virtual services.
    pub virtual_services: Vec<Object<VirtualService>>,
    /// Destination rules.
    pub destination_rules: Vec<Object<DestinationRule>>,
    /// Resilience policies.
    pub resilience_policies: Vec<Object<ResiliencePolicy>>,
    /// Service entries.
    pub service_entries: Vec<Object<service_entry::ServiceEntry>>,
    /// Workload entries.
    pub workload_entries: Vec<Object<workload_entry::Workload>>,
    /// Workload groups.
    pub workload_groups: Vec<Object<workload_group::WorkloadGroup>>,
    /// What makes pods.
    pub pods: Vec<Object<pods::Pods>>,
    /// Kubernetes services.
    pub services: Vec<Object<kubernetes::KubernetesService>>,
    /// Kubernetes endpoint slices.
    pub slices: Vec<Object<kubernetes::Slice>>,
    /// Secrets with certificates; `None` for others.
    pub secrets: Vec<Object<Option<Secret>>>,
    /// Whether some document could not be made an object; then "not found" would be a guess.
    pub incomplete: bool,
    known: HashMap<ObjectRef, Origin>,
}

/// One document on its way to an object.
pub(crate) struct Document<'d> {
    /// Source and name.
    pub subject: Subject,
    /// Namespace.
    pub namespace: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// The whole record.
    pub record: &'d Record,
    /// The document's first key.
    pub place: Place,
}

impl Document<'_> {
    /// `metadata.name`; empty when it is missing (an error by then).
    pub fn name(&self) -> String {
        self.subject.object.as_ref().map(|object| object.name.clone()).unwrap_or_default()
    }

    /// Where the document starts.
    pub fn origin(&self) -> Origin {
        self.subject.origin(&self.place)
    }

    /// The checked `spec`; an empty one at the document's place when it is missing.
    pub fn spec(&self, message: &'static Message) -> Record {
        let empty = || Record::empty(message, self.record.place_of("spec"));
        self.record.record("spec").cloned().unwrap_or_else(empty)
    }

    /// The object with its meaning.
    pub fn object<M>(self, spec: Record, model: M) -> Object<M> {
        let Document { subject, namespace, place, .. } = self;
        Object { subject, namespace, place, spec, model }
    }
}

/// Reads one document, or the items of a list of them.
pub(crate) fn read(
    node: &Node,
    path: Path,
    subject: &Subject,
    default_namespace: &str,
    objects: &mut Objects,
    findings: &mut Findings,
) {
    let mut reporter = Reporter { findings, subject };
    let place = Place { span: node.span, path: path.clone() };
    let Some((api_version, kind)) = classify(node, &place, &mut reporter) else {
        objects.incomplete = true;
        return;
    };
    if is_list(&api_version, &kind) {
        list_items(node, &path, subject, default_namespace, objects, findings);
        return;
    }
    let known = KINDS.iter().find(|known| known.name == kind && known.api_versions.contains(&api_version.as_str()));
    let Some(known) = known else {
        objects.incomplete |= !other::judge(node, &place, &api_version, &kind, &mut reporter);
        return;
    };
    let (subject, namespace) = identify(node, subject, known, default_namespace);
    let mut reporter = Reporter { findings, subject: &subject };
    let record = field::read(known.message, node, path, &mut reporter);
    check_identity(&record, &place, &mut reporter);
    remember(&subject, &place, objects, &mut reporter);
    let labels = record
        .record("metadata")
        .map(|metadata| metadata.text_map("labels").map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
        .unwrap_or_default();
    let document = Document { subject: subject.clone(), namespace, labels, record: &record, place };
    match known.name {
        "Gateway" => objects.gateways.push(gateway::read(document, &mut reporter)),
        "VirtualService" => objects.virtual_services.push(virtual_service::read(document, &mut reporter)),
        "DestinationRule" => objects.destination_rules.push(destination_rule::read(document, &mut reporter)),
        "ResiliencePolicy" => objects.resilience_policies.push(resilience_policy::read(document, &mut reporter)),
        "ServiceEntry" => objects.service_entries.push(service_entry::read(document, &mut reporter)),
        "WorkloadEntry" => objects.workload_entries.push(workload_entry::read(document, &mut reporter)),
        "WorkloadGroup" => objects.workload_groups.push(workload_group::read(document, &mut reporter)),
        kind @ ("Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "Pod") => {
            objects.pods.push(pods::read(kind, document, &mut reporter));
        }
        "Service" => objects.services.push(kubernetes::read_service(document, &mut reporter)),
        "EndpointSlice" => objects.slices.push(kubernetes::read_slice(document, &mut reporter)),
        _ => objects.secrets.push(secret::read(document, &mut reporter)),
    }
}

/// `apiVersion` and `kind`, or a finding.
fn classify(node: &Node, place: &Place, reporter: &mut Reporter<'_>) -> Option<(String, String)> {
    if !matches!(node.value, Value::Mapping(_)) {
        let message = format!("a document must be an object with apiVersion and kind, this is {}", node.describe());
        let finding = Diagnostic::error("not-an-object", message)
            .with_allowed("apiVersion, kind, metadata and spec")
            .with_suggestion(
                "begin it with `apiVersion: networking.istio.io/v1` and `kind: VirtualService`, for example",
            );
        reporter.add(place, finding);
        return None;
    }
    let text = |name: &str| match node.entry(name).map(|entry| &entry.value.value) {
        Some(Value::Scalar(scalar)) if !scalar.text.is_empty() => Some(scalar.text.to_string()),
        _ => None,
    };
    let found = (text("apiVersion"), text("kind"));
    if let (Some(api_version), Some(kind)) = found {
        return Some((api_version, kind));
    }
    let missing = match found {
        (None, None) => "apiVersion and kind are",
        (None, _) => "apiVersion is",
        _ => "kind is",
    };
    let kinds: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
    let finding = Diagnostic::error("not-an-object", format!("{missing} missing in this document"))
        .with_allowed(crate::text::listed(&kinds))
        .with_effect("without it nobody knows what the document means")
        .with_suggestion("add for example `apiVersion: networking.istio.io/v1` and `kind: VirtualService`");
    reporter.add(place, finding);
    None
}

fn is_list(api_version: &str, kind: &str) -> bool {
    let of_known_kind = kind
        .strip_suffix("List")
        .is_some_and(|item| KINDS.iter().any(|known| known.name == item && known.api_versions.contains(&api_version)));
    (kind == "List" && api_version == "v1") || of_known_kind
}

fn list_items(
    node: &Node,
    path: &Path,
    subject: &Subject,
    default_namespace: &str,
    objects: &mut Objects,
    findings: &mut Findings,
) {
    let path = path.field("items");
    match node.entry("items").map(|entry| &entry.value) {
        Some(Node { value: Value::Sequence(items), .. }) => {
            for (index, item) in items.iter().enumerate() {
                read(item, path.index(index), subject, default_namespace, objects, findings);
            }
        }
        Some(Node { value: Value::Null, .. }) => {}
        other => {
            let message = match other {
                Some(items) => format!("expected a list, found {}", items.describe()),
                None => "the list has no items".to_owned(),
            };
            let place = Place { span: other.map_or(node.span, |items| items.span), path };
            let finding = Diagnostic::error("wrong-type", message)
                .with_allowed("a list of documents")
                .with_suggestion("write `items:` with one `- ` element for each document");
            Reporter { findings, subject }.add(&place, finding);
            objects.incomplete = true;
        }
    }
}

/// The subject with the object's name, taken before the document is checked so that every finding carries it.
fn identify(node: &Node, subject: &Subject, kind: &Kind, default_namespace: &str) -> (Subject, String) {
    let metadata = node.entry("metadata").map(|entry| &entry.value);
    let text = |name: &str| match metadata.and_then(|metadata| metadata.entry(name)).map(|entry| &entry.value.value) {
        Some(Value::Scalar(scalar)) => scalar.text.to_string(),
        _ => String::new(),
    };
    let namespace = match text("namespace") {
        empty if empty.is_empty() => default_namespace.to_owned(),
        namespace => namespace,
    };
    let object = ObjectRef { kind: kind.name.to_owned(), namespace: namespace.clone(), name: text("name") };
    (Subject { object: Some(object), ..subject.clone() }, namespace)
}

fn check_identity(record: &Record, place: &Place, reporter: &mut Reporter<'_>) {
    let Some(metadata) = record.record("metadata") else {
        if !record.has("metadata") {
            missing_name(&place.field("metadata").field("name"), reporter);
        }
        return;
    };
    if !metadata.has("name") {
        missing_name(&metadata.place.field("name"), reporter);
    }
    for field in ["name", "namespace"] {
        let Some(text) = metadata.text(field) else { continue };
        let (valid, near) = match field {
            "name" => (name::is_domain(text), name::nearest_domain(text)),
            _ => (name::is_dns_label(text), name::nearest_dns_label(text)),
        };
        if !valid {
            let finding = Diagnostic::error("invalid-name", format!("invalid {field}: {text:?}"))
                .with_value(text)
                .with_allowed("lower-case letters, digits and inner hyphens (dots too in a name)")
                .with_suggestion(match near {
                    Some(near) => format!("rename it, for example to {near:?}"),
                    None => "rename it".to_owned(),
                });
            reporter.add(&metadata.place_of(field), finding);
        }
    }
}

fn missing_name(place: &Place, reporter: &mut Reporter<'_>) {
    let finding = Diagnostic::error("missing-field", "the object has no name")
        .with_allowed("metadata.name, unique for its kind and namespace")
        .with_suggestion("add `metadata:` with `name: some-name` below it");
    reporter.add(place, finding);
}

/// Two objects of one kind, namespace and name are an error: one of them would be lost.
fn remember(subject: &Subject, place: &Place, objects: &mut Objects, reporter: &mut Reporter<'_>) {
    let Some(object) = subject.object.clone().filter(|object| !object.name.is_empty()) else { return };
    let origin = subject.origin(place);
    if let Some(first) = objects.known.get(&object) {
        let finding = Diagnostic::error("duplicate-object", format!("{object} is defined twice: first at {first}"))
            .with_value(object.name.clone())
            .with_allowed("every name once for its kind and namespace")
            .with_effect("one of the two would be lost")
            .with_suggestion("rename or remove one of them");
        reporter.add(place, finding);
        return;
    }
    objects.known.insert(object, origin);
}
