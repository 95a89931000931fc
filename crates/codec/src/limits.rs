//! Limits on what a peer may make us hold. All are on by default.
//!
//! Knows only sizes; who may change them is the configuration's business. Read next: `scan`, `body`.

/// Limits on a request or response head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of the request line or status line without its CRLF. Default 8192.
    pub request_line: usize,
    /// Bytes of one field line without its CRLF. Default 16384.
    pub field: usize,
    /// Bytes of the field section, counted as name + value + 32 for each field. Default 32768. As bytes on the wire,
    /// the field section may take twice as much, so that white space cannot be used to make us buffer without end.
    pub head: usize,
    /// Number of fields, hop-by-hop ones included. Default 100.
    pub fields: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { request_line: 8192, field: 16384, head: 32768, fields: 100 }
    }
}

impl HeadLimits {
    /// Bytes that a caller may have to hold before a head is complete or refused: with so many bytes (or more) in
    /// `input`, parsing never answers [`crate::Progress::Partial`].
    pub const fn buffer(&self) -> usize {
        // Two empty lines before the request line, the line with its CRLF, the section, and the byte that is too much.
        self.request_line.saturating_add(self.section()).saturating_add(7)
    }

    /// Bytes that the field section may take on the wire.
    pub(crate) const fn section(&self) -> usize {
        self.head.saturating_mul(2)
    }
}

/// Limits on the framing of a chunked body. The data itself has no limit here: it is streamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyLimits {
    /// Bytes of chunk extension after one chunk size. Default 256. Over a whole body, extensions may exceed the data
    /// by 64 times this.
    pub chunk_extension: usize,
    /// Bytes of the trailer section on the wire. Default 8192.
    pub trailers: usize,
    /// Number of trailer fields, dropped ones included. Default 32.
    pub trailer_fields: usize,
}

impl Default for BodyLimits {
    fn default() -> Self {
        Self { chunk_extension: 256, trailers: 8192, trailer_fields: 32 }
    }
}
