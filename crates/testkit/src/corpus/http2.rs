//! Rows C1, C4, C5, C8 to C11 and C16 as far as they are a few frames: every rule of RFC 9113 and RFC 7541 that a client can
//! keep or break, one case each, named by its section. What is wrong in a message rather than in its frames is in
//! `http2_messages.rs`; floods are in the tests.

use super::Expected;
use crate::frames::{
    PREFACE, code, data, field, flag, frame, headers, indexed_field, integer, kind, ping, priority, request, reset,
    settings, window_update,
};
use FrameMust::{Alive, Answered, Closed, ConnectionError, Overrun, StreamError};
use code::{COMPRESSION_ERROR, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, PROTOCOL_ERROR, STREAM_CLOSED};

/// What must come of frames.
#[derive(Clone, Debug)]
pub enum FrameMust {
    /// The connection goes on: a PING behind it is answered.
    Alive,
    /// The stream is answered with this status.
    Answered(u32, u16),
    /// The stream is answered, and what arrived at the origin is this.
    Forwarded(u32, Box<Expected>),
    /// The stream is reset, or the connection ended, with one of these codes.
    StreamError(u32, &'static [u32]),
    /// The stream is reset or answered with 4xx; nothing of it reaches the origin complete.
    Refused(u32),
    /// What is sent is a head and one DATA frame, that again as often as the window of the stream lets, and once more: the
    /// stream or the connection ends with FLOW_CONTROL_ERROR, and not before.
    Overrun(u32),
    /// The connection is ended with GOAWAY and one of these codes.
    ConnectionError(&'static [u32]),
    /// The connection is closed, with or without a word.
    Closed,
}

/// Frames behind the preface, and what must come of them.
#[derive(Clone, Debug)]
pub struct FrameCase {
    /// Row of the checklist.
    pub row: &'static str,
    /// What is special about it; in row C1 it begins with the section.
    pub name: String,
    /// Whether preface and SETTINGS are exchanged before.
    pub opens: bool,
    /// What is sent.
    pub bytes: Vec<u8>,
    /// What must come of it.
    pub must: FrameMust,
}

/// All cases whose input is frames of HTTP/2, by row.
pub fn http2() -> Vec<FrameCase> {
    let mut cases = Vec::new();
    cases.extend(what_is_allowed());
    cases.extend(connections_and_frames());
    cases.extend(streams());
    cases.extend(frame_types());
    cases.extend(settings_and_windows());
    cases.extend(header_blocks());
    cases.extend(compression());
    cases.extend(super::http2_messages::cases());
    cases
}

/// A case of row C1.
pub(super) fn case(row: &'static str, name: impl Into<String>, frames: &[Vec<u8>], must: FrameMust) -> FrameCase {
    FrameCase { row, name: name.into(), opens: true, bytes: frames.concat(), must }
}

fn c1(name: &str, frames: &[Vec<u8>], must: FrameMust) -> FrameCase {
    case("C1", name, frames, must)
}

/// A whole GET on a stream.
pub(super) fn get(stream: u32) -> Vec<u8> {
    headers(stream, request("GET", "/p", &[]), true)
}

/// The head of a POST on a stream.
pub(super) fn post(stream: u32) -> Vec<u8> {
    headers(stream, request("POST", "/p", &[]), false)
}

/// A frame of headers that does not end its block.
fn open_block(stream: u32) -> Vec<u8> {
    frame(kind::HEADERS, flag::END_STREAM, stream, request("GET", "/p", &[]))
}

fn padded(kind: u8, flags: u8, stream: u32, payload: &[u8], padding: u8) -> Vec<u8> {
    let bytes = [&[padding][..], payload, &vec![0; usize::from(padding)]].concat();
    frame(kind, flags | flag::PADDED, stream, bytes)
}

const SOME_PROTOCOL: &[u32] = &[PROTOCOL_ERROR];
const SOME_SIZE: &[u32] = &[FRAME_SIZE_ERROR, PROTOCOL_ERROR];
const SOME_CLOSED: &[u32] = &[STREAM_CLOSED, PROTOCOL_ERROR];

fn what_is_allowed() -> Vec<FrameCase> {
    let block = request("GET", "/p", &[]);
    let with_priority = [&[0, 0, 0, 0, 15][..], &block].concat();
    let (first, second) = block.split_at(10);
    let (second, third) = second.split_at(10);
    let end = flag::END_HEADERS;
    let trailers = headers(1, field("x-sum", "1"), true);
    let indexed = [&[0x82, 0x86, 0x84][..], &field(":authority", "x")].concat();
    vec![
        c1("3.4 an ordinary request", &[get(1)], Answered(1, 200)),
        c1("5.1 PRIORITY on an idle stream", &[priority(1, 0, 15), get(1)], Answered(1, 200)),
        c1("5.1 WINDOW_UPDATE on a half-closed stream", &[get(1), window_update(1, 1)], Answered(1, 200)),
        c1("5.1 PRIORITY on a half-closed stream", &[get(1), priority(1, 0, 15)], Answered(1, 200)),
        c1("5.1 RST_STREAM on a half-closed stream", &[get(1), reset(1, 8)], Alive),
        c1("6.1 a DATA frame", &[post(1), data(1, "test", true)], Answered(1, 200)),
        c1("6.1 several DATA frames", &[post(1), data(1, "test", false), data(1, "test", true)], Answered(1, 200)),
        c1("6.1 a padded DATA frame", &[post(1), padded(0, flag::END_STREAM, 1, b"test", 5)], Answered(1, 200)),
        c1("6.2 a padded HEADERS frame", &[padded(1, end | flag::END_STREAM, 1, &block, 5)], Answered(1, 200)),
        c1(
            "6.2 HEADERS with priority",
            &[frame(kind::HEADERS, end | flag::END_STREAM | flag::PRIORITY, 1, &with_priority)],
            Answered(1, 200),
        ),
        c1("6.3 PRIORITY of weight 1", &[priority(1, 0, 0), get(1)], Answered(1, 200)),
        c1("6.3 PRIORITY of weight 256", &[priority(1, 0, 255), get(1)], Answered(1, 200)),
        c1("6.3 PRIORITY with a dependency", &[priority(1, 0, 15), priority(3, 1, 15), get(1)], Answered(1, 200)),
        c1("6.3 PRIORITY, exclusive", &[priority(3, 1 | 1 << 31, 15), get(1)], Answered(1, 200)),
        c1("6.3 PRIORITY on a later stream", &[priority(5, 1, 15), get(1)], Answered(1, 200)),
        c1("6.4 RST_STREAM and another request", &[get(1), reset(1, 8), get(3)], Answered(3, 200)),
        c1("6.5 SETTINGS", &[settings(&[(3, 100)]), get(1)], Answered(1, 200)),
        c1("6.7 PING", &[ping(*b"01234567")], Alive),
        c1("6.8 GOAWAY of the client", &[get(1), frame(kind::GOAWAY, 0, 0, [0; 8])], Answered(1, 200)),
        c1("6.9 WINDOW_UPDATE of the connection", &[window_update(0, 1), get(1)], Answered(1, 200)),
        c1("6.9 WINDOW_UPDATE of a stream", &[post(1), window_update(1, 1), data(1, "x", true)], Answered(1, 200)),
        c1(
            "6.10 a CONTINUATION frame",
            &[frame(1, flag::END_STREAM, 1, first), frame(9, end, 1, [second, third].concat())],
            Answered(1, 200),
        ),
        c1(
            "6.10 several CONTINUATION frames",
            &[frame(1, flag::END_STREAM, 1, first), frame(9, 0, 1, second), frame(9, end, 1, third)],
            Answered(1, 200),
        ),
        c1("8.1 GET", &[get(1)], Answered(1, 200)),
        c1("8.1 HEAD", &[headers(1, request("HEAD", "/p", &[]), true)], Answered(1, 200)),
        c1("8.1 POST", &[post(1), data(1, "body", true)], Answered(1, 200)),
        c1("8.1 POST with trailers", &[post(1), data(1, "body", false), trailers], Answered(1, 200)),
        c1("HPACK 6.1 indexed fields", &[headers(1, indexed, true)], Answered(1, 200)),
    ]
}

fn connections_and_frames() -> Vec<FrameCase> {
    let not_opened = |name: &str, bytes: &[u8]| FrameCase {
        row: "C1",
        name: name.to_owned(),
        opens: false,
        bytes: bytes.to_vec(),
        must: Closed,
    };
    let broken_settings = [PREFACE, &frame(kind::SETTINGS, 0, 1, [])].concat();
    let no_settings = [PREFACE, &frame(kind::GOAWAY, 0, 1, [0; 8])].concat();
    let too_long = vec![0; 16_385];
    vec![
        not_opened("3.4 a preface with a wrong end", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"),
        not_opened("3.4 a preface of another version", b"PRI * HTTP/3.0\r\n\r\nSM\r\n\r\n"),
        not_opened("3.4 SETTINGS on a stream behind the preface", &broken_settings),
        not_opened("3.4 something else behind the preface", &no_settings),
        c1("4.1 a frame of an unknown type", &[frame(0xff, 0, 0, [0; 8])], Alive),
        c1("4.1 flags that mean nothing", &[frame(kind::PING, 0xfe, 0, *b"undefine")], Alive),
        c1("4.1 the reserved bit", &[frame(kind::PING, 0, 1 << 31, *b"reserved")], Alive),
        c1("4.2 a DATA frame of 16,384 bytes", &[post(1), data(1, &too_long[1..], true)], Answered(1, 200)),
        c1("4.2 a DATA frame of 16,385 bytes", &[post(1), data(1, &too_long, true)], StreamError(1, SOME_SIZE)),
        c1("4.2 a HEADERS frame of 16,385 bytes", &[headers(1, &too_long, true)], ConnectionError(SOME_SIZE)),
        c1(
            "4.3 a block that is none",
            &[headers(1, [0x40], true)],
            ConnectionError(&[COMPRESSION_ERROR, PROTOCOL_ERROR]),
        ),
        c1("4.3 PRIORITY inside a block", &[open_block(1), priority(1, 0, 255)], ConnectionError(SOME_PROTOCOL)),
        c1("4.3 HEADERS of another stream inside a block", &[open_block(1), get(3)], ConnectionError(SOME_PROTOCOL)),
        c1("5.4.1 GOAWAY before the end", &[frame(kind::PING, 0, 3, [0; 8])], ConnectionError(SOME_PROTOCOL)),
        c1(
            "5.5 an unknown frame inside a block",
            &[open_block(1), frame(0xff, 1, 0, [0; 8])],
            ConnectionError(SOME_PROTOCOL),
        ),
        case("C16", "a frame header of nothing but ones", &[vec![0xff; 9]], Closed),
        case("C16", "HTTP/1 in the middle", &[get(1), b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()], Closed),
    ]
}

fn streams() -> Vec<FrameCase> {
    let closed = |rest: Vec<u8>| [get(1), reset(1, 8), rest].concat();
    let many: Vec<Vec<u8>> = (0..120).map(|number| post(2 * number + 1)).collect();
    let mut cases = vec![
        c1("5.1 idle: DATA", &[data(1, "test", true)], ConnectionError(SOME_CLOSED)),
        c1("5.1 idle: RST_STREAM", &[reset(1, 8)], ConnectionError(SOME_PROTOCOL)),
        c1("5.1 idle: WINDOW_UPDATE", &[window_update(1, 100)], ConnectionError(SOME_PROTOCOL)),
        c1("5.1 idle: CONTINUATION", &[frame(9, 4, 1, field("a", "b"))], ConnectionError(SOME_PROTOCOL)),
        c1("5.1 half-closed: DATA", &[get(1), data(1, "test", true)], StreamError(1, SOME_CLOSED)),
        c1("5.1 half-closed: HEADERS", &[get(1), get(1)], StreamError(1, SOME_CLOSED)),
        c1("5.1 half-closed: CONTINUATION", &[get(1), frame(9, 4, 1, field("a", "b"))], ConnectionError(SOME_CLOSED)),
        c1("5.1 closed by RST_STREAM: DATA", &[closed(data(1, "test", true))], Alive),
        c1("5.1 closed by RST_STREAM: HEADERS", &[closed(get(1))], StreamError(1, SOME_CLOSED)),
        c1("5.1 closed by RST_STREAM: CONTINUATION", &[closed(frame(9, 4, 1, []))], ConnectionError(SOME_CLOSED)),
        c1("5.1.1 an even stream", &[get(2)], ConnectionError(SOME_PROTOCOL)),
        c1("5.1.1 a lower stream than before", &[get(5), get(3)], ConnectionError(SOME_CLOSED)),
        c1("5.1.2 more streams than allowed", &many, StreamError(239, &[code::REFUSED_STREAM, PROTOCOL_ERROR])),
        c1("5.3.1 HEADERS that depend on themselves", &[depends_on_itself()], StreamError(1, SOME_PROTOCOL)),
        c1("5.3.1 PRIORITY that depends on itself", &[get(1), priority(1, 1, 255)], StreamError(1, SOME_PROTOCOL)),
        case("C10", "the last stream there can be", &[get(0x7fff_ffff)], Answered(0x7fff_ffff, 200)),
        case("C10", "a request behind the last stream", &[get(0x7fff_ffff), get(1)], ConnectionError(SOME_CLOSED)),
        case("C10", "stream 0 for a request", &[get(0)], ConnectionError(SOME_PROTOCOL)),
        case("C10", "DATA on an even stream", &[data(2, "test", true)], ConnectionError(SOME_CLOSED)),
        case("C10", "RST_STREAM on an even stream", &[reset(2, 8)], ConnectionError(SOME_PROTOCOL)),
        case("C10", "WINDOW_UPDATE on an even stream", &[window_update(2, 1)], ConnectionError(SOME_PROTOCOL)),
        case(
            "C11",
            "CVE-2026-26311: DATA behind a frame that makes us reset",
            &[post(1), window_update(1, 0), data(1, "test", true)],
            StreamError(1, SOME_PROTOCOL),
        ),
        case(
            "C11",
            "HEADERS behind the end of a request",
            &[post(1), data(1, "a", true), headers(1, field("a", "b"), true)],
            StreamError(1, SOME_CLOSED),
        ),
    ];
    for stream in [1, 3, 1001] {
        let frames = [frame(kind::PUSH_PROMISE, 4, stream, [&[0, 0, 0, 2][..], &request("GET", "/p", &[])].concat())];
        cases.push(case(
            "C10",
            format!("PUSH_PROMISE of a client on stream {stream}"),
            &frames,
            ConnectionError(SOME_PROTOCOL),
        ));
    }
    cases
}

fn depends_on_itself() -> Vec<u8> {
    let block = [&[0, 0, 0, 1, 255][..], &request("GET", "/p", &[])].concat();
    frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM | flag::PRIORITY, 1, block)
}

fn frame_types() -> Vec<FrameCase> {
    let block = request("GET", "/p", &[]);
    let too_padded = |kind: u8, flags: u8| frame(kind, flags | flag::PADDED, 1, [&[0xff][..], b"test"].concat());
    vec![
        c1("6.1 DATA on stream 0", &[data(0, "test", true)], ConnectionError(SOME_PROTOCOL)),
        c1("6.1 DATA on a stream that is not open", &[get(1), data(1, "test", true)], StreamError(1, SOME_CLOSED)),
        c1("6.1 more padding than DATA", &[post(1), too_padded(0, 1)], ConnectionError(SOME_PROTOCOL)),
        c1("6.1 a padded DATA frame without a length", &[post(1), frame(0, 9, 1, [])], ConnectionError(SOME_SIZE)),
        c1(
            "6.2 PRIORITY behind HEADERS without an end",
            &[open_block(1), priority(1, 0, 15)],
            ConnectionError(SOME_PROTOCOL),
        ),
        c1(
            "6.2 DATA behind HEADERS without an end",
            &[open_block(1), data(1, "x", true)],
            ConnectionError(SOME_PROTOCOL),
        ),
        c1("6.2 HEADERS on stream 0", &[headers(0, &block, true)], ConnectionError(SOME_PROTOCOL)),
        c1("6.2 more padding than HEADERS", &[too_padded(1, 5)], ConnectionError(SOME_PROTOCOL)),
        c1("6.2 HEADERS with half a priority", &[frame(1, 0x25, 1, [0, 0])], ConnectionError(SOME_SIZE)),
        c1("6.3 PRIORITY on stream 0", &[priority(0, 1, 15)], ConnectionError(SOME_PROTOCOL)),
        c1("6.3 PRIORITY of four bytes", &[get(1), frame(kind::PRIORITY, 0, 1, [0; 4])], StreamError(1, SOME_SIZE)),
        c1("6.3 PRIORITY of six bytes", &[get(1), frame(kind::PRIORITY, 0, 1, [0; 6])], StreamError(1, SOME_SIZE)),
        c1("6.4 RST_STREAM on stream 0", &[reset(0, 8)], ConnectionError(SOME_PROTOCOL)),
        c1("6.4 RST_STREAM on an idle stream", &[reset(1, 8)], ConnectionError(SOME_PROTOCOL)),
        c1(
            "6.4 RST_STREAM of three bytes",
            &[post(1), frame(kind::RST_STREAM, 0, 1, [0; 3])],
            ConnectionError(SOME_SIZE),
        ),
        c1(
            "6.4 RST_STREAM of five bytes",
            &[post(1), frame(kind::RST_STREAM, 0, 1, [0; 5])],
            ConnectionError(SOME_SIZE),
        ),
        c1(
            "6.6 PUSH_PROMISE of a client",
            &[frame(5, 4, 1, [&[0, 0, 0, 2][..], &block].concat())],
            ConnectionError(SOME_PROTOCOL),
        ),
        c1("6.7 PING with ACK is not answered", &[frame(kind::PING, flag::ACK, 0, *b"not sent")], Alive),
        c1("6.7 PING on a stream", &[frame(kind::PING, 0, 1, [0; 8])], ConnectionError(SOME_PROTOCOL)),
        c1("6.7 PING of six bytes", &[frame(kind::PING, 0, 0, [0; 6])], ConnectionError(SOME_SIZE)),
        c1("6.7 PING of nine bytes", &[frame(kind::PING, 0, 0, [0; 9])], ConnectionError(SOME_SIZE)),
        c1("6.8 GOAWAY on a stream", &[frame(kind::GOAWAY, 0, 1, [0; 8])], ConnectionError(SOME_PROTOCOL)),
        c1("6.8 GOAWAY of seven bytes", &[frame(kind::GOAWAY, 0, 0, [0; 7])], ConnectionError(SOME_SIZE)),
        c1(
            "7 GOAWAY with an unknown code",
            &[get(1), frame(kind::GOAWAY, 0, 0, [0, 0, 0, 0, 0, 0, 0, 0xff])],
            Answered(1, 200),
        ),
        c1("7 RST_STREAM with an unknown code", &[post(1), reset(1, 0xff)], Alive),
    ]
}

fn settings_and_windows() -> Vec<FrameCase> {
    const WINDOW: &[u32] = &[FLOW_CONTROL_ERROR, PROTOCOL_ERROR];
    let most = 0x7fff_ffff;
    let thousand: Vec<(u16, u32)> = (0..1000).map(|number| (0x1000 + number, 0)).collect();
    let narrow = settings(&[(4, 1)]);
    // The origin reads nothing of the body, so that the window cannot be opened again for long.
    let never = headers(1, request("POST", "/never", &[]), false);
    vec![
        c1("6.5 an acknowledgement with a payload", &[frame(4, 1, 0, [0; 6])], ConnectionError(SOME_SIZE)),
        c1("6.5 SETTINGS on a stream", &[frame(4, 0, 1, [0, 3, 0, 0, 0, 100])], ConnectionError(SOME_PROTOCOL)),
        c1("6.5 SETTINGS of three bytes", &[frame(4, 0, 0, [0, 3, 0])], ConnectionError(SOME_SIZE)),
        c1("6.5.2 ENABLE_PUSH of 2", &[settings(&[(2, 2)])], ConnectionError(SOME_PROTOCOL)),
        c1("6.5.2 INITIAL_WINDOW_SIZE beyond all", &[settings(&[(4, 1 << 31)])], ConnectionError(WINDOW)),
        c1("6.5.2 MAX_FRAME_SIZE below the least", &[settings(&[(5, 16_383)])], ConnectionError(SOME_PROTOCOL)),
        c1("6.5.2 MAX_FRAME_SIZE beyond the most", &[settings(&[(5, 1 << 24)])], ConnectionError(SOME_PROTOCOL)),
        c1("6.5.2 an unknown setting", &[settings(&[(0xff, 1)])], Alive),
        c1("6.5.3 one setting several times", &[settings(&[(4, 0), (4, 100_000)]), get(1)], Answered(1, 200)),
        c1("6.5.3 SETTINGS are acknowledged", &[settings(&[(3, 1)])], Alive),
        c1("6.9 WINDOW_UPDATE of 0 on the connection", &[window_update(0, 0)], ConnectionError(SOME_PROTOCOL)),
        c1("6.9 WINDOW_UPDATE of 0 on a stream", &[post(1), window_update(1, 0)], StreamError(1, SOME_PROTOCOL)),
        c1("6.9 WINDOW_UPDATE of three bytes", &[frame(8, 0, 0, [0; 3])], ConnectionError(SOME_SIZE)),
        c1("6.9.1 a window of one byte", &[narrow.clone(), get(1), window_update(1, 100_000)], Answered(1, 200)),
        c1(
            "6.9.1 a window of the connection beyond all",
            &[window_update(0, most), window_update(0, most)],
            ConnectionError(WINDOW),
        ),
        c1(
            "6.9.1 a window of a stream beyond all",
            &[post(1), window_update(1, most), window_update(1, most)],
            StreamError(1, WINDOW),
        ),
        c1(
            "6.9.2 a window that grows behind HEADERS",
            &[settings(&[(4, 0)]), get(1), settings(&[(4, 100_000)])],
            Answered(1, 200),
        ),
        c1(
            "6.9.2 a window below zero",
            &[settings(&[(4, 3)]), get(1), settings(&[(4, 0)]), window_update(1, 100_000)],
            Answered(1, 200),
        ),
        c1(
            "6.9.2 a window beyond all by SETTINGS",
            &[post(1), window_update(1, most - 65_535), settings(&[(4, most)])],
            ConnectionError(WINDOW),
        ),
        case("C9", "a frame size of 0", &[settings(&[(5, 0)])], ConnectionError(SOME_PROTOCOL)),
        case("C9", "a table of 2^32 - 1 bytes", &[settings(&[(1, u32::MAX)]), get(1)], Answered(1, 200)),
        case("C9", "a thousand settings", &[settings(&thousand)], Alive),
        case("C9", "a list of headers of no bytes", &[settings(&[(6, 0)])], Alive),
        case("C9", "no streams", &[settings(&[(3, 0)]), get(1)], Answered(1, 200)),
        case(
            "C9",
            "SETTINGS longer than a frame may be",
            &[frame(4, 0, 0, vec![0; 16_386])],
            ConnectionError(SOME_SIZE),
        ),
        case(
            "C8",
            "DATA beyond the window of the stream",
            &[never.clone(), data(1, vec![0; 16_000], false)],
            Overrun(1),
        ),
        case("C8", "padding counts for the window", &[never, padded(kind::DATA, 0, 1, &[0; 1000], 255)], Overrun(1)),
    ]
}

fn header_blocks() -> Vec<FrameCase> {
    let end = flag::END_HEADERS;
    let block = field("x", "y");
    let crowd = |count: usize, piece: &[u8]| {
        let first = frame(kind::HEADERS, flag::END_STREAM, 1, request("GET", "/p", &[]));
        std::iter::once(first).chain((0..count).map(|_| frame(9, 0, 1, piece))).collect::<Vec<_>>()
    };
    vec![
        c1(
            "6.10 CONTINUATION, then another frame",
            &[open_block(1), frame(9, 0, 1, &block), data(1, "x", true)],
            ConnectionError(SOME_PROTOCOL),
        ),
        c1("6.10 CONTINUATION on stream 0", &[open_block(1), frame(9, end, 0, &block)], ConnectionError(SOME_PROTOCOL)),
        c1(
            "6.10 CONTINUATION behind the end of a block",
            &[get(1), frame(9, end, 1, &block)],
            ConnectionError(SOME_PROTOCOL),
        ),
        c1(
            "6.10 CONTINUATION behind a CONTINUATION that ends",
            &[open_block(1), frame(9, end, 1, &block), frame(9, end, 1, &block)],
            ConnectionError(SOME_PROTOCOL),
        ),
        c1(
            "6.10 CONTINUATION behind DATA",
            &[post(1), data(1, "x", false), frame(9, end, 1, &block)],
            ConnectionError(SOME_PROTOCOL),
        ),
        case(
            "C4",
            "CVE-2024-27316: CONTINUATION without end",
            &crowd(50, &block),
            ConnectionError(&[11, PROTOCOL_ERROR]),
        ),
        case(
            "C4",
            "CVE-2019-9518: empty CONTINUATION without end",
            &crowd(50, b""),
            ConnectionError(&[11, PROTOCOL_ERROR]),
        ),
        case(
            "C4",
            "a block of 1 MiB",
            &crowd(64, &field("x", vec![b'y'; 16_000])),
            ConnectionError(&[11, PROTOCOL_ERROR]),
        ),
        case("C4", "PING inside a block", &[open_block(1), ping([0; 8])], ConnectionError(SOME_PROTOCOL)),
        case("C4", "SETTINGS inside a block", &[open_block(1), settings(&[])], ConnectionError(SOME_PROTOCOL)),
        case(
            "C4",
            "CONTINUATION of another stream inside a block",
            &[open_block(1), frame(9, end, 3, &block)],
            ConnectionError(SOME_PROTOCOL),
        ),
        case("C4", "CONTINUATION alone", &[frame(9, end, 1, &block)], ConnectionError(SOME_PROTOCOL)),
    ]
}

fn compression() -> Vec<FrameCase> {
    const COMPRESSION: &[u32] = &[COMPRESSION_ERROR, PROTOCOL_ERROR];
    let with = |bytes: &[u8]| headers(1, [&request("GET", "/p", &[]), bytes].concat(), true);
    let bad = |name: &str, bytes: &[u8]| c1(name, &[with(bytes)], ConnectionError(COMPRESSION));
    let added = [request("GET", "/p", &[]), indexed_field("x", vec![b'y'; 4000])].concat();
    let references = [&added[..], &[0xbe; 4000]].concat();
    let crumbs = [request("GET", "/p", &[]), field("cookie", "a").repeat(4000)].concat();
    let tiny = [request("GET", "/p", &[]), indexed_field("a", ""), vec![0xbe; 4000]].concat();
    let updates = [&[0x20; 4000][..], &request("GET", "/p", &[])].concat();
    let spread = |block: &[u8]| -> Vec<Vec<u8>> {
        let mut pieces = block.chunks(16_000).peekable();
        let first = pieces.next().unwrap_or_default();
        let mut frames = vec![frame(1, flag::END_STREAM | if pieces.peek().is_none() { 4 } else { 0 }, 1, first)];
        while let Some(piece) = pieces.next() {
            frames.push(frame(9, if pieces.peek().is_none() { 4 } else { 0 }, 1, piece));
        }
        frames
    };
    vec![
        bad("HPACK 2.3.3 an index beyond both tables", &[0xff, 0x64]),
        bad("HPACK 2.3.3 a literal whose name is beyond both tables", &[0x7f, 0x64, 1, b'x']),
        bad("HPACK 4.2 an update of the table at the end of a block", &[0x21]),
        bad(
            "HPACK 5.2 padding of more than seven bits",
            &[0x00, 0x85, 0xf2, 0xb2, 0x4a, 0x84, 0xff, 0x84, 0x49, 0x50, 0x9f, 0xff],
        ),
        bad("HPACK 5.2 padding of zeros", &[0x00, 0x85, 0xf2, 0xb2, 0x4a, 0x84, 0xff, 0x83, 0x49, 0x50, 0x90]),
        bad(
            "HPACK 5.2 the end-of-string symbol",
            &[0x00, 0x85, 0xf2, 0xb2, 0x4a, 0x84, 0xff, 0x87, 0x49, 0x51, 0xff, 0xff, 0xff, 0xfa, 0x7f],
        ),
        bad("HPACK 6.1 index 0", &[0x80]),
        c1(
            "HPACK 6.3 a table larger than allowed",
            &[headers(1, [&integer(0x20, 5, 4097)[..], &request("GET", "/p", &[])].concat(), true)],
            ConnectionError(COMPRESSION),
        ),
        case("C5", "an integer without end", &[with(&[0xff; 40])], ConnectionError(COMPRESSION)),
        case(
            "C5",
            "an integer beyond all numbers",
            &[with(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f])],
            ConnectionError(COMPRESSION),
        ),
        case(
            "C5",
            "a string longer than its block",
            &[with(&[0x00, 0x7f, 0xff, 0x7f, b'x'])],
            ConnectionError(COMPRESSION),
        ),
        case(
            "C5",
            "a string of 4 GiB",
            &[with(&[0x00, 0x7f, 0x80, 0xff, 0xff, 0xff, 0x0f, b'x'])],
            ConnectionError(COMPRESSION),
        ),
        case("C5", "4,000 references to a field of 4,000 bytes", &spread(&references), FrameMust::Refused(1)),
        case("C5", "CVE-2026-47774: 4,000 references to a field of one byte", &spread(&tiny), FrameMust::Refused(1)),
        case("C5", "CVE-2026-49975: 4,000 cookie crumbs", &spread(&crumbs), FrameMust::Refused(1)),
        case("C5", "4,000 updates of the table's size", &[headers(1, &updates, true)], Answered(1, 200)),
        case(
            "C5",
            "a table of nothing, then entries",
            &[headers(1, [&[0x20][..], &added].concat(), true)],
            Answered(1, 200),
        ),
    ]
}
