//! One conversation with a registry: a connection that is kept, and the next address when one does not answer.
//!
//! It knows HTTP and no path of the registry. A question is never sent twice here: whoever asks knows whether it may be.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, ETAG, HOST, HeaderValue, IF_NONE_MATCH, USER_AGENT};
use hyper::{Method, Request, Response, body::Incoming};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::Error;

/// Time to connect to one address.
const CONNECT: Duration = Duration::from_secs(3);
/// Time for an answer, beyond what the question itself asks to wait.
const ANSWER: Duration = Duration::from_secs(10);
/// Largest answer that is read: 20,000 instances of 3 KiB.
const LARGEST_ANSWER: usize = 64 << 20;
/// Header with the revision of the registry.
const REVISION: &str = "meshwright-revision";

/// Where a registry is and how to show that one may ask.
pub(crate) struct Registry {
    addresses: Vec<String>,
    /// Which address answered last.
    preferred: AtomicUsize,
    token: Option<HeaderValue>,
    pub(crate) namespace: String,
}

impl Clone for Registry {
    fn clone(&self) -> Self {
        let preferred = AtomicUsize::new(self.preferred.load(Ordering::Relaxed));
        let (addresses, token, namespace) = (self.addresses.clone(), self.token.clone(), self.namespace.clone());
        Self { addresses, preferred, token, namespace }
    }
}

impl Registry {
    /// `urls` are separated by commas.
    pub(crate) fn new(urls: &str) -> Result<Self, Error> {
        let addresses = urls.split(',').map(|url| authority(url.trim())).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { addresses, preferred: AtomicUsize::new(0), token: None, namespace: "default".to_owned() })
    }

    pub(crate) fn with_token(self, token: &str) -> Result<Self, Error> {
        let wrong = |_| Error::Address {
            address: self.addresses.join(","),
            reason: "the token for it has characters that no header may have",
        };
        let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(wrong)?;
        value.set_sensitive(true);
        Ok(Self { token: Some(value), ..self })
    }

    pub(crate) fn addresses(&self) -> &[String] {
        &self.addresses
    }
}

/// `host:port` of `http://host:port`, or of `host:port` alone.
fn authority(url: &str) -> Result<String, Error> {
    let wrong = |reason| Error::Address { address: url.to_owned(), reason };
    let rest = match url.split_once("://") {
        Some(("http", rest)) => rest.strip_suffix('/').unwrap_or(rest),
        Some(_) => return Err(wrong("registries are reached by http://")),
        None => url,
    };
    let authority: hyper::http::uri::Authority = rest.parse().map_err(|_| wrong("it has the form http://host:port"))?;
    match authority.as_str().contains('@') || authority.host().is_empty() {
        true => Err(wrong("it has the form http://host:port; a token is given by with_token")),
        false if authority.port_u16().is_none() => Ok(format!("{authority}:15000")),
        false => Ok(authority.to_string()),
    }
}

/// A question.
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) body: Option<serde_json::Value>,
    /// How long the registry may wait before it answers.
    pub(crate) wait: Duration,
    pub(crate) known: Option<String>,
}

impl Ask {
    pub(crate) fn new(method: Method, target: String) -> Self {
        Self { method, target, body: None, wait: Duration::ZERO, known: None }
    }

    pub(crate) fn with_body(self, body: serde_json::Value) -> Self {
        Self { body: Some(body), ..self }
    }
}

/// An answer of 2xx or 304.
pub(crate) struct Answer {
    pub(crate) is_unchanged: bool,
    pub(crate) revision: Option<u64>,
    pub(crate) tag: Option<String>,
    body: Bytes,
}

impl Answer {
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|error| Error::Broken(error.to_string()))
    }
}

/// A conversation.
pub(crate) struct Line {
    registry: Arc<Registry>,
    connection: Option<(String, SendRequest<Full<Bytes>>)>,
}

impl Line {
    pub(crate) fn new(registry: Arc<Registry>) -> Self {
        Self { registry, connection: None }
    }

    /// As [`Line::ask`], and once more when a connection that was kept turns out to be closed: for questions that may be
    /// asked twice.
    pub(crate) async fn ask_again(&mut self, ask: &Ask) -> Result<Answer, Error> {
        let kept = self.connection.is_some();
        match self.ask(ask).await {
            Err(Error::Unreachable { .. }) if kept => self.ask(ask).await,
            answer => answer,
        }
    }

    /// One question: on the connection that is kept, or on a new one to the first address that takes it.
    pub(crate) async fn ask(&mut self, ask: &Ask) -> Result<Answer, Error> {
        let (address, mut sender) = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let unreachable = |reason: String| Error::Unreachable { address: address.clone(), reason };
        let request = self.request(&address, ask)?;
        let exchange = async {
            sender.ready().await?;
            sender.send_request(request).await
        };
        let whole = async {
            let response = exchange.await.map_err(|error| unreachable(error.to_string()))?;
            read(response).await.map_err(unreachable)
        };
        let (response, body) = timeout(ask.wait + ANSWER, whole)
            .await
            .map_err(|_| unreachable(format!("no answer within {:?}", ask.wait + ANSWER)))??;
        self.connection = Some((address, sender));
        understand(&response, body)
    }

    async fn connect(&self) -> Result<(String, SendRequest<Full<Bytes>>), Error> {
        let addresses = self.registry.addresses();
        let first = self.registry.preferred.load(Ordering::Relaxed);
        let mut last = None;
        for offset in 0..addresses.len() {
            let index = (first + offset) % addresses.len();
            let address = &addresses[index];
            match timeout(CONNECT, open(address)).await {
                Ok(Ok(sender)) => {
                    self.registry.preferred.store(index, Ordering::Relaxed);
                    return Ok((address.clone(), sender));
                }
                Ok(Err(reason)) => last = Some((address, reason)),
                Err(_) => last = Some((address, format!("no connection within {CONNECT:?}"))),
            }
        }
        let (address, reason) = last.map_or_else(Default::default, |(address, reason)| (address.clone(), reason));
        Err(Error::Unreachable { address, reason })
    }

    fn request(&self, address: &str, ask: &Ask) -> Result<Request<Full<Bytes>>, Error> {
        let mut request = Request::builder()
            .method(ask.method.clone())
            .uri(&ask.target)
            .header(HOST, address)
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("meshwright-client/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = &self.registry.token {
            request = request.header(AUTHORIZATION, token);
        }
        if let Some(known) = &ask.known {
            request = request.header(IF_NONE_MATCH, known);
        }
        let body = match &ask.body {
            Some(body) => {
                request = request.header(CONTENT_TYPE, "application/json");
                Bytes::from(body.to_string())
            }
            None => Bytes::new(),
        };
        request.body(Full::new(body)).map_err(|error| Error::Broken(error.to_string()))
    }
}

async fn open(address: &str) -> Result<SendRequest<Full<Bytes>>, String> {
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    // Questions are small and each waits for its answer.
    let _ = stream.set_nodelay(true);
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    // It ends when the sender is dropped or the registry closes; either is seen by the next question.
    tokio::spawn(async move { connection.await.ok() });
    Ok(sender)
}

async fn read(response: Response<Incoming>) -> Result<(Response<()>, Bytes), String> {
    let (head, body) = response.into_parts();
    let body = Limited::new(body, LARGEST_ANSWER).collect().await.map_err(|error| error.to_string())?;
    Ok((Response::from_parts(head, ()), body.to_bytes()))
}

fn understand(response: &Response<()>, body: Bytes) -> Result<Answer, Error> {
    let status = response.status();
    let is_unchanged = status.as_u16() == 304;
    if !status.is_success() && !is_unchanged {
        let problem: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
        let detail = problem.as_ref().and_then(|problem| problem["detail"].as_str()).map(str::to_owned);
        let text = || String::from_utf8_lossy(&body[..body.len().min(200)]).trim().to_owned();
        return Err(Error::Refused { status: status.as_u16(), detail: detail.unwrap_or_else(text) });
    }
    let text = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    let revision = text(REVISION).and_then(|revision| revision.parse().ok());
    let tag = text(ETAG.as_str()).map(str::to_owned);
    Ok(Answer { is_unchanged, revision, tag, body })
}

/// Percent-encodes what has a meaning in paths and queries.
pub(crate) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            true => encoded.push(char::from(byte)),
            false => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_hosts_with_ports_and_nothing_else() {
        for (url, expected) in [
            ("http://127.0.0.1:15000", "127.0.0.1:15000"),
            ("http://registry:1/", "registry:1"),
            ("[::1]:15000", "[::1]:15000"),
            ("http://registry", "registry:15000"),
        ] {
            assert_eq!(authority(url).as_deref(), Ok(expected), "{url}");
        }
        for url in ["", "https://a:1", "http://", "http://a:1/b", "http://me:secret@a:1", "a b", "etcd://a:1"] {
            assert!(authority(url).is_err(), "{url}");
        }
        assert_eq!(Registry::new("http://a:1, http://b:2").unwrap().addresses(), ["a:1", "b:2"]);
    }

    #[test]
    fn what_has_a_meaning_in_a_path_is_encoded() {
        assert_eq!(encoded("a/b?c=d&e ä"), "a%2Fb%3Fc%3Dd%26e%20%C3%A4");
        assert_eq!(encoded("127.0.0.1:80"), "127.0.0.1:80");
    }
}
