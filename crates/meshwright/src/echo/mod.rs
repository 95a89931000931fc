//! A backend to play with: it answers with what it saw, and waits, fails or streams on demand.
//!
//! This file accepts connections and ends them. What one request is answered with is in `answer`, the bytes of
//! answers in `body`. It knows nothing of gateways. HTTP/1.1 only, one thread.

mod answer;
mod body;

use std::future::Future;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::args::value::Delay;
use crate::args::{EXIT_OK, EchoArgs};

/// Time that answers in progress get when the backend is told to end.
const GRACE: Duration = Duration::from_secs(5);
/// Pause after the system refused a connection, for example because no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How a backend behaves. Query parameters of a request win over `status`, `delay`, `fail` and `size`.
#[derive(Clone, Debug)]
pub struct EchoSettings {
    /// Name that answers carry.
    pub name: String,
    /// Status of answers, 200 to 599.
    pub status: u16,
    /// Wait before an answer.
    pub delay: Option<Delay>,
    /// Share of requests answered with 503, in percent.
    pub fail: f64,
    /// Answer with this many bytes instead of JSON.
    pub size: Option<u64>,
    /// Requests answered at one time; further ones wait in line, first come first served.
    pub concurrency: Option<u32>,
    /// While true, every request is answered with 503, whatever the other settings say.
    pub broken: Arc<AtomicBool>,
}

impl EchoSettings {
    /// A backend that answers 200 at once.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            status: 200,
            delay: None,
            fail: 0.0,
            size: None,
            concurrency: None,
            broken: Arc::default(),
        }
    }
}

impl From<EchoArgs> for EchoSettings {
    fn from(args: EchoArgs) -> Self {
        Self {
            name: args.name,
            status: args.status,
            delay: args.delay,
            fail: args.fail,
            size: args.size,
            concurrency: args.concurrency,
            broken: Arc::default(),
        }
    }
}

/// One running backend.
struct Echo {
    settings: EchoSettings,
    /// Present when concurrency is limited. Tokio's semaphore is first come, first served.
    permits: Option<Arc<Semaphore>>,
    connections: AtomicU64,
    requests: AtomicU64,
}

/// Runs `meshwright echo` until SIGINT or SIGTERM.
///
/// # Errors
/// The address cannot be listened on.
pub fn run(args: EchoArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener =
            TcpListener::bind(args.listen).await.with_context(|| format!("cannot listen on {}", args.listen))?;
        let mut bound = listener.local_addr()?;
        if bound.ip().is_unspecified() {
            bound.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        writeln!(io::stdout(), "listening on http://{bound}")?;
        let stop = stop_signal()?;
        serve(listener, args.into(), stop).await;
        Ok(ExitCode::from(EXIT_OK))
    })
}

/// Completes at the first SIGINT or SIGTERM.
///
/// # Errors
/// The signals cannot be listened for.
pub fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Serves `listener` until `shutdown` completes; then answers in progress get a few seconds, idle connections none.
pub async fn serve(listener: TcpListener, settings: EchoSettings, shutdown: impl Future<Output = ()>) {
    let permits = settings.concurrency.map(|count| {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS)))
    });
    let echo = Arc::new(Echo { settings, permits, connections: AtomicU64::default(), requests: AtomicU64::default() });
    let (stop, stopping) = watch::channel(());
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(echo.clone(), stream, stopping.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "connection not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    drop(stop);
    let _ = tokio::time::timeout(GRACE, async { while connections.join_next().await.is_some() {} }).await;
}

async fn connection(echo: Arc<Echo>, stream: TcpStream, mut stopping: watch::Receiver<()>) {
    let _ = stream.set_nodelay(true);
    let number = echo.connections.fetch_add(1, Ordering::Relaxed) + 1;
    let served = AtomicU64::default();
    let service = service_fn(|request| {
        let visit = answer::Visit {
            connection: number,
            request: echo.requests.fetch_add(1, Ordering::Relaxed) + 1,
            request_on_connection: served.fetch_add(1, Ordering::Relaxed) + 1,
        };
        let echo = echo.clone();
        async move { Ok::<_, std::convert::Infallible>(echo.answer(request, visit).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(served);
    let outcome = tokio::select! {
        outcome = served.as_mut() => outcome,
        _ = stopping.changed() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "connection ended early");
    }
}
