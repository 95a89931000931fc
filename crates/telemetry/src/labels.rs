//! Who talks to whom, as Istio's standard labels name it.
//!
//! Label sets are resolved when a configuration is compiled, never per request. This file does not know how they are
//! written; see `prometheus.rs`.

/// Value of every label that is not known, as Istio has it.
const UNKNOWN: &str = "unknown";

/// The `source_*` labels: the workload that this process speaks for. Unknown values are `unknown`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SourceLabels {
    /// `source_workload`
    pub workload: String,
    /// `source_canonical_service`
    pub canonical_service: String,
    /// `source_canonical_revision`
    pub canonical_revision: String,
    /// `source_workload_namespace`
    pub workload_namespace: String,
    /// `source_principal`
    pub principal: String,
    /// `source_app`
    pub app: String,
    /// `source_version`
    pub version: String,
    /// `source_cluster`: the mesh's cluster, not an upstream cluster
    pub cluster: String,
}

impl SourceLabels {
    /// A workload of this name: its canonical service and app have the same name, its revision is `latest`.
    pub fn workload(name: &str, namespace: &str) -> Self {
        Self {
            workload: name.to_owned(),
            canonical_service: name.to_owned(),
            canonical_revision: "latest".to_owned(),
            workload_namespace: namespace.to_owned(),
            principal: UNKNOWN.to_owned(),
            app: name.to_owned(),
            version: UNKNOWN.to_owned(),
            cluster: UNKNOWN.to_owned(),
        }
    }
}

impl Default for SourceLabels {
    /// `meshwright-gateway` in namespace `default`.
    fn default() -> Self {
        Self::workload("meshwright-gateway", "default")
    }
}

/// The `destination_*` labels of one upstream cluster, and the cluster's own name. Unknown values are `unknown`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DestinationLabels {
    /// Name of the upstream cluster, `outbound|80|v1|host`: label `cluster_name` of the `envoy_cluster_*` metrics.
    /// Empty when no cluster stands behind these labels; then there are no such metrics.
    pub cluster_name: String,
    /// `destination_workload`
    pub workload: String,
    /// `destination_workload_namespace`
    pub workload_namespace: String,
    /// `destination_principal`
    pub principal: String,
    /// `destination_app`
    pub app: String,
    /// `destination_version`
    pub version: String,
    /// `destination_service`: the service's full host name
    pub service: String,
    /// `destination_canonical_service`
    pub canonical_service: String,
    /// `destination_canonical_revision`
    pub canonical_revision: String,
    /// `destination_service_name`: its short name
    pub service_name: String,
    /// `destination_service_namespace`
    pub service_namespace: String,
    /// `destination_cluster`: the mesh's cluster, not an upstream cluster
    pub cluster: String,
}

impl DestinationLabels {
    /// Every label `unknown` and no cluster: requests for which no destination was found (no route).
    pub fn unknown() -> Self {
        Self::all(UNKNOWN, "")
    }

    /// Requests for a host that the mesh does not know: Istio's `BlackHoleCluster` as the service name, so that a host
    /// name sent by a client never becomes a label.
    pub fn black_hole() -> Self {
        Self { service_name: "BlackHoleCluster".to_owned(), ..Self::unknown() }
    }

    /// A service: `host` is its full name, `service_name` its short one. Its app, canonical service and workload carry
    /// the short name, its revision is `latest` until [`Self::with_version`] says otherwise.
    pub fn service(cluster_name: &str, host: &str, service_name: &str, namespace: &str) -> Self {
        Self {
            workload: service_name.to_owned(),
            workload_namespace: namespace.to_owned(),
            app: service_name.to_owned(),
            service: host.to_owned(),
            canonical_service: service_name.to_owned(),
            canonical_revision: "latest".to_owned(),
            service_name: service_name.to_owned(),
            service_namespace: namespace.to_owned(),
            ..Self::all(UNKNOWN, cluster_name)
        }
    }

    /// The same with this version (label `version` of the subset): `destination_version` and the canonical revision.
    pub fn with_version(mut self, version: &str) -> Self {
        self.version = version.to_owned();
        self.canonical_revision = version.to_owned();
        self
    }

    /// Where requests go whose own label set exceeds the cap on series.
    pub(crate) fn overflow() -> Self {
        Self::all("overflow", "overflow")
    }

    fn all(value: &str, cluster_name: &str) -> Self {
        Self {
            cluster_name: cluster_name.to_owned(),
            workload: value.to_owned(),
            workload_namespace: value.to_owned(),
            principal: value.to_owned(),
            app: value.to_owned(),
            version: value.to_owned(),
            service: value.to_owned(),
            canonical_service: value.to_owned(),
            canonical_revision: value.to_owned(),
            service_name: value.to_owned(),
            service_namespace: value.to_owned(),
            cluster: value.to_owned(),
        }
    }
}
