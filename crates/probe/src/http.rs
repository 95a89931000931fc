//! The check by HTTP: a `GET` by HTTP/1.1 and the status of its answer. The body is not read, and no redirect is followed.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{Answer, ProbeError, Stream};

/// Largest head of an answer, interim ones included.
const LARGEST_HEAD: usize = 16 * 1024;
/// Fields of a head at most.
const MOST_FIELDS: usize = 128;

/// Asks for `path` and gives the status.
pub(crate) async fn get(
    mut stream: Box<dyn Stream>,
    host: &str,
    path: &str,
    headers: &[(String, String)],
) -> Result<Answer, ProbeError> {
    stream.write_all(request(host, path, headers).as_bytes()).await?;
    stream.flush().await?;
    let mut received: Vec<u8> = Vec::with_capacity(1024);
    let mut begin = 0;
    loop {
        let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
        let mut response = httparse::Response::new(&mut fields);
        let parsed = response.parse(&received[begin..]);
        let parsed = parsed.map_err(|error| ProbeError::Protocol(format!("no HTTP: {error}")))?;
        match (parsed, response.code) {
            // The answer comes after it.
            (httparse::Status::Complete(length), Some(100 | 102..=199)) => {
                begin += length;
                continue;
            }
            (httparse::Status::Complete(_), Some(status)) => return Ok(Answer::Status(status)),
            _ => {}
        }
        if received.len() >= LARGEST_HEAD {
            return Err(ProbeError::Protocol("the head of the answer is larger than 16 KiB".to_owned()));
        }
        if stream.read_buf(&mut received).await? == 0 {
            return Err(ProbeError::Protocol("the connection was closed before an answer".to_owned()));
        }
    }
}

fn request(host: &str, path: &str, headers: &[(String, String)]) -> String {
    let mut request = format!("GET {path} HTTP/1.1\r\n");
    let own = [("host", host), ("user-agent", "meshwright-check"), ("accept", "*/*"), ("connection", "close")];
    let given = |name: &str| headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
    let own = own.into_iter().filter(|(name, _)| !given(name));
    for (name, value) in own.chain(headers.iter().map(|(name, value)| (name.as_str(), value.as_str()))) {
        request.push_str(name);
        request.push_str(": ");
        request.push_str(value);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    request
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_the_configuration_takes_the_place_of_our_own() {
        let headers = [("Host".to_owned(), "api.example.com".to_owned()), ("x-check".to_owned(), "1".to_owned())];
        let text = request("10.0.0.1:80", "/ready?full", &headers);
        assert!(text.starts_with("GET /ready?full HTTP/1.1\r\n"), "{text}");
        assert!(text.ends_with("Host: api.example.com\r\nx-check: 1\r\n\r\n"), "{text}");
        assert!(!text.contains("10.0.0.1"), "{text}");
    }

    /// What is made of an answer that comes in two parts.
    fn answer(bytes: &[u8], split: usize) -> Result<Answer, ProbeError> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
            let bytes = bytes.to_vec();
            tokio::spawn(async move {
                let _ = theirs.read(&mut [0; 1024]).await;
                theirs.write_all(&bytes[..split]).await.unwrap();
                tokio::task::yield_now().await;
                theirs.write_all(&bytes[split..]).await.unwrap();
            });
            get(Box::new(ours), "a", "/", &[]).await
        })
    }

    #[test]
    fn the_status_is_read_wherever_the_bytes_are_split_and_whatever_comes_before_it() {
        let text = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 302 Found\r\nlocation: http://b/\r\n\r\n";
        for split in 0..=text.len() {
            assert_eq!(answer(text, split).unwrap(), Answer::Status(302), "{split}");
        }
    }

    #[test]
    fn an_answer_that_is_no_http_too_long_or_cut_short_is_an_error() {
        for (bytes, phrase) in [
            (b"SSH-2.0-OpenSSH\r\n".to_vec(), "no HTTP"),
            (b"HTTP/1.1 200 OK\r\n".to_vec(), "closed before an answer"),
            ([b"HTTP/1.1 200 OK\r\nx: ", [b'a'; 20_000].as_slice()].concat(), "larger than 16 KiB"),
        ] {
            let error = answer(&bytes, bytes.len()).unwrap_err().to_string();
            assert!(error.contains(phrase), "{error}");
        }
    }
}
