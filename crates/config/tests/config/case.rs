//! A text with a mark, and the finding that is expected at the mark.

use meshwright_config::{Options, Outcome, Source, load};
use meshwright_model::{Diagnostic, Mesh, Severity};

/// The mark: it is taken out of the text, and the finding must be where it was.
pub const MARK: char = '§';

/// Loads one text under the name `test.yaml`.
pub fn read(text: &str) -> Outcome {
    read_with(text, &[])
}

/// Loads one text with `--service` flags.
pub fn read_with(text: &str, services: &[&str]) -> Outcome {
    let services = services.iter().map(|flag| flag.parse().expect("a good flag")).collect();
    load(&[Source::new("test.yaml", text)], &Options { services, ..Options::default() })
}

/// The mesh of a text without errors.
pub fn mesh(text: &str) -> Mesh {
    let outcome = read(text);
    let errors: Vec<String> = errors(&outcome).map(ToString::to_string).collect();
    outcome.mesh.unwrap_or_else(|| panic!("no mesh: {errors:#?}"))
}

/// The errors of an outcome.
pub fn errors(outcome: &Outcome) -> impl Iterator<Item = &Diagnostic> {
    outcome.diagnostics.iter().filter(|finding| finding.severity == Severity::Error)
}

/// Code, path and a phrase of the message of one expected finding.
pub struct Expected {
    pub severity: Severity,
    pub code: &'static str,
    pub path: &'static str,
    pub phrase: &'static str,
}

/// An expected error.
pub fn error(code: &'static str, path: &'static str, phrase: &'static str) -> Expected {
    Expected { severity: Severity::Error, code, path, phrase }
}

/// An expected warning.
pub fn warning(code: &'static str, path: &'static str, phrase: &'static str) -> Expected {
    Expected { severity: Severity::Warning, code, path, phrase }
}

/// Asserts that the text has the finding, exactly at its mark, that an error refuses the whole, that a warning does
/// not, and that the finding says what is allowed or what to do.
pub fn expect(text: &str, expected: &Expected) {
    expect_with(text, &[], expected);
}

/// As [`expect`], with `--service` flags.
pub fn expect_with(text: &str, services: &[&str], expected: &Expected) {
    let position = text.find(MARK).unwrap_or_else(|| panic!("no mark in {text}"));
    let clean: String = text.chars().filter(|c| *c != MARK).collect();
    let line = text[..position].matches('\n').count() + 1;
    let column = text[..position].rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let outcome = read_with(&clean, services);
    let all: Vec<String> = outcome.diagnostics.iter().map(ToString::to_string).collect();
    let found = outcome.diagnostics.iter().find(|finding| {
        finding.code == expected.code
            && finding.severity == expected.severity
            && finding.message.contains(expected.phrase)
            && finding.path == expected.path
            && finding.origin.as_ref().is_some_and(|origin| {
                (origin.line as usize, origin.column as usize) == (line, column) && &*origin.source == "test.yaml"
            })
    });
    let Some(found) = found else {
        panic!(
            "expected {}: {} at {line}:{column} {}\nfound {all:#?}\nin\n{clean}",
            expected.code, expected.phrase, expected.path
        );
    };
    assert!(found.suggestion.is_some() || found.allowed.is_some(), "no help in {found}");
    assert!(found.length >= 1);
    match expected.severity {
        Severity::Error => assert!(outcome.mesh.is_none(), "an error must refuse the whole: {found}"),
        Severity::Warning => assert!(outcome.mesh.is_some(), "a warning must not refuse: {all:#?}\nin\n{clean}"),
    }
}

/// A `Gateway` with this spec, indented by two.
pub fn gateway(spec: &str) -> String {
    document("Gateway", spec)
}

/// A `VirtualService` with this spec.
pub fn virtual_service(spec: &str) -> String {
    document("VirtualService", spec)
}

/// A `VirtualService` for `a.example.com` with these routes (the list of `http`, indented by two).
pub fn routes(http: &str) -> String {
    document("VirtualService", &format!("hosts: [a.example.com]\nhttp:\n{http}"))
}

/// A `DestinationRule` with this spec.
pub fn destination_rule(spec: &str) -> String {
    document("DestinationRule", spec)
}

/// A document of Istio's networking group.
pub fn document(kind: &str, spec: &str) -> String {
    let spec: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    format!("apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata:\n  name: test\nspec:\n{spec}")
}
