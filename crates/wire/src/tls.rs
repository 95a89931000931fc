//! TLS over a socket: rustls does the protocol, this moves its records.
//!
//! What is written is sealed at once and sent as far as the kernel takes it; the rest waits in the session, and nothing
//! more is sealed until it is gone. A head and a body that are written together share a record. Knows no certificates and
//! no names: configurations come from `meshwright-identity`. Read next: `transport`.

use std::io::{self, BufRead, IoSlice, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::pki_types::ServerName;
use rustls::server::{Accepted, AcceptedAlert};
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::hello::{self, HelloError, HelloScan};
use crate::net::{self, TcpStream};

/// A TLS session over a socket.
pub struct TlsStream {
    tcp: TcpStream,
    session: Connection,
}

/// The socket as rustls wants it: calls that would block say so, after the task has been registered.
struct Blocking<'a, 'b, 'c> {
    tcp: &'a TcpStream,
    cx: &'b mut Context<'c>,
}

impl Read for Blocking<'_, '_, '_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        would_block(net::poll_read(self.tcp, self.cx, into))
    }
}

impl Write for Blocking<'_, '_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, runs: &[IoSlice<'_>]) -> io::Result<usize> {
        would_block(match runs {
            [run] => net::poll_write(self.tcp, self.cx, run),
            runs => net::poll_write_vectored(self.tcp, self.cx, runs),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the runtime says, as rustls wants it.
fn would_block(polled: Poll<io::Result<usize>>) -> io::Result<usize> {
    match polled {
        Poll::Ready(done) => done,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// `WouldBlock` as the runtime has it.
fn pending<T>(result: io::Result<T>) -> Poll<io::Result<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        other => Poll::Ready(other),
    }
}

impl TlsStream {
    /// Connects as a client; the handshake is complete when this returns.
    ///
    /// # Errors
    /// The socket fails, or the server is not who it should be.
    pub async fn connect(tcp: TcpStream, config: Arc<ClientConfig>, name: ServerName<'static>) -> io::Result<Self> {
        let session = ClientConnection::new(config, name).map_err(io::Error::other)?;
        let mut stream = Self { tcp, session: session.into() };
        stream.handshake().await?;
        Ok(stream)
    }

    async fn handshake(&mut self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_handshake(cx)).await
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_flush(cx))?;
            if !self.session.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            if ready!(self.poll_fill(cx))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// The socket.
    pub fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// The protocol that both sides have agreed on by ALPN (RFC 7301).
    pub fn protocol(&self) -> Option<&[u8]> {
        self.session.alpn_protocol()
    }

    /// Certificates of the peer, its own first.
    pub fn peer_certificates(&self) -> Option<&[rustls::pki_types::CertificateDer<'static>]> {
        self.session.peer_certificates()
    }

    /// Takes what the socket has to the session; 0 is the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Self { tcp, session } = self;
        let count = ready!(pending(session.read_tls(&mut Blocking { tcp, cx })))?;
        if let Err(error) = session.process_new_packets() {
            // The alert that says why goes out when it can; the connection ends either way.
            let _ = self.poll_flush(cx);
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
        }
        if session.wants_write() && !session.is_handshaking() {
            // An answer to a key update; it goes out with what is written next, if not now.
            let _ = self.poll_flush(cx)?;
        }
        Poll::Ready(Ok(count))
    }

    /// Reads plain bytes; 0 is a clean end. An end that the peer did not announce is an error: it may be an attacker's.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            match self.session.reader().read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read),
            }
            ready!(self.poll_fill(cx))?;
        }
    }

    /// As [`Self::poll_read`], into memory that was not written before and is not cleared first: there may be much more of it than
    /// there is to read.
    pub fn poll_read_buf(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut reader = self.session.reader();
            match reader.fill_buf() {
                Ok(plain) => {
                    let count = plain.len().min(into.remaining());
                    into.put_slice(&plain[..count]);
                    reader.consume(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            ready!(self.poll_fill(cx))?;
        }
    }

    /// Seals plain bytes and sends them as far as possible. What was sealed and not sent waits for [`Self::poll_flush`].
    pub fn poll_write(&mut self, cx: &mut Context<'_>, runs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        ready!(self.poll_flush(cx))?;
        let taken = self.session.writer().write_vectored(runs)?;
        let _ = self.poll_flush(cx)?;
        Poll::Ready(Ok(taken))
    }

    /// Sends what is sealed.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { tcp, session } = self;
        while session.wants_write() {
            if ready!(pending(session.write_tls(&mut Blocking { tcp, cx })))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Says by `close_notify` and by FIN that nothing more will be written.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Saying it again does nothing.
        self.session.send_close_notify();
        ready!(self.poll_flush(cx))?;
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

/// Sends an alert as far as the kernel takes it now; the connection ends either way.
fn say(tcp: &TcpStream, mut alert: AcceptedAlert) {
    let cx = &mut Context::from_waker(std::task::Waker::noop());
    let _ = alert.write_all(&mut Blocking { tcp, cx });
}

/// A client has said hello: it waits for a certificate, or to be handed on as it is.
pub struct Hello {
    tcp: TcpStream,
    accepted: Accepted,
    received: Vec<u8>,
}

/// Bytes of one read while a ClientHello is awaited. Most hellos fit, those with post-quantum keys in two or three reads.
const HELLO_READ: usize = 1024;

impl Hello {
    /// Reads a ClientHello; `received` is what was read from the socket already.
    ///
    /// # Errors
    /// The socket fails, or what comes is no ClientHello; an alert was sent then.
    pub async fn read(mut tcp: TcpStream, mut received: Vec<u8>) -> io::Result<Self> {
        let mut scan = HelloScan::default();
        loop {
            match scan.read(&received) {
                Ok(Some(accepted)) => return Ok(Self { tcp, accepted, received }),
                Ok(None) => {}
                Err(HelloError { cause, alert }) => {
                    alert.into_iter().for_each(|alert| say(&tcp, alert));
                    return Err(cause);
                }
            }
            let before = received.len();
            received.resize(before + HELLO_READ, 0);
            let count = std::future::poll_fn(|cx| {
                let mut buffer = ReadBuf::new(&mut received[before..]);
                Pin::new(&mut tcp).poll_read(cx, &mut buffer).map_ok(|()| buffer.filled().len())
            })
            .await?;
            received.truncate(before + count);
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// The name that the client wants to reach (SNI), in lower case.
    pub fn server_name(&self) -> Option<String> {
        hello::server_name(&self.accepted)
    }

    /// Completes the handshake as the server that `config` makes us.
    ///
    /// # Errors
    /// The socket fails, or the two sides cannot agree; an alert was sent then.
    pub async fn accept(self, config: Arc<ServerConfig>) -> io::Result<TlsStream> {
        let Self { tcp, accepted, .. } = self;
        let session: ServerConnection = match accepted.into_connection(config) {
            Ok(session) => session,
            Err((error, alert)) => {
                say(&tcp, alert);
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        };
        let mut stream = TlsStream { tcp, session: session.into() };
        stream.handshake().await?;
        Ok(stream)
    }

    /// The socket and everything that was read from it, to be handed on as it came.
    pub fn into_raw(self) -> (TcpStream, Vec<u8>) {
        (self.tcp, self.received)
    }
}
