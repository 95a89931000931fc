//! One connection of the backend: the TLS handshake, HTTP/1.1 or HTTP/2, and which kind of answer each request gets.
//!
//! HTTP/2 is recognised by its preface, so that prior knowledge works without TLS. It does not know what answers say.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::Echo;
use super::body::AnyBody;
use super::tls::TlsFacts;
use super::{grpc, load, websocket};

/// Time for a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What all requests of a connection share.
pub struct Connection {
    /// The backend.
    pub echo: Arc<Echo>,
    /// Number of the connection since the backend started.
    pub number: u64,
    /// Present when the connection is encrypted.
    pub tls: Option<TlsFacts>,
    /// Changes when the backend is told to end; held by everything that serves.
    pub stopping: watch::Receiver<()>,
    served: AtomicU64,
}

/// Which request this is, counted from 1.
#[derive(Clone, Copy)]
pub struct Visit {
    /// Number of the request since the backend started.
    pub request: u64,
    /// Number of the request on its connection.
    pub request_on_connection: u64,
}

/// Serves one connection to its end.
pub async fn serve(echo: Arc<Echo>, stream: TcpStream, stopping: watch::Receiver<()>) {
    let _ = stream.set_nodelay(true);
    let number = echo.connections.fetch_add(1, Ordering::Relaxed) + 1;
    let connection = |tls| Connection { echo: echo.clone(), number, tls, stopping, served: AtomicU64::default() };
    let Some(acceptor) = &echo.settings.tls else {
        return speak(stream, connection(None)).await;
    };
    match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            let facts = TlsFacts::of(stream.get_ref().1);
            Box::pin(speak(stream, connection(Some(facts)))).await;
        }
        Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => tracing::debug!("TLS handshake not completed in time"),
    }
}

async fn speak(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, connection: Connection) {
    let mut stopping = connection.stopping.clone();
    let connection = Arc::new(connection);
    let service = service_fn(|request| {
        let connection = connection.clone();
        async move { Ok::<_, Infallible>(connection.answer(request).await) }
    });
    let mut protocols = auto::Builder::new(TokioExecutor::new());
    protocols.http1().timer(TokioTimer::new()).header_read_timeout(None);
    protocols.http2().enable_connect_protocol();
    let served = protocols.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(served);
    let outcome = tokio::select! {
        outcome = served.as_mut() => outcome,
        _ = stopping.changed() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(error, "connection ended early");
    }
}

impl Connection {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<AnyBody> {
        let visit = Visit {
            request: self.echo.requests.fetch_add(1, Ordering::Relaxed) + 1,
            request_on_connection: self.served.fetch_add(1, Ordering::Relaxed) + 1,
        };
        if websocket::is_wanted(&request) {
            return websocket::open(&self, request).map(AnyBody::Left);
        }
        if grpc::is_call(&request) {
            return grpc::answer(self, request).await;
        }
        let load = &self.echo.load;
        if request.uri().path() == load::PATH {
            return self.echo.load_answer().map(AnyBody::Left);
        }
        // Checks of health are no load.
        let in_flight = (request.uri().path() != "/health").then(|| load.begin());
        let mut answer = self.echo.answer(request, &self, visit).await;
        if let Some(in_flight) = in_flight {
            in_flight.answered();
        }
        answer.headers_mut().insert(load::HEADER, load.header());
        answer.map(AnyBody::Left)
    }
}
