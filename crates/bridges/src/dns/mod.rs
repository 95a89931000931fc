//! The registry as a DNS server: healthy instances by name, over UDP and TCP; other names are forwarded when asked to.
//!
//! `zone.rs` answers, and knows no socket. This file has the sockets: every message of a client is bounded in size, every
//! exchange in time, and the number of both. Who may ask is whoever reaches the address: DNS has no tokens.

mod zone;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use meshwright_catalog::Catalog;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use zone::Verdict;

/// Largest message over UDP that is read; queries are much smaller.
const LARGEST_QUERY: usize = 4096;
/// Largest answer over UDP, whatever a client says it takes: it passes every network in one piece.
const LARGEST_DATAGRAM: u16 = 1232;
/// TCP connections at one time, and exchanges that are forwarded.
const MOST_CONNECTIONS: usize = 256;
const MOST_FORWARDED: usize = 512;
/// Time that a connection may be idle, and a forwarded exchange may take.
const IDLE: Duration = Duration::from_secs(10);
const FORWARD: Duration = Duration::from_secs(3);
/// Pause after a failed accept or receive.
const PAUSE: Duration = Duration::from_millis(100);

/// A DNS server that is bound and not started.
pub struct Server {
    udp: UdpSocket,
    tcp: TcpListener,
    shared: Arc<Shared>,
}

struct Shared {
    catalog: Catalog,
    forward: Option<SocketAddr>,
    forwarding: Semaphore,
}

impl Server {
    /// Binds UDP and TCP at `address`; with port 0 both get the same free one. Names outside of our zones are asked for at
    /// `forward`, or refused.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn bind(address: SocketAddr, catalog: Catalog, forward: Option<SocketAddr>) -> io::Result<Self> {
        let mut tries = 16;
        let (udp, tcp) = loop {
            let tcp = meshwright_site::listen(address)?;
            match UdpSocket::bind(tcp.local_addr()?).await {
                Ok(udp) => break (udp, tcp),
                Err(error) if address.port() != 0 || tries == 0 => return Err(error),
                Err(_) => tries -= 1,
            }
        };
        let shared = Shared { catalog, forward, forwarding: Semaphore::new(MOST_FORWARDED) };
        Ok(Self { udp, tcp, shared: Arc::new(shared) })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The socket does not say.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Answers until `shutdown` is ready.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self { udp, tcp, shared } = self;
        let mut shutdown = pin!(shutdown);
        let (udp, slots) = (Arc::new(udp), Arc::new(Semaphore::new(MOST_CONNECTIONS)));
        let mut tasks = JoinSet::new();
        let mut buffer = vec![0; LARGEST_QUERY];
        loop {
            tokio::select! {
                () = &mut shutdown => return,
                Some(_) = tasks.join_next() => {}
                received = udp.recv_from(&mut buffer) => match received {
                    Ok((length, peer)) => datagram(&shared, &udp, (&buffer[..length], peer), &mut tasks).await,
                    Err(error) => pause("receive", &error).await,
                },
                accepted = accept(&tcp, &slots) => match accepted {
                    Ok((stream, slot)) => {
                        let shared = Arc::clone(&shared);
                        tasks.spawn(async move {
                            let _ = connection(&shared, stream).await;
                            drop(slot);
                        });
                    }
                    Err(error) => pause("accept", &error).await,
                },
            }
        }
    }
}

/// What `query` is answered in a datagram, when it is answered at all. Names of others are refused.
pub fn answer(catalog: &Catalog, query: &[u8]) -> Option<Vec<u8>> {
    match zone::answer(catalog, query, Some(LARGEST_DATAGRAM), false) {
        Verdict::Answer(answer) => Some(answer),
        Verdict::Forward | Verdict::Nothing => None,
    }
}

async fn accept(
    tcp: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = tcp.accept().await?;
    Ok((stream, slot))
}

async fn pause(what: &str, error: &io::Error) {
    tracing::debug!(%error, what, "the DNS server cannot go on for a moment");
    tokio::time::sleep(PAUSE).await;
}

/// One datagram: our own answers at once, forwarded ones by a task.
async fn datagram(
    shared: &Arc<Shared>,
    udp: &Arc<UdpSocket>,
    (query, peer): (&[u8], SocketAddr),
    tasks: &mut JoinSet<()>,
) {
    match zone::answer(&shared.catalog, query, Some(LARGEST_DATAGRAM), shared.forward.is_some()) {
        Verdict::Answer(answer) => {
            let _ = udp.send_to(&answer, peer).await;
        }
        Verdict::Forward => {
            let (shared, udp, query) = (Arc::clone(shared), Arc::clone(udp), query.to_vec());
            tasks.spawn(async move {
                if let Some(answer) = forwarded(&shared, &query, false).await {
                    let _ = udp.send_to(&answer, peer).await;
                }
            });
        }
        Verdict::Nothing => {}
    }
}

/// Queries of one TCP connection, one after the other, each with its length before it (RFC 1035, section 4.2.2).
async fn connection(shared: &Shared, mut stream: TcpStream) -> io::Result<()> {
    loop {
        let read = async {
            let length = stream.read_u16().await?;
            let mut query = vec![0; usize::from(length)];
            stream.read_exact(&mut query).await?;
            Ok::<_, io::Error>(query)
        };
        let query = tokio::time::timeout(IDLE, read).await??;
        let answer = match zone::answer(&shared.catalog, &query, None, shared.forward.is_some()) {
            Verdict::Answer(answer) => answer,
            Verdict::Forward => match forwarded(shared, &query, true).await {
                Some(answer) => answer,
                None => return Ok(()),
            },
            Verdict::Nothing => return Ok(()),
        };
        let Ok(length) = u16::try_from(answer.len()) else { return Ok(()) };
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend_from_slice(&answer);
        tokio::time::timeout(IDLE, stream.write_all(&framed)).await??;
    }
}

/// What another server answers; SERVFAIL when it does not, nothing while too many are waited for.
async fn forwarded(shared: &Shared, query: &[u8], by_tcp: bool) -> Option<Vec<u8>> {
    let server = shared.forward?;
    let _permit = shared.forwarding.try_acquire().ok()?;
    let ask = async {
        match by_tcp {
            true => ask_by_tcp(server, query).await,
            false => ask_by_udp(server, query).await,
        }
    };
    match tokio::time::timeout(FORWARD, ask).await {
        Ok(Ok(answer)) => Some(answer),
        Ok(Err(_)) | Err(_) => zone::failure(query),
    }
}

async fn ask_by_udp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let any = match server {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    // A socket of its own has a port of its own, which nobody who forges answers knows.
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut answer = vec![0; LARGEST_QUERY];
    loop {
        let length = socket.recv(&mut answer).await?;
        if length >= 12 && answer[..2] == query[..2] {
            answer.truncate(length);
            return Ok(answer);
        }
    }
}

async fn ask_by_tcp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    stream.write_u16(u16::try_from(query.len()).map_err(io::Error::other)?).await?;
    stream.write_all(query).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}
