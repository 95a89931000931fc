//! Lines of the text access log, taken apart word by word.

/// One line of the access log in Istio's default text format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextRecord {
    /// The words in order: brackets and quotes belong to the format and are taken off.
    pub words: Vec<String>,
}

impl TextRecord {
    /// Takes a line apart: words are separated by blanks, except within quotes and brackets.
    ///
    /// # Panics
    /// A quote or bracket is not closed, or two words are not separated by exactly one blank.
    pub fn parse(line: &str) -> Self {
        let mut words = Vec::new();
        let mut rest = line;
        while !rest.is_empty() {
            let (word, tail) = match rest.as_bytes()[0] {
                b'[' => {
                    let end = rest.find(']').unwrap_or_else(|| panic!("no closing bracket: {line}"));
                    // An IPv6 address has a port behind its bracket.
                    match rest[end + 1..].strip_prefix(':') {
                        Some(_) => rest.split_at(rest.find(' ').unwrap_or(rest.len())),
                        None => (&rest[1..end], &rest[end + 1..]),
                    }
                }
                b'"' => {
                    let end = closing_quote(&rest[1..]).unwrap_or_else(|| panic!("no closing quote: {line}"));
                    (&rest[1..=end], &rest[end + 2..])
                }
                _ if rest.starts_with("reason=\"") => (rest, ""),
                _ => rest.split_at(rest.find(' ').unwrap_or(rest.len())),
            };
            words.push(word.to_owned());
            rest = match tail.strip_prefix(' ') {
                Some(tail) => tail,
                None if tail.is_empty() => tail,
                None => panic!("words are not separated by one blank: {line}"),
            };
        }
        Self { words }
    }

    /// The word at a place of the format, counted from 0.
    ///
    /// # Panics
    /// The line is shorter.
    fn word(&self, index: usize) -> &str {
        self.words.get(index).unwrap_or_else(|| panic!("no word {index} in {:?}", self.words))
    }

    /// Start of the request in UTC.
    pub fn start_time(&self) -> &str {
        self.word(0)
    }

    /// Method, path and protocol.
    pub fn request(&self) -> &str {
        self.word(1)
    }

    /// `%RESPONSE_CODE%`.
    pub fn status(&self) -> u16 {
        self.word(2).parse().unwrap_or_else(|_| panic!("no status in {:?}", self.words))
    }

    /// `%RESPONSE_FLAGS%`.
    pub fn flags(&self) -> &str {
        self.word(3)
    }

    /// `%RESPONSE_CODE_DETAILS%`.
    pub fn details(&self) -> &str {
        self.word(4)
    }

    /// `%BYTES_RECEIVED%`.
    pub fn bytes_received(&self) -> &str {
        self.word(7)
    }

    /// `%BYTES_SENT%`.
    pub fn bytes_sent(&self) -> &str {
        self.word(8)
    }

    /// `%REQ(X-REQUEST-ID)%`.
    pub fn request_id(&self) -> &str {
        self.word(13)
    }

    /// `%REQ(:AUTHORITY)%`.
    pub fn authority(&self) -> &str {
        self.word(14)
    }

    /// `%UPSTREAM_HOST%`.
    pub fn upstream_host(&self) -> &str {
        self.word(15)
    }

    /// `%UPSTREAM_CLUSTER%`.
    pub fn upstream_cluster(&self) -> &str {
        self.word(16)
    }

    /// `%ROUTE_NAME%`.
    pub fn route_name(&self) -> &str {
        self.word(21)
    }

    /// What stands behind the default format: the reason of a failure.
    pub fn reason(&self) -> Option<&str> {
        self.words.get(22).and_then(|word| word.strip_prefix("reason=\"")).and_then(|word| word.strip_suffix('"'))
    }
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'\\' if !escaped => escaped = true,
            b'"' if !escaped => return Some(at),
            _ => escaped = false,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_brackets_hold_words_together() {
        let line =
            "[2026-11-23T16:55:04.123Z] \"GET /a\\\"b HTTP/1.1\" 503 UF - [::1]:80 x reason=\"no \\\"v1\\\" left\"";
        let words = TextRecord::parse(line).words;
        assert_eq!(words[0], "2026-11-23T16:55:04.123Z");
        assert_eq!(words[1], "GET /a\\\"b HTTP/1.1");
        assert_eq!(&words[2..], ["503", "UF", "-", "[::1]:80", "x", "reason=\"no \\\"v1\\\" left\""]);
    }
}
