//! What the control plane says about itself: plain facts for admin pages, readiness and metrics.

use std::time::SystemTime;

use meshwright_model::Diagnostic;

use crate::NameStatus;

/// The state of the control plane at one moment.
#[derive(Clone, Debug)]
pub struct Status {
    /// Generation of the configuration that runs.
    pub generation: u64,
    /// Number of the snapshot that runs; endpoint changes count too.
    pub number: u64,
    /// When the configuration that runs was published.
    pub loaded_at: SystemTime,
    /// When the last reload was tried, whatever came of it; the start counts as one.
    pub attempted_at: SystemTime,
    /// Whether that attempt was published. While this is false, the last good configuration runs.
    pub last_reload_ok: bool,
    /// Everything found by that attempt.
    pub diagnostics: Vec<Diagnostic>,
    /// Reloads that were published since the start, the start not counted.
    pub reloads_ok: u64,
    /// Reloads that were refused since the start.
    pub reloads_failed: u64,
    /// Publications of changed endpoints since the start.
    pub endpoint_updates: u64,
    /// Whether files are watched right now. False when that is switched off, has nothing to watch, or failed.
    pub watching: bool,
    /// How the DNS names of endpoints fare, sorted by name.
    pub names: Vec<NameStatus>,
}

impl Status {
    /// What readiness pages add to their answer: one line for each thing that is not as it should be.
    pub fn detail(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.last_reload_ok {
            let errors = self.diagnostics.iter().filter(|one| one.severity == meshwright_model::Severity::Error);
            lines.push(format!(
                "the last reload was refused with {} error(s); generation {} keeps running",
                errors.count(),
                self.generation
            ));
            lines.extend(self.diagnostics.iter().map(ToString::to_string));
        }
        for name in self.names.iter().filter(|name| name.error.is_some()) {
            let error = name.error.as_deref().unwrap_or_default();
            let kept = match name.addresses.len() {
                0 => "it has no address".to_owned(),
                count => format!("its last {count} address(es) are kept"),
            };
            lines.push(format!("name {} cannot be resolved: {error}; {kept}", name.name));
        }
        lines
    }
}
