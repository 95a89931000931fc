//! `WorkloadGroup`: what the instances of a group have in common. Here it is their health check.
//!
//! Istio makes a `WorkloadEntry` of every instance that registers itself by the template of its group. Nobody does that here,
//! so the template stands for nothing but its labels; documents of instances belong to a group as Istio's own do. Read next:
//! `workload_entry.rs`, `crate::health`.

use std::collections::BTreeMap;

use meshwright_model::Diagnostic;

use super::probe::{PROBE, PortedCheck};
use super::{API_VERSION, Document, KIND, METADATA, Object, STATUS, probe};
use crate::finding::Reporter;
use crate::table::{Message, TEXT_MAP, Type, full, ignored, message};

/// Annotation by which Istio says which group an instance is of.
pub(crate) const GROUP_ANNOTATION: &str = "istio.io/autoRegistrationGroup";

pub(super) static DOCUMENT: Message =
    message("WorkloadGroup", &[API_VERSION, KIND, METADATA, full("spec", Type::Message(&SPEC), "The group."), STATUS]);

static SPEC: Message = message(
    "WorkloadGroup.spec",
    &[
        full("metadata", Type::Message(&GROUP_METADATA), "What its instances are called."),
        full("template", Type::Message(&TEMPLATE), "What an instance is made of that registers itself at Istio."),
        full("probe", Type::Message(&PROBE), "What its instances are asked to know that they are well."),
    ],
);

static GROUP_METADATA: Message = message(
    "WorkloadGroup.ObjectMeta",
    &[
        full("labels", TEXT_MAP, "Labels of its instances: a WorkloadEntry that has all of them belongs to it."),
        ignored("annotations", TEXT_MAP, "Notes."),
    ],
);

const TEMPLATE_DOC: &str = "For instances that register themselves at Istio.";

static TEMPLATE: Message = message(
    "WorkloadGroup.template",
    &[
        full("labels", TEXT_MAP, "As those of `metadata`."),
        ignored("address", Type::Anything, TEMPLATE_DOC),
        ignored("ports", Type::Anything, TEMPLATE_DOC),
        ignored("network", Type::Anything, TEMPLATE_DOC),
        ignored("locality", Type::Anything, TEMPLATE_DOC),
        ignored("weight", Type::Anything, TEMPLATE_DOC),
        ignored("serviceAccount", Type::Anything, TEMPLATE_DOC),
    ],
);

/// A group as far as it means something here.
#[derive(Clone, Debug)]
pub(crate) struct WorkloadGroup {
    /// Labels of its instances; without any, instances name it.
    pub labels: BTreeMap<String, String>,
    /// How they are checked.
    pub check: Option<PortedCheck>,
}

/// Reads a group.
pub(super) fn read(document: Document<'_>, reporter: &mut Reporter<'_>) -> Object<WorkloadGroup> {
    let spec = document.spec(&SPEC);
    let mut labels = BTreeMap::new();
    for block in ["metadata", "template"] {
        let block = spec.record(block);
        let own = block.iter().flat_map(|block| block.text_map("labels"));
        labels.extend(own.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }
    let source = format!("WorkloadGroup {}/{}", document.namespace, document.name());
    let check = spec.record("probe").and_then(|block| probe::read(block, &source, reporter));
    if !spec.has("probe") {
        let finding = Diagnostic::warning("kind-without-effect", "the group has no probe")
            .with_allowed("`probe`")
            .with_effect("the document has no effect here")
            .with_suggestion("add for example `probe: {httpGet: {path: /health, port: 8080}}`");
        reporter.add(&spec.place, finding);
    }
    document.object(spec, WorkloadGroup { labels, check })
}
