//! The registry's figures in the Prometheus text format.

use std::fmt::Write;

use meshwright_catalog::Catalog;

/// The figures of `catalog` at this moment.
pub fn metrics(catalog: &Catalog) -> String {
    let (instances, services, revision) =
        catalog.read(|registry| (registry.len() as u64, registry.services().len() as u64, registry.revision()));
    let figures = [
        ("instances", "Registered instances", instances),
        ("services", "Services with at least one instance", services),
        ("revision", "Revision of the last change", revision),
        ("self_preservation", "1 while evictions are stopped", u64::from(catalog.preservation().is_some())),
        ("writable", "0 after a write that the store did not keep", u64::from(catalog.trouble().is_none())),
    ];
    let mut text = String::new();
    for (name, help, value) in figures {
        let _ = writeln!(
            text,
            "# HELP meshwright_registry_{name} {help}\n# TYPE meshwright_registry_{name} gauge\n\
             meshwright_registry_{name} {value}"
        );
    }
    text
}
