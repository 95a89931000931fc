//! Connections by source address, so that one source cannot take all places.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

/// Open connections by source. Shared by all workers; the lock is taken when a connection begins and when it ends.
#[derive(Default)]
pub(crate) struct Sources {
    open: Mutex<HashMap<IpAddr, usize>>,
}

impl Sources {
    /// Takes a place for a connection from `source`, when it has fewer than `most`.
    pub(crate) fn enter(&self, source: IpAddr, most: usize) -> bool {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(network_of(source)).or_default();
        let enters = *count < most;
        *count += usize::from(enters);
        enters
    }

    /// Gives a place back.
    pub(crate) fn leave(&self, source: IpAddr) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let source = network_of(source);
        if let Some(count) = open.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                open.remove(&source);
            }
        }
    }
}

/// What counts as one source: an IPv4 address, or the /64 network that an IPv6 host can choose its addresses from.
fn network_of(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_source_has_its_places_and_gets_them_back() {
        let sources = Sources::default();
        let ip = |text: &str| text.parse().unwrap();
        assert!(sources.enter(ip("10.0.0.1"), 2) && sources.enter(ip("::ffff:10.0.0.1"), 2));
        assert!(!sources.enter(ip("10.0.0.1"), 2));
        assert!(sources.enter(ip("10.0.0.2"), 2));
        sources.leave(ip("10.0.0.1"));
        assert!(sources.enter(ip("10.0.0.1"), 2));
        assert!(sources.enter(ip("2001:db8::1"), 1) && !sources.enter(ip("2001:db8::2"), 1));
        assert!(sources.enter(ip("2001:db8:0:1::1"), 1));
    }

    #[test]
    fn a_source_that_left_costs_no_memory() {
        let sources = Sources::default();
        for last in 0..=255 {
            let source = IpAddr::from([10, 0, 0, last]);
            assert!(sources.enter(source, 1));
            sources.leave(source);
        }
        assert!(sources.open.lock().unwrap().is_empty());
    }
}
