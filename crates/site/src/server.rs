//! A listener for programs and people: bounded connections, deadlines for heads and bodies, a graceful end.
//!
//! It serves a router and knows no page of it.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::body::Timed;
use crate::guard::Ends;
use crate::head::detach;
use crate::stall::Impatient;
use crate::waits::Waits;

/// Time for a request head, and for the pause between two requests of a connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Time for a request body, all of it.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Time in which a client takes something of what waits for it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest head of a request, and what waits in memory of an answer in pieces for a client that reads slowly, in bytes.
const LARGEST_BUFFER: usize = 64 * 1024;

/// Pause after a failed accept, so that used-up file descriptors do not turn into a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Time that running requests have to end after the shutdown.
const GRACE: Duration = Duration::from_secs(5);

/// Serves `router` until `shutdown` is ready, then lets running requests end for at most five seconds. Beyond `connections`
/// at one time, further ones wait in the accept queue; three quarters of them may be taken by requests that wait ([`Waits`]).
/// Who reads nothing for a minute of what waits for it is given up. A failed accept is logged and tried again: it never ends the listener.
///
/// # Errors
/// Only when the listener has no local address, before anything is served.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    connections: usize,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    listener.local_addr()?;
    let (slots, waits) = (Arc::new(Semaphore::new(connections)), Waits::of(connections));
    let (ending, ended) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => continue,
            accepted = accepted => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection to the API could not be accepted");
                tokio::select! {
                    () = &mut shutdown => break,
                    () = tokio::time::sleep(ACCEPT_PAUSE) => continue,
                }
            }
        };
        let (router, waits, ended) = (router.clone(), waits.clone(), ended.clone());
        connections.spawn(async move {
            connection(stream, router, waits, ended).await;
            drop(slot);
        });
    }
    drop(listener);
    ending.send_replace(true);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, all).await.is_err() {
        connections.shutdown().await;
    }
    Ok(())
}

/// Serves one connection. How it ends is the client's business and not worth a log line above debug.
async fn connection(stream: TcpStream, router: Router, waits: Waits, mut ended: watch::Receiver<bool>) {
    let (Ok(local), Ok(peer)) = (stream.local_addr(), stream.peer_addr()) else { return };
    // A layer of the router would be a copy of every route for each connection.
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (mut head, body) = request.into_parts();
        detach(&mut head);
        let mut request = hyper::Request::from_parts(head, Timed::limit(Body::new(body), BODY_TIMEOUT));
        request.extensions_mut().insert(Ends { local, peer });
        request.extensions_mut().insert(waits.clone());
        router.call(request)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(LARGEST_BUFFER)
        .serve_connection(TokioIo::new(Impatient::new(stream, WRITE_TIMEOUT)), service);
    let mut served = pin!(served);
    // What `wait_for` gives holds a lock: it must be gone before the next await.
    let ended = async move { ended.wait_for(|ended| *ended).await.is_ok() };
    let result = tokio::select! {
        result = served.as_mut() => result,
        _ = ended => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, %peer, "a connection to the API broke off");
    }
}
