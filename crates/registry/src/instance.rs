//! An instance of a service: what it says of itself, what was found out, and what follows for traffic.
//!
//! It is plain data; whether it may be registered is decided in `stage.rs`, how long it lives in `leases.rs`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use crate::{Check, Invalid, Limits, Pairs, Probe};

/// How an instance fares. The order is from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// It takes requests.
    Passing,
    /// It takes requests; something wants attention.
    Warning,
    /// It is not ready yet.
    Starting,
    /// It does not work.
    Critical,
    /// It is kept out by somebody's word (maintenance).
    OutOfService,
    /// It takes no new requests and finishes those it has.
    Draining,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 6] =
        [Self::Passing, Self::Warning, Self::Starting, Self::Critical, Self::OutOfService, Self::Draining];

    /// The word used everywhere: `passing`, `warning`, `starting`, `critical`, `out_of_service`, `draining`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Warning => "warning",
            Self::Starting => "starting",
            Self::Critical => "critical",
            Self::OutOfService => "out_of_service",
            Self::Draining => "draining",
        }
    }

    /// Whether new requests may go there.
    pub const fn is_healthy(self) -> bool {
        matches!(self, Self::Passing | Self::Warning)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Status {
    type Err = Invalid;

    fn from_str(word: &str) -> Result<Self, Invalid> {
        Self::ALL.into_iter().find(|status| status.as_str() == word).ok_or_else(|| {
            Invalid::new("status", word, "passing, warning, starting, critical, out_of_service or draining")
        })
    }
}

/// What keeps an instance registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeaseKind {
    /// It says so from time to time.
    Heartbeat,
    /// A check of it passes from time to time.
    Checks,
    /// A connection is open. After a restart of the registry it has the lease's time to be opened again.
    Connection,
    /// Nothing: it stays until somebody takes it away.
    Static,
}

impl LeaseKind {
    /// `heartbeat`, `checks`, `connection` or `static`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Heartbeat => "heartbeat",
            Self::Checks => "checks",
            Self::Connection => "connection",
            Self::Static => "static",
        }
    }
}

impl FromStr for LeaseKind {
    type Err = Invalid;

    fn from_str(word: &str) -> Result<Self, Invalid> {
        let all = [Self::Heartbeat, Self::Checks, Self::Connection, Self::Static];
        let found = all.into_iter().find(|kind| kind.as_str() == word);
        found.ok_or_else(|| Invalid::new("lease", word, "heartbeat, checks, connection or static"))
    }
}

/// A lease: what renews it and how long it lasts without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// What renews it.
    pub kind: LeaseKind,
    /// Time it lasts after a renewal, 1 s to 24 h. A static lease has no use for it.
    pub ttl: Duration,
}

impl Lease {
    /// Shortest and longest time of a lease.
    pub const RANGE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(24 * 3600));

    /// A lease that heartbeats renew.
    pub const fn heartbeat(ttl: Duration) -> Self {
        Self { kind: LeaseKind::Heartbeat, ttl }
    }

    /// A lease that never ends.
    pub const STATIC: Self = Self { kind: LeaseKind::Static, ttl: Duration::from_secs(24 * 3600) };

    /// The time after which it ends by itself.
    pub fn expires_after(&self) -> Option<Duration> {
        (self.kind != LeaseKind::Static).then_some(self.ttl)
    }
}

/// Somebody's word about an instance, stronger than its checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The status it has by that word.
    pub status: Status,
    /// Why; may be empty.
    pub reason: String,
}

/// A face of the registry, through which an instance came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Our own API.
    Api,
    /// Eureka's.
    Eureka,
    /// Consul's.
    Consul,
}

impl Source {
    /// `api`, `eureka` or `consul`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Eureka => "eureka",
            Self::Consul => "consul",
        }
    }
}

impl FromStr for Source {
    type Err = Invalid;

    fn from_str(word: &str) -> Result<Self, Invalid> {
        let all = [Self::Api, Self::Eureka, Self::Consul];
        let found = all.into_iter().find(|source| source.as_str() == word);
        found.ok_or_else(|| Invalid::new("source", word, "api, eureka or consul"))
    }
}

/// One instance of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// IP address or DNS name.
    pub address: String,
    /// Port; 0 is none, and then no request is sent there.
    pub port: u16,
    /// Free pairs; subsets select by them.
    pub metadata: Pairs,
    /// Free words; `key=value` counts as metadata for subsets.
    pub tags: Vec<String>,
    /// `region/zone/subzone`; empty when unknown.
    pub locality: String,
    /// Relative weight, at least 1.
    pub weight: u32,
    /// Version; empty when unknown. It is the label `version` for subsets.
    pub version: String,
    /// What keeps it registered.
    pub lease: Lease,
    /// Checks with what they said last.
    pub checks: Vec<Check>,
    /// What it says of itself: passing, warning, starting or critical.
    pub reported: Status,
    /// Somebody's stronger word.
    pub overridden: Option<Override>,
    /// What a foreign protocol wants back and nobody else reads, by `protocol.field`.
    pub attributes: Pairs,
    /// Through which face it came.
    pub source: Source,
}

impl Instance {
    /// A passing instance at `address`:`port`, weight 1, with a lease of five minutes that heartbeats renew.
    pub fn new(address: &str, port: u16) -> Self {
        Self {
            address: address.to_owned(),
            port,
            metadata: Pairs::default(),
            tags: Vec::new(),
            locality: String::new(),
            weight: 1,
            version: String::new(),
            lease: Lease::heartbeat(Duration::from_secs(300)),
            checks: Vec::new(),
            reported: Status::Passing,
            overridden: None,
            attributes: Pairs::default(),
            source: Source::Api,
        }
    }

    /// How it fares. What it says of itself when that is bad wins, then somebody's word, then the worst check.
    pub fn status(&self) -> Status {
        if matches!(self.reported, Status::Critical | Status::Starting) {
            return self.reported;
        }
        if let Some(overridden) = &self.overridden {
            return overridden.status;
        }
        self.checks.iter().map(|check| check.status).fold(self.reported, Status::max)
    }

    /// What subsets select by: metadata, then `version`, then tags, `key=value` as it says and others as `tag/NAME: true`.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.metadata.to_map();
        if !self.version.is_empty() {
            labels.insert("version".to_owned(), self.version.clone());
        }
        for tag in &self.tags {
            let (key, value) = match tag.split_once('=') {
                Some((key, value)) => (key.to_owned(), value.to_owned()),
                None => (format!("tag/{tag}"), "true".to_owned()),
            };
            labels.entry(key).or_insert(value);
        }
        labels
    }

    /// A registration of an instance that is there already keeps others' words and the answers to questions that are
    /// still asked.
    pub(crate) fn succeed(&mut self, before: &Self) {
        if self.overridden.is_none() {
            self.overridden = before.overridden.clone();
        }
        for check in &mut self.checks {
            let known = before.checks.iter().find(|known| known.same_question(check));
            if let Some(known) = known.filter(|_| check.status == Status::Starting) {
                check.status = known.status;
                check.output = known.output.clone();
            }
        }
    }

    /// Whether it may be registered at all.
    ///
    /// # Errors
    ///
    /// The first value that is out of range.
    pub fn validate(&self, limits: &Limits) -> Result<(), Invalid> {
        let texts = [(&self.locality, "locality"), (&self.version, "version")];
        if !is_host(&self.address) {
            return Err(Invalid::new("address", &self.address, "an IP address or a DNS name, without port"));
        }
        if self.address.parse().is_ok_and(|address| !is_of_an_instance(address)) {
            let allowed =
                "an address that an instance can have, not a link-local, multicast, broadcast or unspecified one";
            return Err(Invalid::new("address", &self.address, allowed));
        }
        for (text, field) in texts {
            if text.len() > 256 || text.chars().any(char::is_control) {
                return Err(Invalid::new(field, text, "at most 256 bytes without control characters"));
            }
        }
        if self.weight == 0 || self.weight > 65_535 {
            return Err(Invalid::new("weight", &self.weight.to_string(), "1 to 65535"));
        }
        let ttl = self.lease.ttl;
        if ttl < Lease::RANGE.0 || ttl > Lease::RANGE.1 {
            return Err(Invalid::new("ttl", &format!("{}s", ttl.as_secs_f64()), "1 s to 24 h"));
        }
        if matches!(self.reported, Status::OutOfService | Status::Draining) {
            return Err(Invalid::new("health", self.reported.as_str(), "passing, warning, starting or critical"));
        }
        pairs("metadata", &self.metadata, limits)?;
        pairs("attributes", &self.attributes, limits)?;
        if self.tags.len() > limits.tags {
            return Err(Invalid::new("tags", &self.tags.len().to_string(), "at most 64 tags"));
        }
        if let Some(tag) = self.tags.iter().find(|tag| !is_text(tag, 256)) {
            return Err(Invalid::new("tag", tag, "1 to 256 bytes without control characters"));
        }
        self.validate_checks(limits)?;
        if self.size() > limits.instance_bytes {
            return Err(Invalid::new("instance", &format!("{} bytes", self.size()), "at most 32 KiB in all"));
        }
        Ok(())
    }

    fn validate_checks(&self, limits: &Limits) -> Result<(), Invalid> {
        if self.checks.len() > limits.checks {
            return Err(Invalid::new("checks", &self.checks.len().to_string(), "at most 16 checks"));
        }
        for (index, check) in self.checks.iter().enumerate() {
            if !is_text(&check.id, 256) || self.checks[..index].iter().any(|other| other.id == check.id) {
                return Err(Invalid::new("check id", &check.id, "unique in the instance, 1 to 256 bytes"));
            }
            let (shortest, longest) = (Duration::from_millis(100), Lease::RANGE.1);
            if check.interval < shortest || check.interval > longest {
                return Err(Invalid::new("check interval", &check.id, "100 ms to 24 h"));
            }
            if check.timeout.is_zero() || check.timeout > Check::LONGEST_TIMEOUT {
                return Err(Invalid::new("check timeout", &check.id, "above 0 and at most 60 s"));
            }
            check.validate_texts()?;
            if matches!(check.probe, Probe::Ttl(ttl) if ttl < shortest || ttl > longest) {
                return Err(Invalid::new("check ttl", &check.id, "100 ms to 24 h"));
            }
            if check.rise == 0 || check.fall == 0 {
                return Err(Invalid::new("check threshold", &check.id, "at least 1"));
            }
        }
        Ok(())
    }

    /// Bytes of its own data, roughly.
    pub fn size(&self) -> usize {
        let pair = |pairs: &Pairs| pairs.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        let texts = [&self.address, &self.locality, &self.version];
        texts.iter().map(|text| text.len()).sum::<usize>()
            + pair(&self.metadata)
            + pair(&self.attributes)
            + self.tags.iter().map(String::len).sum::<usize>()
            + self.checks.iter().map(Check::size).sum::<usize>()
    }
}

fn pairs(field: &'static str, pairs: &Pairs, limits: &Limits) -> Result<(), Invalid> {
    if pairs.len() > limits.metadata_entries {
        return Err(Invalid::new(field, &pairs.len().to_string(), "at most 128 entries"));
    }
    for (key, value) in pairs.iter() {
        if !is_text(key, 256) || value.len() > 4096 || value.contains('\0') {
            return Err(Invalid::new(field, key, "keys of 1 to 256 bytes and values of at most 4 KiB"));
        }
    }
    Ok(())
}

fn is_text(text: &str, longest: usize) -> bool {
    !text.is_empty() && text.len() <= longest && !text.chars().any(char::is_control)
}

/// Whether an instance can be at `address`. Link-local addresses are left out because metadata services of clouds are there,
/// and whoever registers one would have requests and probes sent to it; the others belong to nobody or to many.
pub fn is_of_an_instance(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            !(address.is_link_local() || address.is_multicast() || address.is_broadcast() || address.is_unspecified())
        }
        IpAddr::V6(address) => !(address.is_unicast_link_local() || address.is_multicast() || address.is_unspecified()),
    }
}

/// An IP address (IPv6 without brackets) or a DNS name.
fn is_host(text: &str) -> bool {
    if text.parse::<IpAddr>().is_ok() {
        return true;
    }
    let label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    // The last label of a name is not a number: `10.0.0.300` is a mistyped address.
    let last = name.rsplit('.').next().unwrap_or_default();
    !name.is_empty()
        && name.len() <= 253
        && name.split('.').all(label)
        && !last.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(reported: Status, check: Option<Status>, word: Option<Status>) -> Status {
        let mut instance = Instance::new("10.0.0.1", 80);
        instance.reported = reported;
        instance.checks = check
            .map(|status| Check::new("c", Probe::Tcp { authority: None }).with_result(status, ""))
            .into_iter()
            .collect();
        instance.overridden = word.map(|status| Override { status, reason: String::new() });
        instance.status()
    }

    #[test]
    fn its_own_bad_word_wins_then_an_override_then_the_worst_check() {
        use Status::{Critical, Draining, OutOfService, Passing, Starting, Warning};
        assert_eq!(said(Passing, None, None), Passing);
        assert_eq!(said(Passing, Some(Warning), None), Warning);
        assert_eq!(said(Warning, Some(Passing), None), Warning);
        assert_eq!(said(Passing, Some(Critical), None), Critical);
        assert_eq!(said(Passing, Some(Critical), Some(Passing)), Passing, "a forced pass beats a check");
        assert_eq!(said(Passing, Some(Passing), Some(OutOfService)), OutOfService);
        assert_eq!(said(Critical, Some(Passing), Some(Passing)), Critical, "nobody can force what says it is down");
        assert_eq!(said(Starting, Some(Passing), Some(Draining)), Starting);
        assert_eq!(said(Passing, Some(Starting), None), Starting);
    }

    #[test]
    fn metadata_version_and_tags_are_labels() {
        let mut instance = Instance::new("10.0.0.1", 80);
        instance.metadata.insert("zone", "a");
        instance.version = "v2".into();
        instance.tags = vec!["canary".into(), "team=web".into(), "zone=b".into()];
        let labels = instance.labels();
        let of = |key: &str| labels.get(key).map(String::as_str);
        assert_eq!((of("zone"), of("version")), (Some("a"), Some("v2")), "metadata wins over a tag");
        assert_eq!((of("tag/canary"), of("team")), (Some("true"), Some("web")));
    }

    #[test]
    fn addresses_are_numbers_or_names() {
        for good in ["10.0.0.1", "::1", "localhost", "db.example.com", "db.example.com.", "a_b"] {
            assert!(is_host(good), "{good}");
        }
        for bad in ["", ".", "10.0.0.300", "10.0.0.1:80", "[::1]", "a b", "a..b", "-a", "http://a", "1"] {
            assert!(!is_host(bad), "{bad}");
        }
    }
}
