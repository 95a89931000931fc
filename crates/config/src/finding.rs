//! Collecting findings, each with its place and object.
//!
//! Knows neither what is right nor how a finding is shown. Read next: `node.rs` for places.

use std::collections::HashSet;
use std::sync::Arc;

use meshwright_model::{Diagnostic, ObjectRef, Origin, Reference, Severity};

use crate::node::Place;

/// Most findings that are kept for one source; a hostile file cannot fill the memory with complaints.
pub(crate) const MAX_FINDINGS_PER_SOURCE: usize = 2_000;

/// Whose text is being judged.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    /// Position of the source in the input.
    pub index: usize,
    /// Name of the source.
    pub source: Arc<str>,
    /// The object, once it is known.
    pub object: Option<ObjectRef>,
}

impl Subject {
    /// The origin of a place in this source.
    pub fn origin(&self, place: &Place) -> Origin {
        Origin { source: Arc::clone(&self.source), line: place.span.line, column: place.span.column }
    }
}

/// Everything found so far.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    kept: Vec<(usize, Diagnostic)>,
    counts: Vec<usize>,
    failed: bool,
    failed_objects: HashSet<ObjectRef>,
}

impl Findings {
    /// Adds a finding of a source; over the limit only its severity counts.
    pub fn add(&mut self, source: usize, diagnostic: Diagnostic) {
        if diagnostic.severity == Severity::Error {
            self.failed = true;
            self.failed_objects.extend(diagnostic.object.clone());
        }
        if self.counts.len() <= source {
            self.counts.resize(source + 1, 0);
        }
        self.counts[source] += 1;
        if self.counts[source] <= MAX_FINDINGS_PER_SOURCE {
            self.kept.push((source, diagnostic));
        }
    }

    /// Whether one of them is an error.
    pub fn failed(&self) -> bool {
        self.failed
    }

    /// Whether one of them is an error of this object.
    pub fn failed_for(&self, subject: &Subject) -> bool {
        subject.object.as_ref().is_some_and(|object| self.failed_objects.contains(object))
    }

    /// All of them in the order of the input: by source, line and column, equal places in the order they were found.
    pub fn into_sorted(mut self, sources: &[Arc<str>]) -> Vec<Diagnostic> {
        for (index, count) in self.counts.iter().enumerate() {
            if *count > MAX_FINDINGS_PER_SOURCE {
                let left_out = count - MAX_FINDINGS_PER_SOURCE;
                let text = format!("{left_out} more findings in this source are not shown");
                let mut note = Diagnostic::warning("too-many-findings", text)
                    .with_suggestion("correct the findings above and read it again");
                note.origin =
                    sources.get(index).map(|name| Origin { source: Arc::clone(name), line: u32::MAX, column: 0 });
                self.kept.push((index, note));
            }
        }
        let position = |diagnostic: &Diagnostic| match &diagnostic.origin {
            Some(origin) => (origin.line, origin.column),
            None => (0, 0),
        };
        self.kept.sort_by(|(a_source, a), (b_source, b)| (a_source, position(a)).cmp(&(b_source, position(b))));
        let mut list: Vec<Diagnostic> = self.kept.into_iter().map(|(_, diagnostic)| diagnostic).collect();
        for diagnostic in &mut list {
            if let Some(origin) = diagnostic.origin.as_mut().filter(|origin| origin.line == u32::MAX) {
                origin.line = 0;
            }
        }
        list
    }
}

/// A pen for one subject.
pub(crate) struct Reporter<'a> {
    /// Where findings go.
    pub findings: &'a mut Findings,
    /// Whom they are about.
    pub subject: &'a Subject,
}

impl Reporter<'_> {
    /// A name that leads out of the configuration, with its place.
    pub fn reference(&self, place: &Place, name: &str) -> Reference {
        Reference {
            name: name.to_owned(),
            origin: self.subject.origin(place),
            length: place.span.length.max(1),
            object: self.subject.object.clone(),
            path: place.path.to_string(),
        }
    }

    /// Adds a finding at a place; its path is the place's unless it has one already.
    pub fn add(&mut self, place: &Place, mut diagnostic: Diagnostic) {
        if diagnostic.path.is_empty() {
            diagnostic.path = place.path.to_string();
        }
        diagnostic.origin = Some(self.subject.origin(place));
        diagnostic.length = place.span.length.max(1);
        diagnostic.object.clone_from(&self.subject.object);
        if diagnostic.object.as_ref().is_some_and(|object| object.kind == "Secret") {
            // Whatever was written may be a part of a key.
            diagnostic.value = None;
        }
        self.findings.add(self.subject.index, diagnostic);
    }
}
