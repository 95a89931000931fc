//! At most one destination rule for a host in a namespace.
//!
//! As in Istio: the earlier rule stays; later ones add subsets with new names, and their policy only when there is none
//! yet. What is dropped is said. Read next: `kind/destination_rule/mod.rs`.

use std::collections::HashMap;

use meshwright_model::{DestinationRule, Diagnostic, Service, ServiceDirectory, TrafficPolicy, host};

use crate::finding::{Findings, Reporter};
use crate::kind::Object;
use crate::record::Record;

/// Joins rules of one namespace and host, in input order.
pub(crate) fn destination_rules(
    objects: &[Object<DestinationRule>],
    services: &[Service],
    directory: &ServiceDirectory,
    findings: &mut Findings,
) -> Vec<DestinationRule> {
    let mut rules: Vec<DestinationRule> = Vec::new();
    let mut positions: HashMap<(String, String), usize> = HashMap::new();
    for object in objects {
        let rule = &object.model;
        if rule.host.is_empty() {
            continue;
        }
        let canonical = match directory.find(&rule.host, &rule.namespace) {
            Some(id) => services[id.0].host.clone(),
            None if host::is_short(&rule.host) => host::fully_qualified(&rule.host, &rule.namespace),
            None => rule.host.clone(),
        };
        match positions.get(&(rule.namespace.clone(), canonical.clone())) {
            Some(position) => join(&mut rules[*position], object, findings),
            None => {
                positions.insert((rule.namespace.clone(), canonical), rules.len());
                rules.push(rule.clone());
            }
        }
    }
    rules
}

fn join(winner: &mut DestinationRule, object: &Object<DestinationRule>, findings: &mut Findings) {
    let mut reporter = Reporter { findings, subject: &object.subject };
    let records: Vec<&Record> = object.spec.records("subsets").collect();
    for subset in &object.model.subsets {
        let Some(first) = winner.subsets.iter().find(|known| known.name == subset.name) else {
            winner.subsets.push(subset.clone());
            continue;
        };
        let message =
            format!("subset {} of {} is declared already at {}", subset.name, object.model.host, first.origin);
        let finding = Diagnostic::warning("destination-rule-conflict", message)
            .with_value(subset.name.clone())
            .with_allowed("every subset of a host once in its namespace; the earlier in the input wins")
            .with_effect("the labels and policy given here have no effect")
            .with_suggestion("rename the subset, or join the two destination rules");
        let record = records.iter().find(|record| record.text("name") == Some(subset.name.as_str()));
        reporter.add(&record.map_or_else(|| object.place.clone(), |record| record.place_of("name")), finding);
    }
    if object.model.traffic_policy == TrafficPolicy::default() {
        return;
    }
    if winner.traffic_policy == TrafficPolicy::default() {
        winner.traffic_policy = object.model.traffic_policy.clone();
        return;
    }
    let message = format!("{} has a traffic policy already, from {}", object.model.host, winner.origin);
    let finding = Diagnostic::warning("destination-rule-conflict", message)
        .with_value(object.model.host.clone())
        .with_allowed("one traffic policy for a host in its namespace; the earlier in the input wins")
        .with_effect("the policy given here has no effect")
        .with_suggestion("join the two destination rules");
    reporter.add(&object.spec.key_of("trafficPolicy"), finding);
}
