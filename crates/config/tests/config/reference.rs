//! The published list of fields.

use meshwright_config::{FieldSupport, reference};

#[test]
fn every_field_is_listed_once_with_a_meaning() {
    for kind in reference() {
        let mut paths: Vec<&str> = kind.fields.iter().map(|field| field.path.as_str()).collect();
        let count = paths.len();
        paths.sort_unstable();
        paths.dedup();
        assert_eq!(paths.len(), count, "{}", kind.kind);
        for field in &kind.fields {
            assert!(!field.doc.is_empty() && !field.type_name.is_empty(), "{} {}", kind.kind, field.path);
            let speaks = matches!(field.support, FieldSupport::Warned | FieldSupport::Refused);
            assert_eq!(field.effect.is_some(), speaks, "{} {}", kind.kind, field.path);
        }
    }
}

#[test]
fn the_list_says_what_is_supported() {
    let kinds = reference();
    let names: Vec<&str> = kinds.iter().map(|kind| kind.kind).collect();
    assert_eq!(
        names,
        [
            "Gateway",
            "VirtualService",
            "DestinationRule",
            "ResiliencePolicy",
            "ServiceEntry",
            "WorkloadEntry",
            "WorkloadGroup",
            "Service",
            "EndpointSlice",
            "Deployment",
            "StatefulSet",
            "DaemonSet",
            "ReplicaSet",
            "Pod",
            "Secret"
        ]
    );
    let support = |path: &str| kinds[1].fields.iter().find(|field| field.path == path).map(|field| field.support);
    assert_eq!(support("spec.http[].match[].uri.prefix"), Some(FieldSupport::Full));
    assert_eq!(support("spec.http[].mirror"), Some(FieldSupport::Warned));
    assert_eq!(support("spec.http[].match[].sourceLabels{}"), Some(FieldSupport::Refused));
    assert_eq!(support("spec.http[].match[].headers{}"), Some(FieldSupport::Full));
}
