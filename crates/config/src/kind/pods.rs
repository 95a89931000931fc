//! Kubernetes documents that make pods: `Deployment`, `StatefulSet`, `DaemonSet`, `ReplicaSet` and `Pod`. Of these only the
//! labels and the readiness probes of containers are read; everything else is for Kubernetes and is not looked at.
//!
//! Knows one document; which endpoints are checked by it is decided in `crate::health`.

use std::collections::BTreeMap;

use meshwright_model::Diagnostic;

use super::probe::{PROBE, PortedCheck};
use super::{API_VERSION, Document, KIND, METADATA, Object, STATUS, probe};
use crate::finding::Reporter;
use crate::record::Record;
use crate::table::{Message, PORT, TEXT_MAP, Type, full, message, open};

pub(super) static WORKLOAD: Message = message(
    "Deployment, StatefulSet, DaemonSet, ReplicaSet",
    &[API_VERSION, KIND, METADATA, full("spec", Type::Message(&WORKLOAD_SPEC), "The workload."), STATUS],
);

pub(super) static POD: Message =
    message("Pod", &[API_VERSION, KIND, METADATA, full("spec", Type::Message(&POD_SPEC), "The pod."), STATUS]);

static WORKLOAD_SPEC: Message = open("WorkloadSpec", &[full("template", Type::Message(&POD_TEMPLATE), "Its pods.")]);

static POD_TEMPLATE: Message = open(
    "PodTemplateSpec",
    &[
        full("metadata", Type::Message(&POD_METADATA), "Labels of its pods, which services select."),
        full("spec", Type::Message(&POD_SPEC), "The pods."),
    ],
);

static POD_METADATA: Message = open("PodTemplateSpec.metadata", &[full("labels", TEXT_MAP, "Labels.")]);

static POD_SPEC: Message =
    open("PodSpec", &[full("containers", Type::List(&Type::Message(&CONTAINER)), "Containers.")]);

static CONTAINER: Message = open(
    "Container",
    &[
        full("name", Type::Text, "Name of the container."),
        full("ports", Type::List(&Type::Message(&CONTAINER_PORT)), "Its ports; probes may name them."),
        full("readinessProbe", Type::Message(&PROBE), "What endpoints of services that select these pods are asked."),
    ],
);

static CONTAINER_PORT: Message = open(
    "ContainerPort",
    &[full("name", Type::Text, "Name of the port."), full("containerPort", PORT, "Number of the port.")],
);

/// What makes pods, as far as it means something here.
#[derive(Clone, Debug)]
pub(crate) struct Pods {
    /// Labels of the pods.
    pub labels: BTreeMap<String, String>,
    /// Containers with a readiness probe.
    pub containers: Vec<Container>,
}

/// A container with a readiness probe.
#[derive(Clone, Debug)]
pub(crate) struct Container {
    /// Its name.
    pub name: String,
    /// Its ports by name; those without a name are left out.
    pub ports: BTreeMap<String, u16>,
    /// How it is checked.
    pub check: PortedCheck,
}

/// Reads a document of that kind.
pub(super) fn read(kind: &str, document: Document<'_>, reporter: &mut Reporter<'_>) -> Object<Pods> {
    let message = if kind == "Pod" { &POD_SPEC } else { &WORKLOAD_SPEC };
    let spec = document.spec(message);
    let (labels, pods) = match kind {
        "Pod" => (document.labels.clone(), Some(&spec)),
        _ => {
            let template = spec.record("template");
            (labels_of(template), template.and_then(|template| template.record("spec")))
        }
    };
    let source = format!("{kind} {}/{}", document.namespace, document.name());
    let probed = |container: &&Record| container.has("readinessProbe");
    let probes = pods.iter().flat_map(|pods| pods.records("containers")).filter(probed).collect::<Vec<_>>();
    if probes.is_empty() {
        let finding = Diagnostic::warning("kind-without-effect", format!("the {kind} has no readinessProbe"))
            .with_value(kind)
            .with_effect("the document has no effect here")
            .with_suggestion("leave it out of the files given here if that is what you want");
        reporter.add(&document.place, finding);
    }
    let containers = probes.into_iter().filter_map(|container| {
        let check = probe::read(container.record("readinessProbe")?, &source, reporter)?;
        let ports = container.records("ports").filter_map(|port| {
            let number = port.whole("containerPort").and_then(|number| u16::try_from(number).ok())?;
            Some((port.text("name")?.to_owned(), number))
        });
        Some(Container { name: container.text_or_empty("name").to_owned(), ports: ports.collect(), check })
    });
    let containers = containers.collect();
    document.object(spec.clone(), Pods { labels, containers })
}

fn labels_of(template: Option<&Record>) -> BTreeMap<String, String> {
    let metadata = template.and_then(|template| template.record("metadata"));
    let labels = metadata.iter().flat_map(|metadata| metadata.text_map("labels"));
    labels.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}
