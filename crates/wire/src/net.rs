//! Sockets. The single place of the data plane that names `tokio::net`, so that a simulated stack needs one change.

use std::io::{self, IoSlice};
use std::net::{SocketAddr, TcpListener as StdListener};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::io::writev;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::Interest;
pub use tokio::net::{TcpListener, TcpStream};

/// Connections that the kernel queues per listener before it refuses more; the kernel caps it at `somaxconn`.
const BACKLOG: i32 = 4096;

/// Opens `sockets` listening sockets on one address, one for each worker; the kernel spreads connections over them.
///
/// `SO_REUSEPORT` would let a second process share a port without either noticing, so the address is first bound without
/// it: a port that anybody else listens on is an error (`AddrInUse`). Port 0 takes a free port, the same for all sockets.
pub fn listen(address: SocketAddr, sockets: usize) -> io::Result<Vec<StdListener>> {
    let probe = bind(address, false)?;
    let address = probe.local_addr()?.as_socket().unwrap_or(address);
    drop(probe);
    (0..sockets.max(1))
        .map(|_| {
            let socket = bind(address, true)?;
            socket.listen(BACKLOG)?;
            Ok(socket.into())
        })
        .collect()
}

fn bind(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // Connections of an earlier process in TIME_WAIT must not keep the port from us; a listener of another process still does.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    // Accepted connections inherit it. Without it an answer may wait for an acknowledgement.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Keep-alive probes of a connection; absent parts are the system's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct KeepAlive {
    /// Unanswered probes until the connection is given up.
    pub probes: Option<u32>,
    /// Idle time before the first probe.
    pub time: Option<Duration>,
    /// Time between probes.
    pub interval: Option<Duration>,
}

/// Opens a connection to an endpoint, with `TCP_NODELAY` set.
pub async fn connect(address: SocketAddr, keep_alive: Option<KeepAlive>) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    if let Some(wanted) = keep_alive {
        let mut parameters = TcpKeepalive::new();
        if let Some(time) = wanted.time {
            parameters = parameters.with_time(time);
        }
        if let Some(interval) = wanted.interval {
            parameters = parameters.with_interval(interval);
        }
        if let Some(probes) = wanted.probes {
            parameters = parameters.with_retries(probes);
        }
        SockRef::from(&stream).set_tcp_keepalive(&parameters)?;
    }
    Ok(stream)
}

/// Reads; 0 is the end.
///
/// As the runtime's own reading, but with the system call itself: the C library's, in a process of several threads, takes
/// two locked instructions for thread cancellation each time.
pub fn poll_read(tcp: &TcpStream, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
    loop {
        ready!(tcp.poll_read_ready(cx))?;
        let mut count = 0;
        let tried = tcp.try_io(Interest::READABLE, || {
            count = recv(tcp, &mut *into, RecvFlags::empty())?.0;
            taken(count, into.len())
        });
        if let Some(done) = done(tried, count) {
            return Poll::Ready(done);
        }
    }
}

/// Writes what the kernel takes, at least a byte of what is not empty.
pub fn poll_write(tcp: &TcpStream, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
    poll_send(tcp, cx, bytes.len(), || Ok(send(tcp, bytes, SendFlags::NOSIGNAL)?))
}

/// Writes several runs of bytes as one.
pub fn poll_write_vectored(tcp: &TcpStream, cx: &mut Context<'_>, runs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
    let length = runs.iter().map(|run| run.len()).sum();
    poll_send(tcp, cx, length, || Ok(writev(tcp, runs)?))
}

fn poll_send(
    tcp: &TcpStream,
    cx: &mut Context<'_>,
    length: usize,
    mut send: impl FnMut() -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        // Nearly always there is room: whether there is, is asked only when there was none. What bounds a task that moves bytes
        // without end is its reading.
        let mut count = 0;
        let tried = tcp.try_io(Interest::WRITABLE, || {
            count = send()?;
            taken(count, length)
        });
        if let Some(done) = done(tried, count) {
            return Poll::Ready(done);
        }
        ready!(tcp.poll_write_ready(cx))?;
    }
}

/// A socket that moved fewer bytes than it was offered is empty, or full: to say that it would block lets the runtime know
/// without a system call that fails.
fn taken(count: usize, offered: usize) -> io::Result<()> {
    if 0 < count && count < offered { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
}

/// What comes of a try; `None` when nothing moved because it would have blocked.
fn done(tried: io::Result<()>, count: usize) -> Option<io::Result<usize>> {
    match tried {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Some(Err(error)),
        Err(_) if count == 0 => None,
        _ => Some(Ok(count)),
    }
}

/// Appends what comes next to `received`, a little at a time; 0 is the end.
pub async fn read_some(tcp: &mut TcpStream, received: &mut Vec<u8>) -> io::Result<usize> {
    const MOST: usize = 512;
    received.reserve(MOST);
    let mut limited = tokio::io::AsyncReadExt::take(tcp, MOST as u64);
    tokio::io::AsyncReadExt::read_buf(&mut limited, received).await
}

/// Whether a connection that should be silent still is: nothing to read, not closed. One system call.
pub fn is_silent(stream: &TcpStream) -> bool {
    let mut byte = [std::mem::MaybeUninit::uninit()];
    match SockRef::from(stream).peek(&mut byte) {
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        Ok(_) => false,
    }
}

/// Makes a listening socket deaf to new connections, while those whose handshake has begun still come through.
///
/// Closing a listening socket resets what arrived since its last `accept`. Behind this filter nothing new arrives: a client
/// gets no answer to its first packet and sends it again a second later, when the port is closed or somebody else's.
/// The filter is a classic BPF program over the TCP header: flags are byte 13, SYN without ACK is dropped.
pub fn take_no_more(listener: &TcpListener) -> io::Result<()> {
    const LOAD_BYTE: u16 = 0x30;
    const AND: u16 = 0x54;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    SockRef::from(listener).attach_filter(&[
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS),
        SockFilter::new(AND, 0, 0, SYN | ACK),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ])
}

/// True for accept errors that concern the one connection only; the listener goes on at once.
pub fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
