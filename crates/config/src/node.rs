//! Nodes of a configuration text, each with its place.
//!
//! Knows nothing of fields and kinds. Children and texts are shared (`Rc`), so that an alias costs no copy.
//! Read next: `tree.rs`, which builds nodes, and `field.rs`, which reads them.

use std::fmt;
use std::rc::Rc;

/// A stretch of characters on one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// Line, counted from 1.
    pub line: u32,
    /// Column in characters, counted from 1.
    pub column: u32,
    /// Characters on that line, at least 1.
    pub length: u32,
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// The scalar, the first key of a mapping, or the first character of a sequence.
    pub span: Span,
    /// What it is.
    pub value: Value,
}

/// The shapes of YAML and JSON.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// `null`, `~` or nothing.
    Null,
    /// A single text.
    Scalar(Scalar),
    /// A list.
    Sequence(Rc<[Node]>),
    /// Keys in the order of the text; unique.
    Mapping(Rc<[Entry]>),
}

/// A single text, as written (escapes resolved).
#[derive(Clone, Debug)]
pub(crate) struct Scalar {
    /// The text.
    pub text: Rc<str>,
    /// Written with quotes, as a block or with a string tag: never a number or a boolean.
    pub quoted: bool,
}

/// One key of a mapping.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// The key.
    pub key: Rc<str>,
    /// Where the key stands.
    pub key_span: Span,
    /// What it holds.
    pub value: Node,
}

impl Node {
    /// What the reader would call this value, with its article: `a list`, `the number 5`.
    pub fn describe(&self) -> String {
        match &self.value {
            Value::Null => "null".to_owned(),
            Value::Sequence(_) => "a list".to_owned(),
            Value::Mapping(_) => "a mapping".to_owned(),
            Value::Scalar(scalar) if scalar.quoted => "a string".to_owned(),
            Value::Scalar(scalar) => match &*scalar.text {
                text if is_boolean(text) => format!("the boolean {text}"),
                text if is_number(text) => format!("the number {text}"),
                _ => "a string".to_owned(),
            },
        }
    }

    /// The text of a scalar, shortened for a message.
    pub fn written(&self) -> Option<String> {
        match &self.value {
            Value::Scalar(scalar) => Some(shorten(&scalar.text)),
            Value::Null => Some("null".to_owned()),
            _ => None,
        }
    }

    /// The value of a key of a mapping.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Mapping(entries) => entries.iter().find(|entry| &*entry.key == key),
            _ => None,
        }
    }
}

/// At most 120 characters of `text`, for messages.
pub(crate) fn shorten(text: &str) -> String {
    match text.char_indices().nth(120) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// Whether a plain scalar is a boolean in the YAML 1.2 core schema.
pub(crate) fn is_boolean(text: &str) -> bool {
    matches!(text, "true" | "True" | "TRUE" | "false" | "False" | "FALSE")
}

/// Whether a plain scalar is a number in the YAML 1.2 core schema.
pub(crate) fn is_number(text: &str) -> bool {
    let body = text.strip_prefix(['-', '+']).unwrap_or(text);
    if let Some(digits) = body.strip_prefix("0x") {
        return !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    }
    if let Some(digits) = body.strip_prefix("0o") {
        return !digits.is_empty() && digits.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    }
    if matches!(text, ".nan" | ".NaN" | ".NAN") || matches!(body, ".inf" | ".Inf" | ".INF") {
        return true;
    }
    let starts_well = body.starts_with(|first: char| first.is_ascii_digit() || first == '.');
    starts_well && body.bytes().any(|byte| byte.is_ascii_digit()) && text.parse::<f64>().is_ok()
}

/// Where a value stands in its document, written as `spec.http[2].route[0].weight`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Path(Option<Rc<Step>>);

#[derive(Debug)]
struct Step {
    parent: Path,
    name: StepName,
}

#[derive(Debug)]
enum StepName {
    Field(Rc<str>),
    Index(usize),
}

impl Path {
    /// The path of a field or map key of this value.
    pub fn field(&self, name: &str) -> Self {
        Self(Some(Rc::new(Step { parent: self.clone(), name: StepName::Field(Rc::from(name)) })))
    }

    /// The path of an element of this list.
    pub fn index(&self, index: usize) -> Self {
        Self(Some(Rc::new(Step { parent: self.clone(), name: StepName::Index(index) })))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(step) = &self.0 else { return Ok(()) };
        step.parent.fmt(f)?;
        match &step.name {
            StepName::Index(index) => write!(f, "[{index}]"),
            StepName::Field(name) if needs_quotes(name) => write!(f, "[{:?}]", shorten(name)),
            StepName::Field(name) if step.parent.0.is_none() => f.write_str(name),
            StepName::Field(name) => write!(f, ".{name}"),
        }
    }
}

fn needs_quotes(name: &str) -> bool {
    name.is_empty() || name.len() > 120 || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_/$:@".contains(&b))
}

/// A value's stretch of text and its path; what a finding needs to point at it.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Where in the text.
    pub span: Span,
    /// Where in the document.
    pub path: Path,
}

impl Place {
    /// The same stretch of text, for a field that is missing there.
    pub fn field(&self, name: &str) -> Self {
        Self { span: self.span, path: self.path.field(name) }
    }
}
