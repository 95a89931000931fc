//! How one call of gRPC travels over a connection of HTTP/2: a framed message out, framed messages and a status back.
//!
//! It knows no message of etcd; those are in `messages.rs`.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use prost::Message;

use crate::Error;

/// Largest message that is taken. A page of 1,000 instances of the largest size is smaller.
const LARGEST_MESSAGE: usize = 128 << 20;
/// Bytes in front of each message: whether it is compressed, and its length.
const FRAME: usize = 5;

/// What calls of one connection have in common.
#[derive(Clone)]
pub(crate) struct Channel {
    pub(crate) requests: SendRequest<Bytes>,
    /// `http://HOST:PORT`.
    pub(crate) origin: String,
    /// The member, for sentences.
    pub(crate) endpoint: String,
    /// What a login gave.
    pub(crate) token: Option<HeaderValue>,
}

impl Channel {
    pub(crate) fn broken(&self, error: &dyn std::fmt::Display) -> Error {
        Error::Connection { endpoint: self.endpoint.clone(), reason: error.to_string() }
    }

    fn protocol(&self, reason: &str) -> Error {
        Error::Protocol { endpoint: self.endpoint.clone(), reason: reason.to_owned() }
    }

    /// Begins a call; `end` says that no further message follows the first.
    pub(crate) async fn begin(&self, path: &str, message: &impl Message, end: bool) -> Result<Call, Error> {
        let mut request = Request::post(format!("{}{path}", self.origin))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            // A member that has lost its leader says so instead of waiting for one.
            .header("hasleader", "true");
        if let Some(token) = &self.token {
            request = request.header("token", token);
        }
        let request = request.body(()).map_err(|error| self.broken(&error))?;
        let mut requests = self.requests.clone().ready().await.map_err(|error| self.broken(&error))?;
        let (response, mut sending) = requests.send_request(request, false).map_err(|error| self.broken(&error))?;
        sending.send_data(framed(message), end).map_err(|error| self.broken(&error))?;
        let response = response.await.map_err(|error| self.broken(&error))?;
        if response.status() != StatusCode::OK {
            return Err(self.protocol(&format!("it answered with HTTP status {}", response.status().as_u16())));
        }
        if let Some(status) = response.headers().get("grpc-status")
            && status.as_bytes() != b"0"
        {
            return Err(self.refused(response.headers()));
        }
        Ok(Call { channel: self.clone(), receiving: response.into_body(), _sending: sending, buffer: BytesMut::new() })
    }

    fn refused(&self, headers: &HeaderMap) -> Error {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        Error::Refused {
            endpoint: self.endpoint.clone(),
            code: text("grpc-status").parse().unwrap_or(2),
            message: text("grpc-message").chars().take(200).collect(),
        }
    }
}

/// A call whose answer has begun.
pub(crate) struct Call {
    channel: Channel,
    receiving: RecvStream,
    /// Dropping it would end our half of the stream.
    _sending: SendStream<Bytes>,
    buffer: BytesMut,
}

impl Call {
    /// The next message; `None` after the last, when the status is that of success.
    pub(crate) async fn next<M: Message + Default>(&mut self) -> Result<Option<M>, Error> {
        loop {
            if let Some(message) = self.take()? {
                return M::decode(message).map(Some).map_err(|error| self.channel.protocol(&error.to_string()));
            }
            let Some(data) = self.receiving.data().await else { return self.end().await.map(|()| None) };
            let data = data.map_err(|error| self.channel.broken(&error))?;
            let _ = self.receiving.flow_control().release_capacity(data.len());
            self.buffer.extend_from_slice(&data);
        }
    }

    /// A whole message from what was received.
    fn take(&mut self) -> Result<Option<BytesMut>, Error> {
        let Some(head) = self.buffer.first_chunk::<FRAME>() else { return Ok(None) };
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if head[0] != 0 || length > LARGEST_MESSAGE {
            return Err(self.channel.protocol("it sent a compressed message, or one larger than 128 MiB"));
        }
        if self.buffer.len() < FRAME + length {
            return Ok(None);
        }
        self.buffer.advance(FRAME);
        Ok(Some(self.buffer.split_to(length)))
    }

    async fn end(&mut self) -> Result<(), Error> {
        let trailers = self.receiving.trailers().await.map_err(|error| self.channel.broken(&error))?;
        match trailers {
            Some(trailers) if trailers.get("grpc-status").is_some_and(|status| status.as_bytes() != b"0") => {
                Err(self.channel.refused(&trailers))
            }
            _ if !self.buffer.is_empty() => Err(self.channel.protocol("it ended within a message")),
            _ => Ok(()),
        }
    }
}

fn framed(message: &impl Message) -> Bytes {
    let mut bytes = BytesMut::with_capacity(FRAME + message.encoded_len());
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.encoded_len()).unwrap_or(u32::MAX));
    bytes.put_slice(&message.encode_to_vec());
    bytes.freeze()
}
