//! HTTP/1.1 messages as tests read them: tolerant on purpose, so that a wrong answer is shown and not hidden.
//!
//! Shares no code with the product's codec: a defect there must not be repeated here.

/// An answer as it came.
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// Status of the final head.
    pub status: u16,
    /// Statuses of the informational heads before it.
    pub informational: Vec<u16>,
    /// Status line and fields of the final head, with the empty line.
    pub head: String,
    /// Fields in order, names as sent.
    pub headers: Vec<(String, String)>,
    /// Body without framing.
    pub body: Vec<u8>,
    /// Trailer fields.
    pub trailers: Vec<(String, String)>,
}

impl Response {
    /// The first field of that name, without regard to case.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// Every value of that name.
    pub fn values(&self, name: &str) -> Vec<&str> {
        let of_name = self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        of_name.map(|(_, value)| value.as_str()).collect()
    }

    /// The body as text, invalid bytes replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// It is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.text()))
    }

    /// Whether the answer ends its connection by its own words.
    pub fn says_close(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// The first value of a name, without regard to case.
pub(crate) fn find<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// The length of a head including its empty line, when it is there.
pub(crate) fn head_length(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// Fields of a head or trailer section; its first line is skipped when `skip_first` says so.
pub(crate) fn fields(section: &str, skip_first: bool) -> Vec<(String, String)> {
    section
        .split("\r\n")
        .skip(usize::from(skip_first))
        .filter(|line| !line.is_empty())
        .map(|line| match line.split_once(':') {
            Some((name, value)) => (name.to_owned(), value.trim().to_owned()),
            None => (line.to_owned(), String::new()),
        })
        .collect()
}

/// What a chunked body is made of.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Chunked {
    /// Data without framing.
    pub data: Vec<u8>,
    /// Size lines as sent, the last one included.
    pub size_lines: Vec<String>,
    /// Trailer fields.
    pub trailers: Vec<(String, String)>,
    /// Bytes used, framing included.
    pub consumed: usize,
}

/// Decodes a chunked body; `Ok(None)` when it is not complete, an error when it is no such body.
///
/// # Errors
/// What is wrong.
pub fn parse_chunked(bytes: &[u8]) -> Result<Option<Chunked>, String> {
    let mut chunked = Chunked::default();
    let mut at = 0;
    loop {
        let Some(length) = bytes[at..].windows(2).position(|window| window == b"\r\n") else { return Ok(None) };
        let line = String::from_utf8_lossy(&bytes[at..at + length]).into_owned();
        let digits = line.split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(digits, 16).map_err(|_| format!("chunk size line {line:?}"))?;
        chunked.size_lines.push(line);
        at += length + 2;
        if size == 0 {
            break;
        }
        if bytes.len() < at + size + 2 {
            return Ok(None);
        }
        chunked.data.extend_from_slice(&bytes[at..at + size]);
        at += size;
        if &bytes[at..at + 2] != b"\r\n" {
            return Err(format!("chunk of {size} bytes is followed by {:?}", &bytes[at..at + 2]));
        }
        at += 2;
    }
    loop {
        let Some(length) = bytes[at..].windows(2).position(|window| window == b"\r\n") else { return Ok(None) };
        let line = String::from_utf8_lossy(&bytes[at..at + length]).into_owned();
        at += length + 2;
        if line.is_empty() {
            chunked.consumed = at;
            return Ok(Some(chunked));
        }
        chunked.trailers.extend(fields(&line, false));
    }
}

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

/// How the body of an answer with this status and these fields ends.
pub(crate) fn response_framing(status: u16, fields: &[(String, String)], to_head: bool) -> Framing {
    if to_head || status == 204 || status == 304 || (100..200).contains(&status) {
        return Framing::Length(0);
    }
    if find(fields, "transfer-encoding").is_some() {
        return Framing::Chunked;
    }
    match find(fields, "content-length").and_then(|value| value.parse().ok()) {
        Some(length) => Framing::Length(length),
        None => Framing::UntilClose,
    }
}

/// How the body of a request ends.
pub(crate) fn request_framing(fields: &[(String, String)]) -> Framing {
    if find(fields, "transfer-encoding").is_some() {
        return Framing::Chunked;
    }
    Framing::Length(find(fields, "content-length").and_then(|value| value.parse().ok()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunked_body_is_taken_apart() {
        let body = b"5;x=1\r\nhello\r\n0\r\nA: b\r\n\r\nNEXT";
        let chunked = parse_chunked(body).unwrap().unwrap();
        assert_eq!(chunked.data, b"hello");
        assert_eq!(chunked.size_lines, ["5;x=1", "0"]);
        assert_eq!(chunked.trailers, [("A".to_owned(), "b".to_owned())]);
        assert_eq!(&body[chunked.consumed..], b"NEXT");
        for cut in 0..chunked.consumed {
            assert_eq!(parse_chunked(&body[..cut]), Ok(None), "cut at {cut}");
        }
        assert!(parse_chunked(b"x\r\n").is_err());
        assert!(parse_chunked(b"1\r\nabc\r\n").is_err());
    }
}
