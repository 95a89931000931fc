//! Hostile inputs as data: what is sent, and what must come of it.
//!
//! Written from the RFCs and from public descriptions of what broke other proxies. Every case names its row: A is the
//! framing of HTTP/1, B its request line and fields. The tables know no proxy: they say what is right for any. Read next:
//! `framing.rs` for the first rows, `judge.rs` for how a case is judged.

mod answers;
mod chunks;
mod fields;
mod floods;
mod framing;
mod http2;
mod http2_messages;
mod lines;
mod sequences;

pub use answers::{AnswerCase, AnswerMust, Ending, answers};
pub use floods::{Flood, Flooded, floods, pour};
pub use http2::{FrameCase, FrameMust, http2};

/// The rows that are data, and what each is about.
pub const ROWS: [(&str, &str); 40] = [
    ("A1", "Content-Length and Transfer-Encoding in one request"),
    ("A2", "Content-Lengths that differ"),
    ("A3", "Content-Lengths that are equal"),
    ("A4", "an empty Content-Length"),
    ("A5", "a Content-Length that is no plain number"),
    ("A6", "a Content-Length in another spelling"),
    ("A7", "names that are almost Content-Length"),
    ("A8", "lists of transfer codings"),
    ("A9", "transfer codings other than chunked"),
    ("A10", "Transfer-Encoding that only some servers recognise"),
    ("A11", "framing in HTTP/1.0"),
    ("A12", "chunk sizes that are no number"),
    ("A13", "ends of chunk size lines"),
    ("A14", "chunk extensions"),
    ("A15", "ends of chunks and of chunked bodies"),
    ("A16", "well-framed chunks"),
    ("A17", "trailers"),
    ("A18", "line ends and empty lines"),
    ("A19", "line ends inside fields"),
    ("A20", "folded lines"),
    ("A21", "bodies of methods that have none as a rule"),
    ("A22", "answers before the body was read"),
    ("A23", "expectations"),
    ("A24", "pipelines"),
    ("A25", "upgrades that are not granted"),
    ("A26", "fields that Connection names"),
    ("A27", "answers that are no answers"),
    ("A28", "answers that end at the wrong place"),
    ("A29", "answers before the end of the request"),
    ("B1", "hosts"),
    ("B2", "targets with an authority"),
    ("B3", "request lines"),
    ("B4", "methods"),
    ("B5", "sizes"),
    ("B6", "field names"),
    ("B7", "control bytes in values"),
    ("B8", "bytes beyond ASCII in values"),
    ("B9", "paths"),
    ("B11", "long lists"),
    ("B12", "what would spoil a log"),
];

/// The rows of HTTP/2 that are data, and what each is about.
pub const HTTP2_ROWS: [(&str, &str); 21] = [
    ("C1", "rules of RFC 9113 and RFC 7541"),
    ("C2", "rapid reset"),
    ("C3", "made-you-reset"),
    ("C4", "header blocks without end"),
    ("C5", "header compression"),
    ("C7", "floods of small frames"),
    ("C8", "windows, and DATA with next to nothing in it"),
    ("C9", "settings"),
    ("C10", "streams"),
    ("C11", "frames behind the end"),
    ("C12", "trailers"),
    ("C13", "lengths that do not fit"),
    ("C14", "fields of a connection"),
    ("C15", "pseudo-fields"),
    ("C16", "beginnings and ends"),
    ("D1", "line ends in what becomes a line"),
    ("D2", "two authorities"),
    ("D3", "framing that HTTP/2 has not"),
    ("D4", "names and values"),
    ("D5", "ends before the announced length"),
    ("D6", "extended CONNECT"),
];

/// A request inside another message. Whoever lets it out has been split.
pub(crate) const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";

/// Inputs of up to so many bytes are split at every offset.
const SHORT: usize = 260;
/// At so many offsets longer ones are split.
const SAMPLES: usize = 24;

/// A request as it must arrive at the origin, and its answer.
#[derive(Clone, Debug)]
pub struct Expected {
    /// Method.
    pub method: String,
    /// Target.
    pub target: String,
    /// Body without framing.
    pub body: Vec<u8>,
    /// Status of the answer; the request is looked at when it is 200.
    pub status: u16,
    /// The host, when it matters.
    pub host: Option<&'static str>,
    /// Fields that must have exactly this value.
    pub fields: Vec<(&'static str, String)>,
    /// Fields and trailers that may not be there.
    pub lacks: Vec<&'static str>,
}

impl Expected {
    /// A request that must arrive like this and be answered with 200.
    pub fn new(method: &str, target: &str, body: impl AsRef<[u8]>) -> Self {
        let (fields, lacks) = (Vec::new(), Vec::new());
        let (method, target) = (method.to_owned(), target.to_owned());
        Self { method, target, body: body.as_ref().to_vec(), status: 200, host: None, fields, lacks }
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.fields.push((name, value.to_owned()));
        self
    }

    fn without(mut self, names: &[&'static str]) -> Self {
        self.lacks.extend(names);
        self
    }

    fn host(mut self, host: &'static str) -> Self {
        self.host = Some(host);
        self
    }

    fn answered(mut self, status: u16) -> Self {
        self.status = status;
        self
    }
}

/// How a connection goes on behind the requests that are forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It serves the next request.
    Serves,
    /// It serves the next request or closes.
    ServesOrCloses,
    /// It closes.
    Closes,
    /// The next message is refused with one of these statuses before a byte of it reaches the origin, and it closes.
    Refused(&'static [u16]),
    /// The next message turns out to be malformed in its body: it never reaches the origin complete, the client is told
    /// with a status from 400 up or is cut off, and it closes.
    Broken,
}

/// One input and what must come of it.
#[derive(Clone, Debug)]
pub struct Case {
    /// Row of the checklist.
    pub row: &'static str,
    /// What is special about it.
    pub name: String,
    /// What is sent.
    pub bytes: Vec<u8>,
    /// Whether the client says behind it that nothing more comes.
    pub finishes: bool,
    /// Requests that must arrive, in order.
    pub forwarded: Vec<Expected>,
    /// What happens behind them.
    pub end: End,
    /// Instead of a refusal, these requests may arrive as well.
    pub or_forwarded: Option<Vec<Expected>>,
}

impl Case {
    fn or(mut self, requests: Vec<Expected>) -> Self {
        self.or_forwarded = Some(requests);
        self
    }

    fn finishing(mut self) -> Self {
        self.finishes = true;
        self
    }

    fn broken(mut self) -> Self {
        self.end = End::Broken;
        self
    }

    fn ending(mut self, end: End) -> Self {
        self.end = end;
        self
    }

    /// The ways in which it is sent: whole, in two pieces split at each offset, and byte by byte. Long inputs are split
    /// at a sample of offsets.
    pub fn splits(&self) -> Vec<Split> {
        let length = self.bytes.len();
        let step = if length <= SHORT { 1 } else { length.div_ceil(SAMPLES) };
        let mut splits = vec![Split::Whole];
        splits.extend((1..length).step_by(step).map(Split::At));
        if length <= SHORT && length > 1 {
            splits.push(Split::Bytes);
        }
        splits
    }
}

/// In which pieces an input is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// In one.
    Whole,
    /// In two, the second beginning here.
    At(usize),
    /// In pieces of one byte.
    Bytes,
}

impl Split {
    /// Where pieces of `length` bytes begin, the first left out.
    pub fn offsets(self, length: usize) -> Vec<usize> {
        match self {
            Self::Whole => Vec::new(),
            Self::At(offset) => vec![offset],
            Self::Bytes => (1..length).collect(),
        }
    }
}

/// A case that must be refused with 400.
fn refused(row: &'static str, name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Case {
    refused_with(row, name, bytes, &[400])
}

/// A case that must be refused with one of these statuses.
fn refused_with(
    row: &'static str,
    name: impl Into<String>,
    bytes: impl Into<Vec<u8>>,
    statuses: &'static [u16],
) -> Case {
    let (name, bytes) = (name.into(), bytes.into());
    let end = End::Refused(statuses);
    Case { row, name, bytes, finishes: false, forwarded: Vec::new(), end, or_forwarded: None }
}

/// A case that must be forwarded as these requests, on a connection that serves on.
fn forwarded(row: &'static str, name: impl Into<String>, bytes: impl Into<Vec<u8>>, requests: Vec<Expected>) -> Case {
    let (name, bytes) = (name.into(), bytes.into());
    Case { row, name, bytes, finishes: false, forwarded: requests, end: End::Serves, or_forwarded: None }
}

/// A GET with these lines.
fn get(lines: &str) -> Vec<u8> {
    latin1(&format!("GET /p HTTP/1.1\r\nHost: x\r\n{lines}\r\n"))
}

/// A POST with these lines and this body.
fn post(lines: &str, body: &str) -> Vec<u8> {
    latin1(&format!("POST /p HTTP/1.1\r\nHost: x\r\n{lines}\r\n{body}"))
}

/// Each character as one byte.
fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|one| u8::try_from(u32::from(one)).unwrap_or(b'?')).collect()
}

/// All cases whose input is a request, by row.
pub fn requests() -> Vec<Case> {
    let mut cases = framing::cases();
    cases.extend(chunks::cases());
    cases.extend(sequences::cases());
    cases.extend(lines::cases());
    cases.extend(fields::cases());
    cases
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_cases_send_the_same_bytes_and_no_two_of_a_row_have_the_same_name() {
        let (mut payloads, mut names) = (BTreeSet::new(), BTreeSet::new());
        for case in requests() {
            assert!(names.insert((case.row, case.name.clone())), "{} {}", case.row, case.name);
            assert!(payloads.insert(case.bytes.clone()), "{} {}", case.row, case.name);
        }
        for case in answers() {
            assert!(names.insert((case.row, case.name.to_owned())), "{} {}", case.row, case.name);
        }
    }

    #[test]
    fn every_row_has_its_title_and_its_cases() {
        let used: BTreeSet<&str> =
            requests().iter().map(|case| case.row).chain(answers().iter().map(|case| case.row)).collect();
        assert_eq!(used, ROWS.iter().map(|(row, _)| *row).collect());
    }

    #[test]
    fn splits_cover_every_offset_of_what_is_short() {
        for case in requests() {
            let length = case.bytes.len();
            let splits = case.splits();
            assert_eq!(splits[0], Split::Whole);
            if length <= SHORT {
                assert_eq!(splits.len(), length + usize::from(length > 1), "{} {}", case.row, case.name);
            }
            assert!(splits.iter().all(|split| split.offsets(length).iter().all(|offset| (1..length).contains(offset))));
        }
    }
}
