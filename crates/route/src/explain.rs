//! Why a rule matched or did not, as data. Rendering belongs to whoever asked. Read next: `table.rs`.

use std::fmt;

/// What a condition is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ConditionKind {
    /// `uri`
    Uri,
    /// `port`
    Port,
    /// `scheme`
    Scheme,
    /// `method`
    Method,
    /// `authority`
    Authority,
    /// `headers`, with the name.
    Header(Box<str>),
    /// `withoutHeaders`, with the name.
    WithoutHeader(Box<str>),
    /// `queryParams`, with the name.
    Query(Box<str>),
}

impl fmt::Display for ConditionKind {
    /// As the field is spelled in a VirtualService.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uri => f.write_str("uri"),
            Self::Port => f.write_str("port"),
            Self::Scheme => f.write_str("scheme"),
            Self::Method => f.write_str("method"),
            Self::Authority => f.write_str("authority"),
            Self::Header(name) => write!(f, "headers[{name}]"),
            Self::WithoutHeader(name) => write!(f, "withoutHeaders[{name}]"),
            Self::Query(name) => write!(f, "queryParams[{name}]"),
        }
    }
}

/// What became of one alternative of one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Index of the rule.
    pub rule: usize,
    /// Index of the alternative in the rule; `None` for a rule without conditions.
    pub alternative: Option<usize>,
    /// Matched or not.
    pub outcome: ReasonOutcome,
}

/// Whether an alternative matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReasonOutcome {
    /// Every condition holds; what comes behind it is not looked at.
    Matched,
    /// These conditions do not hold; never empty.
    Mismatched(Vec<Mismatch>),
}

/// A condition that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// What it is about.
    pub condition: ConditionKind,
    /// What is wanted, for example `prefix "/users"` or `absent`.
    pub expected: String,
    /// What the request has; `None` when it has nothing there.
    pub found: Option<String>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, found ", self.condition, self.expected)?;
        match &self.found {
            Some(found) => write!(f, "{found:?}"),
            None => f.write_str("nothing"),
        }
    }
}
