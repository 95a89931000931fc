//! What the codec takes and refuses, by rule; that splitting changes nothing; and how hyper sees the same bytes.

mod bodies;
mod differential;
mod requests;
mod responses;
mod roundtrip;
mod seeds;
mod writing;

#[path = "../../../../fuzz/src/lib.rs"]
mod invariants;

use meshwright_codec::{HeadError, HeadLimits, HeadScan, Progress, parse_request};
use meshwright_message::{HeaderList, RequestHead};

/// Parses one whole request; `None` when it is not complete.
fn request(bytes: &[u8]) -> Result<Option<RequestHead>, HeadError> {
    let mut head = RequestHead::default();
    let progress = parse_request(bytes, &mut HeadScan::default(), &HeadLimits::default(), &mut head)?;
    Ok((progress != Progress::Partial).then_some(head))
}

/// A complete request head that is accepted.
fn accepted(bytes: impl AsRef<[u8]>) -> RequestHead {
    let bytes = bytes.as_ref();
    match request(bytes) {
        Ok(Some(head)) => head,
        other => panic!("{:?} gave {other:?}", String::from_utf8_lossy(bytes)),
    }
}

/// The error of a request head that is refused, in one piece and split at every place.
fn refused(bytes: impl AsRef<[u8]>) -> HeadError {
    let bytes = bytes.as_ref();
    match request(bytes) {
        Err(error) => {
            invariants::request_head(bytes);
            error
        }
        other => panic!("{:?} gave {other:?}", String::from_utf8_lossy(bytes)),
    }
}

/// A GET with these field lines after Host.
fn get_with(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n")
}

fn fields(list: &HeaderList) -> Vec<(String, Vec<u8>)> {
    list.iter().map(|(_, name, value)| (String::from_utf8_lossy(name).into_owned(), value.to_vec())).collect()
}
