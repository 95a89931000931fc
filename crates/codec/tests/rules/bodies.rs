//! Bodies, rule by rule, and the chunked decoder against a slow one.

use meshwright_codec::{BodyDecoder, BodyError, BodyLimits};
use meshwright_message::BodyLength;
use proptest::prelude::*;

use super::invariants::{self, Body, decode};

fn chunked(bytes: impl AsRef<[u8]>) -> Body {
    let bytes = bytes.as_ref();
    invariants::chunked_body(bytes);
    decode(BodyLength::Chunked, bytes, bytes.len())
}

fn error(bytes: impl AsRef<[u8]>) -> Option<BodyError> {
    chunked(bytes).error
}

#[test]
fn a_sized_body_ends_after_its_bytes() {
    for step in [1, 2, 100] {
        let body = decode(BodyLength::Sized(5), b"helloGET /", step);
        assert_eq!((body.data.as_slice(), body.consumed, body.done), (&b"hello"[..], 5, true));
    }
    assert!(BodyDecoder::new(BodyLength::Sized(0), &BodyLimits::default()).is_done());
    assert!(BodyDecoder::new(BodyLength::Empty, &BodyLimits::default()).is_done());
}

#[test]
fn a_decoder_is_small_enough_to_live_in_every_connection() {
    assert!(size_of::<BodyDecoder>() <= 72, "{}", size_of::<BodyDecoder>());
    assert!(size_of::<meshwright_codec::HeadScan>() <= 32);
}

#[test]
fn a_cut_body_is_told_from_a_finished_one() {
    let at_close = |length, bytes: &[u8]| {
        let mut decoder = BodyDecoder::new(length, &BodyLimits::default());
        let mut at = 0;
        while at < bytes.len() && !decoder.is_done() {
            at += decoder.decode(&bytes[at..]).map(|step| step.consumed).unwrap_or(bytes.len());
        }
        decoder.finish_at_close().map(|()| decoder.is_done())
    };
    assert_eq!(at_close(BodyLength::UntilClose, b"anything"), Ok(true));
    assert_eq!(at_close(BodyLength::UntilClose, b""), Ok(true));
    assert_eq!(at_close(BodyLength::Sized(5), b"hello"), Ok(true));
    assert_eq!(at_close(BodyLength::Sized(5), b"hell"), Err(BodyError::Truncated));
    assert_eq!(at_close(BodyLength::Chunked, b"0\r\n\r\n"), Ok(true));
    for cut in ["", "5", "5\r\nhel", "5\r\nhello", "5\r\nhello\r\n", "5\r\nhello\r\n0\r\n", "0\r\n\r", "0\r\nA: b\r\n"]
    {
        assert_eq!(at_close(BodyLength::Chunked, cut.as_bytes()), Err(BodyError::Truncated), "{cut:?}");
    }
}

#[test]
fn a_chunked_body_loses_its_framing_and_keeps_its_data() {
    let bytes = "5\r\nhello\r\n0000A;a=b;c=\"d e\"\r\n world 123\r\n1;x\r\n!\r\n00\r\n\r\nGET /";
    let body = chunked(bytes);
    assert_eq!((body.data.as_slice(), body.done), (&b"hello world 123!"[..], true));
    assert_eq!(&bytes[body.consumed..], "GET /");
    assert_eq!(body.trailers, None);
}

#[test]
fn one_step_names_one_run_of_data_and_takes_the_framing_around_it() {
    let mut decoder = BodyDecoder::new(BodyLength::Chunked, &BodyLimits::default());
    let bytes = b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    let first = decoder.decode(bytes).expect("the framing is right");
    assert_eq!((first.data.clone(), first.consumed, first.done), (3..6, 11, false));
    assert_eq!(decoder.remaining(), Some(2));
    let second = decoder.decode(&bytes[first.consumed..]).expect("the framing is right");
    assert_eq!((second.data, second.consumed, second.done), (0..2, 9, true));
}

#[test]
fn chunk_sizes_are_hexadecimal_digits_and_nothing_else() {
    for size in ["0x5", "+5", "-1", "5_0", " 5", "5 ", "5\t", "", "00000000000000005", "g", "\u{ff15}", "5,", "5\n"] {
        assert_eq!(error(format!("{size}\r\nhello\r\n0\r\n\r\n")), Some(BodyError::BadChunkSize), "{size:?}");
    }
    assert_eq!(error("ffffffffffffffff\r\n"), Some(BodyError::ChunkTooLarge));
    assert_eq!(error("8000000000000000\r\n"), Some(BodyError::ChunkTooLarge));
    assert_eq!(error("7fffffffffffffff\r\nx"), None);
    assert!(chunked("0000000000000005\r\nhello\r\n0000000000000000\r\n\r\n").done);
}

#[test]
fn chunk_lines_end_with_crlf() {
    for bytes in
        ["5\rXhello", "5\r\rhello", "5;a\rXhello", "5\r\nhelloXX", "5\r\nhello\nX", "5\r\nhello\rX", "5\r\nhello!\r\n"]
    {
        assert_eq!(error(bytes), Some(BodyError::BadChunkEnd), "{bytes:?}");
    }
    assert_eq!(error("5\r\r;ABCD"), Some(BodyError::BadChunkEnd));
    assert_eq!(error("5\nhello"), Some(BodyError::BadChunkSize));
    assert_eq!(error("0\r\n\rX"), Some(BodyError::BadTrailer));
    assert_eq!(error("0\r\n\n"), Some(BodyError::BadTrailer));
}

#[test]
fn data_before_a_framing_error_is_handed_out() {
    let body = chunked("5\r\nhello\r\nzz");
    assert_eq!((body.data.as_slice(), body.error), (&b"hello"[..], Some(BodyError::BadChunkSize)));
}

#[test]
fn extensions_are_bounded_and_clean() {
    for extension in [";", "; ", ";a\nb", ";a\r\rX", ";\x01", ";a\0", ";a\x7f", ";\u{e9}", ";=b", ";;"] {
        let bytes = format!("5{extension}\r\nhello\r\n0\r\n\r\n");
        assert!(matches!(error(&bytes), Some(BodyError::BadChunkExtension | BodyError::BadChunkEnd)), "{bytes:?}");
    }
    let extended = |len: usize| format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(len));
    assert!(chunked(extended(256)).done);
    assert_eq!(error(extended(257)), Some(BodyError::ChunkExtensionTooLong));
    assert_eq!(error(extended(64 << 10)), Some(BodyError::ChunkExtensionTooLong));
}

#[test]
fn extensions_may_not_cost_more_than_the_data_is_worth() {
    let chunk = format!("1;{}\r\nx\r\n", "a".repeat(256));
    assert_eq!(error(chunk.repeat(100)), Some(BodyError::ChunkExtensionTooLong));
    let signed = format!("400;chunk-signature={}\r\n{}\r\n", "0".repeat(64), "x".repeat(1024));
    assert_eq!(error(signed.repeat(1000)), None);
}

#[test]
fn trailers_come_through_without_those_that_steer() {
    let body = chunked(
        "0\r\nX-Sum: abc \r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: a\r\nAuthorization: b\r\nCookie: c\r\n\
         Set-Cookie: d\r\nTE: trailers\r\nTrailer: x\r\nConnection: close\r\nX-Forwarded-For: 1.2.3.4\r\n\
         x-envoy-anything: 1\r\nCache-Control: no-store\r\nRange: bytes=0-1\r\ncontent_length: 3\r\ngrpc-status: 0\r\n\
         grpc-message: ok\r\n\r\nrest",
    );
    let expected = [("X-Sum", "abc"), ("grpc-status", "0"), ("grpc-message", "ok")];
    let expected = expected.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).to_vec();
    assert_eq!((body.trailers, body.done), (Some(expected), true));
    assert_eq!(chunked("0\r\nHost: a\r\n\r\n").trailers, None);
}

#[test]
fn trailers_keep_the_rules_of_headers_and_their_own_limits() {
    for line in ["X", "X : y", ": y", "X: a\0b", "X: y\r\n z", "X: a\nY: b", "X: a\rb"] {
        assert_eq!(error(format!("0\r\n{line}\r\n\r\n")), Some(BodyError::BadTrailer), "{line:?}");
    }
    // A trailer section cut off and followed by a request never becomes part of it silently.
    assert_eq!(error("0\r\nX:\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), Some(BodyError::BadTrailer));
    assert!(chunked(format!("0\r\n{}\r\n", "A: b\r\n".repeat(32))).done);
    assert_eq!(error(format!("0\r\n{}\r\n", "A: b\r\n".repeat(33))), Some(BodyError::TrailersTooLarge));
    assert_eq!(error(format!("0\r\n{}\r\n", "A: b\r\n".repeat(10_000))), Some(BodyError::TrailersTooLarge));
    assert_eq!(error(format!("0\r\nA: {}", "b".repeat(9000))), Some(BodyError::TrailersTooLarge));
}

/// A decoder that sees the whole body at once: its data and the bytes it took, when it is complete and right.
fn slow_decode(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let line_at = |from: usize| {
        let len = bytes[from..].windows(2).position(|pair| pair == b"\r\n")?;
        Some((std::str::from_utf8(&bytes[from..from + len]).ok()?, from + len + 2))
    };
    let (mut data, mut at) = (Vec::new(), 0);
    loop {
        let (line, next) = line_at(at)?;
        at = next;
        let (size, extension) = line.split_once(';').map_or((line, "a"), |(size, extension)| (size, extension));
        let named = extension.trim_matches([' ', '\t']);
        if !named.starts_with(|c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))
            || extension.chars().any(|c| c != '\t' && !(' '..='~').contains(&c))
            || !size.bytes().all(|byte| byte.is_ascii_hexdigit())
            || size.len() > 16
        {
            return None;
        }
        let size = usize::try_from(i64::from_str_radix(size, 16).ok()?).ok()?;
        if size == 0 {
            break;
        }
        data.extend_from_slice(bytes.get(at..at.checked_add(size)?)?);
        at += size;
        (bytes.get(at..at + 2)? == b"\r\n").then_some(())?;
        at += 2;
    }
    loop {
        let (line, next) = line_at(at)?;
        at = next;
        if line.is_empty() {
            return Some((data, at));
        }
        let (name, value) = line.split_once(':')?;
        if name.is_empty()
            || !name.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))
            || value.bytes().any(|byte| byte < b' ' && byte != b'\t' || byte == 0x7f)
        {
            return None;
        }
    }
}

proptest! {
    #[test]
    fn chunked_bodies_decode_as_the_slow_decoder_says(
        text in "((1|2|3|0|00|a|1;a|2; b=c|1;|x| 1|)(\r\n|\r|\n){0,1}(a|bc|abc|abcdefghij|){1}(\r\n|\r|X|){1}){0,6}(0\r\n)?(A: b\r\n|A : b\r\n|B:\t\r\n|C\r\n){0,2}(\r\n)?(GET)?"
    ) {
        let body = chunked(&text);
        let slow = slow_decode(text.as_bytes());
        prop_assert_eq!(body.done, slow.is_some());
        if let Some((data, consumed)) = slow {
            prop_assert_eq!((body.data, body.consumed), (data, consumed));
        }
    }

    #[test]
    fn any_data_survives_chunking(data in prop::collection::vec(any::<u8>(), 0..2000), sizes in prop::collection::vec(1usize..300, 1..20)) {
        let (mut written, mut rest) = (Vec::new(), data.as_slice());
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (chunk, after) = rest.split_at(rest.len().min(*size));
            meshwright_codec::write_chunk_header(chunk.len(), &mut written);
            written.extend_from_slice(chunk);
            meshwright_codec::write_chunk_end(&mut written);
            rest = after;
        }
        meshwright_codec::write_last_chunk(None, &mut written);
        let body = chunked(&written);
        prop_assert_eq!((body.data, body.consumed, body.done), (data, written.len(), true));
    }
}
