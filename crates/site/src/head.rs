//! Heads on bytes of their own. hyper reads into buffers of 8 KiB, and a head is made of pieces of one: a request that waits would keep
//! all of it for as long as it does. What the head means is not known here.

use axum::body::Bytes;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Uri};

/// Copies what `head` has of its connection's buffer: its target and the values of its fields.
pub(crate) fn detach(head: &mut Parts) {
    let target = head.uri.to_string();
    let size = target.len() + head.headers.values().map(HeaderValue::len).sum::<usize>();
    let mut bytes = Vec::with_capacity(size);
    bytes.extend_from_slice(target.as_bytes());
    head.headers.values().for_each(|value| bytes.extend_from_slice(value.as_bytes()));
    let mut bytes = Bytes::from(bytes);
    // What was valid is, and would stay as it was otherwise.
    if let Ok(uri) = Uri::from_maybe_shared(bytes.split_to(target.len())) {
        head.uri = uri;
    }
    for value in head.headers.values_mut() {
        if let Ok(own) = HeaderValue::from_maybe_shared(bytes.split_to(value.len())) {
            *value = own;
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    #[test]
    fn a_head_says_the_same_afterwards_and_its_buffer_is_free() {
        let buffer = Bytes::from(b"/v1/watch?revision=7&name=%C3%A4 localhost \xffvalue".to_vec());
        let kept = buffer.slice(33..42);
        let request = Request::get(Uri::from_maybe_shared(buffer.slice(..32)).unwrap())
            .header("host", HeaderValue::from_maybe_shared(kept).unwrap())
            .header("x-own", HeaderValue::from_maybe_shared(buffer.slice(43..)).unwrap())
            .header("host", "another")
            .body(());
        let (mut head, ()) = request.unwrap().into_parts();
        let before = head.clone();
        detach(&mut head);
        assert_eq!((&head.uri, &head.headers), (&before.uri, &before.headers));
        drop(before);
        assert!(buffer.is_unique(), "nobody else has the bytes that were read");
    }
}
