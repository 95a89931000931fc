//! Rows C2 to C4, C7 and C8: floods of HTTP/2. Frames that cost their sender a few bytes, again and again. Who takes a thousand of
//! them without ending the connection has no limit for them.
//!
//! What a flood may cost is asked in the tests; bombs, which need only one block, stand there too.

use std::net::SocketAddr;
use std::time::Duration;

use super::http2::{get, post};
use crate::frames::{
    FrameClient, data, field, flag, frame, headers, kind, ping, priority, request, reset, settings, window_update,
};

/// Frames that are sent before a look at what came back.
const BATCH: usize = 25;
/// How long that look is.
const GLANCE: Duration = Duration::from_millis(20);
/// ENHANCE_YOUR_CALM.
const CALM: &[u32] = &[11];
const CALM_OR_PROTOCOL: &[u32] = &[11, 1];
const CALM_OR_CLOSED: &[u32] = &[11, 5, 1];

/// Frames without end.
#[derive(Clone, Debug)]
pub struct Flood {
    /// Row of the checklist.
    pub row: &'static str,
    /// What it is made of.
    pub name: &'static str,
    /// What is sent once, before all others.
    pub opening: Vec<u8>,
    /// The frames of a turn, by its number.
    pub next: fn(u32) -> Vec<Vec<u8>>,
    /// Codes with which the connection may end.
    pub codes: &'static [u32],
}

/// How a flood ended.
#[derive(Clone, Copy, Debug)]
pub struct Flooded {
    /// Frames that were sent.
    pub frames: usize,
    /// The connection was ended, or an end of it was announced.
    pub ended: bool,
    /// The code that was given.
    pub code: Option<u32>,
}

/// Sends `opening`, then the frames that `next` makes of a number, until the peer ends the connection or has got `most`.
///
/// # Panics
/// Nobody speaks HTTP/2 there.
pub fn pour(address: SocketAddr, opening: &[u8], mut next: impl FnMut(u32) -> Vec<Vec<u8>>, most: usize) -> Flooded {
    let mut client = FrameClient::open(address, None, &[]);
    client.send(opening);
    let (mut frames, mut number, mut ended) = (0, 0, false);
    while frames < most && !ended {
        let mut batch = Vec::new();
        while batch.len() < BATCH {
            batch.extend(next(number));
            number += 1;
        }
        frames += batch.len();
        ended = !client.send(batch.concat())
            || client.read_until(GLANCE, |all| all.iter().any(|one| one.kind == kind::GOAWAY))
            || client.is_closed();
    }
    ended = ended && client.is_closed_within(crate::PATIENCE);
    Flooded { frames, ended, code: client.goaway() }
}

fn stream(number: u32) -> u32 {
    2 * number + 1
}

/// A block that goes on.
fn open_block() -> Vec<u8> {
    frame(kind::HEADERS, flag::END_STREAM, 1, request("GET", "/p", &[]))
}

/// All floods, by row.
pub fn floods() -> Vec<Flood> {
    type Next = fn(u32) -> Vec<Vec<u8>>;
    let flood =
        |row, name, opening: &[u8], next: Next, codes| Flood { row, name, opening: opening.to_vec(), next, codes };
    let (none, post_1, block) = (Vec::new(), post(1), open_block());
    vec![
        flood("C2", "rapid reset", &none, |n| vec![get(stream(n)), reset(stream(n), 8)], CALM),
        flood(
            "C3",
            "made-you-reset by a WINDOW_UPDATE of nothing",
            &none,
            |n| vec![post(stream(n)), window_update(stream(n), 0)],
            CALM_OR_PROTOCOL,
        ),
        flood(
            "C3",
            "made-you-reset by a window beyond all",
            &none,
            |n| vec![post(stream(n)), window_update(stream(n), 0x7fff_ffff)],
            CALM,
        ),
        flood(
            "C3",
            "made-you-reset by PRIORITY on itself",
            &none,
            |n| vec![post(stream(n)), priority(stream(n), stream(n), 1)],
            CALM_OR_PROTOCOL,
        ),
        flood(
            "C3",
            "made-you-reset by HEADERS behind the end",
            &none,
            |n| vec![get(stream(n)), get(stream(n))],
            CALM_OR_CLOSED,
        ),
        flood(
            "C3",
            "made-you-reset by DATA behind the end",
            &none,
            |n| vec![get(stream(n)), data(stream(n), "0123456789", false)],
            CALM_OR_CLOSED,
        ),
        flood(
            "C3",
            "made-you-reset by malformed requests",
            &none,
            |n| vec![headers(stream(n), request("GET", "/p", &[("connection", "close")]), true)],
            CALM,
        ),
        flood(
            "C4",
            "CONTINUATION without end",
            &block,
            |_| vec![frame(kind::CONTINUATION, 0, 1, field("x", "y"))],
            CALM,
        ),
        flood("C4", "empty CONTINUATION without end", &block, |_| vec![frame(kind::CONTINUATION, 0, 1, [])], CALM),
        flood("C7", "PING", &none, |n| vec![ping(u64::from(n).to_be_bytes())], CALM),
        flood("C7", "SETTINGS", &none, |_| vec![settings(&[(3, 100)])], CALM),
        flood("C7", "PRIORITY", &none, |n| vec![priority(stream(n % 100), 0, 15)], CALM),
        flood("C7", "PRIORITY_UPDATE", &none, |_| vec![frame(0x10, 0, 0, [0, 0, 0, 1, b'u'])], CALM),
        flood("C7", "WINDOW_UPDATE of the connection", &none, |_| vec![window_update(0, 1)], CALM),
        flood("C7", "unknown frames", &none, |_| vec![frame(0xbe, 0, 0, [0; 16])], CALM),
        flood("C7", "GOAWAY", &none, |_| vec![frame(kind::GOAWAY, 0, 0, [0; 8])], CALM),
        flood("C8", "empty DATA", &post_1, |_| vec![data(1, "", false)], CALM),
        flood("C8", "DATA of one byte", &post_1, |_| vec![data(1, "x", false)], CALM),
        flood(
            "C8",
            "DATA that is padding",
            &post_1,
            |_| vec![frame(kind::DATA, flag::PADDED, 1, [&[255][..], &[0; 255]].concat())],
            CALM,
        ),
    ]
}
