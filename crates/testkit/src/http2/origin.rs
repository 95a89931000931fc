//! An HTTP/2 origin that records what it gets; each stream does as the script says, in a thread of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use super::{Http2Body, Http2Failure, Http2Sender, Http2Settings, list_of, map_of, owned, runtime, wait};
use crate::tls::{TlsFacts, TlsServer};
use crate::{Pattern, Received};

/// What an origin does with one stream. A failure ends the stream like a return: what is not finished is cancelled.
type Script = dyn Fn(&mut Http2Stream) -> Result<(), Http2Failure> + Send + Sync;

/// Room for the thread of a stream.
const STACK: usize = 256 * 1024;

#[derive(Default)]
struct Shared {
    requests: Mutex<Vec<Received>>,
    streams: AtomicUsize,
    running: AtomicUsize,
    most_running: AtomicUsize,
    connections: AtomicUsize,
    open: AtomicUsize,
    handshakes: Mutex<Vec<TlsFacts>>,
    live: Mutex<Vec<(UnboundedSender<Order>, AbortHandle)>>,
}

/// What a connection is told to do.
#[derive(Clone, Copy)]
enum Order {
    GoAway,
    End(u32),
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running origin; its connections end when it is dropped.
pub struct Http2Origin {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

impl Http2Origin {
    /// Runs `script` for every stream, without TLS.
    ///
    /// # Panics
    /// No port can be had.
    pub fn start(script: impl Fn(&mut Http2Stream) -> Result<(), Http2Failure> + Send + Sync + 'static) -> Self {
        Self::with(None, Http2Settings::default(), script)
    }

    /// Runs `script` for every stream, with TLS or without, and with these settings.
    ///
    /// # Panics
    /// No port can be had.
    pub fn with(
        tls: Option<&TlsServer>,
        settings: Http2Settings,
        script: impl Fn(&mut Http2Stream) -> Result<(), Http2Failure> + Send + Sync + 'static,
    ) -> Self {
        let listener = wait("a free port", TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let tls = tls.map(|server| TlsAcceptor::from(server.config()));
        let service = Service { shared: Arc::default(), tls, settings, script: Arc::new(script) };
        let shared = service.shared.clone();
        let accepting = runtime().spawn(accept(listener, service)).abort_handle();
        Self { address, shared, accepting }
    }

    /// Answers every request with a status, fields and a body, after reading it.
    pub fn answers(status: u16, headers: &[(&str, &str)], body: &str) -> Self {
        let (headers, body) = (owned(headers), body.to_owned());
        Self::start(move |stream| {
            stream.request()?;
            let headers: Vec<(&str, &str)> =
                headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            stream.answer(status, &headers, body.as_bytes())
        })
    }

    /// Answers 200 with its own name.
    pub fn named(name: &str) -> Self {
        Self::answers(200, &[], name)
    }

    /// Answers 200 with the body of the request and its trailers; method and path come back as `x-method` and `x-target`.
    pub fn echoes() -> Self {
        Self::start(Http2Stream::echo)
    }

    /// As [`Http2Origin::echoes`], over TLS.
    pub fn echoes_over_tls(tls: &TlsServer) -> Self {
        Self::with(Some(tls), Http2Settings::default(), Http2Stream::echo)
    }

    /// Sends bytes back as they come, and the trailers at the end.
    pub fn streams_back() -> Self {
        Self::start(|stream| {
            stream.head(200, &[])?;
            while let Some(data) = stream.body.read_some()? {
                stream.sender().send(data)?;
            }
            let trailers = stream.body.trailers()?;
            let trailers: Vec<(&str, &str)> =
                trailers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            if trailers.is_empty() { stream.sender().finish() } else { stream.sender().finish_with(&trailers) }
        })
    }

    /// Answers 200 with the first `length` bytes of the pattern, and says how many.
    pub fn sends_pattern(length: u64) -> Self {
        Self::start(move |stream| {
            stream.request()?;
            stream.head(200, &[("content-length", &length.to_string())])?;
            let mut pattern = Pattern::default();
            while pattern.total() < length {
                let most = usize::try_from(length - pattern.total()).unwrap_or(usize::MAX);
                let bytes = Bytes::copy_from_slice(pattern.next(most));
                stream.sender().send(bytes)?;
            }
            stream.sender().finish()
        })
    }

    /// Reads requests and never answers.
    pub fn never_answers() -> Self {
        Self::start(|stream| {
            stream.request()?;
            stream.wait_for_reset(crate::PATIENCE);
            Ok(())
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The complete requests so far. Pseudo-header fields stand before the others, with their colon.
    pub fn requests(&self) -> Vec<Received> {
        locked(&self.shared.requests).clone()
    }

    /// The last complete request.
    ///
    /// # Panics
    /// There is none.
    #[track_caller]
    pub fn last(&self) -> Received {
        locked(&self.shared.requests).last().cloned().expect("a request came")
    }

    /// How many complete requests came.
    pub fn count(&self) -> usize {
        locked(&self.shared.requests).len()
    }

    /// How many streams were opened.
    pub fn streams(&self) -> usize {
        self.shared.streams.load(Ordering::SeqCst)
    }

    /// How many streams are served now.
    pub fn running(&self) -> usize {
        self.shared.running.load(Ordering::SeqCst)
    }

    /// The most streams that were served at one time.
    pub fn most_running(&self) -> usize {
        self.shared.most_running.load(Ordering::SeqCst)
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// What the TLS handshakes so far agreed on.
    pub fn handshakes(&self) -> Vec<TlsFacts> {
        locked(&self.shared.handshakes).clone()
    }

    /// Lets every connection that is open now go away gracefully: GOAWAY, open streams go on.
    pub fn go_away(&self) {
        self.order(Order::GoAway);
    }

    /// Ends every connection that is open now: GOAWAY with this code, open streams are lost.
    pub fn end_connections(&self, code: u32) {
        self.order(Order::End(code));
    }

    fn order(&self, order: Order) {
        for (orders, _) in locked(&self.shared.live).iter() {
            let _ = orders.send(order);
        }
    }

    /// Closes every connection that is open now, without a word.
    pub fn close_connections(&self) {
        for (_, connection) in locked(&self.shared.live).drain(..) {
            connection.abort();
        }
    }
}

impl Drop for Http2Origin {
    fn drop(&mut self) {
        self.accepting.abort();
        self.close_connections();
    }
}

#[derive(Clone)]
struct Service {
    shared: Arc<Shared>,
    tls: Option<TlsAcceptor>,
    settings: Http2Settings,
    script: Arc<Script>,
}

async fn accept(listener: TcpListener, service: Service) {
    while let Ok((socket, peer)) = listener.accept().await {
        let number = service.shared.connections.fetch_add(1, Ordering::SeqCst);
        let (orders, orders_of) = unbounded_channel();
        let served = tokio::spawn(service.clone().connection(socket, peer, number, orders_of));
        let mut live = locked(&service.shared.live);
        live.retain(|(_, connection)| !connection.is_finished());
        live.push((orders, served.abort_handle()));
    }
}

/// Counts something for as long as it lives.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Service {
    async fn connection(self, socket: TcpStream, peer: SocketAddr, number: usize, orders: UnboundedReceiver<Order>) {
        let shared = self.shared.clone();
        let _open = Counted::new(&shared.open);
        let _ = socket.set_nodelay(true);
        let Some(tls) = &self.tls else { return self.speak(socket, peer, number, orders).await };
        if let Ok(stream) = tls.accept(socket).await {
            let connection = stream.get_ref().1;
            locked(&shared.handshakes).push(TlsFacts::of(connection, connection.server_name()));
            self.speak(stream, peer, number, orders).await;
        }
    }

    async fn speak(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        peer: SocketAddr,
        number: usize,
        mut orders: UnboundedReceiver<Order>,
    ) {
        let handshake = h2::server::Builder::new()
            .initial_window_size(self.settings.stream_window)
            .initial_connection_window_size(self.settings.connection_window)
            .max_frame_size(self.settings.max_frame)
            .max_concurrent_streams(self.settings.max_streams)
            .enable_connect_protocol()
            .handshake(stream);
        let Ok(mut connection): Result<Connection<_, Bytes>, _> = handshake.await else { return };
        let mut before = 0;
        loop {
            tokio::select! {
                accepted = connection.accept() => {
                    let Some(Ok((request, respond))) = accepted else { return };
                    self.stream(request, respond, peer, (number, before));
                    before += 1;
                }
                Some(order) = orders.recv() => match order {
                    Order::GoAway => connection.graceful_shutdown(),
                    Order::End(code) => connection.abrupt_shutdown(Reason::from(code)),
                },
            }
        }
    }

    fn stream(
        &self,
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
        peer: SocketAddr,
        (connection, before): (usize, usize),
    ) {
        let (shared, script) = (self.shared.clone(), self.script.clone());
        shared.streams.fetch_add(1, Ordering::SeqCst);
        let (received, body) = received(request, connection, before);
        let serve = move || {
            let _running = Counted::new(&shared.running);
            shared.most_running.fetch_max(shared.running.load(Ordering::SeqCst), Ordering::SeqCst);
            let mut stream = Http2Stream {
                received,
                body: Http2Body::new(body),
                peer,
                respond,
                sender: None,
                shared: shared.clone(),
            };
            let _ = script(&mut stream);
        };
        thread::Builder::new().stack_size(STACK).spawn(serve).expect("a thread");
    }
}

fn received(request: Request<RecvStream>, connection: usize, before: usize) -> (Received, RecvStream) {
    let (head, body) = request.into_parts();
    let target = head.uri.path_and_query().map_or("", |target| target.as_str()).to_owned();
    let mut headers = vec![(":method".to_owned(), head.method.to_string())];
    let protocol = head.extensions.get::<h2::ext::Protocol>().map(h2::ext::Protocol::as_str);
    for (name, value) in [
        (":scheme", head.uri.scheme_str()),
        (":authority", head.uri.authority().map(http::uri::Authority::as_str)),
        (":path", Some(target.as_str())),
        (":protocol", protocol),
    ] {
        headers.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    }
    headers.extend(list_of(&head.headers));
    (Received { method: head.method.to_string(), target, headers, connection, before, ..Received::default() }, body)
}

/// One stream of an origin, as its script sees it.
pub struct Http2Stream {
    /// The head of the request; the body is empty until [`Http2Stream::request`].
    pub received: Received,
    /// What the client sends.
    pub body: Http2Body,
    /// The client.
    pub peer: SocketAddr,
    respond: SendResponse<Bytes>,
    sender: Option<Http2Sender>,
    shared: Arc<Shared>,
}

impl Http2Stream {
    /// Reads the rest of the request and records it.
    ///
    /// # Errors
    /// The stream or the connection ended early.
    pub fn request(&mut self) -> Result<Received, Http2Failure> {
        let read = wait("the rest of a request", self.body.all());
        (self.received.body, self.received.trailers) = read.map_err(|(failure, _)| failure)?;
        locked(&self.shared.requests).push(self.received.clone());
        Ok(self.received.clone())
    }

    /// Sends an informational head.
    ///
    /// # Errors
    /// The stream or the connection ended.
    pub fn inform(&mut self, status: u16, headers: &[(&str, &str)]) -> Result<(), Http2Failure> {
        Ok(self.respond.send_informational(response(status, headers))?)
    }

    /// Sends a head that a body follows; see [`Http2Stream::sender`].
    ///
    /// # Errors
    /// The stream or the connection ended.
    pub fn head(&mut self, status: u16, headers: &[(&str, &str)]) -> Result<(), Http2Failure> {
        let stream = self.respond.send_response(response(status, headers), false)?;
        self.sender = Some(Http2Sender::new(stream));
        Ok(())
    }

    /// Sends a head that is the whole answer.
    ///
    /// # Errors
    /// The stream or the connection ended.
    pub fn only_head(&mut self, status: u16, headers: &[(&str, &str)]) -> Result<(), Http2Failure> {
        self.respond.send_response(response(status, headers), true)?;
        Ok(())
    }

    /// Sends a whole answer.
    ///
    /// # Errors
    /// The stream or the connection ended.
    pub fn answer(&mut self, status: u16, headers: &[(&str, &str)], body: &[u8]) -> Result<(), Http2Failure> {
        if body.is_empty() {
            return self.only_head(status, headers);
        }
        self.head(status, headers)?;
        self.sender().send(Bytes::copy_from_slice(body))?;
        self.sender().finish()
    }

    fn echo(&mut self) -> Result<(), Http2Failure> {
        let received = self.request()?;
        let seen = [("x-method", received.method.as_str()), ("x-target", received.target.as_str())];
        if received.trailers.is_empty() {
            return self.answer(200, &seen, &received.body);
        }
        self.head(200, &seen)?;
        self.sender().send(received.body.clone())?;
        let trailers: Vec<(&str, &str)> =
            received.trailers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.sender().finish_with(&trailers)
    }

    /// The direction to the client.
    ///
    /// # Panics
    /// No head was sent.
    pub fn sender(&mut self) -> &mut Http2Sender {
        self.sender.as_mut().expect("the head was sent")
    }

    /// Resets the stream.
    pub fn reset(&mut self, code: u32) {
        match &mut self.sender {
            Some(sender) => sender.reset(code),
            None => self.respond.send_reset(Reason::from(code)),
        }
    }

    /// The code that the client resets the stream with, within this time.
    pub fn wait_for_reset(&mut self, time: Duration) -> Option<u32> {
        match &mut self.sender {
            Some(sender) => sender.reset_within(time),
            None => {
                let reset = super::wait_at_most(time, std::future::poll_fn(|context| self.respond.poll_reset(context)));
                reset.and_then(|reset| reset.ok().map(u32::from))
            }
        }
    }
}

fn response(status: u16, headers: &[(&str, &str)]) -> http::Response<()> {
    let mut response = http::Response::builder().status(status).body(()).expect("a status");
    *response.headers_mut() = map_of(&owned(headers));
    response
}
