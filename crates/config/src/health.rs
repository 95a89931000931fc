//! Whose probe checks which endpoint: those of a `WorkloadGroup` its `WorkloadEntry` documents, the readiness probe of pods
//! the endpoints of the services that select them.
//!
//! Does not know what is asked: that was read by `kind/probe.rs`. Read next: `kind/workload_group.rs`, `kind/pods.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use meshwright_model::{Diagnostic, Endpoint, EndpointPorts, HealthCheck, HealthPort};

use crate::finding::{Findings, Reporter};
use crate::kind::kubernetes::KubernetesService;
use crate::kind::pods::{Container, Pods};
use crate::kind::probe::ProbePort;
use crate::kind::workload_entry::Workload;
use crate::kind::workload_group::WorkloadGroup;
use crate::kind::{Object, Objects};

type Labels = BTreeMap<String, String>;

/// Gives every instance the check of the group that it belongs to.
pub(crate) fn of_groups(objects: &mut Objects, findings: &mut Findings) {
    let (groups, incomplete) = (&objects.workload_groups, objects.incomplete);
    let mut used = vec![false; groups.len()];
    for entry in &mut objects.workload_entries {
        let Some(index) = group_of(entry, groups) else { continue };
        used[index] = true;
        let Some(check) = &groups[index].model.check else { continue };
        let Some(endpoint) = &mut entry.model.endpoint else { continue };
        endpoint.health_check = match &check.port {
            ProbePort::Number(number) => Some(check.at(HealthPort::Number(*number))),
            ProbePort::Name(name) => {
                let EndpointPorts::ByName(ports) = &endpoint.ports else { continue };
                let number = ports.get(name).copied();
                if number.is_none() {
                    let message = format!(
                        "the probe of {} asks the port {name:?}, which this instance does not have",
                        named(&groups[index])
                    );
                    let finding = Diagnostic::warning("unknown-port", message)
                        .with_value(name.clone())
                        .with_allowed("a name in `ports` of the instance, or a number in the probe")
                        .with_effect("the instance is not checked")
                        .with_suggestion(format!("add `ports: {{{name}: 8080}}` to it, for example"));
                    Reporter { findings, subject: &entry.subject }.add(&entry.place, finding);
                }
                number.map(|number| check.at(HealthPort::Number(number)))
            }
        };
    }
    for (group, _) in groups.iter().zip(&used).filter(|(group, used)| !**used && group.model.check.is_some()) {
        if incomplete {
            break;
        }
        let finding = Diagnostic::warning("unused-probe", "no WorkloadEntry of its namespace belongs to this group")
            .with_allowed(
                "one with the labels of the group, or with its name in the annotation istio.io/autoRegistrationGroup",
            )
            .with_effect("its probe checks nobody")
            .with_suggestion("correct its labels or namespace");
        Reporter { findings, subject: &group.subject }.add(&group.place, finding);
    }
}

/// The group that an instance names, else the one with the most labels of those whose labels it has.
fn group_of(entry: &Object<Workload>, groups: &[Object<WorkloadGroup>]) -> Option<usize> {
    let of_namespace = || groups.iter().enumerate().filter(|(_, group)| group.namespace == entry.namespace);
    if let Some(name) = &entry.model.group {
        return of_namespace().find(|(_, group)| name_of(group) == name).map(|(index, _)| index);
    }
    let labels = &entry.model.endpoint.as_ref()?.labels;
    let fits = |group: &Object<WorkloadGroup>| !group.model.labels.is_empty() && includes(labels, &group.model.labels);
    let mut best: Option<(usize, usize)> = None;
    for (index, group) in of_namespace().filter(|(_, group)| fits(group)) {
        let count = group.model.labels.len();
        if best.is_none_or(|(most, _)| count > most) {
            best = Some((count, index));
        }
    }
    best.map(|(_, index)| index)
}

/// Gives the endpoints of a service that have no check of their own the readiness probe of the pods that it selects: where
/// these differ, of the pods whose labels contradict those of the endpoint least. `used` are the pods that some service selects.
pub(crate) fn of_pods(
    service: &Object<KubernetesService>,
    objects: &Objects,
    endpoints: &mut [Endpoint],
    used: &mut [bool],
    findings: &mut Findings,
) {
    let selector = &service.model.selector;
    if selector.is_empty() {
        return;
    }
    let mut checks: Vec<(&Labels, Arc<HealthCheck>)> = Vec::new();
    for (index, pods) in objects.pods.iter().enumerate() {
        if pods.namespace == service.namespace && includes(&pods.model.labels, selector) {
            used[index] = true;
            checks.extend(check_for(service, pods, findings).map(|check| (&pods.model.labels, check)));
        }
    }
    for endpoint in endpoints.iter_mut().filter(|endpoint| endpoint.health_check.is_none()) {
        let mut best: Option<(usize, &Arc<HealthCheck>)> = None;
        for (labels, check) in &checks {
            let Some(agreeing) = agreement(labels, &endpoint.labels) else { continue };
            if best.is_none_or(|(most, _)| agreeing > most) {
                best = Some((agreeing, check));
            }
        }
        endpoint.health_check = best.map(|(_, check)| Arc::clone(check));
    }
}

/// Says which pods with probes no service selects.
pub(crate) fn report_unused(objects: &Objects, used: &[bool], findings: &mut Findings) {
    let unused = objects.pods.iter().zip(used).filter(|(pods, used)| !**used && !pods.model.containers.is_empty());
    for (pods, _) in unused {
        let finding = Diagnostic::warning("unused-probe", "no Service of its namespace selects these pods")
            .with_allowed("labels that the selector of a Service document asks for")
            .with_effect("their readiness probes check nobody")
            .with_suggestion("add the Service document, or correct the labels");
        Reporter { findings, subject: &pods.subject }.add(&pods.place, finding);
    }
}

/// The check that `pods` give the endpoints of `service`: that of the container which serves it.
fn check_for(
    service: &Object<KubernetesService>,
    pods: &Object<Pods>,
    findings: &mut Findings,
) -> Option<Arc<HealthCheck>> {
    let containers = &pods.model.containers;
    let serving = containers.iter().find(|container| served_port(service, container).is_some());
    let container = serving.or(containers.first())?;
    let mut report = |code: &'static str, message: String, effect: &str, suggestion: &str| {
        let finding = Diagnostic::warning(code, message).with_effect(effect).with_suggestion(suggestion);
        Reporter { findings, subject: &pods.subject }.add(&pods.place, finding);
    };
    if containers.len() > 1 {
        let message = format!("{} containers have a readiness probe", containers.len());
        let effect = format!("for {} that of container {:?} is carried out", named(service), container.name);
        report("unused-probe", message, &effect, "let one container answer for all of the pod");
    }
    if let Some(port) = served_port(service, container) {
        return Some(container.check.at(HealthPort::OfService(port)));
    }
    match number(container) {
        Some(number) => Some(container.check.at(HealthPort::Number(number))),
        None => {
            let message =
                format!("the probe of container {:?} asks a port by a name that it does not have", container.name);
            let effect = format!("the endpoints of {} are not checked", named(service));
            report("unknown-port", message, &effect, "write the number of the port, or name it in `ports`");
            None
        }
    }
}

/// The port of the service that leads to the port which the probe of `container` asks.
fn served_port(service: &Object<KubernetesService>, container: &Container) -> Option<u16> {
    let asked = number(container);
    let leads = |target: &Option<String>, port: u16| match target {
        Some(name) => {
            container.check.port == ProbePort::Name(name.clone())
                || (asked.is_some() && container.ports.get(name).copied() == asked)
        }
        None => asked == Some(port),
    };
    let ports = service.model.ports.iter();
    let mut leading = ports.filter(|(port, target)| leads(target, port.target_port.unwrap_or(port.number)));
    leading.next().map(|(port, _)| port.number)
}

/// The number of the port that the probe asks.
fn number(container: &Container) -> Option<u16> {
    match &container.check.port {
        ProbePort::Number(number) => Some(*number),
        ProbePort::Name(name) => container.ports.get(name).copied(),
    }
}

fn includes(labels: &Labels, wanted: &Labels) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// How many labels are equal in both; `None` when one contradicts the other.
fn agreement(pods: &Labels, endpoint: &Labels) -> Option<usize> {
    let both = || endpoint.iter().filter_map(|(key, value)| Some((value, pods.get(key)?)));
    both().all(|(a, b)| a == b).then(|| both().count())
}

fn name_of<M>(object: &Object<M>) -> &str {
    object.subject.object.as_ref().map_or("", |object| object.name.as_str())
}

fn named<M>(object: &Object<M>) -> String {
    let kind = object.subject.object.as_ref().map_or("", |object| object.kind.as_str());
    format!("{kind} {}/{}", object.namespace, name_of(object))
}
