//! Connections of the load: TCP, or TLS 1.3 over it.
//!
//! All proxies meet the same offer: TLS 1.3, AES-128-GCM with SHA-256, X25519. What they would choose from a longer one
//! differs, and with it the work. Sessions are remembered by each client for itself. It does not know what is sent.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use anyhow::{Context as _, Result, anyhow};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Tickets that a client keeps.
const SESSIONS: usize = 8;

/// A count of handshakes, shared by the clients.
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    /// All of them.
    pub(super) all: Cell<u64>,
    /// Those that resumed a session.
    pub(super) resumed: Cell<u64>,
}

/// Makes the connections of one client.
pub(super) struct Dialer {
    target: SocketAddr,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    handshakes: Rc<Handshakes>,
}

/// What TLS connections need to know.
#[derive(Clone)]
pub(super) struct Tls {
    config: ClientConfig,
    name: ServerName<'static>,
    resumes: bool,
}

impl Tls {
    /// Trusts the certificate in `trust`, asks for `name`, offers `protocol`.
    ///
    /// # Errors
    /// When the file holds no certificate or the name is none.
    pub(super) fn new(trust: &Path, name: &str, protocol: &[u8], resumes: bool) -> Result<Tls> {
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_file(trust)
            .map_err(|error| anyhow!("no certificate in {}: {error}", trust.display()))?;
        roots.add(certificate).context("the certificate cannot be trusted")?;
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites = vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
        provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(Tls { config, name: ServerName::try_from(name.to_owned())?, resumes })
    }
}

impl Dialer {
    /// A client of `target`, with a memory of its own for sessions.
    pub(super) fn new(target: SocketAddr, tls: Option<&Tls>, handshakes: Rc<Handshakes>) -> Dialer {
        let tls = tls.map(|tls| {
            let mut config = tls.config.clone();
            config.resumption =
                if tls.resumes { Resumption::in_memory_sessions(SESSIONS) } else { Resumption::disabled() };
            (TlsConnector::from(Arc::new(config)), tls.name.clone())
        });
        Dialer { target, tls, handshakes }
    }

    /// A new connection.
    ///
    /// # Errors
    /// When it cannot be made, or the handshake fails.
    pub(super) async fn dial(&self) -> io::Result<Stream> {
        let tcp = TcpStream::connect(self.target).await?;
        tcp.set_nodelay(true)?;
        let Some((connector, name)) = &self.tls else { return Ok(Stream::Plain(tcp)) };
        let stream = connector.connect(name.clone(), tcp).await?;
        self.handshakes.all.set(self.handshakes.all.get() + 1);
        if stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed) {
            self.handshakes.resumed.set(self.handshakes.resumed.get() + 1);
        }
        Ok(Stream::Tls(Box::new(stream)))
    }
}

/// A connection to a proxy.
pub(super) enum Stream {
    /// In clear text.
    Plain(TcpStream),
    /// Over TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Whether the proxy has closed an idle connection. The runtime answers from what it knows: an idle connection was
    /// read until nothing was left, so this costs no system call unless something arrived.
    pub(super) fn is_closed(&self) -> bool {
        let (tcp, may_say_more) = match self {
            Stream::Plain(tcp) => (tcp, false),
            // Session tickets may still come.
            Stream::Tls(stream) => (stream.get_ref().0, true),
        };
        let mut byte = [0; 1];
        match tcp.poll_peek(&mut Context::from_waker(Waker::noop()), &mut ReadBuf::new(&mut byte)) {
            Poll::Pending => false,
            Poll::Ready(Ok(1)) => !may_say_more,
            Poll::Ready(_) => true,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            Stream::Tls(tls) => Pin::new(&mut **tls).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Stream::Tls(tls) => Pin::new(&mut **tls).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Stream::Tls(tls) => Pin::new(&mut **tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Stream::Tls(tls) => Pin::new(&mut **tls).poll_shutdown(cx),
        }
    }
}
