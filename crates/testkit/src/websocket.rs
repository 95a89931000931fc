//! A WebSocket client that shows every frame, over HTTP/1.1 (RFC 6455) and HTTP/2 (RFC 8441).
//!
//! Shares no code with what it tests. Broken frames are sent with [`WebSocket::send_bytes`].

use std::collections::VecDeque;

use crate::{Ask, Http2Client, Http2Exchange, Http2Failure, RawClient, Response};

/// The mask of every frame that is sent.
const MASK: [u8; 4] = [0x5a, 0x00, 0xff, 0x13];
/// The key of the RFC's example, and what it has to be answered with.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A frame as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Opcode: 1 text, 2 binary, 8 close, 9 ping, 10 pong.
    pub opcode: u8,
    /// Whether it is the last of its message.
    pub fin: bool,
    /// Payload.
    pub payload: Vec<u8>,
}

impl Frame {
    /// The code of a close frame.
    pub fn close_code(&self) -> Option<u16> {
        let code = self.payload.first_chunk().filter(|_| self.opcode == 8)?;
        Some(u16::from_be_bytes(*code))
    }
}

enum Below {
    Raw(RawClient),
    Stream { exchange: Box<Http2Exchange>, ahead: VecDeque<u8> },
}

/// An open WebSocket.
pub struct WebSocket {
    below: Below,
}

impl WebSocket {
    /// Opens one over HTTP/1.1.
    ///
    /// # Panics
    /// The server does not agree.
    #[track_caller]
    pub fn open(client: RawClient, host: &str, target: &str) -> Self {
        Self::try_open(client, host, target, &[]).unwrap_or_else(|answer| panic!("refused: {}", answer.head))
    }

    /// Opens one over HTTP/1.1 with further fields.
    ///
    /// # Errors
    /// The answer of a server that does not agree.
    ///
    /// # Panics
    /// There is no answer, or it does not prove that the key was read.
    #[track_caller]
    pub fn try_open(
        mut client: RawClient,
        host: &str,
        target: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self, Box<Response>> {
        let mut request = format!(
            "GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n"
        );
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        client.send(request + "\r\n");
        let head = client.head();
        if head.status != 101 {
            return Err(Box::new(head));
        }
        assert_eq!(head.header("sec-websocket-accept"), Some(ACCEPT), "{}", head.head);
        Ok(Self { below: Below::Raw(client) })
    }

    /// Opens one on a stream of an HTTP/2 connection.
    ///
    /// # Panics
    /// The server does not agree.
    #[track_caller]
    pub fn open_http2(client: &Http2Client, authority: &str, path: &str) -> Self {
        Self::try_open_http2(client, authority, path).unwrap_or_else(|answer| panic!("refused: {answer:?}"))
    }

    /// Opens one on a stream of an HTTP/2 connection.
    ///
    /// # Errors
    /// The head of a server that does not agree, or how the stream ended.
    ///
    /// # Panics
    /// The server's settings do not allow it.
    #[track_caller]
    pub fn try_open_http2(
        client: &Http2Client,
        authority: &str,
        path: &str,
    ) -> Result<Self, Result<Box<Response>, Http2Failure>> {
        assert!(client.may_extended_connect(), "the server's settings do not allow extended CONNECT");
        let ask = Ask::extended_connect(authority, path, "websocket").header("sec-websocket-version", "13");
        let mut exchange = client.start(&ask).map_err(Err)?;
        let head = exchange.try_head().map_err(Err)?;
        if head.status != 200 {
            return Err(Ok(Box::new(head)));
        }
        Ok(Self { below: Below::Stream { exchange: Box::new(exchange), ahead: VecDeque::new() } })
    }

    /// Sends bytes as they are.
    ///
    /// # Panics
    /// They cannot be sent.
    #[track_caller]
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        match &mut self.below {
            Below::Raw(client) => client.send(bytes),
            Below::Stream { exchange, .. } => {
                let sent = exchange.sender.send(bytes.to_vec());
                sent.unwrap_or_else(|failure| panic!("cannot send: {failure}"));
            }
        }
    }

    /// Sends one frame.
    ///
    /// # Panics
    /// It cannot be sent.
    #[track_caller]
    pub fn send_frame(&mut self, opcode: u8, fin: bool, payload: &[u8]) {
        let mut bytes = vec![u8::from(fin) << 7 | opcode];
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
        self.send_bytes(&bytes);
    }

    /// Sends a text.
    ///
    /// # Panics
    /// It cannot be sent.
    #[track_caller]
    pub fn send_text(&mut self, text: &str) {
        self.send_frame(1, true, text.as_bytes());
    }

    /// Sends a close frame.
    ///
    /// # Panics
    /// It cannot be sent.
    #[track_caller]
    pub fn send_close(&mut self, code: u16) {
        self.send_frame(8, true, &code.to_be_bytes());
    }

    /// The next frame.
    ///
    /// # Panics
    /// None comes, or it is masked.
    #[track_caller]
    pub fn frame(&mut self) -> Frame {
        let head = self.take(2);
        assert!(head[1] & 0x80 == 0, "frames of a server are not masked");
        let length = match head[1] & 0x7f {
            126 => self.take(2),
            127 => self.take(8),
            short => vec![short],
        };
        let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        Frame { opcode: head[0] & 0x0f, fin: head[0] & 0x80 != 0, payload: self.take(length) }
    }

    #[track_caller]
    fn take(&mut self, count: usize) -> Vec<u8> {
        match &mut self.below {
            Below::Raw(client) => client.read_exactly(count),
            Below::Stream { exchange, ahead } => {
                while ahead.len() < count {
                    match exchange.body().read_some() {
                        Ok(Some(data)) => ahead.extend(data),
                        other => panic!("only {} of {count} bytes came: {other:?}", ahead.len()),
                    }
                }
                ahead.drain(..count).collect()
            }
        }
    }

    /// Sends a text and checks that it comes back.
    ///
    /// # Panics
    /// It does not.
    #[track_caller]
    pub fn echoes(&mut self, text: &str) {
        self.send_text(text);
        let frame = self.frame();
        assert_eq!((frame.opcode, frame.fin, String::from_utf8_lossy(&frame.payload).as_ref()), (1, true, text));
    }

    /// Closes politely: a close frame each way, then the end of what is below.
    ///
    /// # Panics
    /// The server does not close.
    #[track_caller]
    pub fn close(mut self) {
        self.send_close(1000);
        let frame = self.frame();
        assert_eq!(frame.close_code(), Some(1000), "{frame:?}");
        self.ends();
    }

    /// Waits until nothing more comes, and nothing came before.
    ///
    /// # Panics
    /// Bytes come.
    #[track_caller]
    pub fn ends(self) {
        match self.below {
            Below::Raw(mut client) => assert!(client.read_to_end().is_empty(), "bytes behind the close"),
            Below::Stream { mut exchange, .. } => {
                let _ = exchange.sender.finish();
                let end = exchange.body().read_some();
                assert!(matches!(end, Ok(None)), "behind the close came {end:?}");
            }
        }
    }
}
