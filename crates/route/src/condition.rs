//! One condition of a match, compiled: what part of the head it looks at and what it wants to see there. Knows no order
//! and no index. Read next: `table.rs`.
//!
//! Values are bytes: header values need not be text. Several values of one header are joined with `,` before they are
//! compared, as Envoy does. Framing and hop-by-hop fields are not in the header list of a canonical head, so conditions
//! on those that a proxy keeps for routing (`upgrade`, `content-length`, ...) look at the typed fields.

use std::borrow::Cow;
use std::io::Write;

use meshwright_message::{BodyLength, HeaderName, RequestHead, Scheme};
use meshwright_model::{HeaderMatch, StringMatch};
use regex::bytes::Regex;

use crate::Site;
use crate::explain::ConditionKind;
use crate::regular_expression::{PatternError, whole};

/// What a value must be.
#[derive(Debug)]
pub(crate) enum Expectation {
    /// Anything, as long as it is there.
    Present,
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    ExactIgnoringCase(Box<[u8]>),
    PrefixIgnoringCase(Box<[u8]>),
    Regex(Box<Regex>),
}

impl Expectation {
    /// Compiles a string match. `ignore_case` concerns exact and prefix; `ignore_regex_case` regular expressions.
    pub(crate) fn of_string(
        expected: &StringMatch,
        ignore_case: bool,
        ignore_regex_case: bool,
    ) -> Result<Self, PatternError> {
        let bytes = |text: &str| text.as_bytes().into();
        Ok(match (expected, ignore_case) {
            (StringMatch::Exact(text), false) => Self::Exact(bytes(text)),
            (StringMatch::Exact(text), true) => Self::ExactIgnoringCase(bytes(text)),
            (StringMatch::Prefix(text), false) => Self::Prefix(bytes(text)),
            (StringMatch::Prefix(text), true) => Self::PrefixIgnoringCase(bytes(text)),
            (StringMatch::Regex(pattern), _) => Self::Regex(Box::new(whole(pattern, ignore_regex_case)?)),
        })
    }

    fn of_header(expected: &HeaderMatch, ignore_case: bool) -> Result<Self, PatternError> {
        match expected {
            HeaderMatch::Present => Ok(Self::Present),
            HeaderMatch::Value(value) => Self::of_string(value, ignore_case, ignore_case),
        }
    }

    /// Whether a value that is there is as expected.
    pub(crate) fn accepts(&self, value: &[u8]) -> bool {
        match self {
            Self::Present => true,
            Self::Exact(text) => value == &**text,
            Self::Prefix(text) => value.starts_with(text),
            Self::ExactIgnoringCase(text) => value.eq_ignore_ascii_case(text),
            Self::PrefixIgnoringCase(text) => {
                value.get(..text.len()).is_some_and(|start| start.eq_ignore_ascii_case(text))
            }
            Self::Regex(regex) => regex.is_match(value),
        }
    }

    /// For people.
    pub(crate) fn describe(&self) -> String {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match self {
            Self::Present => "present".to_owned(),
            Self::Exact(value) => format!("exact {:?}", text(value)),
            Self::Prefix(value) => format!("prefix {:?}", text(value)),
            Self::ExactIgnoringCase(value) => format!("exact {:?} in any case", text(value)),
            Self::PrefixIgnoringCase(value) => format!("prefix {:?} in any case", text(value)),
            Self::Regex(regex) => format!("regex {:?}", regex.as_str()),
        }
    }
}

/// Where a value is taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Subject {
    Method,
    Scheme,
    Authority,
    /// `:path`: path and query.
    Target,
    Header(Box<str>),
    /// A header that the codec turned into a typed field.
    Typed(HeaderName),
    Query(Box<str>),
}

/// A condition besides the path of `uri`.
#[derive(Debug)]
pub(crate) enum Condition {
    /// The request came to this port.
    Port(u16),
    /// A value is as expected; with `negated` it is not, or is not there.
    Value { kind: ConditionKind, subject: Subjected, expectation: Expectation, negated: bool },
}

/// Keeps [`Subject`] private to this file.
#[derive(Debug)]
pub(crate) struct Subjected(Subject);

impl Condition {
    pub(crate) fn method(expected: &StringMatch) -> Result<Self, PatternError> {
        let expectation = Expectation::of_string(expected, false, false)?;
        Ok(Self::value(ConditionKind::Method, Subject::Method, expectation))
    }

    pub(crate) fn scheme(expected: &StringMatch) -> Result<Self, PatternError> {
        let expectation = Expectation::of_string(expected, false, false)?;
        Ok(Self::value(ConditionKind::Scheme, Subject::Scheme, expectation))
    }

    /// Host names have no case, so none is regarded.
    pub(crate) fn authority(expected: &StringMatch) -> Result<Self, PatternError> {
        let expectation = Expectation::of_string(expected, true, true)?;
        Ok(Self::value(ConditionKind::Authority, Subject::Authority, expectation))
    }

    pub(crate) fn header(name: &str, expected: &HeaderMatch, negated: bool) -> Result<Self, PatternError> {
        let subject = match name.to_ascii_lowercase().as_str() {
            ":method" => Subject::Method,
            ":scheme" => Subject::Scheme,
            ":authority" | "host" => Subject::Authority,
            ":path" => Subject::Target,
            name => match HeaderName::recognise(name.as_bytes()) {
                id @ (HeaderName::Upgrade
                | HeaderName::Connection
                | HeaderName::ContentLength
                | HeaderName::TransferEncoding
                | HeaderName::Te
                | HeaderName::Expect) => Subject::Typed(id),
                _ => Subject::Header(name.into()),
            },
        };
        let expectation = Expectation::of_header(expected, subject == Subject::Authority)?;
        let kind = if negated { ConditionKind::WithoutHeader(name.into()) } else { ConditionKind::Header(name.into()) };
        Ok(Self::Value { kind, subject: Subjected(subject), expectation, negated })
    }

    pub(crate) fn query(name: &str, expected: &HeaderMatch) -> Result<Self, PatternError> {
        let expectation = Expectation::of_header(expected, false)?;
        Ok(Self::value(ConditionKind::Query(name.into()), Subject::Query(name.into()), expectation))
    }

    fn value(kind: ConditionKind, subject: Subject, expectation: Expectation) -> Self {
        Self::Value { kind, subject: Subjected(subject), expectation, negated: false }
    }

    /// Whether the condition holds.
    pub(crate) fn holds(&self, head: &RequestHead, site: &Site) -> bool {
        match self {
            Self::Port(port) => site.port == *port,
            Self::Value { subject, expectation, negated, .. } => {
                let found = with_value(&subject.0, head, site, |value| value.is_some_and(|v| expectation.accepts(v)));
                found != *negated
            }
        }
    }

    /// What it is about.
    pub(crate) fn kind(&self) -> ConditionKind {
        match self {
            Self::Port(_) => ConditionKind::Port,
            Self::Value { kind, .. } => kind.clone(),
        }
    }

    /// What it expects, for people.
    pub(crate) fn expected(&self) -> String {
        match self {
            Self::Port(port) => format!("exact {port}"),
            Self::Value { expectation: Expectation::Present, negated: true, .. } => "absent".to_owned(),
            Self::Value { expectation, negated, .. } => {
                format!("{}{}", if *negated { "not " } else { "" }, expectation.describe())
            }
        }
    }

    /// What the head has there, for people.
    pub(crate) fn found(&self, head: &RequestHead, site: &Site) -> Option<String> {
        match self {
            Self::Port(_) => Some(site.port.to_string()),
            Self::Value { subject, .. } => with_value(&subject.0, head, site, |value| {
                value.map(|value| String::from_utf8_lossy(value).into_owned())
            }),
        }
    }
}

/// Hands the value of `subject` to `look`. Allocates only when a header has several values that must be joined.
fn with_value<R>(subject: &Subject, head: &RequestHead, site: &Site, look: impl FnOnce(Option<&[u8]>) -> R) -> R {
    match subject {
        Subject::Method => look(Some(head.method.as_str().as_bytes())),
        Subject::Scheme => look(Some(Scheme::as_str(site.scheme).as_bytes())),
        Subject::Authority => look(Some(head.authority.as_bytes()).filter(|authority| !authority.is_empty())),
        Subject::Target => look(Some(head.target.as_bytes())),
        Subject::Header(name) => look(joined(head, name).as_deref()),
        Subject::Query(name) => look(head.query().and_then(|query| parameter(query, name)).map(str::as_bytes)),
        Subject::Typed(id) => {
            let mut digits = [0; 20];
            look(typed(*id, head, &mut digits))
        }
    }
}

fn joined<'a>(head: &'a RequestHead, name: &'a str) -> Option<Cow<'a, [u8]>> {
    let mut values = head.headers.values(name);
    let first = values.next()?;
    let Some(second) = values.next() else { return Some(Cow::Borrowed(first)) };
    let mut all = [first, b",", second].concat();
    for value in values {
        all.push(b',');
        all.extend_from_slice(value);
    }
    Some(Cow::Owned(all))
}

/// The value that a typed field had as a header. `connection` is there only as part of an upgrade: everything else in
/// it was for us and not for routing.
fn typed<'a>(id: HeaderName, head: &'a RequestHead, digits: &'a mut [u8; 20]) -> Option<&'a [u8]> {
    match id {
        HeaderName::Upgrade => head.upgrade.as_deref().map(str::as_bytes),
        HeaderName::Connection => head.upgrade.as_ref().map(|_| &b"upgrade"[..]),
        HeaderName::TransferEncoding => (head.body == BodyLength::Chunked).then_some(b"chunked"),
        HeaderName::Te => head.te_trailers.then_some(b"trailers"),
        HeaderName::Expect => head.expect_continue.then_some(b"100-continue"),
        HeaderName::ContentLength => {
            let BodyLength::Sized(length) = head.body else { return None };
            let mut rest = &mut digits[..];
            // Twenty digits hold every u64.
            write!(rest, "{length}").ok()?;
            let unused = rest.len();
            Some(&digits[..digits.len() - unused])
        }
        _ => None,
    }
}

/// The first occurrence of a parameter, as sent; a parameter without `=` has the empty value.
fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| match pair.split_once('=') {
        Some((key, value)) => (key == name).then_some(value),
        None => (pair == name).then_some(""),
    })
}
