//! A backend to play with: it answers with what it saw, and waits, fails or streams on demand.
//!
//! HTTP/1.1 and HTTP/2 on one port, with or without TLS. This file has the settings, accepts connections and ends them. Read
//! next: `connection` (TLS, and which kind of answer a request gets), `answer` (JSON), `websocket`, `grpc`. It knows nothing
//! of gateways. One thread.

mod answer;
mod body;
mod connection;
mod frame;
mod grpc;
mod load;
mod tls;
mod websocket;

use std::future::Future;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use self::load::Load;
use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use crate::args::value::Delay;
use crate::args::{EXIT_OK, EchoArgs};

/// Time that answers in progress get when the backend is told to end.
const GRACE: Duration = Duration::from_secs(5);
/// Pause after the system refused a connection, for example because no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How a backend behaves. Query parameters of a request win over `status`, `delay`, `fail` and `size`.
#[derive(Clone)]
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
    /// While true, every request is answered with 503 (gRPC: UNAVAILABLE), whatever the other settings say.
    pub broken: watch::Receiver<bool>,
    /// Only TLS is spoken, when present.
    pub tls: Option<TlsAcceptor>,
}

impl EchoSettings {
    /// A backend that answers 200 at once, without TLS.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            status: 200,
            delay: None,
            fail: 0.0,
            size: None,
            concurrency: None,
            broken: watch::channel(false).1,
            tls: None,
        }
    }

    fn of(args: &EchoArgs) -> anyhow::Result<Self> {
        let tls = match (&args.tls_certificate, &args.tls_key) {
            (Some(certificate), Some(key)) => Some(tls::of_files(certificate, key)?),
            _ if args.tls => Some(tls::self_signed()?),
            _ => None,
        };
        Ok(Self {
            status: args.status,
            delay: args.delay,
            fail: args.fail,
            size: args.size,
            concurrency: args.concurrency,
            tls,
            ..Self::named(&args.name)
        })
    }
}

/// One running backend.
struct Echo {
    settings: EchoSettings,
    /// Present when concurrency is limited. Tokio's semaphore is first come, first served.
    permits: Option<Arc<Semaphore>>,
    connections: AtomicU64,
    requests: AtomicU64,
    load: Load,
}

impl Echo {
    /// A place among the requests that are answered at one time; waits for it.
    async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        match &self.permits {
            Some(permits) => permits.clone().acquire_owned().await.ok(),
            None => None,
        }
    }

    fn is_broken(&self) -> bool {
        *self.settings.broken.borrow()
    }
}

/// Runs `meshwright echo` until SIGINT or SIGTERM.
///
/// # Errors
/// The address cannot be listened on, or the certificate or its key cannot be used.
pub fn run(args: &EchoArgs) -> anyhow::Result<ExitCode> {
    let settings = EchoSettings::of(args)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener =
            TcpListener::bind(args.listen).await.with_context(|| format!("cannot listen on {}", args.listen))?;
        let mut bound = listener.local_addr()?;
        if bound.ip().is_unspecified() {
            bound.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        let scheme = if settings.tls.is_some() { "https" } else { "http" };
        writeln!(io::stdout(), "listening on {scheme}://{bound}")?;
        let stop = stop_signal()?;
        serve(listener, settings, stop).await;
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
    let echo = Arc::new(Echo {
        settings,
        permits,
        connections: AtomicU64::default(),
        requests: AtomicU64::default(),
        load: Load::default(),
    });
    // Whoever serves holds a receiver: when all are gone, everything has ended.
    let (stop, stopping) = watch::channel(());
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    tokio::spawn(connection::serve(echo.clone(), stream, stopping.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "connection not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    drop(listener);
    drop(stopping);
    let _ = stop.send(());
    let _ = tokio::time::timeout(GRACE, stop.closed()).await;
}
