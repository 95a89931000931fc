//! Requests as the most tolerant server would read them, with everything about them that another server could read in
//! another way.
//!
//! A proxy must write requests of which there is only one reading. This reader accepts whatever any server is known to
//! accept, so that it finds a request that was smuggled, and notes as a [fault](Reading::faults) each byte that a strict
//! proxy would not have written. It shares no code with the product's codec. Read next: `recorder.rs`.

use std::fmt::Write as _;

/// Fields that may not come as trailers: framing, routing, credentials.
const NO_TRAILERS: [&str; 6] = ["content-length", "transfer-encoding", "host", "authorization", "cookie", "te"];

/// One request, and what is wrong with its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Method.
    pub method: String,
    /// Target as it came.
    pub target: String,
    /// Fields in order: names as sent, values without white space around them, each byte as one character.
    pub fields: Vec<(String, String)>,
    /// Body without framing.
    pub body: Vec<u8>,
    /// Trailer fields.
    pub trailers: Vec<(String, String)>,
    /// Bytes that it took.
    pub length: usize,
    /// What no proxy should have written.
    pub faults: Vec<String>,
}

impl Reading {
    /// Reads the request at the beginning of `bytes`; `None` when its end is not there.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader { bytes, at: 0, old: false, reading: Reading::default() };
        reader.request()?;
        reader.reading.length = reader.at;
        Some(reader.reading)
    }

    /// Every value of a name, without regard to case.
    pub fn values(&self, name: &str) -> Vec<&str> {
        let of_name = self.fields.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        of_name.map(|(_, value)| value.as_str()).collect()
    }

    fn fault(&mut self, what: &str, about: &str) {
        let mut fault = what.to_owned();
        let _ = write!(fault, ": {:?}", about.chars().take(60).collect::<String>());
        self.faults.push(fault);
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The version is HTTP/1.0.
    old: bool,
    reading: Reading,
}

impl Reader<'_> {
    fn request(&mut self) -> Option<()> {
        let mut line = self.line()?;
        while line.is_empty() {
            self.reading.fault("an empty line before the request", "");
            line = self.line()?;
        }
        self.request_line(&line);
        while let Some(field) = self.field()? {
            self.reading.fields.push(field);
        }
        let hosts = self.reading.values("host").len();
        if hosts > 1 || (hosts == 0 && !self.old) {
            let hosts = self.reading.values("host").join(" | ");
            self.reading.fault("not exactly one Host", &hosts);
        }
        self.body()
    }

    /// The next line without its end, which is LF; CR before it is noted when it is missing.
    fn line(&mut self) -> Option<String> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        let line: String = rest[..end].iter().map(|byte| char::from(*byte)).collect();
        self.at += end + 1;
        let Some(line) = line.strip_suffix('\r') else {
            self.reading.fault("a line ends with LF alone", &line);
            return Some(line);
        };
        Some(line.to_owned())
    }

    fn request_line(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let canonical = matches!(words.as_slice(), [method, target, "HTTP/1.1" | "HTTP/1.0"]
            if is_token(method) && !target.is_empty() && target.chars().all(|one| ('\x21'..'\x7f').contains(&one) && one != '#'));
        if !canonical {
            self.reading.fault("a request line that has other readings", line);
        }
        self.old = line.ends_with("HTTP/1.0");
        let mut words = line.split([' ', '\t', '\x0b', '\x0c', '\r']).filter(|word| !word.is_empty());
        self.reading.method = words.next().unwrap_or_default().to_owned();
        self.reading.target = words.next().unwrap_or_default().to_owned();
    }

    /// The next field; the inner `None` at the empty line.
    #[allow(clippy::option_option, reason = "not there yet, and not there at all")]
    fn field(&mut self) -> Option<Option<(String, String)>> {
        let line = self.line()?;
        if line.is_empty() {
            return Some(None);
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        if !is_token(name) {
            self.reading.fault("a field name that is none", &line);
        }
        if name.contains('_') && ["content-length", "transfer-encoding"].contains(&alias(name).as_str()) {
            self.reading.fault("an alias of a framing field", &line);
        }
        if value.chars().any(|one| (one < ' ' && one != '\t') || one == '\x7f') {
            self.reading.fault("a control byte in a value", &line);
        }
        // A tolerant server reads a name without what surrounds it, and an underscore as a hyphen.
        Some(Some((name.trim().to_owned(), value.trim_matches([' ', '\t', '\r', '\x0b', '\x0c']).to_owned())))
    }

    fn body(&mut self) -> Option<()> {
        let values = |reading: &Reading, wanted: &str| -> Vec<String> {
            let of_name = reading.fields.iter().filter(|(name, _)| alias(name) == wanted);
            of_name.map(|(_, value)| value.clone()).collect()
        };
        let (lengths, codings) = (values(&self.reading, "content-length"), values(&self.reading, "transfer-encoding"));
        if lengths.len() + codings.len() > 1 {
            self.reading.fault("two framings", &format!("{lengths:?} {codings:?}"));
        }
        if let Some(coding) = codings.first() {
            if !coding.eq_ignore_ascii_case("chunked") || self.old {
                self.reading.fault("a coding other than chunked", coding);
            }
            return self.chunks();
        }
        let Some(length) = lengths.first() else { return Some(()) };
        if length.starts_with('+') || length.parse::<u64>().is_err() {
            self.reading.fault("a length that is no plain number", length);
        }
        let length = length.trim_start_matches('+').parse().unwrap_or(0);
        let end = self.at.checked_add(length)?;
        self.reading.body = self.bytes.get(self.at..end)?.to_vec();
        self.at = end;
        Some(())
    }

    fn chunks(&mut self) -> Option<()> {
        loop {
            let line = self.line()?;
            let digits = line.trim_start();
            let digits = &digits[..digits.find(|one: char| !one.is_ascii_hexdigit()).unwrap_or(digits.len())];
            if digits != line || digits.is_empty() {
                self.reading.fault("a chunk size with something beside it", &line);
            }
            let size = usize::from_str_radix(digits, 16).unwrap_or(0);
            if size == 0 {
                break;
            }
            let end = self.at.checked_add(size)?;
            let data = self.bytes.get(self.at..end)?;
            self.reading.body.extend_from_slice(data);
            self.at = end;
            let behind = self.line()?;
            if !behind.is_empty() {
                self.reading.fault("a chunk is longer than its size", &behind);
            }
        }
        while let Some((name, value)) = self.field()? {
            if NO_TRAILERS.contains(&alias(&name).as_str()) {
                self.reading.fault("a trailer that may not be one", &name);
            }
            self.reading.trailers.push((name, value));
        }
        Some(())
    }
}

/// The name under which a tolerant server knows a field.
fn alias(name: &str) -> String {
    let known: String = name.chars().filter(|one| one.is_ascii_graphic()).collect();
    known.to_ascii_lowercase().replace('_', "-")
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|one| one.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(one))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Reading {
        Reading::of(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_canonical_request_has_no_fault_and_no_byte_too_many() {
        let sized = "POST /a?b HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\nx: \u{e4}\r\n\r\nhelloGET";
        let reading = read(sized);
        assert_eq!((reading.method.as_str(), reading.target.as_str()), ("POST", "/a?b"));
        assert_eq!((reading.body.as_slice(), reading.faults.len()), (&b"hello"[..], 0));
        assert_eq!(&sized.as_bytes()[reading.length..], b"GET");
        let chunked =
            "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n";
        let reading = read(chunked);
        assert_eq!((reading.body.as_slice(), reading.faults.len()), (&b"abc"[..], 0), "{:?}", reading.faults);
        assert_eq!(reading.length, chunked.len());
        for cut in 0..chunked.len() {
            assert_eq!(Reading::of(&chunked.as_bytes()[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn every_byte_that_has_two_readings_is_a_fault() {
        for text in [
            "\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\n",
            "GET / HTTP/1.1\nhost: x\r\n\r\n",
            "GET  / HTTP/1.1\r\nhost: x\r\n\r\n",
            "GET / HTTP/1.2\r\nhost: x\r\n\r\n",
            "GET / HTTP/1.0\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "GET /#a HTTP/1.1\r\nhost: x\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: x\r\nhost: x\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: x\r\na b: c\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: x\r\na: b\r\n c\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: x\r\na: b\0c\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: x\r\na: b\rc: d\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: x\r\ncontent_length: 0\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: x\r\ncontent-length: +0\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\ncontent-length: 0\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0;a=b\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\nhost: y\r\n\r\n",
        ] {
            assert!(!read(text).faults.is_empty(), "{text:?}");
        }
    }
}
