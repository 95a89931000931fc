//! The whole way from texts to a mesh, top to bottom.

use std::sync::Arc;

use meshwright_model::{Mesh, ServiceDirectory};

use crate::finding::{Findings, Reporter, Subject};
use crate::kind::Objects;
use crate::node::Path;
use crate::{Options, Outcome, Source, check, health, kind, merge, tree, union};

/// Reads all sources as one transaction.
///
/// Every source is read to its end whatever is wrong in it, so that all findings come in one pass. One error anywhere
/// means no mesh. The same input always gives the same outcome.
pub fn load(sources: &[Source], options: &Options) -> Outcome {
    let mut findings = Findings::default();
    let mut objects = Objects::default();
    for (index, source) in sources.iter().enumerate() {
        let subject = Subject { index, source: Arc::clone(&source.name), object: None };
        let mut reporter = Reporter { findings: &mut findings, subject: &subject };
        let documents = tree::read(&source.text, &mut reporter);
        objects.incomplete |= !documents.complete;
        for node in &documents.nodes {
            kind::read(node, Path::default(), &subject, &options.namespace, &mut objects, &mut findings);
        }
    }
    health::of_groups(&mut objects, &mut findings);
    let services = union::services(&objects, options, sources.len(), &mut findings);
    let directory = ServiceDirectory::new(&services);
    let destination_rules = merge::destination_rules(&objects.destination_rules, &services, &directory, &mut findings);
    check::check(&objects, &services, &directory, &destination_rules, &mut findings);
    let failed = findings.failed();
    let mut names: Vec<Arc<str>> = sources.iter().map(|source| Arc::clone(&source.name)).collect();
    names.push(Arc::from("--service"));
    let diagnostics = findings.into_sorted(&names);
    let mesh = (!failed).then(|| Mesh {
        gateways: objects.gateways.into_iter().map(|object| object.model).collect(),
        virtual_services: objects.virtual_services.into_iter().map(|object| object.model).collect(),
        destination_rules,
        resilience_policies: objects.resilience_policies.into_iter().map(|object| object.model).collect(),
        services,
        secrets: objects.secrets.into_iter().filter_map(|object| object.model).collect(),
    });
    Outcome { mesh, diagnostics }
}
