//! `meshwright validate`: everything that is wrong with some configuration, in one pass, and an exit code for scripts.
//!
//! It goes as far as `run` does before it opens a socket, with the same flags, so that both have the same opinion.
//! What findings look like is in `render`.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use meshwright_config::{MAX_SOURCE_BYTES, Options, Source};
use meshwright_model::{Diagnostic, Mesh, Severity};
use meshwright_snapshot::CompileOptions;

use crate::args::{EXIT_BAD_CONFIGURATION, EXIT_OK, EXIT_WARNINGS, MeshArgs, Output, ValidateArgs};
use crate::render::{self, Findings};

/// What was found in some configuration.
struct Checked {
    sources: Vec<Source>,
    findings: Vec<Diagnostic>,
    /// How much was understood; `None` when there are errors.
    summary: Option<String>,
}

/// Runs `meshwright validate`; findings go to standard output.
///
/// # Errors
/// Standard input cannot be read or standard output cannot be written. Unreadable files are findings.
pub fn run(args: &ValidateArgs) -> anyhow::Result<ExitCode> {
    let stdin = standard_input(&args.mesh.files).context("cannot read standard input")?;
    let checked = check(&args.mesh, stdin.as_deref());
    let mut out = io::stdout().lock();
    match args.output {
        Output::Json => {
            let list: Vec<_> = checked.findings.iter().map(render::json).collect();
            writeln!(out, "{:#}", serde_json::Value::Array(list))?;
        }
        Output::Text => write_text(&checked, render::colored(args.color, &io::stdout()), &mut out)?,
    }
    Ok(ExitCode::from(exit_code(&checked.findings)))
}

/// Reads standard input when one of `files` is `-`; one byte more than allowed is enough to be refused later.
///
/// # Errors
/// Reading fails.
pub fn standard_input(files: &[PathBuf]) -> io::Result<Option<Vec<u8>>> {
    if !files.iter().any(|file| file == Path::new("-")) {
        return Ok(None);
    }
    let most = u64::try_from(MAX_SOURCE_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    let mut text = Vec::new();
    io::stdin().lock().take(most).read_to_end(&mut text)?;
    Ok(Some(text))
}

fn check(args: &MeshArgs, stdin: Option<&[u8]>) -> Checked {
    let sources = match meshwright_control::read_sources(&args.files, stdin) {
        Ok(sources) => sources,
        Err(findings) => return Checked { sources: Vec::new(), findings, summary: None },
    };
    let options = Options {
        namespace: args.namespace.clone(),
        services: args.services.clone(),
        health: args.health.clone(),
        ..Options::default()
    };
    let outcome = meshwright_config::load(&sources, &options);
    let mut findings = outcome.diagnostics;
    let mut summary = None;
    if let Some(mesh) = outcome.mesh {
        let text = summarise(&mesh, sources.len());
        let (credentials, unreadable) = meshwright_control::certificates_of(&mesh, args.credentials.as_deref());
        findings.extend(unreadable);
        let compile_options = CompileOptions {
            credentials,
            port_map: args.port_map(),
            mesh_bind: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
            namespace: args.namespace.clone(),
            gateway_labels: args.gateway_labels(),
            locality: args.locality.clone(),
            ..CompileOptions::default()
        };
        match meshwright_snapshot::compile(mesh, &[], &compile_options, None) {
            Ok((_, more)) => {
                findings.extend(more);
                summary = Some(text);
            }
            Err(more) => findings.extend(more),
        }
    }
    Checked { sources, findings, summary }
}

fn summarise(mesh: &Mesh, sources: usize) -> String {
    let count = |number: usize, word: &str| format!("{number} {word}{}", if number == 1 { "" } else { "s" });
    let mut parts = vec![
        count(mesh.gateways.len(), "gateway"),
        count(mesh.virtual_services.len(), "virtual service"),
        count(mesh.destination_rules.len(), "destination rule"),
        count(mesh.services.len(), "service"),
    ];
    match mesh.resilience_policies.len() {
        0 => {}
        1 => parts.push("1 resilience policy".to_owned()),
        several => parts.push(format!("{several} resilience policies")),
    }
    let scope = match mesh.resilience_policies.is_empty() {
        true => "",
        false => "; breakers, limits and budgets hold per proxy process, shared by its workers",
    };
    format!("{} in {}{scope}", parts.join(", "), count(sources, "source"))
}

fn write_text(checked: &Checked, color: bool, out: &mut impl Write) -> io::Result<()> {
    let findings = Findings::new(&checked.sources, color);
    for finding in &checked.findings {
        writeln!(out, "{}\n", findings.render(finding))?;
    }
    match (&checked.summary, checked.findings.is_empty()) {
        (Some(summary), true) => writeln!(out, "valid: {summary}"),
        (Some(summary), false) => writeln!(out, "valid with {}: {summary}", render::counts(&checked.findings)),
        (None, _) => writeln!(out, "not valid: {}; nothing of it would be applied", render::counts(&checked.findings)),
    }
}

fn exit_code(findings: &[Diagnostic]) -> u8 {
    match findings.iter().map(|finding| finding.severity).max() {
        None => EXIT_OK,
        Some(Severity::Warning) => EXIT_WARNINGS,
        Some(Severity::Error) => EXIT_BAD_CONFIGURATION,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_decides_the_exit_code() {
        let (error, warning) = (Diagnostic::error("e", "m"), Diagnostic::warning("w", "m"));
        assert_eq!(exit_code(&[]), 0);
        assert_eq!(exit_code(std::slice::from_ref(&warning)), 79);
        assert_eq!(exit_code(&[error, warning]), 65);
    }
}
