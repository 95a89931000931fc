//! The two directions of a stream, the same for clients and origins.

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};

use super::{Http2Failure, list_of, map_of, owned, wait, wait_at_most};
use crate::Pattern;

/// What a peer sends on a stream.
pub struct Http2Sender {
    stream: SendStream<Bytes>,
}

impl Http2Sender {
    pub(super) fn new(stream: SendStream<Bytes>) -> Self {
        Self { stream }
    }

    pub(super) async fn put(&mut self, mut bytes: Bytes, end: bool) -> Result<(), Http2Failure> {
        while !bytes.is_empty() {
            self.stream.reserve_capacity(bytes.len());
            let room = poll_fn(|context| self.stream.poll_capacity(context)).await;
            let room = room.ok_or_else(|| Http2Failure::Other("the stream takes no more".to_owned()))??;
            let piece = bytes.split_to(room.min(bytes.len()));
            let last = end && bytes.is_empty();
            self.stream.send_data(piece, last)?;
            if last {
                return Ok(());
            }
        }
        if end {
            self.stream.send_data(Bytes::new(), true)?;
        }
        Ok(())
    }

    pub(super) async fn put_trailers(&mut self, fields: &[(String, String)]) -> Result<(), Http2Failure> {
        Ok(self.stream.send_trailers(map_of(fields))?)
    }

    /// Sends bytes; waits for the peer to grant room for them.
    ///
    /// # Errors
    /// The stream or the connection ended.
    pub fn send(&mut self, bytes: impl Into<Bytes>) -> Result<(), Http2Failure> {
        wait("the peer takes bytes", self.put(bytes.into(), false))
    }

    /// Sends what comes next of `pattern` until the peer has granted no room for `quiet`, at most `most` bytes; how many it
    /// took.
    ///
    /// # Errors
    /// The stream or the connection ended.
    pub fn send_until_stalled(
        &mut self,
        pattern: &mut Pattern,
        most: u64,
        quiet: Duration,
    ) -> Result<u64, Http2Failure> {
        let start = pattern.total();
        while pattern.total() - start < most {
            self.stream.reserve_capacity(1 << 14);
            let room = wait_at_most(quiet, poll_fn(|context| self.stream.poll_capacity(context)));
            let Some(room) = room else { break };
            let room = room.ok_or_else(|| Http2Failure::Other("the stream takes no more".to_owned()))??;
            self.stream.send_data(Bytes::copy_from_slice(pattern.next(room)), false)?;
        }
        Ok(pattern.total() - start)
    }

    /// Ends this direction.
    ///
    /// # Errors
    /// The stream or the connection ended.
    pub fn finish(&mut self) -> Result<(), Http2Failure> {
        wait("the stream takes its end", self.put(Bytes::new(), true))
    }

    /// Ends this direction with trailers.
    ///
    /// # Errors
    /// The stream or the connection ended.
    pub fn finish_with(&mut self, trailers: &[(&str, &str)]) -> Result<(), Http2Failure> {
        wait("the stream takes trailers", self.put_trailers(&owned(trailers)))
    }

    /// Resets the stream.
    pub fn reset(&mut self, code: u32) {
        self.stream.send_reset(Reason::from(code));
    }

    /// The code that the peer resets the stream with, within this time.
    pub fn reset_within(&mut self, time: Duration) -> Option<u32> {
        let reset = wait_at_most(time, poll_fn(|context| self.stream.poll_reset(context)));
        match reset? {
            Ok(reason) => Some(reason.into()),
            Err(error) => error.reason().map(u32::from),
        }
    }
}

/// What comes on a stream. Who does not read grants no room.
pub struct Http2Body {
    stream: RecvStream,
}

impl Http2Body {
    pub(super) fn new(stream: RecvStream) -> Self {
        Self { stream }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Http2Failure> {
        while let Some(data) = self.stream.data().await {
            let data = data?;
            self.stream.flow_control().release_capacity(data.len())?;
            // A frame without bytes says nothing but, perhaps, that it is the last.
            if !data.is_empty() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    pub(super) async fn all(&mut self) -> Result<(Vec<u8>, Vec<(String, String)>), (Http2Failure, Vec<u8>)> {
        let mut body = Vec::new();
        loop {
            match self.next().await {
                Ok(Some(data)) => body.extend_from_slice(&data),
                Ok(None) => break,
                Err(failure) => return Err((failure, body)),
            }
        }
        match self.stream.trailers().await {
            Ok(trailers) => Ok((body, trailers.map(|map| list_of(&map)).unwrap_or_default())),
            Err(error) => Err((error.into(), body)),
        }
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// The stream or the connection ended early.
    pub fn read_some(&mut self) -> Result<Option<Bytes>, Http2Failure> {
        wait("bytes come", self.next())
    }

    /// As [`Http2Body::read_some`], or `None` when nothing comes in time.
    pub fn read_within(&mut self, time: Duration) -> Option<Result<Option<Bytes>, Http2Failure>> {
        wait_at_most(time, self.next())
    }

    /// The trailers behind the end; empty when there are none.
    ///
    /// # Errors
    /// The stream or the connection ended early.
    pub fn trailers(&mut self) -> Result<Vec<(String, String)>, Http2Failure> {
        let trailers = wait("trailers come", self.stream.trailers())?;
        Ok(trailers.map(|map| list_of(&map)).unwrap_or_default())
    }

    /// Reads to the end, checking every byte; how many there were.
    ///
    /// # Errors
    /// The stream or the connection ended early.
    ///
    /// # Panics
    /// A byte is not the one that should come.
    #[track_caller]
    pub fn read_pattern(&mut self, pattern: &mut Pattern) -> Result<u64, Http2Failure> {
        let start = pattern.total();
        while let Some(data) = self.read_some()? {
            assert!(pattern.check(&data), "wrong bytes after {}", pattern.total());
        }
        Ok(pattern.total() - start)
    }
}
