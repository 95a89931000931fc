//! Ports at which nobody answers: one that refuses connections, and one that neither makes nor refuses them. Read next:
//! `origin.rs`, for peers that answer.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

use crate::origin::{Origin, OriginConnection};

/// A port that is taken and refuses every connection.
pub struct RefusingPort {
    socket: Socket,
}

impl RefusingPort {
    /// Takes a port without listening on it.
    ///
    /// # Panics
    /// No port can be had.
    pub fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a free port");
        Self { socket }
    }

    /// Its address.
    ///
    /// # Panics
    /// The socket is gone.
    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().ok().and_then(|address| address.as_socket()).expect("a bound socket has an address")
    }

    /// Listens from now on, and runs `script` for every connection.
    ///
    /// # Panics
    /// The system does not let it listen.
    pub fn listen(self, script: impl Fn(&mut OriginConnection) -> io::Result<()> + Send + Sync + 'static) -> Origin {
        self.socket.listen(128).expect("a bound socket can listen");
        Origin::start_at(self.socket.into(), None, script)
    }
}

impl Default for RefusingPort {
    fn default() -> Self {
        Self::new()
    }
}

/// A port whose accept queue is full: a connection to it is neither made nor refused.
pub struct FullPort {
    socket: Socket,
    _queued: Vec<Socket>,
}

impl FullPort {
    /// Takes a port and fills its queue.
    ///
    /// # Panics
    /// No port can be had.
    pub fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a free port");
        socket.listen(0).expect("a listening socket");
        let address = socket.local_addr().expect("a bound socket has an address");
        let queued = (0..4)
            .map(|_| {
                let client = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
                client.set_nonblocking(true).expect("a mode");
                // The first fills the queue, the others wait for ever.
                let _ = client.connect(&address);
                client
            })
            .collect();
        Self { socket, _queued: queued }
    }

    /// Its address.
    ///
    /// # Panics
    /// The socket is gone.
    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().ok().and_then(|address| address.as_socket()).expect("a bound socket has an address")
    }
}

impl Default for FullPort {
    fn default() -> Self {
        Self::new()
    }
}
