//! The recording origin: keeps count of every byte, reads them as the most tolerant server would, and shows each client
//! what came of its request.
//!
//! A request is answered with its own bytes as the body, so whoever sent it through a proxy sees what the proxy wrote. What
//! else it can do is chosen by the target: see [`Recorder`]. Read next: `reading.rs`, `judge.rs`.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::client::BETWEEN_PIECES;
use crate::corpus::{Ending, answers};
use crate::reading::Reading;
use crate::{Origin, OriginConnection, PATIENCE};

/// What came so far.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Bytes on all connections.
    pub bytes: u64,
    /// Complete requests, whatever they are.
    pub requests: usize,
    /// Requests whose target shows that they were inside another message.
    pub smuggled: Vec<String>,
    /// What no proxy should have written.
    pub faults: Vec<String>,
    /// Bad answers that were sent, as far as the proxy took them.
    pub answered: usize,
    /// Connections on which a bad answer was sent and which the proxy did not close.
    pub kept: Vec<String>,
}

/// An origin that records. By target:
///
/// - `/early/STATUS` is answered before its body is read,
/// - `/final/STATUS` is answered at once and its body never read; the connection is closed,
/// - `/never` has nothing read behind its head, and its connection is not closed either,
/// - `/continue` gets `100 Continue` before its body is read,
/// - `/switch/STATUS` is answered with that status; after 101 every byte comes back,
/// - `/answers/NUMBER/SPLIT` gets that answer of the corpus, in two pieces split there, or byte by byte (`all`),
///
/// and everything else is answered with 200 and the request's own bytes. Each answer that is none of the corpus has a field
/// `recorded`.
pub struct Recorder {
    origin: Origin,
    tally: Arc<Mutex<Tally>>,
}

impl Recorder {
    /// Starts it on a free port.
    pub fn start() -> Self {
        let tally = Arc::new(Mutex::new(Tally::default()));
        let of_origin = tally.clone();
        let origin =
            Origin::start(move |connection| Recording { connection, buffer: Vec::new(), tally: &of_origin }.serve());
        Self { origin, tally }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.origin.address()
    }

    /// What came so far.
    pub fn tally(&self) -> Tally {
        Tally { bytes: self.origin.bytes(), ..locked(&self.tally).clone() }
    }
}

fn locked(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Recording<'a> {
    connection: &'a mut OriginConnection,
    buffer: Vec<u8>,
    tally: &'a Mutex<Tally>,
}

impl Recording<'_> {
    fn serve(&mut self) -> io::Result<()> {
        let mut announced = false;
        loop {
            if !announced && let Some(head) = self.head() {
                announced = true;
                if self.act_on_head(&head)? {
                    return Ok(());
                }
            }
            if let Some(reading) = Reading::of(&self.buffer) {
                let bytes: Vec<u8> = self.buffer.drain(..reading.length).collect();
                self.note(&reading);
                announced = false;
                if self.act(&reading, &bytes)? {
                    return Ok(());
                }
                continue;
            }
            if !self.fill()? {
                return Ok(());
            }
        }
    }

    fn fill(&mut self) -> io::Result<bool> {
        let mut piece = [0; 16 * 1024];
        let count = self.connection.read_some(&mut piece)?;
        self.buffer.extend_from_slice(&piece[..count]);
        Ok(count > 0)
    }

    /// The words of the target, once the head is there.
    fn head(&self) -> Option<Vec<String>> {
        self.buffer.windows(4).find(|window| *window == b"\r\n\r\n")?;
        let line = self.buffer.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        Some(words(line.split(' ').nth(1).unwrap_or_default()))
    }

    /// What is answered before the body; true when the connection ends with it.
    fn act_on_head(&mut self, target: &[String]) -> io::Result<bool> {
        match target.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["early", status] => self.answer(status, "", b"early")?,
            ["never"] => {
                self.connection.take_nothing();
                return Ok(true);
            }
            ["continue"] => self.connection.send("HTTP/1.1 100 Continue\r\n\r\n")?,
            ["final", status] => {
                self.answer(status, "connection: close\r\n", b"final")?;
                return Ok(true);
            }
            _ => {}
        }
        Ok(false)
    }

    fn note(&self, reading: &Reading) {
        let mut tally = locked(self.tally);
        tally.requests += 1;
        if reading.target.contains("smuggled") {
            tally.smuggled.push(format!("{} {}", reading.method, reading.target));
        }
        tally.faults.extend(reading.faults.iter().cloned());
    }

    /// What is answered to the whole request; true when the connection ends with it.
    fn act(&mut self, reading: &Reading, bytes: &[u8]) -> io::Result<bool> {
        match words(&reading.target).iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["early", _] => Ok(false),
            ["switch", "101"] => self.echo_after_switch().map(|()| true),
            ["switch", status] => self.answer(status, "", bytes).map(|()| false),
            ["answers", number, split] => self.bad_answer(number, split).map(|()| true),
            _ => {
                let bytes = if reading.method == "HEAD" { &b""[..] } else { bytes };
                self.answer("200", "", bytes).map(|()| false)
            }
        }
    }

    fn answer(&mut self, status: &str, lines: &str, body: &[u8]) -> io::Result<()> {
        let head =
            format!("HTTP/1.1 {status} Recorded\r\n{lines}recorded: yes\r\ncontent-length: {}\r\n\r\n", body.len());
        self.connection.send([head.as_bytes(), body].concat())
    }

    fn echo_after_switch(&mut self) -> io::Result<()> {
        self.connection.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: foo\r\n\r\n")?;
        loop {
            let piece = std::mem::take(&mut self.buffer);
            self.connection.send(piece)?;
            if !self.fill()? {
                return Ok(());
            }
        }
    }

    fn bad_answer(&mut self, number: &str, split: &str) -> io::Result<()> {
        let cases = answers();
        let Some(case) = number.parse().ok().and_then(|number: usize| cases.get(number)) else {
            return self.answer("500", "", b"no such answer");
        };
        let sent = self.send_split(&case.bytes, split);
        locked(self.tally).answered += 1;
        sent?;
        match case.ending {
            Ending::Stays if !self.connection.wait_for_close(PATIENCE) => {
                locked(self.tally).kept.push(format!("{} {}", case.row, case.name));
            }
            Ending::Resets => self.connection.reset(),
            Ending::Stays | Ending::Closes => {}
        }
        Ok(())
    }

    fn send_split(&mut self, bytes: &[u8], split: &str) -> io::Result<()> {
        if split == "all" {
            return self.connection.send_slowly(bytes, BETWEEN_PIECES);
        }
        let at = split.parse().unwrap_or(0).min(bytes.len());
        self.connection.send(&bytes[..at])?;
        if at > 0 {
            std::thread::sleep(BETWEEN_PIECES);
        }
        self.connection.send(&bytes[at..])
    }
}

fn words(target: &str) -> Vec<String> {
    target.split('/').skip(1).map(str::to_owned).collect()
}
