//! Opens listeners with room for a crowd that connects at once. What is served on them is not known here.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

/// Connections that the system keeps until they are accepted; it caps this at `net.core.somaxconn`. The 128 of the standard library make
/// clients wait for a second and more when a few hundred of them come back at once, after a restart for example.
const BACKLOG: u32 = 1024;

/// Listens on `address`, which may have been in use a moment ago; port 0 takes a free one.
///
/// # Errors
/// The address cannot be bound.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_crowd_that_connects_before_anybody_is_accepted_does_not_wait() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let most = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap().trim().parse().unwrap();
        let crowd = (0..600.min(most)).map(|_| TcpStream::connect_timeout(&address, Duration::from_secs(60)).unwrap());
        assert_eq!(crowd.collect::<Vec<_>>().len(), 600.min(most));
    }
}
