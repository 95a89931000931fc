//! A blocking HTTP/1.1 client for the few questions the benchmark itself asks: is it up, how many, what do you count.
//!
//! One request per connection, bounded in time and size. It is not the load: that is `load.rs`.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::backend::head_end;

const PATIENCE: Duration = Duration::from_secs(5);
const LARGEST_ANSWER: usize = 64 * 1024 * 1024;

/// Status and body of a GET.
///
/// # Errors
/// When there is no answer in five seconds or it is not HTTP/1.
pub(crate) fn get(address: SocketAddr, host: &str, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut buffer = [0; 16 * 1024];
    while !is_whole(&answer) {
        let read = stream.read(&mut buffer).context("no whole answer in time")?;
        if read == 0 {
            break;
        }
        answer.extend_from_slice(&buffer[..read]);
        if answer.len() > LARGEST_ANSWER {
            bail!("the answer is longer than {LARGEST_ANSWER} bytes");
        }
    }
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer has no end of head")?;
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).context("the answer has no status")?;
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    Ok((status, if chunked { without_chunks(body).context("broken chunks")? } else { body.to_owned() }))
}

/// Whether an answer with a `Content-Length` is all there; one without ends with its connection.
fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = head_end(answer) else { return false };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    length.is_some_and(|length| answer.len() - end >= length)
}

fn without_chunks(mut body: &str) -> Option<String> {
    let mut whole = String::new();
    loop {
        let (size, rest) = body.split_once("\r\n")?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(whole);
        }
        whole.push_str(rest.get(..size)?);
        body = rest.get(size..)?.strip_prefix("\r\n")?;
    }
}

/// Asks again and again until the answer is 200.
///
/// # Errors
/// When it never is within `patience`, or when `alive` says that there is nobody left to ask.
pub(crate) fn wait_for_ok(
    address: SocketAddr,
    host: &str,
    path: &str,
    patience: Duration,
    mut alive: impl FnMut() -> Result<()>,
) -> Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        alive()?;
        let last = match get(address, host, path) {
            Ok((200, _)) => return Ok(()),
            Ok((status, _)) => format!("status {status}"),
            Err(error) => format!("{error:#}"),
        };
        if Instant::now() > deadline {
            bail!("no 200 from http://{address}{path} for {host} in {patience:?}: {last}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A loopback address whose port nobody listens on now.
///
/// # Errors
/// When the operating system has no port left.
pub(crate) fn free_address() -> Result<SocketAddr> {
    let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(probe.local_addr()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_length_has_arrived() {
        assert!(is_whole(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"));
        assert!(!is_whole(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na"));
        assert!(!is_whole(b"HTTP/1.1 200 OK\r\n\r\nab"));
    }

    #[test]
    fn chunks_are_joined_and_a_broken_chunk_is_noticed() {
        assert_eq!(without_chunks("3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n").as_deref(), Some("abcde"));
        assert_eq!(without_chunks("9\r\nabc\r\n0\r\n\r\n"), None);
        assert_eq!(without_chunks("3\r\nabc"), None);
    }
}
