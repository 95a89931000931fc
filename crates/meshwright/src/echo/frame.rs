//! WebSocket messages and frames (RFC 6455, section 5) as a server reads and writes them: bytes in, messages out.
//!
//! No socket and no clock. Strict: whatever the RFC forbids ends in a [`Violation`], which names the close code to send.
//! Read next: `websocket`.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Longest message that is accepted, all its fragments together.
pub const LONGEST_MESSAGE: usize = 16 << 20;
/// Longest payload of a control frame.
const LONGEST_CONTROL: usize = 125;

/// Close code of a normal end.
pub const NORMAL: u16 = 1000;
/// Close code of an endpoint that goes away.
pub const GOING_AWAY: u16 = 1001;
const PROTOCOL_ERROR: u16 = 1002;
const INVALID_DATA: u16 = 1007;
const TOO_BIG: u16 = 1009;

/// Kind of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// A further fragment.
    Continuation = 0,
    /// UTF-8 text.
    Text = 1,
    /// Bytes.
    Binary = 2,
    /// The last frame of a direction.
    Close = 8,
    /// Asks for a pong.
    Ping = 9,
    /// Answers a ping.
    Pong = 10,
}

/// A whole message, or a control frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its kind; never a continuation.
    pub opcode: Opcode,
    /// Payload, unmasked.
    pub payload: Bytes,
}

/// What the peer did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Close code that tells it.
    pub code: u16,
    /// The same in words.
    pub reason: &'static str,
}

const fn wrong(reason: &'static str) -> Violation {
    Violation { code: PROTOCOL_ERROR, reason }
}

struct Head {
    fin: bool,
    opcode: Opcode,
    mask: [u8; 4],
    /// Length of the head itself.
    length: usize,
    payload: usize,
}

/// Takes a stream of bytes apart.
#[derive(Default)]
pub struct Decoder {
    /// What came and is not decoded yet; the caller appends.
    pub buffer: BytesMut,
    /// The fragments so far of a message that is not complete.
    begun: Option<(Opcode, BytesMut)>,
}

impl Decoder {
    /// The next message or control frame; `None` when it is not complete.
    ///
    /// # Errors
    /// The peer broke a rule. Nothing after that can be decoded.
    pub fn next(&mut self) -> Result<Option<Message>, Violation> {
        loop {
            let Some(head) = head(&self.buffer)? else { return Ok(None) };
            self.check(&head)?;
            if self.buffer.len() < head.length + head.payload {
                return Ok(None);
            }
            self.buffer.advance(head.length);
            let mut payload = self.buffer.split_to(head.payload);
            for (byte, mask) in payload.iter_mut().zip(head.mask.iter().cycle()) {
                *byte ^= mask;
            }
            if head.opcode as u8 >= Opcode::Close as u8 {
                let message = Message { opcode: head.opcode, payload: payload.freeze() };
                if message.opcode == Opcode::Close {
                    check_close(&message.payload)?;
                }
                return Ok(Some(message));
            }
            let (opcode, whole) = match self.begun.take() {
                Some((opcode, mut whole)) => {
                    whole.unsplit(payload);
                    (opcode, whole)
                }
                None => (head.opcode, payload),
            };
            if !head.fin {
                self.begun = Some((opcode, whole));
                continue;
            }
            if opcode == Opcode::Text && std::str::from_utf8(&whole).is_err() {
                return Err(Violation { code: INVALID_DATA, reason: "the text is not UTF-8" });
            }
            return Ok(Some(Message { opcode, payload: whole.freeze() }));
        }
    }

    /// What is wrong with a frame at this place of the stream, known before its payload is read.
    fn check(&self, head: &Head) -> Result<(), Violation> {
        match (head.opcode, &self.begun) {
            (Opcode::Close | Opcode::Ping | Opcode::Pong, _) => {
                if head.fin && head.payload <= LONGEST_CONTROL {
                    return Ok(());
                }
                return Err(wrong("a control frame is whole and at most 125 bytes long"));
            }
            (Opcode::Continuation, None) => return Err(wrong("there is no message to continue")),
            (Opcode::Text | Opcode::Binary, Some(_)) => return Err(wrong("a message began inside of another")),
            _ => {}
        }
        let so_far = self.begun.as_ref().map_or(0, |(_, whole)| whole.len());
        if head.payload > LONGEST_MESSAGE - so_far {
            return Err(Violation { code: TOO_BIG, reason: "a message is at most 16 MiB long" });
        }
        Ok(())
    }
}

fn head(bytes: &[u8]) -> Result<Option<Head>, Violation> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    if first & 0x70 != 0 {
        return Err(wrong("no extension was agreed on, but a reserved bit is set"));
    }
    let opcode = match first & 0x0f {
        0 => Opcode::Continuation,
        1 => Opcode::Text,
        2 => Opcode::Binary,
        8 => Opcode::Close,
        9 => Opcode::Ping,
        10 => Opcode::Pong,
        _ => return Err(wrong("the opcode is reserved")),
    };
    if second & 0x80 == 0 {
        return Err(wrong("frames of a client are masked"));
    }
    let (extended, least) = match second & 0x7f {
        126 => (2, 126),
        127 => (8, 1 << 16),
        _ => (0, 0),
    };
    if rest.len() < extended {
        return Ok(None);
    }
    let length = match extended {
        0 => u64::from(second & 0x7f),
        _ => rest[..extended].iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
    };
    if length < least || length >> 63 != 0 {
        return Err(wrong("the length is not written as the RFC wants it"));
    }
    let Some(mask) = rest.get(extended..extended + 4).and_then(|mask| mask.try_into().ok()) else { return Ok(None) };
    let payload = usize::try_from(length).unwrap_or(usize::MAX);
    Ok(Some(Head { fin: first & 0x80 != 0, opcode, mask, length: 2 + extended + 4, payload }))
}

/// A close frame is empty, or has a code that may be sent and a reason in UTF-8.
fn check_close(payload: &[u8]) -> Result<(), Violation> {
    match payload {
        [] => Ok(()),
        [high, low, reason @ ..] => {
            if !matches!(u16::from_be_bytes([*high, *low]), 1000..=1003 | 1007..=1014 | 3000..=4999) {
                return Err(wrong("this close code may not be sent"));
            }
            match std::str::from_utf8(reason) {
                Ok(_) => Ok(()),
                Err(_) => Err(Violation { code: INVALID_DATA, reason: "the reason is not UTF-8" }),
            }
        }
        _ => Err(wrong("a close code has two bytes")),
    }
}

/// Appends one unfragmented frame, as a server sends it: without a mask.
pub fn encode(opcode: Opcode, payload: &[u8], into: &mut BytesMut) {
    into.reserve(10 + payload.len());
    into.put_u8(0x80 | opcode as u8);
    let length = payload.len();
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..=125), _) => into.put_u8(short),
        (_, Ok(medium)) => {
            into.put_u8(126);
            into.put_u16(medium);
        }
        _ => {
            into.put_u8(127);
            into.put_u64(u64::try_from(length).unwrap_or(u64::MAX));
        }
    }
    into.put_slice(payload);
}

/// Appends a close frame.
pub fn encode_close(code: u16, reason: &str, into: &mut BytesMut) {
    let payload = [&code.to_be_bytes(), reason.as_bytes()].concat();
    encode(Opcode::Close, &payload, into);
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [7, 99, 0, 255];

    /// A frame as a client sends it.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload.len() {
            length @ 0..=125 => bytes.push(0x80 | length as u8),
            length @ 126..=0xffff => {
                bytes.push(0x80 | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            length => {
                bytes.push(0x80 | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        bytes.extend(MASK);
        bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        bytes
    }

    /// Everything that `bytes` decode to when they come in pieces of `step` bytes.
    fn decoded(bytes: &[u8], step: usize) -> (Vec<Message>, Option<Violation>) {
        let mut decoder = Decoder::default();
        let mut messages = Vec::new();
        for piece in bytes.chunks(step) {
            decoder.buffer.extend_from_slice(piece);
            loop {
                match decoder.next() {
                    Ok(Some(message)) => messages.push(message),
                    Ok(None) => break,
                    Err(violation) => return (messages, Some(violation)),
                }
            }
        }
        (messages, None)
    }

    #[test]
    fn messages_come_out_whole_however_they_are_fragmented_and_split() {
        let long = vec![b'x'; 70_000];
        let bytes = [
            frame(0x81, b"hi"),
            frame(0x01, "a\u{e4}".as_bytes().split_at(2).0),
            frame(0x89, b"now"),
            frame(0x00, b""),
            frame(0x80, "a\u{e4}".as_bytes().split_at(2).1),
            frame(0x82, &long),
            frame(0x88, &[3, 232, b'b', b'y', b'e']),
        ]
        .concat();
        let message = |opcode, payload: &[u8]| Message { opcode, payload: Bytes::copy_from_slice(payload) };
        let expected = [
            message(Opcode::Text, b"hi"),
            message(Opcode::Ping, b"now"),
            message(Opcode::Text, "a\u{e4}".as_bytes()),
            message(Opcode::Binary, &long),
            message(Opcode::Close, &[3, 232, b'b', b'y', b'e']),
        ];
        for step in [1, 2, 3, 7, 1000, bytes.len()] {
            assert_eq!(decoded(&bytes, step), (expected.to_vec(), None), "pieces of {step} bytes");
        }
    }

    #[test]
    fn what_the_rfc_forbids_is_named_with_its_close_code() {
        let unmasked = vec![0x81, 2, b'h', b'i'];
        let long_control = frame(0x89, &[0; 126]);
        let padded_length = [vec![0x82, 0x80 | 126, 0, 125], MASK.to_vec()].concat();
        let huge =
            [vec![0x82, 0x80 | 127], (LONGEST_MESSAGE as u64 + 1).to_be_bytes().to_vec(), MASK.to_vec()].concat();
        let half = LONGEST_MESSAGE / 2 + 1;
        let halves = [frame(0x02, &vec![0; half]), frame(0x80, &vec![0; half])].concat();
        for (bytes, code) in [
            (unmasked, PROTOCOL_ERROR),
            (frame(0xc1, b"x"), PROTOCOL_ERROR),
            (frame(0x83, b"x"), PROTOCOL_ERROR),
            (frame(0x80, b"x"), PROTOCOL_ERROR),
            ([frame(0x01, b"x"), frame(0x81, b"y")].concat(), PROTOCOL_ERROR),
            (frame(0x09, b"x"), PROTOCOL_ERROR),
            (long_control, PROTOCOL_ERROR),
            (padded_length, PROTOCOL_ERROR),
            (frame(0x88, b"x"), PROTOCOL_ERROR),
            (frame(0x88, &1005_u16.to_be_bytes()), PROTOCOL_ERROR),
            (frame(0x88, &2999_u16.to_be_bytes()), PROTOCOL_ERROR),
            (frame(0x88, &[3, 232, 0xff]), INVALID_DATA),
            (frame(0x81, &[0xc3]), INVALID_DATA),
            (huge, TOO_BIG),
            (halves, TOO_BIG),
        ] {
            let (messages, violation) = decoded(&bytes, bytes.len());
            let start = &bytes[..bytes.len().min(16)];
            assert_eq!((messages.len(), violation.map(|violation| violation.code)), (0, Some(code)), "{start:x?}");
        }
    }

    #[test]
    fn lengths_are_written_in_the_shortest_form() {
        for (length, head) in [(125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            let mut bytes = BytesMut::new();
            encode(Opcode::Binary, &vec![0; length], &mut bytes);
            assert_eq!(bytes.len(), head + length);
        }
    }
}
