//! What may be registered at most. Every limit refuses with its name; none drops what was there before.

/// Limits of a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Services with at least one instance. Default 50,000.
    pub services: usize,
    /// Instances of all services. Default 500,000.
    pub instances: usize,
    /// Instances of one service. Default 20,000.
    pub instances_per_service: usize,
    /// Metadata entries of an instance, and attributes likewise. Default 128.
    pub metadata_entries: usize,
    /// Bytes of an instance: names, metadata, tags, checks. Default 32 KiB.
    pub instance_bytes: usize,
    /// Tags of an instance. Default 64.
    pub tags: usize,
    /// Checks of an instance. Default 16.
    pub checks: usize,
    /// Changes kept for cursors; older ones are compacted. Default 16,384.
    pub history: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            services: 50_000,
            instances: 500_000,
            instances_per_service: 20_000,
            metadata_entries: 128,
            instance_bytes: 32 * 1024,
            tags: 64,
            checks: 16,
            history: 16_384,
        }
    }
}
