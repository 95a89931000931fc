//! Requests that can be sent by both protocols, and a client of either.

use std::net::SocketAddr;

use http::{Request, Uri};

use crate::http2::map_of;
use crate::{Http2Client, RawClient, Response};

/// A request that is being put together.
#[derive(Clone, Debug)]
pub struct Ask {
    pub(crate) method: String,
    pub(crate) scheme: String,
    pub(crate) authority: String,
    pub(crate) path: String,
    pub(crate) protocol: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
    pub(crate) open: bool,
}

impl Ask {
    /// A GET.
    pub fn get(authority: &str, path: &str) -> Self {
        Self {
            method: "GET".to_owned(),
            scheme: "http".to_owned(),
            authority: authority.to_owned(),
            path: path.to_owned(),
            protocol: None,
            headers: Vec::new(),
            body: Vec::new(),
            trailers: Vec::new(),
            open: false,
        }
    }

    /// A POST with a body.
    pub fn post(authority: &str, path: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::get(authority, path) }.method("POST")
    }

    /// Extended CONNECT (RFC 8441) for this protocol, left open.
    pub fn extended_connect(authority: &str, path: &str, protocol: &str) -> Self {
        Self { protocol: Some(protocol.to_owned()), ..Self::get(authority, path) }.method("CONNECT").left_open()
    }

    /// With this method.
    pub fn method(mut self, method: &str) -> Self {
        method.clone_into(&mut self.method);
        self
    }

    /// With this `:scheme`; without this it is `http`.
    pub fn scheme(mut self, scheme: &str) -> Self {
        scheme.clone_into(&mut self.scheme);
        self
    }

    /// With a further field.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a trailer field.
    pub fn trailer(mut self, name: &str, value: &str) -> Self {
        self.trailers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a direction that stays open behind the body; only for [`Http2Client::start`].
    pub fn left_open(mut self) -> Self {
        self.open = true;
        self
    }

    pub(crate) fn head(&self) -> Request<()> {
        let uri = Uri::builder().scheme(self.scheme.as_str()).authority(self.authority.as_str());
        let uri = uri.path_and_query(self.path.as_str()).build().expect("a URI");
        let mut head = Request::builder().method(self.method.as_str()).uri(uri).body(()).expect("a request");
        *head.headers_mut() = map_of(&self.headers);
        if let Some(protocol) = &self.protocol {
            head.extensions_mut().insert(h2::ext::Protocol::from(protocol.as_str()));
        }
        head
    }

    /// The same as HTTP/1.1: a body of known length, or chunked when trailers follow.
    fn bytes(&self) -> Vec<u8> {
        let Self { method, path, authority, body, .. } = self;
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {authority}\r\n");
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if self.trailers.is_empty() {
            if !body.is_empty() || method != "GET" && method != "HEAD" {
                text.push_str(&format!("Content-Length: {}\r\n", body.len()));
            }
            return [text.as_bytes(), b"\r\n", body].concat();
        }
        text.push_str("Transfer-Encoding: chunked\r\n\r\n");
        let mut bytes = text.into_bytes();
        if !body.is_empty() {
            bytes.extend([format!("{:x}\r\n", body.len()).as_bytes(), body, b"\r\n"].concat());
        }
        bytes.extend_from_slice(b"0\r\n");
        for (name, value) in &self.trailers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes
    }
}

/// What a peer speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, by prior knowledge.
    Http2,
}

/// A client of either protocol.
pub enum Client {
    /// HTTP/1.1.
    Http1(RawClient),
    /// HTTP/2.
    Http2(Http2Client),
}

impl Client {
    /// Connects.
    ///
    /// # Panics
    /// Nobody accepts.
    #[track_caller]
    pub fn connect(speaks: Speaks, address: SocketAddr) -> Self {
        match speaks {
            Speaks::Http1 => Self::Http1(RawClient::connect(address)),
            Speaks::Http2 => Self::Http2(Http2Client::connect(address)),
        }
    }

    /// Sends a request and reads its answer.
    ///
    /// # Panics
    /// There is none.
    #[track_caller]
    pub fn request(&mut self, ask: &Ask) -> Response {
        self.try_request(ask).unwrap_or_else(|why| panic!("{} {}: {why}", ask.method, ask.path))
    }

    /// As [`Client::request`], for requests that may fail.
    ///
    /// # Errors
    /// Why there is no complete answer, in words.
    #[track_caller]
    pub fn try_request(&mut self, ask: &Ask) -> Result<Response, String> {
        match self {
            Self::Http1(client) => {
                // Who answers early may close before the request was sent whole.
                let _ = client.try_send(ask.bytes());
                client.try_response(ask.method == "HEAD").map_err(|error| error.to_string())
            }
            Self::Http2(client) => client.try_request(ask).map_err(|failure| failure.to_string()),
        }
    }
}
