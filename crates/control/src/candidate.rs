//! From texts to a snapshot that could be published. It does not know when that is done, nor where texts come from.

use meshwright_config as config;
use meshwright_model::{Diagnostic, Origin};
use meshwright_snapshot::{CompileOptions, Snapshot, compile};

use crate::Settings;
use crate::certificates::Certificates;
use crate::registered::Registered;
use crate::resolution::Plan;

/// A configuration that was read but not published.
pub(crate) struct Candidate {
    pub(crate) snapshot: Snapshot,
    pub(crate) warnings: Vec<Diagnostic>,
    /// With which it was compiled, certificates included.
    pub(crate) options: CompileOptions,
}

/// Texts to a snapshot that is not published yet.
pub(crate) fn candidate(
    settings: &Settings,
    sources: &[config::Source],
    (names, registered, certificates): (&Plan, &Registered, &mut Certificates),
    previous: Option<&Snapshot>,
) -> Result<Candidate, Vec<Diagnostic>> {
    let reading = config::Options { registered: registered.names(), ..settings.config_options.clone() };
    let config::Outcome { mesh, mut diagnostics } = config::load(sources, &reading);
    let Some(mesh) = mesh else { return Err(diagnostics) };
    let resolved = names.endpoint_sets(&mesh, registered);
    let (credentials, mut unreadable) = certificates.gather(&mesh);
    if !unreadable.is_empty() {
        diagnostics.append(&mut unreadable);
        return Err(diagnostics);
    }
    let options = CompileOptions { credentials, ..settings.compile_options.clone() };
    match compile(mesh, &resolved, &options, previous) {
        Ok((snapshot, mut warnings)) => {
            diagnostics.append(&mut warnings);
            Ok(Candidate { snapshot, warnings: diagnostics, options })
        }
        Err(mut findings) => {
            diagnostics.append(&mut findings);
            Err(diagnostics)
        }
    }
}

/// Whether there is nothing in any text.
pub(crate) fn is_blank(sources: &[config::Source]) -> bool {
    sources.iter().all(|source| source.text.iter().all(u8::is_ascii_whitespace))
}

/// Many programs empty a file before they write it: applying that moment would close every listener.
pub(crate) fn blank(sources: &[config::Source]) -> Diagnostic {
    let name = sources.first().map(|source| source.name.to_string()).unwrap_or_default();
    Diagnostic::error("blank-source", "every file is empty; this is taken for a file that is being written")
        .at(Origin::flag(&name), 1)
        .with_effect("the last good configuration keeps running")
        .with_suggestion("if an empty configuration is what is meant, reload by SIGHUP")
}
