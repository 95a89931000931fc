//! An upstream peer that records what it gets and does as its script says. What scripts there are is in `scripts.rs`.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustls::ServerConfig;
use socket2::SockRef;

use crate::channel::Channel;
use crate::message::{Framing, fields, find, head_length, parse_chunked, request_framing};
use crate::tls::{TlsFacts, TlsServer};
use crate::{GLANCE, PATIENCE};

/// What an origin does with one connection. An error ends the connection like a return.
type Script = dyn Fn(&mut OriginConnection) -> io::Result<()> + Send + Sync;

/// A request as it came, complete.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// Method.
    pub method: String,
    /// Target as on the wire.
    pub target: String,
    /// Request line and fields, with the empty line.
    pub head: String,
    /// Fields in order, names as sent.
    pub headers: Vec<(String, String)>,
    /// Body without framing.
    pub body: Vec<u8>,
    /// Trailer fields.
    pub trailers: Vec<(String, String)>,
    /// Chunk size lines; empty when the body was not chunked.
    pub chunk_lines: Vec<String>,
    /// Number of its connection, from 0.
    pub connection: usize,
    /// Number of requests on that connection before it.
    pub before: usize,
}

impl Received {
    /// The first field of that name, without regard to case.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// Every value of that name.
    pub fn values(&self, name: &str) -> Vec<&str> {
        let of_name = self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        of_name.map(|(_, value)| value.as_str()).collect()
    }
}

#[derive(Default)]
struct Shared {
    requests: Mutex<Vec<Received>>,
    heads: AtomicUsize,
    bytes: AtomicU64,
    connections: AtomicUsize,
    open: AtomicUsize,
    stop: AtomicBool,
    streams: Mutex<HashMap<usize, TcpStream>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running origin; its connections end when it is dropped.
pub struct Origin {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl Origin {
    /// Runs `script` for every connection, each in a thread of its own.
    ///
    /// # Panics
    /// No port can be had.
    pub fn start(script: impl Fn(&mut OriginConnection) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self::start_with(None, script)
    }

    /// As [`Origin::start`], over TLS. A connection whose handshake fails is counted, and ends without the script.
    ///
    /// # Panics
    /// No port can be had.
    pub fn start_tls(
        tls: &TlsServer,
        script: impl Fn(&mut OriginConnection) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::start_with(Some(tls.config()), script)
    }

    fn start_with(
        tls: Option<Arc<ServerConfig>>,
        script: impl Fn(&mut OriginConnection) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::start_at(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"), tls, script)
    }

    /// As [`Origin::start`], at a listener that is there.
    pub(crate) fn start_at(
        listener: TcpListener,
        tls: Option<Arc<ServerConfig>>,
        script: impl Fn(&mut OriginConnection) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared::default());
        let (of_thread, script) = (shared.clone(), Arc::new(script));
        let accepting = thread::spawn(move || accept(&listener, tls.as_ref(), &of_thread, &script));
        Self { address, shared, accepting: Some(accepting) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The complete requests so far.
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

    /// How many request heads came, complete requests or not.
    pub fn heads(&self) -> usize {
        self.shared.heads.load(Ordering::SeqCst)
    }

    /// How many bytes came.
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::SeqCst)
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Closes every connection that is open now.
    pub fn close_connections(&self) {
        for stream in locked(&self.shared.streams).values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes the accepting thread.
        let _ = TcpStream::connect_timeout(&self.address, PATIENCE);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
        self.close_connections();
    }
}

fn accept<S>(listener: &TcpListener, tls: Option<&Arc<ServerConfig>>, shared: &Arc<Shared>, script: &Arc<S>)
where
    S: Fn(&mut OriginConnection) -> io::Result<()> + Send + Sync + 'static,
{
    while let Ok((stream, peer)) = listener.accept() {
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        let number = shared.connections.fetch_add(1, Ordering::SeqCst);
        shared.open.fetch_add(1, Ordering::SeqCst);
        let _ = stream.set_nodelay(true);
        if let Ok(copy) = stream.try_clone() {
            locked(&shared.streams).insert(number, copy);
        }
        let (shared, script, tls) = (shared.clone(), script.clone(), tls.cloned());
        thread::spawn(move || {
            let stream = match tls {
                None => Ok(Channel::Plain(stream)),
                Some(tls) => crate::tls::accept(&tls, stream),
            };
            // Closed first, counted as closed then.
            if let Ok(stream) = stream {
                let mut connection =
                    OriginConnection { stream, peer, ahead: Vec::new(), number, served: 0, shared: shared.clone() };
                let script: &Script = &*script;
                let _ = script(&mut connection);
            }
            locked(&shared.streams).remove(&number);
            shared.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

/// One connection of an origin, as its script sees it.
pub struct OriginConnection {
    stream: Channel,
    peer: SocketAddr,
    ahead: Vec<u8>,
    number: usize,
    served: usize,
    shared: Arc<Shared>,
}

impl OriginConnection {
    /// Number of the connection, from 0.
    pub fn number(&self) -> usize {
        self.number
    }

    /// The peer.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The socket, for what this type has no word for; nothing may have been read before.
    ///
    /// # Errors
    /// The process has too many open files.
    pub fn socket(&self) -> io::Result<TcpStream> {
        self.stream.socket().try_clone()
    }

    /// What the TLS handshake agreed on.
    ///
    /// # Panics
    /// There was none.
    pub fn tls(&self) -> TlsFacts {
        self.stream.facts().expect("a connection over TLS")
    }

    /// Reads a request with its body and records it; `None` when the peer closes before the first byte.
    ///
    /// # Errors
    /// The connection fails or ends in the middle, or the body is not well framed.
    pub fn request(&mut self) -> io::Result<Option<Received>> {
        let Some(received) = self.head()? else { return Ok(None) };
        self.body_of(received).map(Some)
    }

    /// Reads the head of a request only; `None` when the peer closes before the first byte.
    ///
    /// # Errors
    /// The connection fails or ends in the middle.
    pub fn head(&mut self) -> io::Result<Option<Received>> {
        let length = loop {
            if let Some(length) = head_length(&self.ahead) {
                break length;
            }
            if !self.fill()? {
                return if self.ahead.is_empty() { Ok(None) } else { Err(ErrorKind::UnexpectedEof.into()) };
            }
        };
        let bytes: Vec<u8> = self.ahead.drain(..length).collect();
        let head: String = bytes.iter().map(|byte| char::from(*byte)).collect();
        let mut words = head.split([' ', '\r']);
        let (method, target) =
            (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
        self.shared.heads.fetch_add(1, Ordering::SeqCst);
        let headers = fields(&head, true);
        let (connection, before) = (self.number, self.served);
        Ok(Some(Received { method, target, head, headers, connection, before, ..Received::default() }))
    }

    /// Reads the body that belongs to `received` and records the request.
    ///
    /// # Errors
    /// The connection fails or ends in the middle, or the body is not well framed.
    pub fn body_of(&mut self, mut received: Received) -> io::Result<Received> {
        match request_framing(&received.headers) {
            Framing::Chunked => loop {
                match parse_chunked(&self.ahead) {
                    Ok(Some(chunked)) => {
                        self.ahead.drain(..chunked.consumed);
                        received.body = chunked.data;
                        received.trailers = chunked.trailers;
                        received.chunk_lines = chunked.size_lines;
                        break;
                    }
                    Ok(None) => self.fill_or_fail()?,
                    Err(what) => return Err(io::Error::new(ErrorKind::InvalidData, what)),
                }
            },
            Framing::Length(length) => {
                while self.ahead.len() < length {
                    self.fill_or_fail()?;
                }
                received.body = self.ahead.drain(..length).collect();
            }
            Framing::UntilClose => {}
        }
        self.record(received.clone());
        Ok(received)
    }

    /// Records a request whose body was read by other means.
    pub fn record(&mut self, received: Received) {
        self.served += 1;
        locked(&self.shared.requests).push(received);
    }

    /// Reads some bytes of what follows into `buffer`; 0 at the end.
    ///
    /// # Errors
    /// The connection fails.
    pub fn read_some(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.ahead.is_empty() {
            let count = buffer.len().min(self.ahead.len());
            buffer[..count].copy_from_slice(&self.ahead[..count]);
            self.ahead.drain(..count);
            return Ok(count);
        }
        let count = self.stream.read(buffer)?;
        self.shared.bytes.fetch_add(count as u64, Ordering::SeqCst);
        Ok(count)
    }

    /// Writes bytes.
    ///
    /// # Errors
    /// The connection fails.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Writes bytes one by one, each as a segment of its own.
    ///
    /// # Errors
    /// The connection fails.
    pub fn send_slowly(&mut self, bytes: &[u8], pause: Duration) -> io::Result<()> {
        for byte in bytes {
            self.stream.write_all(&[*byte])?;
            thread::sleep(pause);
        }
        Ok(())
    }

    /// Says that nothing more comes.
    pub fn finish_sending(&mut self) {
        self.stream.finish_sending();
    }

    /// Ends the connection with a reset as soon as the script returns.
    pub fn reset(&self) {
        crate::reset_at_end(self.stream.socket());
    }

    /// How long a write may wait for the peer, instead of for ever; then it fails.
    pub fn set_write_timeout(&self, most: Duration) {
        let _ = self.stream.socket().set_write_timeout(Some(most));
    }

    /// Takes nothing more of what comes, with as little room for it as the system gives, until the origin is dropped.
    pub fn take_nothing(&self) {
        let _ = SockRef::from(self.stream.socket()).set_recv_buffer_size(1);
        while !self.shared.stop.load(Ordering::SeqCst) {
            thread::sleep(GLANCE);
        }
    }

    /// Waits until the peer closes, dropping what it sends; true when it did, false after `most`.
    pub fn wait_for_close(&mut self, most: Duration) -> bool {
        let _ = self.stream.socket().set_read_timeout(Some(most));
        loop {
            match self.fill() {
                Ok(true) => self.ahead.clear(),
                Ok(false) => return true,
                Err(error) => return !is_timeout(&error),
            }
        }
    }

    /// Waits for the next bytes; false when none came in time or the peer closed.
    pub fn comes_within(&mut self, most: Duration) -> bool {
        if !self.ahead.is_empty() {
            return true;
        }
        let _ = self.stream.socket().set_read_timeout(Some(most));
        let came = self.fill();
        let _ = self.stream.socket().set_read_timeout(None);
        matches!(came, Ok(true))
    }

    fn fill_or_fail(&mut self) -> io::Result<()> {
        if self.fill()? { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) }
    }

    fn fill(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 16 * 1024];
        let count = self.stream.read(&mut buffer)?;
        self.shared.bytes.fetch_add(count as u64, Ordering::SeqCst);
        self.ahead.extend_from_slice(&buffer[..count]);
        Ok(count > 0)
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
