//! Which destination rule and which resilience policy a service gets.
//!
//! Lookup is Istio's: the namespace of the client, then that of the service, then the root namespace; in each the most
//! specific host, of equals the earlier one. What follows from a rule is not known here: see `destination_rule.rs` and
//! `resilience.rs`.

use meshwright_model::{Diagnostic, ObjectRef, Origin, Service, ServiceDirectory, ServiceId, host};

/// Namespace whose rules apply when neither the client's nor the service's has one.
pub(crate) const ROOT_NAMESPACE: &str = "istio-system";

/// A kind of document of which each service gets at most one, by its host.
pub(crate) trait Assigned {
    /// What people are told of it.
    const WORDS: &'static Words;

    /// Namespace and name.
    fn object(&self) -> (&str, &str);

    /// The host that it is for.
    fn host(&self) -> &str;

    /// Where it stands.
    fn origin(&self) -> &Origin;
}

/// What people are told of a kind.
pub(crate) struct Words {
    pub(crate) kind: &'static str,
    pub(crate) name: &'static str,
    pub(crate) rule: &'static str,
    pub(crate) rules: &'static str,
    /// The code of the warning that one of it is not used.
    pub(crate) code: &'static str,
    /// Which one wins in a namespace.
    pub(crate) order: &'static str,
    /// What it means that one is not used.
    pub(crate) effect: &'static str,
}

/// For every service the index of its rule, with a warning for each rule that covers a service and is used by none.
pub(crate) fn assign<R: Assigned>(
    rules: &[R],
    services: &[Service],
    directory: &ServiceDirectory,
    client_namespace: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Option<usize>> {
    let resolved = |rule| {
        let (namespace, _) = R::object(rule);
        (RuleHost::resolve(rule.host(), namespace, directory), namespace)
    };
    let hosts: Vec<(RuleHost<'_>, &str)> = rules.iter().map(resolved).collect();
    let chosen = |(index, service)| choose(&hosts, ServiceId(index), service, client_namespace);
    let assigned: Vec<Option<usize>> = services.iter().enumerate().map(chosen).collect();
    for (index, rule) in rules.iter().enumerate() {
        let covers = |(id, service): &(usize, &Service)| hosts[index].0.specificity(ServiceId(*id), service).is_some();
        if let Some((id, service)) = services.iter().enumerate().find(covers)
            && !assigned.contains(&Some(index))
        {
            diagnostics.push(unused(rule, service, assigned[id].map(|winner| &rules[winner]), client_namespace));
        }
    }
    assigned
}

/// The host of a rule, resolved with the namespace of the rule.
enum RuleHost<'a> {
    Service(ServiceId),
    Wildcard(&'a str),
    Unknown,
}

impl<'a> RuleHost<'a> {
    fn resolve(host: &'a str, namespace: &str, directory: &ServiceDirectory) -> Self {
        if host.starts_with('*') {
            return Self::Wildcard(host);
        }
        directory.find(host, namespace).map_or(Self::Unknown, Self::Service)
    }

    /// How narrowly it covers the service: an exact name beats every wildcard, a longer wildcard a shorter one.
    fn specificity(&self, id: ServiceId, service: &Service) -> Option<usize> {
        match self {
            Self::Service(own) => (*own == id).then_some(usize::MAX),
            Self::Wildcard(pattern) => host::covers(pattern, &service.host).then_some(pattern.len()),
            Self::Unknown => None,
        }
    }
}

/// The index of the rule that a service gets, of rules by host and namespace.
fn choose(hosts: &[(RuleHost<'_>, &str)], id: ServiceId, service: &Service, client_namespace: &str) -> Option<usize> {
    for namespace in [client_namespace, &service.namespace, ROOT_NAMESPACE] {
        let mut best: Option<(usize, usize)> = None;
        for (index, (host, of)) in hosts.iter().enumerate() {
            if *of != namespace {
                continue;
            }
            if let Some(specificity) = host.specificity(id, service)
                && best.is_none_or(|(highest, _)| specificity > highest)
            {
                best = Some((specificity, index));
            }
        }
        if let Some((_, index)) = best {
            return Some(index);
        }
    }
    None
}

fn unused<R: Assigned>(rule: &R, service: &Service, winner: Option<&R>, client_namespace: &str) -> Diagnostic {
    let Words { name, rule: short, rules, code, order, effect, .. } = R::WORDS;
    let message = match winner {
        Some(winner) => format!(
            "this {name} is not used for {}: {} ({}) comes first",
            service.host,
            object(winner),
            winner.origin()
        ),
        None => format!(
            "this {name} is not used for {}: it is in another namespace than the client and the service",
            service.host
        ),
    };
    Diagnostic::warning(code, message)
        .at(rule.origin().clone(), 1)
        .of(object(rule))
        .with_path("spec.host")
        .with_value(rule.host())
        .with_allowed(format!(
            "{rules} are looked up in namespace {client_namespace} (ours), then {} (the service's), then {ROOT_NAMESPACE}; \
             in each {order}",
            service.namespace
        ))
        .with_effect(*effect)
        .with_suggestion(format!("merge it into the {short} that is used, or move it to one of these namespaces"))
}

/// The document, as findings name it.
pub(crate) fn object<R: Assigned>(rule: &R) -> ObjectRef {
    let (namespace, name) = rule.object();
    ObjectRef { kind: R::WORDS.kind.to_owned(), namespace: namespace.to_owned(), name: name.to_owned() }
}
