//! An HTTP/2 client: one connection, any number of streams at once.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Ping, PingPong};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsConnector;

use super::{Http2Body, Http2Failure, Http2Sender, Http2Settings, list_of, runtime, wait, wait_at_most};
use crate::tls::{TlsClient, TlsFacts};
use crate::{Ask, Response, holds_within};

/// How the connection ended, when it has.
type Ended = Arc<Mutex<Option<Result<(), Http2Failure>>>>;

/// One connection. Dropped, it ends at once, whatever is open on it.
pub struct Http2Client {
    sender: SendRequest<Bytes>,
    ping: PingPong,
    ended: Ended,
    driver: AbortHandle,
    local: SocketAddr,
    tls: Option<TlsFacts>,
}

impl Http2Client {
    /// Connects without TLS, by prior knowledge.
    ///
    /// # Panics
    /// Nobody accepts.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        Self::with(address, None, Http2Settings::default()).unwrap_or_else(|error| panic!("no HTTP/2: {error}"))
    }

    /// Connects over TLS.
    ///
    /// # Panics
    /// Nobody accepts, or the handshake fails.
    #[track_caller]
    pub fn over_tls(address: SocketAddr, tls: &TlsClient) -> Self {
        Self::with(address, Some(tls), Http2Settings::default()).unwrap_or_else(|error| panic!("no HTTP/2: {error}"))
    }

    /// Connects with these settings.
    ///
    /// # Errors
    /// Nobody accepts, or a handshake fails.
    #[track_caller]
    pub fn with(address: SocketAddr, tls: Option<&TlsClient>, settings: Http2Settings) -> io::Result<Self> {
        wait("a connection", async {
            let socket = TcpStream::connect(address).await?;
            socket.set_nodelay(true)?;
            let local = socket.local_addr()?;
            let Some(tls) = tls else { return Self::begin(socket, local, None, settings).await };
            let name: ServerName<'static> = tls.server_name();
            let stream = TlsConnector::from(tls.config()).connect(name, socket).await?;
            let facts = TlsFacts::of(stream.get_ref().1, None);
            Self::begin(stream, local, Some(facts), settings).await
        })
    }

    async fn begin(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        local: SocketAddr,
        tls: Option<TlsFacts>,
        settings: Http2Settings,
    ) -> io::Result<Self> {
        let handshake = h2::client::Builder::new()
            .initial_window_size(settings.stream_window)
            .initial_connection_window_size(settings.connection_window)
            .max_frame_size(settings.max_frame)
            .max_concurrent_streams(settings.max_streams)
            .enable_push(false)
            .handshake(stream);
        let (sender, mut connection) = handshake.await.map_err(io::Error::other)?;
        let ping = connection.ping_pong().ok_or_else(|| io::Error::other("no pings"))?;
        let ended = Ended::default();
        let of_driver = ended.clone();
        let driver = runtime().spawn(async move {
            let outcome = connection.await.map_err(Http2Failure::from);
            *of_driver.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        });
        Ok(Self { sender, ping, ended, driver: driver.abort_handle(), local, tls })
    }

    /// Our address of the connection.
    pub fn local_address(&self) -> SocketAddr {
        self.local
    }

    /// What the TLS handshake agreed on.
    ///
    /// # Panics
    /// There was none.
    #[track_caller]
    pub fn tls(&self) -> &TlsFacts {
        self.tls.as_ref().expect("a connection over TLS")
    }

    /// Sends a request and reads its answer.
    ///
    /// # Panics
    /// There is none.
    #[track_caller]
    pub fn request(&self, ask: &Ask) -> Response {
        self.try_request(ask).unwrap_or_else(|failure| panic!("{} {}: {failure}", ask.method, ask.path))
    }

    /// A GET.
    ///
    /// # Panics
    /// There is no answer.
    #[track_caller]
    pub fn get(&self, authority: &str, path: &str) -> Response {
        self.request(&Ask::get(authority, path))
    }

    /// As [`Http2Client::request`], for requests that may fail.
    ///
    /// # Errors
    /// Why there is no complete answer.
    #[track_caller]
    pub fn try_request(&self, ask: &Ask) -> Result<Response, Http2Failure> {
        wait("an answer", exchange(self.sender.clone(), ask.clone()))
    }

    /// Sends all requests at once and reads all answers; in the order of the requests.
    #[track_caller]
    pub fn requests(&self, asks: impl IntoIterator<Item = Ask>) -> Vec<Result<Response, Http2Failure>> {
        let mut running = JoinSet::new();
        for (number, ask) in asks.into_iter().enumerate() {
            let sender = self.sender.clone();
            running.spawn_on(async move { (number, exchange(sender, ask).await) }, runtime());
        }
        let mut answers = wait("all answers", running.join_all());
        answers.sort_by_key(|(number, _)| *number);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }

    /// Sends a request and leaves the exchange in the hands of the test.
    ///
    /// # Errors
    /// The connection takes no request.
    #[track_caller]
    pub fn start(&self, ask: &Ask) -> Result<Http2Exchange, Http2Failure> {
        wait("a stream", async {
            let (mut sender, receiving) = open(self.sender.clone(), ask).await?;
            send_rest(&mut sender, ask).await?;
            Ok(Http2Exchange { sender, receiving, answer: None })
        })
    }

    /// Whether the peer answers a PING.
    pub fn ping(&mut self) -> bool {
        wait("a pong", self.ping.ping(Ping::opaque())).is_ok()
    }

    /// Streams that the peer allows at one time, as far as is known.
    pub fn allowed_streams(&self) -> usize {
        self.sender.current_max_send_streams()
    }

    /// Whether the peer's settings allow extended CONNECT.
    pub fn may_extended_connect(&self) -> bool {
        holds_within(Duration::from_secs(5), || self.sender.is_extended_connect_protocol_enabled())
    }

    /// Whether new requests can be sent within this time; they cannot after a GOAWAY.
    pub fn takes_requests_within(&self, time: Duration) -> bool {
        let mut sender = self.sender.clone();
        wait_at_most(time, poll_fn(|context| sender.poll_ready(context))).is_some_and(|ready| ready.is_ok())
    }

    /// How the connection ended; `None` while it is there.
    pub fn ended(&self) -> Option<Result<(), Http2Failure>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Http2Client {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Opens a stream with the head of a request.
async fn open(sender: SendRequest<Bytes>, ask: &Ask) -> Result<(Http2Sender, Receiving), Http2Failure> {
    let mut sender = sender.ready().await?;
    let bare = ask.body.is_empty() && ask.trailers.is_empty() && !ask.open;
    let (awaited, stream) = sender.send_request(ask.head(), bare)?;
    Ok((Http2Sender::new(stream), Receiving { awaited, informational: VecDeque::new() }))
}

/// Sends what follows the head.
async fn send_rest(sender: &mut Http2Sender, ask: &Ask) -> Result<(), Http2Failure> {
    if !ask.body.is_empty() {
        sender.put(ask.body.clone().into(), ask.trailers.is_empty() && !ask.open).await?;
    }
    if !ask.trailers.is_empty() {
        sender.put_trailers(&ask.trailers).await?;
    }
    Ok(())
}

/// One request and its answer. The answer may come before the request is sent whole.
async fn exchange(sender: SendRequest<Bytes>, ask: Ask) -> Result<Response, Http2Failure> {
    let (mut sender, mut receiving) = open(sender, &ask).await?;
    let send = send_rest(&mut sender, &ask);
    let receive = async {
        let (head, mut body) = receiving.head().await?;
        read(&mut body, head).await
    };
    tokio::pin!(send, receive);
    tokio::select! {
        biased;
        answer = &mut receive => answer,
        // A request that is refused early cannot be sent to its end, and its answer comes all the same.
        _ = &mut send => receive.await,
    }
}

async fn read(body: &mut Http2Body, mut response: Response) -> Result<Response, Http2Failure> {
    (response.body, response.trailers) = body.all().await.map_err(|(failure, _)| failure)?;
    Ok(response)
}

/// An answer whose head did not come yet.
struct Receiving {
    awaited: ResponseFuture,
    informational: VecDeque<Response>,
}

impl Receiving {
    async fn head(&mut self) -> Result<(Response, Http2Body), Http2Failure> {
        let response = poll_fn(|context| {
            while let Poll::Ready(Some(informational)) = self.awaited.poll_informational(context) {
                self.informational.push_back(response_of(&informational?));
            }
            Pin::new(&mut self.awaited).poll(context)
        });
        let (parts, body) = response.await?.into_parts();
        let mut head = response_of(&http::Response::from_parts(parts, ()));
        head.informational = self.informational.iter().map(|response| response.status).collect();
        Ok((head, Http2Body::new(body)))
    }

    /// The next informational head.
    async fn informational(&mut self) -> Option<Response> {
        if let Some(response) = self.informational.pop_front() {
            return Some(response);
        }
        let next = poll_fn(|context| self.awaited.poll_informational(context)).await;
        next?.ok().map(|response| response_of(&response))
    }
}

fn response_of(response: &http::Response<()>) -> Response {
    Response { status: response.status().as_u16(), headers: list_of(response.headers()), ..Response::default() }
}

/// A request whose answer is read step by step. Dropped before its end, it is cancelled.
pub struct Http2Exchange {
    /// The direction to the server.
    pub sender: Http2Sender,
    receiving: Receiving,
    answer: Option<Result<(Response, Http2Body), Http2Failure>>,
}

impl Http2Exchange {
    /// The next informational head. They come before the final head.
    ///
    /// # Panics
    /// None comes.
    #[track_caller]
    pub fn informational(&mut self) -> Response {
        wait("an informational head", self.receiving.informational()).expect("an informational head")
    }

    /// The final head; `body` and `trailers` of it are empty.
    ///
    /// # Errors
    /// Why there is none.
    #[track_caller]
    pub fn try_head(&mut self) -> Result<Response, Http2Failure> {
        self.answer().as_ref().map(|(head, _)| head.clone()).map_err(|failure| failure.clone())
    }

    #[track_caller]
    fn answer(&mut self) -> &mut Result<(Response, Http2Body), Http2Failure> {
        let receiving = &mut self.receiving;
        self.answer.get_or_insert_with(|| wait("the head of an answer", receiving.head()))
    }

    /// The final head.
    ///
    /// # Panics
    /// There is none.
    #[track_caller]
    pub fn head(&mut self) -> Response {
        self.try_head().unwrap_or_else(|failure| panic!("no head: {failure}"))
    }

    /// Whether the final head, or a failure in its place, comes within this time.
    pub fn head_within(&mut self, time: Duration) -> bool {
        if self.answer.is_none() {
            self.answer = wait_at_most(time, self.receiving.head());
        }
        self.answer.is_some()
    }

    /// The body of the answer, behind its head.
    ///
    /// # Panics
    /// There is no head.
    #[track_caller]
    pub fn body(&mut self) -> &mut Http2Body {
        match self.answer() {
            Ok((_, body)) => body,
            Err(failure) => panic!("no head: {failure}"),
        }
    }

    /// The rest of the answer.
    ///
    /// # Errors
    /// Why it is not complete.
    #[track_caller]
    pub fn try_response(&mut self) -> Result<Response, Http2Failure> {
        let head = self.try_head()?;
        wait("the rest of an answer", read(self.body(), head))
    }

    /// The rest of the answer.
    ///
    /// # Panics
    /// It is not complete.
    #[track_caller]
    pub fn response(&mut self) -> Response {
        self.try_response().unwrap_or_else(|failure| panic!("no whole answer: {failure}"))
    }
}
