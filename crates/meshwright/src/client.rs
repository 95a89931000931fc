//! A small HTTP/1.1 client for the admin API of another process and for the demo's load.
//!
//! It keeps one connection and reads whole answers, up to a size. Knows nothing of what is asked.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use meshwright_codec::{
    Answered, BodyDecoder, BodyLimits, HeadLimits, HeadScan, Progress, parse_response, write_request_head,
};
use meshwright_message::{BodyLength, Method, RequestHead, ResponseHead};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Largest answer that is read.
const LARGEST_ANSWER: usize = 64 << 20;
/// Time for one request, connecting included.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection to one server, made when it is needed and kept while both sides allow.
pub struct Client {
    addresses: Vec<SocketAddr>,
    stream: Option<TcpStream>,
}

/// A whole answer.
#[derive(Debug)]
pub struct Reply {
    /// Status of the final answer.
    pub status: u16,
    /// Its body.
    pub body: Vec<u8>,
}

impl Client {
    /// A client of the server at one of `addresses`, tried in order.
    pub fn new(addresses: Vec<SocketAddr>) -> Self {
        Self { addresses, stream: None }
    }

    /// Sends `head`, which has no body, and reads the answer. A GET takes the kept connection, and is sent once more on a
    /// new one when that fails; other methods always get a new one, because they must not be sent twice.
    ///
    /// # Errors
    /// No connection, no answer in time, or an answer that is not HTTP or too large.
    pub async fn send(&mut self, head: &RequestHead) -> anyhow::Result<Reply> {
        self.send_with(head, b"").await
    }

    /// As [`Client::send`], with a body whose length `head` says.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn send_with(&mut self, head: &RequestHead, body: &[u8]) -> anyhow::Result<Reply> {
        tokio::time::timeout(PATIENCE, self.send_patiently(head, body)).await.context("no answer in time")?
    }

    async fn send_patiently(&mut self, head: &RequestHead, body: &[u8]) -> anyhow::Result<Reply> {
        let mut bytes = Vec::new();
        write_request_head(head, &mut bytes);
        bytes.extend_from_slice(body);
        if head.method == Method::Get
            && let Some(mut kept) = self.stream.take()
            && let Ok((reply, keep)) = exchange(&mut kept, &bytes).await
        {
            self.stream = keep.then_some(kept);
            return Ok(reply);
        }
        let mut fresh = self.connect().await.context("cannot connect")?;
        let (reply, keep) = exchange(&mut fresh, &bytes).await?;
        self.stream = keep.then_some(fresh);
        Ok(reply)
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.addresses.as_slice()).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// One request and its answer, and whether the connection may be used again.
async fn exchange(stream: &mut TcpStream, request: &[u8]) -> anyhow::Result<(Reply, bool)> {
    stream.write_all(request).await?;
    let mut received = Vec::with_capacity(4096);
    let mut scan = HeadScan::default();
    let mut head = ResponseHead::default();
    loop {
        match parse_response(&received, &mut scan, &HeadLimits::default(), Answered::default(), &mut head) {
            Err(error) => bail!("the answer is not HTTP: {}", error.as_str()),
            Ok(Progress::Partial) => read_more(stream, &mut received).await?,
            Ok(Progress::Complete { consumed }) => {
                received.drain(..consumed);
                if !head.is_informational() {
                    break;
                }
                head.clear();
            }
        }
    }
    let body = read_body(stream, head.body, &mut received).await?;
    Ok((Reply { status: head.status, body }, head.keep_alive && received.is_empty()))
}

async fn read_body(stream: &mut TcpStream, length: BodyLength, received: &mut Vec<u8>) -> anyhow::Result<Vec<u8>> {
    let mut decoder = BodyDecoder::new(length, &BodyLimits::default());
    let mut body = Vec::new();
    while !decoder.is_done() {
        let step = decoder.decode(received).map_err(|error| anyhow::anyhow!("the answer is broken: {error}"))?;
        body.extend_from_slice(&received[step.data]);
        received.drain(..step.consumed);
        if body.len() > LARGEST_ANSWER {
            bail!("the answer is larger than {LARGEST_ANSWER} bytes");
        }
        if step.consumed == 0 && !decoder.is_done() && read_more(stream, received).await.is_err() {
            decoder.finish_at_close().map_err(|error| anyhow::anyhow!("the answer ended early: {error}"))?;
            break;
        }
    }
    Ok(body)
}

async fn read_more(stream: &mut TcpStream, received: &mut Vec<u8>) -> anyhow::Result<()> {
    match stream.read_buf(received).await? {
        0 => bail!("the connection was closed"),
        _ => Ok(()),
    }
}
