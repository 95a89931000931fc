//! Request and response heads.

use std::time::Duration;

use crate::{HeaderList, HeaderName, Method};

/// Protocol version of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Version {
    /// HTTP/1.0: no chunked coding, connections close unless asked otherwise.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
    /// HTTP/2: streams on one connection, framing and trailers of their own.
    Http2,
}

impl Version {
    /// As it is written in logs and start lines.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }
}

/// Scheme by which the client reached us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `http`
    #[default]
    Http,
    /// `https`
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// How long a body is, taken from validated framing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BodyLength {
    /// There is none, and no framing header either.
    #[default]
    Empty,
    /// Exactly so many bytes (`Content-Length`), possibly 0.
    Sized(u64),
    /// Chunked transfer coding.
    Chunked,
    /// Until the connection closes (responses only).
    UntilClose,
}

impl BodyLength {
    /// True when no byte of body follows.
    pub const fn is_empty(self) -> bool {
        matches!(self, Self::Empty | Self::Sized(0))
    }
}

/// A validated request head. `headers` holds end-to-end fields only, without `Host`: that is [`RequestHead::authority`].
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    /// Method.
    pub method: Method,
    /// Version spoken by the client.
    pub version: Version,
    /// Scheme by which the client reached us.
    pub scheme: Scheme,
    /// Host and optional port as the client sent them (absolute-form wins over `Host`); empty only for HTTP/1.0 without one.
    pub authority: String,
    /// Path in BASE normal form, then the query with its `?` as sent. `*` for `OPTIONS *`.
    pub target: String,
    /// Length of the path within `target`.
    pub path_len: usize,
    /// End-to-end header fields in order.
    pub headers: HeaderList,
    /// How long the body is.
    pub body: BodyLength,
    /// The client keeps its connection open after this exchange.
    pub keep_alive: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub expect_continue: bool,
    /// `TE: trailers` was sent: the client takes trailers.
    pub te_trailers: bool,
    /// Protocol that the client asks to change to: `Upgrade` together with `Connection: upgrade`, or `:protocol` of an
    /// extended CONNECT (RFC 8441), whose method is given as GET.
    pub upgrade: Option<Box<str>>,
}

/// The memory behind a request head, which is lent from request to request.
#[derive(Debug, Default)]
pub struct HeadMemory {
    authority: String,
    target: String,
    headers: HeaderList,
}

impl HeadMemory {
    /// Bytes held.
    pub fn capacity_bytes(&self) -> usize {
        self.authority.capacity() + self.target.capacity() + self.headers.capacity_bytes()
    }
}

impl RequestHead {
    /// Gives its memory away: afterwards it has no authority, no target and no headers; all else stays.
    pub fn take_memory(&mut self) -> HeadMemory {
        self.path_len = 0;
        let mut memory = HeadMemory {
            authority: std::mem::take(&mut self.authority),
            target: std::mem::take(&mut self.target),
            headers: std::mem::take(&mut self.headers),
        };
        memory.authority.clear();
        memory.target.clear();
        memory.headers.clear();
        memory
    }

    /// Takes memory over, before a head is read into it.
    pub fn use_memory(&mut self, memory: HeadMemory) {
        self.path_len = 0;
        self.authority = memory.authority;
        self.target = memory.target;
        self.headers = memory.headers;
    }

    /// Makes it empty and keeps its memory.
    pub fn clear(&mut self) {
        self.method = Method::Get;
        self.version = Version::Http11;
        self.scheme = Scheme::Http;
        self.authority.clear();
        self.target.clear();
        self.path_len = 0;
        self.headers.clear();
        self.body = BodyLength::Empty;
        self.keep_alive = false;
        self.expect_continue = false;
        self.te_trailers = false;
        self.upgrade = None;
    }

    /// Path without query.
    pub fn path(&self) -> &str {
        &self.target[..self.path_len]
    }

    /// Query without `?`, when there is one.
    pub fn query(&self) -> Option<&str> {
        self.target[self.path_len..].strip_prefix('?')
    }

    /// Replaces the path and keeps the query.
    pub fn set_path(&mut self, path: &str) {
        self.target.replace_range(..self.path_len, path);
        self.path_len = path.len();
    }
}

/// A validated response head. `headers` holds end-to-end fields only.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    /// Status, 100 to 999.
    pub status: u16,
    /// Version of the peer that sent it.
    pub version: Version,
    /// Reason phrase as sent; empty writes the usual one for the status.
    pub reason: Vec<u8>,
    /// End-to-end header fields in order.
    pub headers: HeaderList,
    /// How long the body is.
    pub body: BodyLength,
    /// `Content-Length` of an answer that has no body (HEAD, 304): repeated to the client, but nothing follows.
    pub announced_length: Option<u64>,
    /// The sender keeps its connection open after this exchange.
    pub keep_alive: bool,
    /// `Keep-Alive: timeout=N` of the sender.
    pub keep_alive_timeout: Option<Duration>,
    /// Protocol of a 101 answer.
    pub upgrade: Option<Box<str>>,
}

impl ResponseHead {
    /// Makes it empty and keeps its memory.
    pub fn clear(&mut self) {
        self.status = 0;
        self.version = Version::Http11;
        self.reason.clear();
        self.headers.clear();
        self.body = BodyLength::Empty;
        self.announced_length = None;
        self.keep_alive = false;
        self.keep_alive_timeout = None;
        self.upgrade = None;
    }

    /// Turns it into an answer of our own with a body of known length.
    pub fn become_local(&mut self, status: u16, content_type: Option<&str>, body_length: usize) {
        self.clear();
        self.status = status;
        self.keep_alive = true;
        self.body = BodyLength::Sized(body_length as u64);
        if let Some(content_type) = content_type {
            self.headers.push_known(HeaderName::ContentType, content_type.as_bytes());
        }
    }

    /// True for 1xx other than 101: more heads follow.
    pub fn is_informational(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }
}
