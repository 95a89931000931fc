//! What the machine gives this process: cores, file descriptors, free ports.

use std::net::{SocketAddr, TcpListener};
use std::thread;

use meshwright_proxy::Pressure;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are not connections: listeners, logs, watches, the runtime's own.
const RESERVED: u64 = 256;
/// No more connections of an API than this.
const MOST_API_CONNECTIONS: u64 = 16_384;
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

/// How many of all connections one source may have: a tenth is kept for others, where there are enough to share.
pub(super) fn places_of_one_source(connections: usize) -> usize {
    if connections < 100 { connections } else { connections / 10 * 9 }
}

/// Resident memory of this process.
pub(super) fn resident_bytes() -> Option<u64> {
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
    let resident: u64 = pages.split(' ').nth(1)?.parse().ok()?;
    Some(resident * rustix::param::page_size() as u64)
}

/// Four fifths of what the control group, or else the machine, has.
pub(super) fn usable_memory() -> Option<u64> {
    let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_of(&text));
    let groups = [number("/sys/fs/cgroup/memory.max"), number("/sys/fs/cgroup/memory/memory.limit_in_bytes")];
    groups.into_iter().chain([machine]).flatten().min().map(|bytes| bytes / 5 * 4)
}

/// `MemTotal` of `/proc/meminfo`, in bytes.
fn total_of(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// What is turned away when `resident` bytes are used and `most` is the limit.
pub(super) fn pressure_of(resident: u64, most: u64) -> Pressure {
    if resident < most {
        Pressure::None
    } else if resident < most.saturating_add(most / 10) {
        Pressure::Connections
    } else {
        Pressure::Requests
    }
}

/// Connections of the admin API and the registry's faces that fit: watches are many and cost little.
pub(super) fn api_connections_for(descriptors: u64) -> usize {
    usize::try_from((descriptors / 8).clamp(64, MOST_API_CONNECTIONS)).unwrap_or(64)
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

    #[test]
    fn one_source_leaves_a_tenth_to_others() {
        assert_eq!(places_of_one_source(10_000), 9_000);
        assert_eq!(places_of_one_source(16), 16);
    }

    #[test]
    fn connections_are_turned_away_before_requests() {
        assert_eq!(pressure_of(999, 1000), Pressure::None);
        assert_eq!(pressure_of(1000, 1000), Pressure::Connections);
        assert_eq!(pressure_of(1100, 1000), Pressure::Requests);
    }

    #[test]
    fn the_memory_of_this_machine_is_known() {
        assert_eq!(total_of("MemTotal:       1000 kB\nMemFree: 1 kB\n"), Some(1_024_000));
        assert!(usable_memory().is_some_and(|bytes| bytes > 0));
        assert!(resident_bytes().is_some_and(|bytes| bytes > 0));
    }
}
