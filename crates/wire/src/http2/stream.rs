//! One stream of HTTP/2 as one side of an exchange.
//!
//! The side of a client and the side of an endpoint are the same thing but for who sends the first head. Bodies are not
//! framed here: a stream has an end of its own. Knows no routes. Read next: `crate::side`.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Response, response};

use super::held::Held;

/// What is sent at most in one piece.
const PIECE: usize = 64 * 1024;

/// A stream, from one end.
pub struct Stream {
    /// What the peer sends after its head.
    receive: Option<RecvStream>,
    /// What came of it while it could not be handed on; mostly there is nothing.
    held: Option<Box<Held>>,
    /// Where our body goes, once our head is sent and more may follow.
    send: Option<SendStream<Bytes>>,
    /// Where our head goes: we answer.
    respond: Option<SendResponse<Bytes>>,
    /// Where the peer's head comes from: it answers.
    response: Option<ResponseFuture>,
}

/// The head of an answer, informational or final.
pub(crate) struct AnswerHead {
    pub(crate) parts: response::Parts,
    /// No body follows.
    pub(crate) ended: bool,
}

impl Stream {
    /// The side of a client whose request head has come.
    pub(super) fn of_client(receive: RecvStream, respond: SendResponse<Bytes>) -> Self {
        Self { receive: Some(receive), held: None, send: None, respond: Some(respond), response: None }
    }

    /// The side of an endpoint to which a request head was sent; `send` is there when a body follows.
    pub(super) fn of_endpoint(response: ResponseFuture, send: Option<SendStream<Bytes>>) -> Self {
        Self { receive: None, held: None, send, respond: None, response: Some(response) }
    }

    /// A stream on which everything is over.
    pub fn ended() -> Self {
        Self { receive: None, held: None, send: None, respond: None, response: None }
    }

    /// The peer sends nothing more.
    pub fn has_ended(&self) -> bool {
        self.held.is_none() && self.receive.as_ref().is_some_and(RecvStream::is_end_stream)
    }

    /// Ready when the peer has sent all of a body that has no bytes.
    ///
    /// # Errors
    /// The body has bytes, or the peer gave the stream up; whether it was the former.
    pub fn poll_nothing(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), bool>> {
        loop {
            match ready!(self.poll_data(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(_)) => return Poll::Ready(Err(true)),
                // `h2` compares the length that was announced.
                Some(Err(error)) => return Poll::Ready(Err(error.is_library())),
            }
        }
    }

    /// Sends an informational answer.
    pub fn send_informational(&mut self, response: Response<()>) {
        if let Some(respond) = &mut self.respond {
            // A stream that was reset takes no answer; its end is noticed elsewhere.
            let _ = respond.send_informational(response);
        }
    }

    /// Sends the final head of an answer.
    ///
    /// # Errors
    /// The stream was reset.
    pub fn send_head(&mut self, response: Response<()>, ended: bool) -> io::Result<()> {
        let Some(mut respond) = self.respond.take() else { return Err(io::ErrorKind::BrokenPipe.into()) };
        let send = respond.send_response(response, ended).map_err(into_io)?;
        self.send = (!ended).then_some(send);
        Ok(())
    }

    /// The next head of the answer.
    pub(crate) fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<AnswerHead, h2::Error>> {
        let Some(response) = &mut self.response else { return Poll::Ready(Err(Reason::INTERNAL_ERROR.into())) };
        if let Poll::Ready(Some(informational)) = response.poll_informational(cx) {
            let parts = informational?.into_parts().0;
            return Poll::Ready(Ok(AnswerHead { parts, ended: false }));
        }
        let (parts, receive) = ready!(std::pin::Pin::new(response).poll(cx))?.into_parts();
        self.response = None;
        let ended = receive.is_end_stream();
        self.receive = Some(receive);
        Poll::Ready(Ok(AnswerHead { parts, ended }))
    }

    /// The next piece of the peer's body; `None` at its end. The window is opened again by as much at once: whoever takes a
    /// piece asks for the next one only when this one is on its way.
    pub(crate) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        let Some(receive) = &mut self.receive else { return Poll::Ready(None) };
        let held = self.held.as_mut().and_then(|held| held.pop());
        if self.held.as_ref().is_some_and(|held| held.is_empty()) {
            self.held = None;
        }
        let data = match held {
            Some(piece) => Some(Ok(piece)),
            None => ready!(receive.poll_data(cx)),
        };
        if let Some(Ok(data)) = &data {
            let _ = receive.flow_control().release_capacity(data.len());
        }
        Poll::Ready(data)
    }

    /// Gathers what comes while it cannot be handed on: many small frames would cost more than what is in them. The window
    /// stays as it is, so that no more comes than it allows. The end, or an error, is seen by who takes what is held.
    pub(crate) fn hold(&mut self, cx: &mut Context<'_>) {
        let Some(receive) = &mut self.receive else { return };
        while let Poll::Ready(Some(Ok(data))) = receive.poll_data(cx) {
            if !data.is_empty() {
                self.held.get_or_insert_default().push(data);
            }
        }
    }

    /// The peer's trailers, once its body has ended.
    pub(crate) fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, h2::Error>> {
        match &mut self.receive {
            Some(receive) => receive.poll_trailers(cx),
            None => Poll::Ready(Ok(None)),
        }
    }

    /// How much of `wanted` bytes the peer takes now; ready with at least 1.
    fn poll_room(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        let Some(send) = &mut self.send else { return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) };
        let wanted = wanted.min(PIECE);
        send.reserve_capacity(wanted);
        loop {
            let room = send.capacity();
            if room > 0 {
                return Poll::Ready(Ok(room.min(wanted)));
            }
            match ready!(send.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(into_io(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
    }

    /// Sends as much of `bytes` (not empty) as the peer takes. With `last` the stream ends with the last of them.
    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8], last: bool) -> Poll<io::Result<usize>> {
        let room = ready!(self.poll_room(cx, bytes.len()))?;
        let last = last && room == bytes.len();
        self.send_piece(Bytes::copy_from_slice(&bytes[..room]), last)?;
        Poll::Ready(Ok(room))
    }

    /// As [`Stream::poll_send`] for bytes that need not be copied; what was sent is taken from `bytes`.
    pub(crate) fn poll_send_shared(&mut self, cx: &mut Context<'_>, bytes: &mut Bytes) -> Poll<io::Result<usize>> {
        let room = ready!(self.poll_room(cx, bytes.len()))?;
        self.send_piece(bytes.split_to(room), false)?;
        Poll::Ready(Ok(room))
    }

    fn send_piece(&mut self, piece: Bytes, last: bool) -> io::Result<()> {
        let Some(send) = &mut self.send else { return Err(io::ErrorKind::BrokenPipe.into()) };
        send.send_data(piece, last).map_err(into_io)?;
        if last {
            self.send = None;
        }
        Ok(())
    }

    /// Nothing more can be sent: our side has ended, or never was open.
    pub(crate) fn is_finished(&self) -> bool {
        self.send.is_none()
    }

    /// Ends our side, with trailers or without; a second time does nothing.
    pub(crate) fn finish(&mut self, trailers: Option<HeaderMap>) -> io::Result<()> {
        let Some(mut send) = self.send.take() else { return Ok(()) };
        match trailers {
            Some(trailers) => send.send_trailers(trailers),
            None => send.send_data(Bytes::new(), true),
        }
        .map_err(into_io)
    }

    /// Notices that the peer gives the stream up while something else is awaited: ready with what was seen.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<String> {
        let reset = match (&mut self.respond, &mut self.send) {
            (Some(respond), _) => respond.poll_reset(cx),
            (None, Some(send)) => send.poll_reset(cx),
            (None, None) => return Poll::Pending,
        };
        reset.map(|reset| match reset {
            Ok(reason) => format!("it reset the stream: {}", reason.description()),
            Err(error) => error.to_string(),
        })
    }

    /// Breaks the answer off, so that it is not taken for a complete one.
    pub fn abort(&mut self) {
        self.reset(Reason::INTERNAL_ERROR);
    }

    /// Gives the stream up: nobody waits for the rest of the answer.
    pub fn cancel(&mut self) {
        self.reset(Reason::CANCEL);
    }

    /// Refuses what the client sent as malformed (RFC 9113, section 8.1.1).
    pub fn refuse(&mut self) {
        self.reset(Reason::PROTOCOL_ERROR);
    }

    /// Ends the stream in both directions at once.
    fn reset(&mut self, reason: Reason) {
        if let Some(respond) = &mut self.respond {
            respond.send_reset(reason);
        } else if let Some(send) = &mut self.send {
            send.send_reset(reason);
        }
        *self = Self::ended();
    }
}

fn into_io(error: h2::Error) -> io::Error {
    if error.is_io() {
        return error.into_io().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into());
    }
    io::Error::new(io::ErrorKind::BrokenPipe, error)
}
