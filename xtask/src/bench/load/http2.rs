//! A client of HTTP/2: a connection, and so many streams at a time on it, each of which sends its next request when it has
//! the whole answer to the last one.
//!
//! It does not know whether there is TLS below. Read next: `transport.rs`.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use http::Request;

use super::transport::Dialer;
use super::{Failure, PATIENCE, Shared};

/// Bytes that may be under way to us on a stream, and on a connection.
const WINDOW: u32 = 1024 * 1024;

/// The head of a request.
///
/// # Errors
/// When host and path make no address.
pub(super) fn request(host: &str, path: &str, tls: bool) -> http::Result<Request<()>> {
    let scheme = if tls { "https" } else { "http" };
    Request::get(format!("{scheme}://{host}{path}")).header("user-agent", "bench").header("accept", "*/*").body(())
}

/// Keeps `streams` requests in flight until the load stops; connects anew when the proxy ends the connection.
pub(super) async fn client(shared: Rc<Shared>, dialer: Dialer, request: Request<()>, streams: usize) {
    while shared.goes_on() {
        let Some((send, driver)) = connect(&dialer, WINDOW).await else {
            shared.failed(Failure::Connect);
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let tasks: Vec<_> = (0..streams)
            .map(|_| tokio::task::spawn_local(stream(Rc::clone(&shared), send.clone(), request.clone())))
            .collect();
        for task in tasks {
            if task.await.is_err() {
                shared.failed(Failure::Broken);
            }
        }
        driver.abort();
        if shared.goes_on() {
            shared.closed_idle();
        }
    }
}

type Driver = tokio::task::JoinHandle<Result<(), h2::Error>>;

async fn connect(dialer: &Dialer, window: u32) -> Option<(SendRequest<Bytes>, Driver)> {
    let begin = async {
        let stream = dialer.dial().await.ok()?;
        let mut builder = Builder::new();
        builder.initial_window_size(window).initial_connection_window_size(WINDOW).enable_push(false);
        builder.handshake(stream).await.ok()
    };
    let (send, connection) = tokio::time::timeout(PATIENCE, begin).await.ok()??;
    Some((send, tokio::task::spawn_local(connection)))
}

async fn stream(shared: Rc<Shared>, mut send: SendRequest<Bytes>, request: Request<()>) {
    while shared.goes_on() {
        // A connection that the proxy ends between two requests takes no further one: that is no failure.
        match send.ready().await {
            Ok(ready) => send = ready,
            Err(_) => return,
        }
        let began = Instant::now();
        match exchange(&mut send, request.clone(), shared.body).await {
            Ok(()) => shared.answered(began),
            Err(failure) => return shared.failed(failure),
        }
    }
}

/// One request and its whole answer, whose body must have `body` bytes.
async fn exchange(send: &mut SendRequest<Bytes>, request: Request<()>, body: usize) -> Result<(), Failure> {
    let (response, _) = send.send_request(request, true).map_err(|_| Failure::ClosedUnanswered)?;
    let response = response.await.map_err(|_| Failure::ClosedUnanswered)?;
    if response.status() != http::StatusCode::OK {
        return Err(Failure::Status);
    }
    let mut receive = response.into_body();
    let mut received = 0;
    while let Some(piece) = receive.data().await {
        let length = piece.map_err(|_| Failure::Broken)?.len();
        received += length;
        receive.flow_control().release_capacity(length).map_err(|_| Failure::Broken)?;
    }
    if received == body { Ok(()) } else { Err(Failure::Length) }
}

/// Whether one request on a connection of its own has its answer.
///
/// # Errors
/// What went wrong.
pub(super) async fn ask_once(dialer: &Dialer, request: Request<()>, body: usize) -> Result<(), Failure> {
    let (send, driver) = connect(dialer, WINDOW).await.ok_or(Failure::Connect)?;
    let mut send = send.ready().await.map_err(|_| Failure::Connect)?;
    let answer = exchange(&mut send, request, body).await;
    driver.abort();
    answer
}

/// A connection on which nothing but the heads of its answers is taken, for as long as this is there.
pub(super) struct Stalled {
    _driver: Driver,
    _answers: Vec<http::Response<h2::RecvStream>>,
}

/// Asks on so many streams of a connection of its own, whose windows leave no room for a byte of an answer's body.
///
/// # Errors
/// What went wrong.
pub(super) async fn stall(dialer: &Dialer, request: &Request<()>, streams: usize) -> Result<Stalled, Failure> {
    let (mut send, driver) = connect(dialer, 0).await.ok_or(Failure::Connect)?;
    let mut asked = Vec::with_capacity(streams);
    for _ in 0..streams {
        send = send.ready().await.map_err(|_| Failure::Connect)?;
        let (answer, _) = send.send_request(request.clone(), true).map_err(|_| Failure::ClosedUnanswered)?;
        asked.push(answer);
    }
    let mut answers = Vec::with_capacity(streams);
    for answer in asked {
        let answer = tokio::time::timeout(PATIENCE, answer).await.map_err(|_| Failure::TimedOut)?;
        let answer = answer.map_err(|_| Failure::ClosedUnanswered)?;
        if answer.status() != http::StatusCode::OK {
            return Err(Failure::Status);
        }
        answers.push(answer);
    }
    Ok(Stalled { _driver: driver, _answers: answers })
}
