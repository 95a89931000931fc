//! Message bodies: where a body's data is in what has arrived, and where the body ends.
//!
//! Data is never copied: a step names the slice of input that is data. Chunk sizes and extensions end here; whoever
//! sends the body on writes chunks of its own. Knows no sockets and no limits on data. Read next: `write`.

use std::ops::Range;

use meshwright_message::{BodyLength, HeaderList, HeaderName};

use crate::syntax::{is_token_byte, split_field, trim};
use crate::{BodyError, BodyLimits};

/// One step of decoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Bytes of input that are done with: framing before the data, the data, and framing after it.
    pub consumed: usize,
    /// Which bytes of input are data; may be empty.
    pub data: Range<usize>,
    /// The body has ended. Bytes after `consumed` belong to the next message.
    pub done: bool,
}

/// Decodes one body. It holds no input: what a step did not consume comes again at the next.
#[derive(Debug)]
pub struct BodyDecoder {
    state: State,
    /// Extension bytes beyond what the data paid for.
    extension_debt: usize,
    limits: BodyLimits,
    trailers: Option<Box<Trailers>>,
}

/// Place within a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Sized(u64),
    UntilClose,
    /// Digits of a chunk size.
    Size {
        digits: u8,
        value: u64,
    },
    /// A chunk extension; `named` once its name has begun.
    Extension {
        value: u64,
        len: usize,
        named: bool,
    },
    /// LF after a chunk size.
    SizeEnd(u64),
    /// Data of a chunk; at least one byte is to come.
    Data(u64),
    /// CR after a chunk's data.
    DataCr,
    /// LF after a chunk's data.
    DataLf,
    /// The trailer section.
    TrailerLine,
    /// LF of a trailer line.
    TrailerLf,
    Done,
}

#[derive(Debug, Default)]
struct Trailers {
    line: Vec<u8>,
    size: usize,
    count: usize,
    fields: HeaderList,
}

impl BodyDecoder {
    /// A decoder at the beginning of a body of that length.
    pub fn new(length: BodyLength, limits: &BodyLimits) -> Self {
        let state = match length {
            BodyLength::Empty | BodyLength::Sized(0) => State::Done,
            BodyLength::Sized(length) => State::Sized(length),
            BodyLength::Chunked => State::Size { digits: 0, value: 0 },
            BodyLength::UntilClose => State::UntilClose,
        };
        Self { state, extension_debt: 0, limits: *limits, trailers: None }
    }

    /// The limits it was made with.
    pub fn limits(&self) -> &BodyLimits {
        &self.limits
    }

    /// True when the body has ended.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Bytes that are known to come before the body or the present chunk ends; `None` when nothing is known.
    pub fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Sized(left) | State::Data(left) => Some(left),
            State::Done => Some(0),
            _ => None,
        }
    }

    /// Takes one run of data out of `input`, with the framing around it. Call it again with the rest of the input until
    /// that is empty or the body is done; a step that consumes nothing of a non-empty input is a done one.
    ///
    /// # Errors
    /// [`BodyError`] as soon as framing is wrong, after the data before it has been handed out. The data and the
    /// verdict do not depend on how the bytes are split.
    pub fn decode(&mut self, input: &[u8]) -> Result<Decoded, BodyError> {
        match self.state {
            State::Done => Ok(Decoded { consumed: 0, data: 0..0, done: true }),
            State::UntilClose => Ok(Decoded { consumed: input.len(), data: 0..input.len(), done: false }),
            State::Sized(left) => {
                let (len, left) = take(left, input.len());
                self.state = if left == 0 { State::Done } else { State::Sized(left) };
                Ok(Decoded { consumed: len, data: 0..len, done: left == 0 })
            }
            _ => self.decode_chunked(input),
        }
    }

    /// The peer has closed its side. A body that lasts until then is done by it.
    ///
    /// # Errors
    /// [`BodyError::Truncated`] when the body should have gone on.
    pub fn finish_at_close(&mut self) -> Result<(), BodyError> {
        match self.state {
            State::Done => Ok(()),
            State::UntilClose => {
                self.state = State::Done;
                Ok(())
            }
            _ => Err(BodyError::Truncated),
        }
    }

    /// Trailer fields of a body that is done, when it had any that may be handed on.
    ///
    /// Fields that RFC 9110, section 6.5.1 forbids in trailers are dropped: framing, routing, authentication, request
    /// modifiers, response control and payload processing, and every field by which proxies trust each other.
    pub fn trailers(&self) -> Option<&HeaderList> {
        let fields = self.trailers.as_deref().map(|trailers| &trailers.fields)?;
        (self.is_done() && !fields.is_empty()).then_some(fields)
    }

    fn decode_chunked(&mut self, input: &[u8]) -> Result<Decoded, BodyError> {
        let mut at = 0;
        let mut data = 0..0;
        while at < input.len() && self.state != State::Done {
            if let State::Data(left) = self.state {
                if !data.is_empty() {
                    break;
                }
                let (len, left) = take(left, input.len() - at);
                data = at..at + len;
                at += len;
                self.extension_debt = self.extension_debt.saturating_sub(len);
                self.state = if left == 0 { State::DataCr } else { State::Data(left) };
                continue;
            }
            match self.frame(&input[at..]) {
                Ok(len) => at += len,
                // The data before it goes out first; the next step meets the same bytes and fails.
                Err(_) if !data.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(Decoded { consumed: at, data, done: self.state == State::Done })
    }

    /// Takes the next byte (or, in trailers, bytes) of framing. On an error nothing has changed.
    fn frame(&mut self, input: &[u8]) -> Result<usize, BodyError> {
        let Some(&byte) = input.first() else { return Ok(0) };
        self.state = match self.state {
            State::Size { digits, value } => self.size(digits, value, byte)?,
            State::Extension { value, len, named } => self.extension(value, len, named, byte)?,
            State::SizeEnd(0) if byte == b'\n' => State::TrailerLine,
            State::SizeEnd(size) if byte == b'\n' => State::Data(size),
            State::DataCr if byte == b'\r' => State::DataLf,
            State::DataLf if byte == b'\n' => State::Size { digits: 0, value: 0 },
            State::TrailerLine => return self.trailer_line(input),
            State::TrailerLf if byte == b'\n' => self.end_trailer_line()?,
            State::TrailerLf => return Err(BodyError::BadTrailer),
            _ => return Err(BodyError::BadChunkEnd),
        };
        Ok(1)
    }

    fn size(&self, digits: u8, value: u64, byte: u8) -> Result<State, BodyError> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'\r' if digits > 0 => return Ok(State::SizeEnd(value)),
            b';' if digits > 0 => return Ok(State::Extension { value, len: 0, named: false }),
            _ => return Err(BodyError::BadChunkSize),
        };
        if digits == 16 {
            return Err(BodyError::BadChunkSize);
        }
        // Sixteen digits fit; the highest bit must stay free, because some receivers count in signed numbers.
        let value = value << 4 | u64::from(digit);
        if value > i64::MAX as u64 {
            return Err(BodyError::ChunkTooLarge);
        }
        Ok(State::Size { digits: digits + 1, value })
    }

    /// Extensions are read over and dropped. They may not be empty, have control bytes, or cost more than they carry.
    fn extension(&mut self, value: u64, len: usize, named: bool, byte: u8) -> Result<State, BodyError> {
        if byte == b'\r' {
            return if named { Ok(State::SizeEnd(value)) } else { Err(BodyError::BadChunkExtension) };
        }
        let white = byte == b' ' || byte == b'\t';
        if !white && !(0x21..0x7f).contains(&byte) || !named && !white && !is_token_byte(byte) {
            return Err(BodyError::BadChunkExtension);
        }
        if len >= self.limits.chunk_extension
            || self.extension_debt >= self.limits.chunk_extension.saturating_mul(EXTENSION_DEBT)
        {
            return Err(BodyError::ChunkExtensionTooLong);
        }
        self.extension_debt += 1;
        Ok(State::Extension { value, len: len + 1, named: named || !white })
    }

    /// Takes what there is of a trailer line up to its CR.
    fn trailer_line(&mut self, input: &[u8]) -> Result<usize, BodyError> {
        let room = self.limits.trailers.saturating_sub(self.trailers.as_ref().map_or(0, |trailers| trailers.size));
        let end = memchr::memchr2(b'\r', b'\n', input);
        let text = &input[..end.unwrap_or(input.len())];
        // Measured to the CR: whether the rest has arrived makes no difference.
        if text.len() > room {
            return Err(BodyError::TrailersTooLarge);
        }
        match end.map(|end| input[end]) {
            Some(b'\n') => return Err(BodyError::BadTrailer),
            Some(_) => self.state = State::TrailerLf,
            None => {}
        }
        if !text.is_empty() {
            let trailers = self.trailers.get_or_insert_default();
            trailers.size += text.len();
            trailers.line.extend_from_slice(text);
        }
        Ok(text.len() + usize::from(end.is_some()))
    }

    fn end_trailer_line(&mut self) -> Result<State, BodyError> {
        let Some(trailers) = self.trailers.as_deref_mut().filter(|trailers| !trailers.line.is_empty()) else {
            return Ok(State::Done);
        };
        let (name, value) = split_field(&trailers.line).map_err(|_| BodyError::BadTrailer)?;
        if trailers.count >= self.limits.trailer_fields || name.len() > usize::from(u16::MAX) {
            return Err(BodyError::TrailersTooLarge);
        }
        trailers.count += 1;
        let id = HeaderName::recognise(name);
        if !is_forbidden_trailer(id, name) {
            trailers.fields.push_field(id, name, trim(value));
        }
        trailers.line.clear();
        Ok(State::TrailerLine)
    }
}

/// How often the limit of one extension all extensions of a body may exceed its data.
const EXTENSION_DEBT: usize = 64;

/// How much of `left` is among `available` bytes, and what is left then.
fn take(left: u64, available: usize) -> (usize, u64) {
    match usize::try_from(left) {
        Ok(left) if left <= available => (left, 0),
        _ => (available, left - available as u64),
    }
}

pub(crate) fn is_forbidden_trailer(id: HeaderName, name: &[u8]) -> bool {
    let starts_with = |prefix: &[u8]| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    match id {
        HeaderName::GrpcStatus => false,
        HeaderName::Other => {
            starts_with(b"x-forwarded-")
                || starts_with(b"x-envoy-")
                || starts_with(b"content_length")
                || starts_with(b"transfer_encoding")
                || FORBIDDEN_TRAILERS.iter().any(|forbidden| name.eq_ignore_ascii_case(forbidden))
        }
        // Everything else that the proxy knows by name steers a message or says who sent it.
        _ => true,
    }
}

/// Fields forbidden in trailers that are not among the names the proxy knows (RFC 9110, section 6.5.1).
const FORBIDDEN_TRAILERS: [&[u8]; 27] = [
    b"forwarded",
    b"x-real-ip",
    b"x-forwarded",
    b"cache-control",
    b"max-forwards",
    b"pragma",
    b"range",
    b"if-match",
    b"if-none-match",
    b"if-modified-since",
    b"if-unmodified-since",
    b"if-range",
    b"www-authenticate",
    b"proxy-authentication-info",
    b"authentication-info",
    b"age",
    b"expires",
    b"retry-after",
    b"vary",
    b"warning",
    b"content-encoding",
    b"content-range",
    b"content-disposition",
    b"strict-transport-security",
    b"origin",
    b"via",
    b"alt-svc",
];
