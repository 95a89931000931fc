//! How findings look: with the source line and an underline for people, as JSON for programs, as one line for logs.
//!
//! Knows where a finding points and cuts the line out of the bytes that were read. Knows nothing of what findings mean.

use std::collections::HashMap;
use std::io::{self, IsTerminal};
use std::sync::Arc;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{
    AnnotationKind, Group, Level, Origin as SnippetOrigin, Renderer, Snippet, normalize_untrusted_str,
};
use meshwright_config::Source;
use meshwright_model::{Diagnostic, Severity};

use crate::args::ColorChoice;

/// Lines longer than this many characters are cut around the place.
const LONGEST_LINE: usize = 400;
/// Characters kept before the place when a line is cut.
const BEFORE: usize = 60;
/// Characters of a value or a list that are shown.
const LONGEST_TEXT: usize = 300;

/// Renders findings with the lines they point at.
pub struct Findings<'a> {
    sources: HashMap<Arc<str>, &'a [u8]>,
    renderer: Renderer,
}

/// Whether to use colors on `stream`: `auto` means a terminal, unless NO_COLOR is set to something.
pub fn colored(choice: ColorChoice, stream: &impl IsTerminal) -> bool {
    match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
    }
}

impl<'a> Findings<'a> {
    /// Renders for people, with lines out of `sources`.
    pub fn new(sources: &'a [Source], color: bool) -> Self {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        Self {
            sources: sources.iter().map(|source| (source.name.clone(), source.text.as_slice())).collect(),
            renderer: renderer.decor_style(DecorStyle::Ascii),
        }
    }

    /// One finding over several lines: what, where, the line, what is allowed, what would happen, what to write.
    pub fn render(&self, finding: &Diagnostic) -> String {
        let level = match finding.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = Group::with_title(level.primary_title(finding.message.as_str()).id(finding.code));
        let excerpt = self.excerpt(finding);
        if let Some(origin) = &finding.origin {
            let path = normalize_untrusted_str(&origin.source);
            group = match (&excerpt, origin.line) {
                (Some(excerpt), line) if !excerpt.cut => group.element(
                    Snippet::source(excerpt.text.as_str())
                        .line_start(number(line))
                        .path(path)
                        .annotation(AnnotationKind::Primary.span(excerpt.span.clone())),
                ),
                (Some(excerpt), line) => group
                    .element(SnippetOrigin::path(path).line(number(line)).char_column(number(origin.column)))
                    .element(
                        Snippet::source(excerpt.text.as_str())
                            .line_start(number(line))
                            .annotation(AnnotationKind::Primary.span(excerpt.span.clone())),
                    ),
                (None, 0) => group.element(SnippetOrigin::path(path)),
                (None, line) => group
                    .element(SnippetOrigin::path(path).line(number(line)).char_column(number(origin.column).max(1))),
            };
        }
        if let Some(place) = place(finding) {
            group = group.element(Level::NOTE.with_name("in").message(place));
        }
        let underlined = excerpt.as_ref().and_then(|excerpt| excerpt.text.get(excerpt.span.clone()));
        let notes = [
            ("value", finding.value.as_deref().filter(|value| underlined != Some(*value))),
            ("allowed", finding.allowed.as_deref()),
            ("effect", finding.effect.as_deref()),
            ("help", finding.suggestion.as_deref()),
        ];
        for (name, text) in notes {
            if let Some(text) = text {
                group = group.element(Level::HELP.with_name(name).message(shortened(text)));
            }
        }
        self.renderer.render(&[group])
    }

    /// The line a finding points at, and the bytes in it to underline.
    fn excerpt(&self, finding: &Diagnostic) -> Option<Excerpt> {
        // The line may hold a key.
        if finding.object.as_ref().is_some_and(|object| object.kind == "Secret") {
            return None;
        }
        let origin = finding.origin.as_ref().filter(|origin| origin.line > 0)?;
        let text = self.sources.get(&origin.source)?;
        let line = text.split(|byte| *byte == b'\n').nth(number(origin.line) - 1)?;
        let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line));
        Some(Excerpt::new(&line, number(origin.column).max(1) - 1, number(finding.length)))
    }
}

/// A line, perhaps cut, with the byte range to underline.
struct Excerpt {
    text: String,
    span: std::ops::Range<usize>,
    cut: bool,
}

impl Excerpt {
    /// `start` and `length` count characters.
    fn new(line: &str, start: usize, length: usize) -> Self {
        let long = line.chars().nth(LONGEST_LINE).is_some();
        let skipped = if long { start.saturating_sub(BEFORE) } else { 0 };
        let lead = if skipped > 0 { "..." } else { "" };
        let kept: String = line.chars().skip(skipped).take(if long { LONGEST_LINE } else { usize::MAX }).collect();
        let text = format!("{lead}{kept}");
        let byte = |character: usize| text.char_indices().nth(character).map_or(text.len(), |(byte, _)| byte);
        let first = start - skipped + lead.len();
        let span = byte(first)..byte(first.saturating_add(length));
        Self { cut: skipped > 0, span, text }
    }
}

/// `Kind/namespace/name at spec.path`, as far as known.
fn place(finding: &Diagnostic) -> Option<String> {
    let place = match (&finding.object, finding.path.is_empty()) {
        (Some(object), false) => format!("{object} at {}", finding.path),
        (Some(object), true) => object.to_string(),
        (None, false) => finding.path.clone(),
        (None, true) => return None,
    };
    Some(normalize_untrusted_str(&place))
}

/// Text from outside: no control characters, and not endless.
fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(LONGEST_TEXT).collect();
    if short.len() < text.len() {
        short.push_str("...");
    }
    normalize_untrusted_str(&short)
}

fn number(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// One finding as one line, for logs: the place, what, and what to do.
pub fn one_line(finding: &Diagnostic) -> String {
    let mut line = finding.to_string();
    if let Some(suggestion) = &finding.suggestion {
        line.push_str("; ");
        line.push_str(suggestion);
    }
    normalize_untrusted_str(&line).replace('\n', " ")
}

/// One finding with every field, for programs. Absent fields are null.
pub fn json(finding: &Diagnostic) -> serde_json::Value {
    let severity = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let object = finding
        .object
        .as_ref()
        .map(|object| serde_json::json!({ "kind": object.kind, "namespace": object.namespace, "name": object.name }));
    let origin = finding.origin.as_ref();
    serde_json::json!({
        "code": finding.code,
        "severity": severity,
        "message": finding.message,
        "source": origin.map(|origin| &*origin.source),
        "line": origin.map(|origin| origin.line).filter(|line| *line > 0),
        "column": origin.map(|origin| origin.column).filter(|column| *column > 0),
        "length": finding.length,
        "object": object,
        "path": finding.path,
        "value": finding.value,
        "allowed": finding.allowed,
        "effect": finding.effect,
        "suggestion": finding.suggestion,
    })
}

/// `2 errors, 1 warning`.
pub fn counts(findings: &[Diagnostic]) -> String {
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    let plural = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    match (errors, findings.len() - errors) {
        (0, warnings) => plural(warnings, "warning"),
        (errors, 0) => plural(errors, "error"),
        (errors, warnings) => format!("{}, {}", plural(errors, "error"), plural(warnings, "warning")),
    }
}

/// Writes findings to standard error with their lines, as `run` does at start.
///
/// # Errors
/// Standard error is closed.
pub fn to_stderr(findings: &[Diagnostic], sources: &[Source]) -> io::Result<()> {
    use io::Write;
    let mut out = io::stderr().lock();
    let rendered = Findings::new(sources, colored(ColorChoice::Auto, &io::stderr()));
    for finding in findings {
        writeln!(out, "{}\n", rendered.render(finding))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use meshwright_model::{ObjectRef, Origin};

    use super::*;

    fn finding(line: u32, column: u32, length: u32) -> Diagnostic {
        let origin = Origin { source: Arc::from("a.yaml"), line, column };
        Diagnostic::error("unknown-field", "unknown field \"hots\"")
            .at(origin, length)
            .of(ObjectRef { kind: "VirtualService".into(), namespace: "default".into(), name: "api".into() })
            .with_path("spec.hots")
            .with_value("hots")
            .with_allowed("hosts, gateways, http")
            .with_effect("the service would match nothing")
            .with_suggestion("write `hosts`")
    }

    fn render(text: &[u8], finding: &Diagnostic) -> String {
        Findings::new(&[Source::new("a.yaml", text)], false).render(finding)
    }

    #[test]
    fn a_finding_shows_place_line_underline_and_advice() {
        let text = render(b"kind: X\nspec:\n  hots: [a]\r\n", &finding(3, 3, 4));
        assert!(text.starts_with("error[unknown-field]: unknown field \"hots\""), "{text}");
        for part in ["a.yaml:3:3", "3 |   hots: [a]", "^^^^", "VirtualService/default/api at spec.hots"] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        for part in ["allowed: hosts, gateways, http", "effect: the service", "help: write `hosts`"] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert!(!text.contains("value:"), "the underlined value is repeated in\n{text}");
    }

    #[test]
    fn the_underline_counts_characters_not_bytes() {
        let text = render("é: ü\n".as_bytes(), &finding(1, 4, 1));
        assert!(text.contains("a.yaml:1:4"), "{text}");
        assert!(text.contains("|    ^"), "{text}");
    }

    #[test]
    fn a_line_of_a_megabyte_is_cut_around_the_place() {
        let line = format!("{}HERE{}", "x".repeat(500_000), "y".repeat(500_000));
        let text = render(line.as_bytes(), &finding(1, 500_001, 4));
        assert!(text.contains("a.yaml:1:500001"), "{text}");
        assert!(text.contains("HERE") && text.contains("^^^^"), "{text}");
        assert!(text.len() < 4000);
    }

    #[test]
    fn a_place_beyond_the_text_and_a_flag_still_render() {
        assert!(render(b"a", &finding(9, 1, 1)).contains("a.yaml:9:1"));
        assert!(render(b"a", &finding(1, 99, 5)).contains("a.yaml"));
        let flag = Diagnostic::error("x", "bad").at(Origin::flag("--service"), 1);
        assert!(render(b"", &flag).contains("--service"));
    }

    #[test]
    fn control_characters_of_the_input_do_not_reach_the_terminal() {
        let mut evil = finding(1, 1, 1).with_suggestion("say \u{1b}[31mred");
        evil.message = "bad \u{1b}]0;title\u{7}".into();
        let text = render(b"\x1b[2Jhots: 1\n\xff", &evil);
        assert!(!text.contains('\u{1b}') && !text.contains('\u{7}'), "{text:?}");
        assert!(!one_line(&evil).contains('\u{1b}'));
    }

    #[test]
    fn json_has_every_field() {
        let value = json(&finding(3, 3, 4));
        assert_eq!(value["line"], 3);
        assert_eq!(value["object"]["kind"], "VirtualService");
        assert_eq!(value["suggestion"], "write `hosts`");
        assert_eq!(json(&Diagnostic::warning("w", "m"))["source"], serde_json::Value::Null);
    }

    #[test]
    fn counts_are_said_in_words() {
        let (error, warning) = (Diagnostic::error("e", "m"), Diagnostic::warning("w", "m"));
        assert_eq!(counts(&[error.clone(), warning.clone(), warning.clone()]), "1 error, 2 warnings");
        assert_eq!(counts(&[warning]), "1 warning");
        assert_eq!(counts(&[error.clone(), error]), "2 errors");
    }
}
