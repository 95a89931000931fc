//! One health check carried out: an HTTP request, a connection or a call of the gRPC health service, within its time.
//!
//! Addresses that are no endpoint's are refused whatever named them ([`meshwright_model::host::may_be_probed`]), redirects are
//! not followed, and what is read of an answer is bounded. A [`Prober`] is shared by everybody in a process who checks
//! something, so that however much is due at once, only so much is under way. It knows no schedule, and not what an answer
//! means for whom. Read next: `http.rs`, `grpc.rs`.

mod grpc;
mod http;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use meshwright_model::host::may_be_probed;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;

/// A check to carry out.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Whom to ask.
    pub target: Target,
    /// What to ask.
    pub question: Question,
    /// Longest time for everything: name, connection, answer.
    pub timeout: Duration,
    /// TLS on the connection; `None` is clear text. A question of TCP does without.
    pub tls: Option<Tls>,
    /// Bytes that the connection begins with, before TLS, such as a PROXY header; usually none.
    pub preface: &'static [u8],
}

/// Whom to ask.
#[derive(Clone, Debug)]
pub enum Target {
    /// An address.
    Address(SocketAddr),
    /// `host:port`, resolved anew each time; port 80 where there is none.
    Authority(String),
}

/// What to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// `GET` by HTTP/1.1.
    Http {
        /// The `Host` of the request.
        host: String,
        /// Path and query.
        path: String,
        /// Further fields, validated. One of a name that every check has takes its place.
        headers: Vec<(String, String)>,
    },
    /// Whether a connection can be made.
    Tcp,
    /// `grpc.health.v1.Health/Check`.
    Grpc {
        /// The authority of the call.
        authority: String,
        /// Service that is asked about; empty is the server as a whole.
        service: String,
    },
}

/// How to do TLS. The configuration announces by ALPN what the question speaks.
#[derive(Clone)]
pub struct Tls {
    /// The configuration.
    pub config: Arc<ClientConfig>,
    /// What is asked for.
    pub server_name: ServerName<'static>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

/// What was answered. What that means is the caller's to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A connection was made.
    Connected,
    /// The status of an HTTP answer.
    Status(u16),
    /// What the gRPC health service said.
    Serving(Serving),
    /// The gRPC call failed with this status and message.
    Grpc(String),
}

/// What the gRPC health service says of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serving {
    /// It serves.
    Serving,
    /// It does not.
    NotServing,
    /// The server does not know it.
    ServiceUnknown,
    /// No status that has a meaning.
    Unknown,
}

impl fmt::Display for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Serving => "SERVING",
            Self::NotServing => "NOT_SERVING",
            Self::ServiceUnknown => "SERVICE_UNKNOWN",
            Self::Unknown => "the health service gave no status",
        })
    }
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The address is not one that is asked.
    #[error("{0} is not probed")]
    Refused(IpAddr),
    /// The time was over.
    #[error("no answer in {} ms", .0.as_millis())]
    Timeout(Duration),
    /// Connecting failed, or the connection did.
    #[error("{0}")]
    Network(#[from] io::Error),
    /// What came is not what such a peer answers.
    #[error("{0}")]
    Protocol(String),
}

/// Carries checks out, so many at one time. Clones share that number.
#[derive(Clone, Debug)]
pub struct Prober {
    places: Arc<Semaphore>,
}

impl Default for Prober {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(Self::MOST)) }
    }
}

impl Prober {
    /// Checks at one time.
    pub const MOST: usize = 256;

    /// Carries `probe` out as soon as there is a place. Waiting for that is no part of its time.
    ///
    /// # Errors
    ///
    /// Why there was no answer.
    pub async fn carry_out(&self, probe: &Probe) -> Result<Answer, ProbeError> {
        // Nobody closes it.
        let _place = self.places.acquire().await.map_err(io::Error::other)?;
        match tokio::time::timeout(probe.timeout, ask(probe)).await {
            Ok(answer) => answer,
            Err(_) => Err(ProbeError::Timeout(probe.timeout)),
        }
    }
}

async fn ask(probe: &Probe) -> Result<Answer, ProbeError> {
    let mut tcp = connect(&probe.target).await?;
    if let Question::Tcp = probe.question {
        return Ok(Answer::Connected);
    }
    if !probe.preface.is_empty() {
        tcp.write_all(probe.preface).await?;
    }
    let stream: Box<dyn Stream> = match &probe.tls {
        Some(tls) => {
            let connector = TlsConnector::from(Arc::clone(&tls.config));
            Box::new(connector.connect(tls.server_name.clone(), tcp).await?)
        }
        None => Box::new(tcp),
    };
    match &probe.question {
        Question::Http { host, path, headers } => http::get(stream, host, path, headers).await,
        Question::Grpc { authority, service } => grpc::check(stream, authority, service, probe.tls.is_some()).await,
        Question::Tcp => Ok(Answer::Connected),
    }
}

/// Bytes in both directions.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

async fn connect(target: &Target) -> Result<TcpStream, ProbeError> {
    let addresses: Vec<SocketAddr> = match target {
        Target::Address(address) => vec![*address],
        // The default port of http, where a URL names none.
        Target::Authority(authority) => match authority.rsplit_once(':') {
            Some((_, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                lookup_host(authority).await?.collect()
            }
            _ => lookup_host(format!("{authority}:80")).await?.collect(),
        },
    };
    // A name is judged by what it means now, so that it cannot mean something else once it was let in.
    match addresses.iter().find(|address| !may_be_probed(address.ip())) {
        Some(foreign) => Err(ProbeError::Refused(foreign.ip())),
        None => Ok(TcpStream::connect(addresses.as_slice()).await?),
    }
}
