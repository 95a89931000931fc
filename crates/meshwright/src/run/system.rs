//! What the machine gives this process: cores, file descriptors, free ports.

use std::net::{SocketAddr, TcpListener};
use std::thread;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are not connections: listeners, logs, watches, the runtime's own.
const RESERVED: u64 = 256;
/// No more connections than this, whatever the limit on descriptors says.
const MOST_CONNECTIONS: u64 = 1_000_000;

/// Processor cores this process may use.
pub(super) fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Raises the soft limit on open files to the hard one; returns what holds then.
pub(super) fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if setrlimit(Resource::Nofile, wanted).is_ok() {
        return limit.maximum.unwrap_or(u64::MAX);
    }
    limit.current.unwrap_or(u64::MAX)
}

/// Downstream connections that fit: each may need a second descriptor for its upstream connection.
pub(super) fn connections_for(descriptors: u64) -> usize {
    let fitting = (descriptors.saturating_sub(RESERVED) / 2).clamp(16, MOST_CONNECTIONS);
    usize::try_from(fitting).unwrap_or(usize::MAX)
}

/// Whether nobody listens on `address`.
pub(super) fn is_free(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_descriptors_are_for_clients() {
        assert_eq!(connections_for(20_256), 10_000);
        assert_eq!(connections_for(0), 16);
        assert_eq!(connections_for(u64::MAX), 1_000_000);
    }
}
