//! `DestinationRule`: host and subsets; policies are in `policy.rs`, `outlier.rs` and `tls.rs`.
//!
//! Knows one document. Rules for the same host are joined in `merge.rs`; whether the host exists is asked in `check.rs`.

mod annotation;
mod consistent_hash;
mod load_balancer;
mod locality;
mod outlier;
mod policy;
mod table;
mod tls;

use std::collections::HashMap;

use meshwright_model::{DestinationRule, Diagnostic, Subset};

use super::{Document, Object};
use crate::finding::Reporter;
use crate::node::Place;
use crate::record::Record;

pub(super) use table::DOCUMENT;

/// Reads a destination rule.
pub(super) fn read(document: Document<'_>, reporter: &mut Reporter<'_>) -> Object<DestinationRule> {
    let spec = document.spec(&table::SPEC);
    super::check_export(&spec, reporter);
    let mut traffic_policy = policy::read(&spec, reporter);
    annotation::apply(document.record, &mut traffic_policy, reporter);
    let rule = DestinationRule {
        name: document.name(),
        namespace: document.namespace.clone(),
        host: super::read_host(
            &spec,
            "destination rule",
            "a service: short, `name.namespace`, full, an external host, or `*.suffix`",
            reporter,
        ),
        traffic_policy,
        subsets: read_subsets(&spec, reporter),
        origin: document.origin(),
    };
    document.object(spec, rule)
}

fn read_subsets(spec: &Record, reporter: &mut Reporter<'_>) -> Vec<Subset> {
    let mut subsets = Vec::new();
    let mut names: HashMap<String, Place> = HashMap::new();
    for record in spec.records("subsets") {
        let place = record.place_of("name");
        let name = match record.text("name") {
            Some(name) => name,
            None if record.has("name") => continue,
            None => "",
        };
        super::virtual_service::check_subset_name(name, "add for example `name: v1`", &place, reporter);
        check_labels(record, reporter);
        let traffic_policy = policy::read(record, reporter);
        if let Some(first) = names.get(name) {
            let message = format!(
                "duplicate subset names: {name} (first at line {}, column {})",
                first.span.line, first.span.column
            );
            let finding = Diagnostic::error("duplicate-name", message)
                .with_value(name)
                .with_allowed("every subset name once in a destination rule")
                .with_effect("nobody would know which endpoints are meant")
                .with_suggestion("rename or remove one of them");
            reporter.add(&place, finding);
            continue;
        }
        names.insert(name.to_owned(), place);
        subsets.push(Subset {
            name: name.to_owned(),
            labels: record.text_map("labels").map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            traffic_policy,
            origin: reporter.subject.origin(&record.place),
        });
    }
    subsets
}

fn check_labels(record: &Record, reporter: &mut Reporter<'_>) {
    for (key, span, item) in record.map("labels") {
        let key_place = record.map_key("labels", key, *span);
        super::check_label(key, &key_place, item.as_ref(), reporter);
    }
}
