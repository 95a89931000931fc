//! What of a request decides about its endpoint: the key of consistent hashing and the session, read from its head; and the
//! cookies that answers carry for it. Costs nothing where a cluster asks for neither.
//!
//! It does not choose: that is `meshwright-traffic`. Read next: `forward.rs`.

use std::io::Write;
use std::time::Instant;

use meshwright_message::{HeaderName, RequestHead};
use meshwright_model::{HashCookie, HashKey};
use meshwright_snapshot::{Affinity as Wanted, Cluster};
use meshwright_traffic::{Ask, hash_key};

use crate::admit;
use crate::connection::Connection;
use crate::worker::Worker;

/// Digits of a number in a cookie.
const DIGITS: usize = 16;

/// What was found in one request, and where it went.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Affinity {
    hash: Option<u64>,
    /// The endpoint that the client's cookie names.
    session: Option<u64>,
    /// The key that was made for a client without one.
    made: Option<u64>,
    /// The endpoint of the last try, by index.
    pub(crate) host: Option<u32>,
}

impl Affinity {
    /// Reads what the cluster wants to know, before the head is given away.
    pub(crate) fn read(&mut self, wanted: &Wanted, connection: &Connection, head: &RequestHead) {
        let worker = &connection.worker;
        self.hash = match &wanted.hash {
            None => None,
            Some(HashKey::Header(name)) => head.headers.get(name).map(hash_key),
            Some(HashKey::Query(name)) => query(head, name).map(|value| hash_key(value.as_bytes())),
            Some(HashKey::SourceIp) => {
                let value = &mut *worker.value.borrow_mut();
                value.clear();
                admit::push_address(connection.client.peer.ip(), value);
                Some(hash_key(value))
            }
            Some(HashKey::Cookie(wanted)) => match cookie(head, &wanted.name) {
                Some(value) => Some(hash_key(value)),
                None => wanted.ttl.map(|_| {
                    let made = worker.rng.borrow_mut().u64(..);
                    self.made = Some(made);
                    hash_key(&digits(made))
                }),
            },
        };
        self.session = wanted.session.as_ref().and_then(|wanted| number(cookie(head, &wanted.name)?));
    }

    /// What the balancer is asked.
    pub(crate) fn ask<'a>(&self, tried: &'a [u32], now: Instant) -> Ask<'a> {
        Ask { tried, hash: self.hash, session: self.session, now }
    }

    /// Adds the cookies that the client needs to come to the same endpoint again.
    pub(crate) fn give_cookies(&self, cluster: &Cluster, worker: &Worker) {
        let Some(wanted) = &cluster.affinity else { return };
        if let (Some(made), Some(HashKey::Cookie(cookie))) = (self.made, &wanted.hash) {
            give(cookie, made, worker);
        }
        if let Some(cookie) = &wanted.session
            && let Some(id) = self.host.and_then(|host| cluster.hosts.id(host as usize))
            && self.session != Some(id)
        {
            give(cookie, id, worker);
        }
    }
}

fn give(cookie: &HashCookie, number: u64, worker: &Worker) {
    let line = &mut *worker.value.borrow_mut();
    line.clear();
    write_cookie(cookie, number, line);
    worker.response.borrow_mut().headers.push_known(HeaderName::SetCookie, line);
}

/// `name=value; Max-Age=3600; Path=/; HttpOnly` (RFC 6265, section 4.1), with the attributes that were asked for.
fn write_cookie(cookie: &HashCookie, number: u64, line: &mut Vec<u8>) {
    line.extend_from_slice(cookie.name.as_bytes());
    line.push(b'=');
    line.extend_from_slice(&digits(number));
    if let Some(ttl) = cookie.ttl.filter(|ttl| !ttl.is_zero()) {
        // Writing into memory cannot fail.
        let _ = write!(line, "; Max-Age={}", ttl.as_secs().max(1));
    }
    if let Some(path) = &cookie.path {
        line.extend_from_slice(b"; Path=");
        line.extend_from_slice(path.as_bytes());
    }
    for (name, value) in &cookie.attributes {
        line.extend_from_slice(b"; ");
        line.extend_from_slice(name.as_bytes());
        if !value.is_empty() {
            line.push(b'=');
            line.extend_from_slice(value.as_bytes());
        }
    }
    line.extend_from_slice(b"; HttpOnly");
}

/// The value of a cookie of the request, without the quotes that it may have; empty ones do not count.
fn cookie<'a>(head: &'a RequestHead, name: &str) -> Option<&'a [u8]> {
    let lines = head.headers.known_values(HeaderName::Cookie);
    let pairs = lines.flat_map(|line| line.split(|byte| *byte == b';'));
    let value = pairs.map(<[u8]>::trim_ascii).find_map(|pair| {
        let value = pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value))
    });
    value.filter(|value| !value.is_empty())
}

/// The first value of a query parameter, as it was sent.
fn query<'a>(head: &'a RequestHead, name: &str) -> Option<&'a str> {
    head.query()?.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

fn digits(number: u64) -> [u8; DIGITS] {
    let mut digits = [0; DIGITS];
    for (index, digit) in digits.iter_mut().enumerate() {
        // Four bits.
        let value = (number >> (60 - 4 * index) & 0xf) as u8;
        *digit = if value < 10 { b'0' + value } else { b'a' + value - 10 };
    }
    digits
}

fn number(digits: &[u8]) -> Option<u64> {
    let all = digits.len() == DIGITS && digits.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(digits).ok().filter(|_| all)?;
    u64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn head(target: &str, cookies: &[&str]) -> RequestHead {
        let path_len = target.find('?').unwrap_or(target.len());
        let mut head = RequestHead { target: target.to_owned(), path_len, ..RequestHead::default() };
        cookies.iter().for_each(|line| head.headers.push(b"cookie", line.as_bytes()));
        head
    }

    #[test]
    fn cookies_and_parameters_are_found_by_their_whole_name() {
        let head = head("/a?user=7&xuser=8&user=9&empty", &["xs=1; s=\"two\";t=", "s=3"]);
        assert_eq!(cookie(&head, "s"), Some(&b"two"[..]));
        assert_eq!(cookie(&head, "xs"), Some(&b"1"[..]));
        assert_eq!(cookie(&head, "t"), None);
        assert_eq!(cookie(&head, "u"), None);
        assert_eq!(query(&head, "user"), Some("7"));
        assert_eq!(query(&head, "empty"), None);
    }

    #[test]
    fn a_cookie_is_written_with_what_was_asked_for_and_read_back() {
        let cookie = HashCookie {
            name: "s".to_owned(),
            path: Some("/api".to_owned()),
            ttl: Some(Duration::from_secs(90)),
            attributes: vec![("SameSite".to_owned(), "Strict".to_owned()), ("Secure".to_owned(), String::new())],
        };
        let mut line = Vec::new();
        write_cookie(&cookie, 0xab, &mut line);
        let expected = "s=00000000000000ab; Max-Age=90; Path=/api; SameSite=Strict; Secure; HttpOnly";
        assert_eq!(std::str::from_utf8(&line), Ok(expected));
        for value in [0, 1, 0x0123_4567_89ab_cdef, u64::MAX] {
            assert_eq!(number(&digits(value)), Some(value));
        }
        assert_eq!(number(b"7"), None);
        assert_eq!(number(b"+123456789abcdef"), None, "only digits are");
    }
}
