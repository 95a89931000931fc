//! What was found while reading configuration, and where. Rendering belongs to the binary.

use std::fmt;
use std::sync::Arc;

/// The place where something was written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    /// A file path, `<stdin>`, or the command-line flag that carried the text.
    pub source: Arc<str>,
    /// Line, counted from 1; 0 when the source has no lines (a flag).
    pub line: u32,
    /// Column in characters, counted from 1; 0 when the source has no columns.
    pub column: u32,
}

impl Origin {
    /// An origin without line and column, for command-line flags.
    pub fn flag(source: &str) -> Self {
        Self { source: Arc::from(source), line: 0, column: 0 }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            return f.write_str(&self.source);
        }
        write!(f, "{}:{}:{}", self.source, self.line, self.column)
    }
}

/// How bad a finding is. An error refuses the whole input; a warning does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Accepted, but something has no effect, or not the effect one may think.
    Warning,
    /// Refused.
    Error,
}

/// Kind, namespace and name of a configuration object, printed as `Kind/namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectRef {
    /// Kind as written, for example `VirtualService`.
    pub kind: String,
    /// Namespace; `default` when the document names none.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.kind, self.namespace, self.name)
    }
}

/// One finding. A good one fills every field: place, object, path, value, what is allowed, what would happen, what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Stable, searchable code such as `unknown-field` or `IST0101`.
    pub code: &'static str,
    /// Error or warning.
    pub severity: Severity,
    /// One sentence, lower case, without full stop.
    pub message: String,
    /// Where; `None` only for findings about the command line as a whole.
    pub origin: Option<Origin>,
    /// Number of characters the place covers on its line, at least 1; for the underline.
    pub length: u32,
    /// The object it belongs to, when known.
    pub object: Option<ObjectRef>,
    /// Full field path such as `spec.http[2].route[0].weight`; empty when it concerns the whole document.
    pub path: String,
    /// The offending value as written.
    pub value: Option<String>,
    /// What is allowed: a range, a list, a form.
    pub allowed: Option<String>,
    /// What would happen at run time if this were accepted, or does happen when it is a warning.
    pub effect: Option<String>,
    /// What to write instead.
    pub suggestion: Option<String>,
}

impl Diagnostic {
    /// A finding with the given severity, code and message; the other fields are filled by the `with_*` methods.
    pub fn new(severity: Severity, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            severity,
            message: message.into(),
            origin: None,
            length: 1,
            object: None,
            path: String::new(),
            value: None,
            allowed: None,
            effect: None,
            suggestion: None,
        }
    }

    /// Shorthand for an error.
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, message)
    }

    /// Shorthand for a warning.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, message)
    }

    /// Sets the place.
    pub fn at(mut self, origin: Origin, length: u32) -> Self {
        self.origin = Some(origin);
        self.length = length.max(1);
        self
    }

    /// Sets the object.
    pub fn of(mut self, object: ObjectRef) -> Self {
        self.object = Some(object);
        self
    }

    /// Sets the field path.
    pub fn with_path(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    /// Sets the offending value.
    pub fn with_value(mut self, value: impl Into<String>) -> Self {
        self.value = Some(value.into());
        self
    }

    /// Sets what is allowed.
    pub fn with_allowed(mut self, allowed: impl Into<String>) -> Self {
        self.allowed = Some(allowed.into());
        self
    }

    /// Sets what would happen at run time.
    pub fn with_effect(mut self, effect: impl Into<String>) -> Self {
        self.effect = Some(effect.into());
        self
    }

    /// Sets the suggestion.
    pub fn with_suggestion(mut self, suggestion: impl Into<String>) -> Self {
        self.suggestion = Some(suggestion.into());
        self
    }
}

impl fmt::Display for Diagnostic {
    /// One line: `file:line:column: error[code]: message (Kind/namespace/name, path)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{origin}: ")?;
        }
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{severity}[{}]: {}", self.code, self.message)?;
        match (&self.object, self.path.is_empty()) {
            (Some(object), false) => write!(f, " ({object}, {})", self.path),
            (Some(object), true) => write!(f, " ({object})"),
            (None, false) => write!(f, " ({})", self.path),
            (None, true) => Ok(()),
        }
    }
}
