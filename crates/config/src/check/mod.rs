//! What objects say about each other: references that lead nowhere, rules that cannot be reached, conflicts.
//!
//! Warnings only: Istio accepts all of this, and so do we, but not in silence. Codes are those of `istioctl analyze`
//! where it has one. Read next: `binding.rs`, `destination.rs`, `reach.rs`.

mod binding;
mod destination;
mod reach;

use meshwright_model::{DestinationRule, Service, ServiceDirectory};

use crate::finding::Findings;
use crate::kind::Objects;

/// Everything that was read.
struct World<'w> {
    /// Objects with their records.
    pub objects: &'w Objects,
    /// United services.
    pub services: &'w [Service],
    /// Names of the services.
    pub directory: &'w ServiceDirectory,
    /// Joined destination rules.
    pub rules: &'w [DestinationRule],
    /// Every name of every service, sorted, for suggestions.
    pub names: Vec<&'w str>,
}

impl World<'_> {
    /// The service that a host written in `namespace` means.
    pub fn service(&self, host: &str, namespace: &str) -> Option<&Service> {
        self.directory.find(host, namespace).map(|id| &self.services[id.0])
    }
}

/// All checks over what was read.
pub(crate) fn check(
    objects: &Objects,
    services: &[Service],
    directory: &ServiceDirectory,
    rules: &[DestinationRule],
    findings: &mut Findings,
) {
    let mut names: Vec<&str> = directory.names().collect();
    names.sort_unstable();
    names.dedup();
    let world = &World { objects, services, directory, rules, names };
    binding::check(world, findings);
    for object in &world.objects.virtual_services {
        reach::check(object, findings);
    }
    if !world.objects.incomplete {
        destination::check(world, findings);
    }
}
