//! HTTP/2 as bare frames, for peers that break its rules: what is sent is exactly what a test puts together.
//!
//! Header blocks are made by hand (RFC 7541): literal fields that leave no trace in a table, and single bytes where an
//! attack needs them. Nothing here checks what it sends. Read next: `corpus/http2.rs`, `corpus/floods.rs`.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::{PATIENCE, RawClient, TlsClient};

/// What a client says first (RFC 9113, section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of a frame header.
pub(crate) const HEADER: usize = 9;

/// Frame types (RFC 9113, section 6).
#[allow(missing_docs, reason = "named as in the RFC")]
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Flags of frames.
#[allow(missing_docs, reason = "named as in the RFC")]
pub mod flag {
    pub const ACK: u8 = 0x1;
    pub const END_STREAM: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
    pub const PADDED: u8 = 0x8;
    pub const PRIORITY: u8 = 0x20;
}

/// Error codes (RFC 9113, section 7).
#[allow(missing_docs, reason = "named as in the RFC")]
pub mod code {
    pub const PROTOCOL_ERROR: u32 = 1;
    pub const FLOW_CONTROL_ERROR: u32 = 3;
    pub const STREAM_CLOSED: u32 = 5;
    pub const FRAME_SIZE_ERROR: u32 = 6;
    pub const REFUSED_STREAM: u32 = 7;
    pub const COMPRESSION_ERROR: u32 = 9;
    pub const ENHANCE_YOUR_CALM: u32 = 11;
}

/// One frame as it goes over the wire.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// SETTINGS with these identifiers and values.
pub fn settings(values: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> =
        values.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()[..]].concat()).collect();
    frame(kind::SETTINGS, 0, 0, payload)
}

/// PING with these bytes.
pub fn ping(bytes: [u8; 8]) -> Vec<u8> {
    frame(kind::PING, 0, 0, bytes)
}

/// WINDOW_UPDATE.
pub fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, stream, increment.to_be_bytes())
}

/// RST_STREAM.
pub fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(kind::RST_STREAM, 0, stream, code.to_be_bytes())
}

/// PRIORITY that makes a stream depend on another.
pub fn priority(stream: u32, on: u32, weight: u8) -> Vec<u8> {
    frame(kind::PRIORITY, 0, stream, [&on.to_be_bytes()[..], &[weight]].concat())
}

/// DATA, the last of its stream or not.
pub fn data(stream: u32, bytes: impl AsRef<[u8]>, last: bool) -> Vec<u8> {
    frame(kind::DATA, if last { flag::END_STREAM } else { 0 }, stream, bytes)
}

/// HEADERS with a whole block, the last frame of its stream or not.
pub fn headers(stream: u32, block: impl AsRef<[u8]>, last: bool) -> Vec<u8> {
    let end = if last { flag::END_STREAM } else { 0 };
    frame(kind::HEADERS, flag::END_HEADERS | end, stream, block)
}

/// An integer with a prefix of so many bits (RFC 7541, section 5.1); `first` has the bits before it.
pub fn integer(first: u8, prefix: u32, value: usize) -> Vec<u8> {
    let most = (1_usize << prefix) - 1;
    if value < most {
        return vec![first | u8::try_from(value).unwrap_or(0)];
    }
    let mut bytes = vec![first | u8::try_from(most).unwrap_or(0)];
    let mut rest = value - most;
    while rest >= 128 {
        bytes.push(u8::try_from(rest % 128).unwrap_or(0) | 128);
        rest /= 128;
    }
    bytes.push(u8::try_from(rest).unwrap_or(0));
    bytes
}

/// A field that leaves no trace in a table (RFC 7541, section 6.2.2), its name spelt out.
pub fn field(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Vec<u8> {
    literal(0x00, name.as_ref(), value.as_ref())
}

/// A field that both sides add to their table (RFC 7541, section 6.2.1).
pub fn indexed_field(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Vec<u8> {
    literal(0x40, name.as_ref(), value.as_ref())
}

fn literal(first: u8, name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    for text in [name, value] {
        bytes.extend(integer(0, 7, text.len()));
        bytes.extend_from_slice(text);
    }
    bytes
}

/// A block of a request for `http://x` with further fields.
pub fn request(method: &str, path: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [(":method", method), (":scheme", "http"), (":path", path), (":authority", "x")] {
        block.extend(field(name, value));
    }
    fields.iter().for_each(|(name, value)| block.extend(field(name, value)));
    block
}

/// A frame that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http2Frame {
    /// Type.
    pub kind: u8,
    /// Flags.
    pub flags: u8,
    /// Stream.
    pub stream: u32,
    /// Payload, padding included.
    pub payload: Vec<u8>,
}

impl Http2Frame {
    /// Whether it is the last of its stream.
    pub fn is_last(&self) -> bool {
        matches!(self.kind, kind::DATA | kind::HEADERS) && self.flags & flag::END_STREAM != 0
    }

    /// The status, when it is the head of an answer.
    pub fn status(&self) -> Option<u16> {
        if self.kind != kind::HEADERS {
            return None;
        }
        match *self.payload.as_slice() {
            // Updates of the table's size may stand before it.
            [first, ..] if first & 0xe0 == 0x20 => {
                let more =
                    if first == 0x3f { self.payload[1..].iter().position(|byte| byte & 0x80 == 0)? + 1 } else { 0 };
                Self { payload: self.payload[1 + more..].to_vec(), ..self.clone() }.status()
            }
            [first @ 0x88..=0x8e, ..] => Some([200, 204, 206, 304, 400, 404, 500][usize::from(first - 0x88)]),
            // A literal whose name is that of entry 8, its three digits plain or in Huffman's code.
            [0x08 | 0x18 | 0x48, 3, a, b, c, ..] => std::str::from_utf8(&[a, b, c]).ok()?.parse().ok(),
            [0x08 | 0x18 | 0x48, length, ref code @ ..] if length & 0x80 != 0 => huffman_digits(code),
            _ => None,
        }
    }
}

/// Three digits in the code of RFC 7541, appendix B: 0, 1 and 2 have five bits, the others six.
fn huffman_digits(code: &[u8]) -> Option<u16> {
    let bits: Vec<u8> = code.iter().take(3).flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let mut at = 0;
    let mut status = 0;
    for _ in 0..3 {
        let number = |count: usize| {
            bits.get(at..at + count).map(|bits| bits.iter().fold(0, |sum, bit| sum * 2 + u16::from(*bit)))
        };
        let digit = match number(5)? {
            short @ 0..=2 => {
                at += 5;
                short
            }
            _ => {
                let long = number(6)?;
                at += 6;
                long.checked_sub(0b01_1001)? + 3
            }
        };
        status = status * 10 + digit;
    }
    Some(status)
}

/// A connection that sends what it is given and shows what comes back.
pub struct FrameClient {
    client: RawClient,
    frames: Vec<Http2Frame>,
    closed: bool,
}

impl FrameClient {
    /// Connects and says nothing.
    ///
    /// # Panics
    /// Nobody accepts.
    #[track_caller]
    pub fn silent(address: SocketAddr, tls: Option<&TlsClient>) -> Self {
        let client = match tls {
            Some(tls) => RawClient::over_tls(address, tls),
            None => RawClient::connect(address),
        };
        Self { client, frames: Vec::new(), closed: false }
    }

    /// Connects and begins HTTP/2: preface, SETTINGS with these values beside a table of no entries, and an acknowledgement
    /// of what the server sends.
    ///
    /// # Panics
    /// The server sends no SETTINGS.
    #[track_caller]
    pub fn open(address: SocketAddr, tls: Option<&TlsClient>, values: &[(u16, u32)]) -> Self {
        let mut connection = Self::silent(address, tls);
        let values = [&[(1, 0)][..], values].concat();
        connection.send([PREFACE, &settings(&values)].concat());
        let began = connection.read_until(PATIENCE, |frames| {
            frames.iter().any(|frame| frame.kind == kind::SETTINGS && frame.flags & flag::ACK == 0)
        });
        assert!(began, "no SETTINGS: {:?}", connection.frames);
        connection.send(frame(kind::SETTINGS, flag::ACK, 0, []));
        connection
    }

    /// Sends bytes; false when the peer takes no more.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.client.try_send(bytes).is_ok()
    }

    /// Sends bytes one by one.
    pub fn send_bytewise(&mut self, bytes: &[u8]) {
        let offsets: Vec<usize> = (1..bytes.len()).collect();
        self.client.send_split(bytes, &offsets);
    }

    /// Says that nothing more comes.
    pub fn finish_sending(&mut self) {
        self.client.finish_sending();
    }

    /// Reads frames until there are enough of them, the peer closes, or the time is over. Whether there are enough.
    pub fn read_until(&mut self, time: Duration, mut enough: impl FnMut(&[Http2Frame]) -> bool) -> bool {
        self.wait(time, |client| enough(&client.frames))
    }

    /// As [`FrameClient::read_until`], with a condition on everything that is known of the connection.
    pub fn wait(&mut self, time: Duration, mut enough: impl FnMut(&Self) -> bool) -> bool {
        let end = Instant::now() + time;
        loop {
            self.parse();
            if enough(self) {
                return true;
            }
            let left = end.saturating_duration_since(Instant::now());
            if self.closed || left.is_zero() {
                return false;
            }
            self.client.set_patience(left);
            match self.client.read_more() {
                Ok(true) => {}
                Ok(false) => self.closed = true,
                Err(error) => self.closed |= !crate::client::is_timeout(&error),
            }
        }
    }

    /// Reads until the peer closes; false when it does not in time.
    pub fn is_closed_within(&mut self, time: Duration) -> bool {
        self.read_until(time, |_| false);
        self.closed
    }

    fn parse(&mut self) {
        let mut bytes = self.client.take_ahead();
        let mut at = 0;
        while let [a, b, c, kind, flags, s1, s2, s3, s4, rest @ ..] = &bytes[at..] {
            let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            let Some(payload) = rest.get(..length) else { break };
            let stream = u32::from_be_bytes([*s1 & 0x7f, *s2, *s3, *s4]);
            self.frames.push(Http2Frame { kind: *kind, flags: *flags, stream, payload: payload.to_vec() });
            at += 9 + length;
        }
        self.client.put_back(bytes.split_off(at));
    }

    /// Everything that came so far.
    pub fn frames(&self) -> &[Http2Frame] {
        &self.frames
    }

    /// Whether the peer has closed.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// The code of the last GOAWAY.
    pub fn goaway(&self) -> Option<u32> {
        let frame = self.frames.iter().rev().find(|frame| frame.kind == kind::GOAWAY)?;
        frame.payload.get(4..8).map(|bytes| bytes.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
    }

    /// The code with which a stream was reset.
    pub fn reset_of(&self, stream: u32) -> Option<u32> {
        let frame = self.frames.iter().find(|frame| frame.kind == kind::RST_STREAM && frame.stream == stream)?;
        Some(frame.payload.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
    }

    /// The final status of a stream's answer.
    pub fn status_of(&self, stream: u32) -> Option<u16> {
        let mut statuses = self.frames.iter().filter(|frame| frame.stream == stream).filter_map(Http2Frame::status);
        statuses.rfind(|status| *status >= 200)
    }

    /// Data of a stream so far.
    pub fn data_of(&self, stream: u32) -> Vec<u8> {
        let of_stream = self.frames.iter().filter(|frame| frame.stream == stream && frame.kind == kind::DATA);
        of_stream.flat_map(|frame| frame.payload.clone()).collect()
    }

    /// How many bytes of DATA the peer has allowed on a stream since its beginning.
    pub fn allowed_on(&self, stream: u32) -> usize {
        let number = |bytes: &[u8]| bytes.iter().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
        let of_kind = |wanted: u8| self.frames.iter().filter(move |one| one.kind == wanted);
        let settings = of_kind(kind::SETTINGS).flat_map(|one| one.payload.chunks_exact(6));
        let initial = settings.filter(|one| one[..2] == [0, 4]).map(|one| number(&one[2..])).next_back();
        let updates = of_kind(kind::WINDOW_UPDATE).filter(|one| one.stream == stream).map(|one| number(&one.payload));
        initial.unwrap_or(65_535) + updates.sum::<usize>()
    }

    /// Whether the peer has ended a stream before its time, or the connection.
    pub fn is_ended(&self, stream: u32) -> bool {
        self.reset_of(stream).or(self.goaway()).is_some()
    }

    /// Whether a stream's answer is complete.
    pub fn is_answered(&self, stream: u32) -> bool {
        self.frames.iter().any(|frame| frame.stream == stream && frame.is_last())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_those_of_the_rfc() {
        assert_eq!(integer(0, 5, 10), [10]);
        assert_eq!(integer(0, 5, 1337), [31, 154, 10]);
        assert_eq!(integer(0, 8, 42), [42]);
    }

    #[test]
    fn a_status_is_read_in_every_form() {
        let of = |payload: &[u8]| {
            Http2Frame { kind: kind::HEADERS, flags: 0, stream: 1, payload: payload.to_vec() }.status()
        };
        assert_eq!(of(&[0x88, 0x5a]), Some(200));
        assert_eq!(of(&[0x20, 0x8d]), Some(404));
        assert_eq!(of(&[0x20, 0x3f, 0xe1, 0x1f, 0x88]), Some(200));
        assert_eq!(of(&[0x08, 3, b'5', b'0', b'3']), Some(503));
        // The example of RFC 7541, appendix C.6.1: 302.
        assert_eq!(of(&[0x48, 0x82, 0x64, 0x02]), Some(302));
    }
}
