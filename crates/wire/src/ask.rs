//! A question of our own to an endpoint: a request without a body, and the head of its answer.
//!
//! It goes over a leased connection like the requests of clients, without a client and without the scratch area of the worker.
//! What the endpoint may send is small. It knows no reason to ask. Read next: `lease`.

use std::io;
use std::time::Instant;

use meshwright_codec::{
    Answered, BodyDecoder, BodyLimits, HeadLimits, HeadScan, Progress, parse_response, read_http2_response,
    write_http2_request, write_request_head,
};
use meshwright_message::{BodyLength, RequestHead, ResponseHead};

use crate::http2::Stream;
use crate::{Lease, Link, PoolLimits, Side};

/// Limits on the head of an answer.
const HEAD: HeadLimits = HeadLimits { request_line: 1024, field: 4096, head: 8192, fields: 64 };
/// Limits on the framing of its body.
const BODY: BodyLimits = BodyLimits { chunk_extension: 64, trailers: 1024, trailer_fields: 8 };
/// Bytes of the body, framing included, that are read to keep the connection; behind a longer one it is closed.
const LARGEST_BODY: usize = 4096;

impl Lease {
    /// Sends a request without a body and reads the answer; what its body says is dropped. The connection is kept when the
    /// answer is complete and small. Dropped before its end, the connection is closed, or the stream given up.
    ///
    /// # Errors
    /// The connection broke off, or what came is not HTTP or too large.
    pub async fn ask(mut self, request: &RequestHead, limits: &PoolLimits) -> io::Result<ResponseHead> {
        if self.side.is_none() {
            let head = write_http2_request(request, request.scheme).map_err(io::Error::other)?;
            self.open_stream(head, None, true).map_err(io::Error::other)?;
        }
        let mut head = ResponseHead::default();
        let complete = match &mut self.side {
            Some(Side::Http1(link)) => ask_link(link, request, &mut head).await? && head.keep_alive,
            Some(Side::Http2(stream)) => ask_stream(stream, &mut head).await?,
            None => return Err(io::ErrorKind::NotConnected.into()),
        };
        if complete {
            self.give_back(limits, head.keep_alive_timeout, Instant::now());
        }
        Ok(head)
    }
}

/// Whether the answer was read to its end, and nothing came behind it.
async fn ask_link(link: &mut Link, request: &RequestHead, head: &mut ResponseHead) -> io::Result<bool> {
    let mut out = Vec::new();
    write_request_head(request, &mut out);
    let mut sent = 0;
    while sent < out.len() {
        match std::future::poll_fn(|cx| link.poll_write(cx, &out[sent..])).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => sent += count,
        }
    }
    std::future::poll_fn(|cx| link.poll_flush(cx)).await?;
    // What is held never exceeds what a head may take and one piece more.
    let (mut received, mut scan) = (Vec::new(), HeadScan::default());
    loop {
        match parse_response(&received, &mut scan, &HEAD, Answered::default(), head).map_err(io::Error::other)? {
            Progress::Complete { .. } if head.status == 101 => return Ok(false),
            Progress::Complete { consumed } => {
                received.drain(..consumed);
                if !head.is_informational() {
                    break;
                }
            }
            Progress::Partial => read_more(link, &mut received).await?,
        }
    }
    if head.body == BodyLength::UntilClose {
        return Ok(false);
    }
    let mut body = BodyDecoder::new(head.body, &BODY);
    let mut taken = 0;
    while !body.is_done() {
        if received.is_empty() {
            read_more(link, &mut received).await?;
        }
        let step = body.decode(&received).map_err(io::Error::other)?;
        received.drain(..step.consumed);
        taken += step.consumed;
        if taken > LARGEST_BODY {
            return Ok(false);
        }
    }
    Ok(received.is_empty())
}

async fn read_more(link: &mut Link, received: &mut Vec<u8>) -> io::Result<()> {
    let mut piece = [0; 1024];
    match std::future::poll_fn(|cx| link.poll_read(cx, &mut piece)).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        count => {
            received.extend_from_slice(&piece[..count]);
            Ok(())
        }
    }
}

/// Whether the answer was read to its end.
async fn ask_stream(stream: &mut Stream, head: &mut ResponseHead) -> io::Result<bool> {
    loop {
        let answer = std::future::poll_fn(|cx| stream.poll_answer(cx)).await.map_err(io::Error::other)?;
        read_http2_response(&answer.parts, answer.ended, &HEAD, Answered::default(), head).map_err(io::Error::other)?;
        if !head.is_informational() {
            break;
        }
    }
    let mut taken = 0;
    while let Some(piece) = std::future::poll_fn(|cx| stream.poll_data(cx)).await {
        taken += piece.map_err(io::Error::other)?.len();
        if taken > LARGEST_BODY {
            return Ok(false);
        }
    }
    Ok(true)
}
