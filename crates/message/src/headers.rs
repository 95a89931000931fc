//! The header list: one buffer, one array of places in it, reused from request to request.

macro_rules! header_names {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)*) => {
        /// Headers that the proxy itself looks at; everything else is [`HeaderName::Other`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        #[allow(missing_docs, reason = "each variant is the header of that name")]
        pub enum HeaderName {
            $($(#[$doc])* $variant,)*
            /// Any header that is not in this list.
            Other,
        }

        impl HeaderName {
            /// The lower-case name; empty for [`HeaderName::Other`].
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                    Self::Other => "",
                }
            }

            /// Every name in the list, [`HeaderName::Other`] left out.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];
        }
    };
}

header_names! {
    Host = "host",
    Accept = "accept",
    UserAgent = "user-agent",
    ContentType = "content-type",
    ContentLength = "content-length",
    TransferEncoding = "transfer-encoding",
    Connection = "connection",
    KeepAlive = "keep-alive",
    ProxyConnection = "proxy-connection",
    ProxyAuthenticate = "proxy-authenticate",
    ProxyAuthorization = "proxy-authorization",
    Te = "te",
    Trailer = "trailer",
    Upgrade = "upgrade",
    Expect = "expect",
    Date = "date",
    Server = "server",
    Authorization = "authorization",
    Cookie = "cookie",
    SetCookie = "set-cookie",
    Location = "location",
    Http2Settings = "http2-settings",
    XForwardedFor = "x-forwarded-for",
    XForwardedProto = "x-forwarded-proto",
    XForwardedHost = "x-forwarded-host",
    XRequestId = "x-request-id",
    XEnvoyOriginalPath = "x-envoy-original-path",
    XEnvoyAttemptCount = "x-envoy-attempt-count",
    XEnvoyOverloaded = "x-envoy-overloaded",
    XEnvoyRatelimited = "x-envoy-ratelimited",
    XEnvoyExpectedRqTimeoutMs = "x-envoy-expected-rq-timeout-ms",
    XEnvoyUpstreamServiceTime = "x-envoy-upstream-service-time",
    GrpcStatus = "grpc-status",
}

impl HeaderName {
    /// Recognises a name without regard to case.
    ///
    /// Length and first letter, and once the ninth, leave one candidate at most: a name costs one comparison.
    #[inline]
    pub fn recognise(name: &[u8]) -> Self {
        let Some(first) = name.first() else { return Self::Other };
        let candidate = match (name.len(), first.to_ascii_lowercase()) {
            (2, b't') => Self::Te,
            (4, b'd') => Self::Date,
            (4, b'h') => Self::Host,
            (6, b'a') => Self::Accept,
            (6, b'c') => Self::Cookie,
            (6, b'e') => Self::Expect,
            (6, b's') => Self::Server,
            (7, b't') => Self::Trailer,
            (7, b'u') => Self::Upgrade,
            (8, b'l') => Self::Location,
            (10, b'c') => Self::Connection,
            (10, b'k') => Self::KeepAlive,
            (10, b's') => Self::SetCookie,
            (10, b'u') => Self::UserAgent,
            (11, b'g') => Self::GrpcStatus,
            (12, b'c') => Self::ContentType,
            (12, b'x') => Self::XRequestId,
            (13, b'a') => Self::Authorization,
            (14, b'c') => Self::ContentLength,
            (14, b'h') => Self::Http2Settings,
            (15, b'x') => Self::XForwardedFor,
            (16, b'p') => Self::ProxyConnection,
            (16, b'x') => Self::XForwardedHost,
            (17, b't') => Self::TransferEncoding,
            (17, b'x') => Self::XForwardedProto,
            (18, b'p') => Self::ProxyAuthenticate,
            (18, b'x') => Self::XEnvoyOverloaded,
            (19, b'p') => Self::ProxyAuthorization,
            (19, b'x') => Self::XEnvoyRatelimited,
            (21, b'x') if name[8].eq_ignore_ascii_case(&b'a') => Self::XEnvoyAttemptCount,
            (21, b'x') => Self::XEnvoyOriginalPath,
            (30, b'x') => Self::XEnvoyExpectedRqTimeoutMs,
            (29, b'x') => Self::XEnvoyUpstreamServiceTime,
            _ => return Self::Other,
        };
        if is_spelling_of(name, candidate.as_str().as_bytes()) { candidate } else { Self::Other }
    }
}

/// Whether `name` is `lower` without regard to case, eight bytes at a time. Both have the same length; `lower` is a header
/// name in lower case, `name` a token (RFC 9110, section 5.6.2): setting the bit that tells the cases apart then makes no
/// other byte of a token into a letter, a digit or a dash.
fn is_spelling_of(name: &[u8], lower: &[u8]) -> bool {
    const CASE: u64 = u64::from_ne_bytes([0x20; 8]);
    let same = |a: &[u8; 8], b: &[u8; 8]| u64::from_ne_bytes(*a) | CASE == u64::from_ne_bytes(*b);
    let (Some(last), Some(lower_last)) = (name.last_chunk::<8>(), lower.last_chunk::<8>()) else {
        return name.iter().zip(lower).all(|(a, b)| a | 0x20 == *b);
    };
    // The last eight bytes overlap the words before them.
    let (words, lower_words) = (name.as_chunks::<8>().0, lower.as_chunks::<8>().0);
    words.iter().zip(lower_words).all(|(a, b)| same(a, b)) && same(last, lower_last)
}

#[derive(Clone, Copy, Debug)]
struct Field {
    start: u32,
    name_len: u16,
    id: HeaderName,
    value_len: u32,
}

impl Field {
    /// Where the line behind this one begins.
    fn end(&self) -> usize {
        self.start as usize + self.name_len as usize + COLON.len() + self.value_len as usize + END.len()
    }
}

/// Bytes between a name and its value.
const COLON: &[u8] = b": ";
/// Bytes behind a value.
const END: &[u8] = b"\r\n";

/// An ordered list of header fields. Names keep the case they came with and are compared without regard to it.
///
/// Fields are kept as the lines that HTTP/1 writes, one behind the other, so that a list which nobody changed is copied
/// to an output as one run of bytes.
#[derive(Clone, Debug, Default)]
pub struct HeaderList {
    bytes: Vec<u8>,
    fields: Vec<Field>,
}

impl HeaderList {
    /// An empty list that allocates nothing.
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), fields: Vec::new() }
    }

    /// Forgets all fields and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.fields.clear();
    }

    /// Number of fields.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// True when there is no field.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Bytes of memory held, used or not.
    pub fn capacity_bytes(&self) -> usize {
        self.bytes.capacity() + self.fields.capacity() * size_of::<Field>()
    }

    /// Appends a field. The caller has validated name and value.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        self.push_field(HeaderName::recognise(name), name, value);
    }

    /// Appends a field whose name the proxy knows.
    pub fn push_known(&mut self, id: HeaderName, value: &[u8]) {
        debug_assert!(id != HeaderName::Other, "a known header has a name");
        self.push_field(id, id.as_str().as_bytes(), value);
    }

    /// Appends a field that was recognised already.
    pub fn push_field(&mut self, id: HeaderName, name: &[u8], value: &[u8]) {
        let start = self.bytes.len() as u32;
        self.bytes.reserve(name.len() + value.len() + COLON.len() + END.len());
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(COLON);
        self.bytes.extend_from_slice(value);
        self.bytes.extend_from_slice(END);
        self.fields.push(Field { start, name_len: name.len() as u16, id, value_len: value.len() as u32 });
    }

    /// Appends a field as the whole line it came in, `name: value` and CRLF, with exactly one space before the value and
    /// none behind it. `name_len` is the length of the name.
    pub fn push_line(&mut self, id: HeaderName, line: &[u8], name_len: usize) {
        debug_assert!(line[name_len..].starts_with(COLON) && line.ends_with(END), "a line in canonical form");
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(line);
        let value_len = line.len() - name_len - COLON.len() - END.len();
        self.fields.push(Field { start, name_len: name_len as u16, id, value_len: value_len as u32 });
    }

    /// Appends all fields to `out` as lines, each ended by CRLF.
    pub fn write_lines(&self, out: &mut Vec<u8>) {
        let mut fields = self.fields.iter();
        let Some(first) = fields.next() else { return };
        let (mut start, mut end) = (first.start as usize, first.end());
        for field in fields {
            if field.start as usize != end {
                out.extend_from_slice(&self.bytes[start..end]);
                start = field.start as usize;
            }
            end = field.end();
        }
        out.extend_from_slice(&self.bytes[start..end]);
    }

    fn name_of(&self, field: &Field) -> &[u8] {
        let start = field.start as usize;
        &self.bytes[start..start + field.name_len as usize]
    }

    fn value_of(&self, field: &Field) -> &[u8] {
        let start = field.start as usize + field.name_len as usize + COLON.len();
        &self.bytes[start..start + field.value_len as usize]
    }

    /// The first value of a known header.
    pub fn known(&self, id: HeaderName) -> Option<&[u8]> {
        self.fields.iter().find(|field| field.id == id).map(|field| self.value_of(field))
    }

    /// Whether a known header is there.
    pub fn has(&self, id: HeaderName) -> bool {
        self.fields.iter().any(|field| field.id == id)
    }

    /// The first value of a header by name.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.fields
            .iter()
            .find(|field| self.name_of(field).eq_ignore_ascii_case(name.as_bytes()))
            .map(|field| self.value_of(field))
    }

    /// All values of a header by name, in order.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.fields
            .iter()
            .filter(move |field| self.name_of(field).eq_ignore_ascii_case(name.as_bytes()))
            .map(|field| self.value_of(field))
    }

    /// All values of a known header, in order.
    pub fn known_values(&self, id: HeaderName) -> impl Iterator<Item = &[u8]> {
        self.fields.iter().filter(move |field| field.id == id).map(|field| self.value_of(field))
    }

    /// All fields in order: what the proxy knows the name as, the name as sent, the value.
    pub fn iter(&self) -> impl Iterator<Item = (HeaderName, &[u8], &[u8])> {
        self.fields.iter().map(|field| (field.id, self.name_of(field), self.value_of(field)))
    }

    /// Removes every field of a known name.
    pub fn remove_known(&mut self, id: HeaderName) {
        if self.has(id) {
            self.fields.retain(|field| field.id != id);
        }
    }

    /// Removes every field of that name.
    pub fn remove(&mut self, name: &[u8]) {
        let Self { bytes, fields } = self;
        fields.retain(|field| {
            let start = field.start as usize;
            !bytes[start..start + field.name_len as usize].eq_ignore_ascii_case(name)
        });
    }

    /// Removes every field whose name begins with the lower-case `prefix`.
    pub fn remove_prefix(&mut self, prefix: &[u8]) {
        let Some(first) = prefix.first() else { return self.fields.clear() };
        let Self { bytes, fields } = self;
        let begins = |field: &Field| {
            let start = field.start as usize;
            let name = &bytes[start..start + field.name_len as usize];
            // Most names differ in their first letter already.
            name.first().is_some_and(|letter| letter | 0x20 == *first)
                && name.get(..prefix.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(prefix))
        };
        if fields.iter().any(begins) {
            fields.retain(|field| !begins(field));
        }
    }

    /// Replaces every field of that name by one.
    pub fn set(&mut self, name: &str, value: &[u8]) {
        self.remove(name.as_bytes());
        self.push(name.as_bytes(), value);
    }

    /// Replaces every field of a known name by one.
    pub fn set_known(&mut self, id: HeaderName, value: &[u8]) {
        self.remove_known(id);
        self.push_known(id, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_compare_without_case_and_keep_the_case_they_came_with() {
        let mut list = HeaderList::new();
        list.push(b"X-Thing", b"1");
        list.push(b"HOST", b"a");
        list.push(b"x-thing", b"2");
        assert_eq!(list.values("x-THING").collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!(list.known(HeaderName::Host), Some(&b"a"[..]));
        assert_eq!(list.iter().next().map(|(_, name, _)| name), Some(&b"X-Thing"[..]));
        list.set("x-thing", b"3");
        assert_eq!(list.values("X-Thing").collect::<Vec<_>>(), [b"3"]);
        list.remove_known(HeaderName::Host);
        assert_eq!(list.len(), 1);
    }

    #[test]
    fn lines_are_written_in_order_whatever_was_removed_or_added() {
        let mut list = HeaderList::new();
        list.push_line(HeaderName::Other, b"A: 1\r\n", 1);
        list.push(b"B", b"2");
        list.push_line(HeaderName::Other, b"C: \r\n", 1);
        list.push(b"D", b"4");
        list.remove(b"b");
        list.set("a", b"9");
        let mut out = Vec::new();
        list.write_lines(&mut out);
        assert_eq!(out, b"C: \r\nD: 4\r\na: 9\r\n");
        assert_eq!(list.get("c"), Some(&b""[..]));
        out.clear();
        HeaderList::new().write_lines(&mut out);
        assert!(out.is_empty());
    }

    #[test]
    fn recognition_equals_a_search_through_all_names() {
        let search = |name: &[u8]| {
            let found = HeaderName::ALL.iter().find(|id| id.as_str().as_bytes().eq_ignore_ascii_case(name));
            found.copied().unwrap_or(HeaderName::Other)
        };
        for id in HeaderName::ALL {
            let name = id.as_str();
            let mut near = name.to_owned();
            near.pop();
            near.push('!');
            let longer = format!("{name}x");
            for spelling in [name, &name.to_uppercase(), &name[1..], &near, &longer] {
                assert_eq!(HeaderName::recognise(spelling.as_bytes()), search(spelling.as_bytes()), "{spelling}");
            }
            assert_eq!(HeaderName::recognise(name.as_bytes()), *id);
        }
        assert_eq!(HeaderName::recognise(b""), HeaderName::Other);
    }
}
