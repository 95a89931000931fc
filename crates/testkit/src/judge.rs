//! The judge: sends a case of the corpus to a proxy in front of a [`Recorder`](crate::Recorder), and says what came of it.
//!
//! It sees what a client sees. What reached the origin beyond that (bytes of what was refused, requests that nobody sent)
//! is in the recorder's tally. It knows no proxy by name. Read next: `corpus/mod.rs`, `recorder.rs`.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::corpus::{AnswerCase, AnswerMust, Case, End, Expected, FrameCase, FrameMust, Split};
use crate::frames::{self, FrameClient, code, kind};
use crate::reading::Reading;
use crate::{PATIENCE, RawClient, ReadError, Response, TlsClient};

/// The request that is sent behind a case whose connection should serve on.
const BEHIND: &str = "GET /behind HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

/// How long a peer that says nothing is listened to.
const SILENCE: Duration = Duration::from_secs(20);

/// What a client saw.
#[derive(Debug, Default)]
pub struct Seen {
    /// Final answers in order.
    pub answers: Vec<Response>,
    /// The connection ended; otherwise it was silent for too long, or all that was expected had come.
    pub closed: bool,
    /// Bytes that are no answer.
    pub garbage: Option<String>,
}

impl Seen {
    /// How many of the answers are the origin's.
    pub fn recorded(&self) -> usize {
        self.answers.iter().filter(|answer| answer.header("recorded").is_some()).count()
    }
}

/// How a proxy treated a case, from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// As it must.
    Right,
    /// What is right was refused, changed or left without an answer.
    Other,
    /// What is to be refused was served; a broken answer was passed on as a whole one.
    Served,
}

/// Sends cases to one proxy.
#[derive(Clone, Copy, Debug)]
pub struct Judge {
    /// Where the proxy listens.
    pub address: SocketAddr,
    /// How long a peer that says nothing is listened to.
    pub silence: Duration,
    /// How long a peer that said that it closes may take to do so.
    pub closing: Duration,
}

impl Judge {
    /// A judge of the proxy that listens there.
    pub fn of(address: SocketAddr) -> Self {
        Self { address, silence: SILENCE, closing: SILENCE }
    }

    /// Sends a case in pieces and reads what comes.
    ///
    /// # Panics
    /// Nobody accepts.
    pub fn send(&self, case: &Case, split: Split) -> Seen {
        let mut client = RawClient::connect(self.address);
        client.set_patience(self.silence);
        client.send_split(&case.bytes, &split.offsets(case.bytes.len()));
        if matches!(case.end, End::Serves | End::ServesOrCloses) {
            let _ = client.try_send(BEHIND);
        }
        if case.finishes {
            client.finish_sending();
        }
        let most = match (&case.or_forwarded, case.end) {
            (Some(requests), _) => requests.len(),
            (None, End::Serves | End::ServesOrCloses) => case.forwarded.len() + 1,
            (None, _) => usize::MAX,
        };
        let mut seen = Seen::default();
        while seen.answers.len() < most {
            let to_head = case.forwarded.get(seen.answers.len()).is_some_and(|expected| expected.method == "HEAD");
            match client.try_response(to_head) {
                Ok(answer) => {
                    let closes = answer.says_close();
                    seen.answers.push(answer);
                    if closes {
                        seen.closed = client.is_closed_within(self.closing);
                        break;
                    }
                }
                Err(error) => {
                    seen.closed = is_end(&error);
                    if let ReadError::Invalid(what) = error {
                        seen.garbage = Some(what);
                    }
                    break;
                }
            }
        }
        seen
    }

    /// Judges every input on several connections at once. What went wrong, as sentences.
    ///
    /// # Panics
    /// Nobody accepts.
    pub fn judge_all(&self, inputs: &[(&Case, Split)], connections: usize) -> Vec<String> {
        let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..connections {
                scope.spawn(|| {
                    while let Some((case, split)) = inputs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let seen = self.send(case, *split);
                        if let Err(reason) = case.judge(&seen) {
                            let failure = format!("{} ({}), {split:?}: {reason}", case.row, case.name);
                            failures.lock().unwrap_or_else(PoisonError::into_inner).push(failure);
                        }
                    }
                });
            }
        });
        failures.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a bad answer of the corpus, which the origin sends split at an offset (`all`: byte by byte).
    ///
    /// # Panics
    /// Nobody accepts.
    pub fn ask(&self, case: &AnswerCase, number: usize, split: &str) -> Result<Response, ReadError> {
        let mut client = RawClient::connect(self.address);
        client.set_patience(self.silence);
        let request = format!("{} /answers/{number}/{split} HTTP/1.1\r\nHost: x\r\n\r\n", case.method);
        client.try_send(request).map_err(ReadError::Failed)?;
        let answer = client.try_response(case.method == "HEAD")?;
        // Nothing may come behind it: the client asked once.
        client.finish_sending();
        let behind = client.read_to_end();
        if behind.is_empty() {
            Ok(answer)
        } else {
            Err(ReadError::Invalid(String::from_utf8_lossy(&behind).into_owned()))
        }
    }
}

fn is_end(error: &ReadError) -> bool {
    match error {
        ReadError::Closed | ReadError::Truncated(_) => true,
        ReadError::Invalid(_) => false,
        ReadError::Failed(error) => !crate::client::is_timeout(error),
    }
}

impl Case {
    /// Whether it is treated as it must be.
    ///
    /// # Errors
    /// What is wrong, as a sentence.
    pub fn judge(&self, seen: &Seen) -> Result<(), String> {
        let verdict = self.judge_against(seen, &self.forwarded, self.end);
        let Some(requests) = self.or_forwarded.as_ref().filter(|_| verdict.is_err()) else { return verdict };
        if seen.answers.len() != requests.len() {
            return verdict;
        }
        requests.iter().zip(&seen.answers).try_for_each(|(expected, answer)| expected.judge(answer))
    }

    fn judge_against(&self, seen: &Seen, forwarded: &[Expected], end: End) -> Result<(), String> {
        if let Some(garbage) = &seen.garbage {
            return Err(format!("bytes that are no answer: {garbage:?}"));
        }
        for (number, expected) in forwarded.iter().enumerate() {
            let answer = seen.answers.get(number);
            let answer = answer.ok_or_else(|| format!("{number} of {} requests were answered", forwarded.len()))?;
            expected.judge(answer)?;
        }
        let statuses: Vec<u16> = seen.answers[forwarded.len()..].iter().map(|answer| answer.status).collect();
        match (end, statuses.as_slice()) {
            (End::Serves | End::ServesOrCloses, [200]) => {
                Expected::new("GET", "/behind", "").judge(&seen.answers[forwarded.len()])?;
            }
            (End::ServesOrCloses | End::Closes, []) => {}
            (End::Refused(allowed), [status]) if allowed.contains(status) => {}
            (End::Broken, []) => {}
            (End::Broken, [status]) if *status >= 400 => {}
            _ => return Err(format!("{statuses:?} behind {} requests, where {end:?} is right", forwarded.len())),
        }
        if seen.closed { Ok(()) } else { Err("the connection stays open".to_owned()) }
    }

    /// The grade of what was seen. Unlike [`Case::judge`] it takes every way to refuse as right: each proxy has its own.
    pub fn grade(&self, seen: &Seen) -> Grade {
        if self.judge(seen).is_ok() {
            return Grade::Right;
        }
        if !matches!(self.end, End::Refused(_) | End::Broken) {
            return Grade::Other;
        }
        let served = seen.answers.iter().skip(self.forwarded.len()).any(|answer| answer.status < 400);
        if served { Grade::Served } else { Grade::Right }
    }

    /// How many requests may reach the origin because of it.
    pub fn most_requests(&self) -> usize {
        let behind = usize::from(matches!(self.end, End::Serves | End::ServesOrCloses));
        (self.forwarded.len() + behind).max(self.or_forwarded.as_ref().map_or(0, Vec::len))
    }

    /// Whether every byte of it must stay away from the origin.
    pub fn is_refused_whole(&self) -> bool {
        matches!(self.end, End::Refused(_)) && self.forwarded.is_empty() && self.or_forwarded.is_none()
    }
}

impl Expected {
    fn judge(&self, answer: &Response) -> Result<(), String> {
        if answer.status != self.status {
            return Err(format!("{} {} was answered with {}", self.method, self.target, answer.status));
        }
        if self.status != 200 || self.method == "HEAD" {
            return Ok(());
        }
        let shown = String::from_utf8_lossy(&answer.body);
        let Some(reading) = Reading::of(&answer.body).filter(|reading| reading.length == answer.body.len()) else {
            return Err(format!("the origin did not get one request: {shown:?}"));
        };
        if !reading.faults.is_empty() {
            return Err(format!("{:?} reached the origin: {shown:?}", reading.faults));
        }
        let same = (reading.method == self.method, reading.target == self.target, reading.body == self.body);
        if same != (true, true, true) {
            return Err(format!("{} {} arrived as {shown:?}", self.method, self.target));
        }
        if self.host.is_some_and(|host| reading.values("host") != [host]) {
            return Err(format!("Host is {:?}, not {:?}", reading.values("host"), self.host));
        }
        for (name, value) in &self.fields {
            if reading.values(name) != [value] {
                return Err(format!("{name} is {:?}, not {value:?}", reading.values(name)));
            }
        }
        let trailer = |name: &str| reading.trailers.iter().any(|(key, _)| key.eq_ignore_ascii_case(name));
        let own = |name: &str| name == "x-forwarded-for" || name == "host" || name == "transfer-encoding";
        match self.lacks.iter().find(|name| trailer(name) || (!own(name) && !reading.values(name).is_empty())) {
            Some(name) => Err(format!("{name} reached the origin")),
            None => Ok(()),
        }
    }
}

impl AnswerCase {
    /// Whether what the client saw is what it must see.
    ///
    /// # Errors
    /// What is wrong, as a sentence.
    pub fn judge(&self, seen: &Result<Response, ReadError>) -> Result<(), String> {
        let failed = match seen {
            Ok(answer) => answer.status >= 500,
            Err(ReadError::Closed | ReadError::Truncated(_)) => true,
            Err(ReadError::Failed(error)) => !crate::client::is_timeout(error),
            Err(ReadError::Invalid(what)) => return Err(format!("bytes that are no answer: {what:?}")),
        };
        let delivered = |body: &str| seen.as_ref().is_ok_and(|answer| answer.status < 500 && answer.text() == body);
        let right = match self.must {
            AnswerMust::Fail => failed,
            AnswerMust::Deliver(body) => delivered(body),
            AnswerMust::FailOrDeliver(body) => failed || delivered(body),
        };
        if right { Ok(()) } else { Err(format!("the client saw {seen:?}, where {:?} is right", self.must)) }
    }

    /// The grade of what the client saw.
    pub fn grade(&self, seen: &Result<Response, ReadError>) -> Grade {
        match self.judge(seen) {
            Ok(()) => Grade::Right,
            Err(_) if self.must == AnswerMust::Fail && seen.is_ok() => Grade::Served,
            Err(_) => Grade::Other,
        }
    }

    /// The ways in which it is sent: whole, split at offsets, and byte by byte when it is short.
    pub fn splits(&self) -> Vec<String> {
        let length = self.bytes.len();
        let step = (length / 24).max(1);
        let mut splits: Vec<String> = (0..length).step_by(step).take(40).map(|at| at.to_string()).collect();
        if length <= 260 {
            splits.push("all".to_owned());
        }
        splits
    }
}

impl FrameCase {
    /// Sends it to a proxy, whole or byte by byte, and judges what comes back.
    ///
    /// # Errors
    /// What is wrong, as a sentence.
    ///
    /// # Panics
    /// Nobody accepts, or nobody speaks HTTP/2 there.
    pub fn try_at(&self, address: SocketAddr, tls: Option<&TlsClient>, bytewise: bool) -> Result<(), String> {
        self.look(address, tls, bytewise, SILENCE)
    }

    /// What a proxy made of it that may be silent for so long: any way to refuse what is wrong is right.
    ///
    /// # Panics
    /// Nobody accepts, or nobody speaks HTTP/2 there.
    pub fn grade_at(&self, address: SocketAddr, silence: Duration) -> Grade {
        let of = match self.must {
            FrameMust::Alive | FrameMust::Answered(..) | FrameMust::Forwarded(..) => {
                let right = self.look(address, None, false, silence).is_ok();
                return if right { Grade::Right } else { Grade::Other };
            }
            FrameMust::StreamError(stream, _) | FrameMust::Refused(stream) => Some(stream),
            FrameMust::Overrun(_) | FrameMust::ConnectionError(_) | FrameMust::Closed => None,
        };
        let mut client = self.client(address, None);
        if let FrameMust::Overrun(stream) = self.must {
            let right = overrun(&mut client, stream, &self.bytes).is_ok() || client.is_ended(stream);
            return if right { Grade::Right } else { Grade::Served };
        }
        client.send(&self.bytes);
        let refuses = |one: &frames::Http2Frame| {
            let this_one = of.is_none_or(|stream| one.stream == stream);
            let refused = one.kind == kind::RST_STREAM || one.status().is_some_and(|status| status >= 400);
            one.kind == kind::GOAWAY || (this_one && refused)
        };
        let served = |one: &frames::Http2Frame| of == Some(one.stream) && one.is_last();
        client.read_until(silence, |all| all.iter().any(|one| refuses(one) || served(one)));
        let refused = client.is_closed() || client.frames().iter().any(refuses);
        if refused { Grade::Right } else { Grade::Served }
    }

    fn client(&self, address: SocketAddr, tls: Option<&TlsClient>) -> FrameClient {
        if self.opens { FrameClient::open(address, tls, &[]) } else { FrameClient::silent(address, tls) }
    }

    fn look(
        &self,
        address: SocketAddr,
        tls: Option<&TlsClient>,
        bytewise: bool,
        silence: Duration,
    ) -> Result<(), String> {
        let mut client = self.client(address, tls);
        if let FrameMust::Overrun(stream) = self.must {
            return overrun(&mut client, stream, &self.bytes);
        }
        if bytewise {
            client.send_bytewise(&self.bytes);
        } else {
            client.send(&self.bytes);
        }
        let right = match &self.must {
            FrameMust::Alive => {
                client.send(frames::ping(*b"behind!!"));
                client.read_until(silence, |all| {
                    all.iter().any(|one| one.kind == kind::PING && one.flags & 1 == 1 && one.payload == *b"behind!!")
                })
            }
            FrameMust::Answered(stream, _) | FrameMust::Forwarded(stream, _) => {
                let stream = *stream;
                client.read_until(silence, |all| all.iter().any(|one| one.stream == stream && one.is_last()))
            }
            FrameMust::StreamError(stream, codes) => {
                let stream = *stream;
                client.read_until(silence, |all| {
                    all.iter()
                        .any(|one| one.kind == kind::GOAWAY || (one.kind == kind::RST_STREAM && one.stream == stream))
                });
                client.reset_of(stream).or(client.goaway()).is_some_and(|code| codes.contains(&code))
            }
            FrameMust::Refused(stream) => {
                let stream = *stream;
                client.read_until(silence, |all| {
                    all.iter().any(|one| {
                        one.kind == kind::GOAWAY
                            || (one.kind == kind::RST_STREAM && one.stream == stream)
                            || (one.stream == stream && one.is_last())
                    })
                });
                let answered = client.status_of(stream).is_some_and(|status| (400..500).contains(&status));
                answered || client.reset_of(stream).is_some() || client.goaway().is_some()
            }
            FrameMust::ConnectionError(codes) => {
                client.is_closed_within(silence) && client.goaway().is_some_and(|code| codes.contains(&code))
            }
            FrameMust::Overrun(_) => false,
            FrameMust::Closed => client.is_closed_within(silence),
        };
        let verdict = match &self.must {
            FrameMust::Answered(stream, status) if right => client.status_of(*stream) == Some(*status),
            FrameMust::Forwarded(stream, expected) if right => {
                let status = client.status_of(*stream).unwrap_or_default();
                let answer = Response { status, body: client.data_of(*stream), ..Response::default() };
                return expected.judge(&answer);
            }
            _ => right,
        };
        if verdict {
            return Ok(());
        }
        let shown: Vec<String> = client
            .frames()
            .iter()
            .map(|one| {
                format!("{}:{}:{} {:?}", one.kind, one.flags, one.stream, one.payload.get(..12).unwrap_or(&one.payload))
            })
            .collect();
        Err(format!("{:?} is right; closed: {}; frames: {shown:?}", self.must, client.is_closed()))
    }
}

/// Sends the first frame of `frames`, then the second one until it is more than a stream may take. An origin that reads nothing
/// leaves some megabytes of room in all; within that the peer may open the window again.
fn overrun(client: &mut FrameClient, stream: u32, frames: &[u8]) -> Result<(), String> {
    const MOST: usize = 64 << 20;
    /// Time for a peer to say that there is more room.
    const PAUSE: Duration = Duration::from_millis(300);
    let length = |frame: &[u8]| frames::HEADER + (usize::from(frame[1]) << 8 | usize::from(frame[2]));
    let (head, data) = frames.split_at(length(frames));
    let counted = length(data) - frames::HEADER;
    client.send(head);
    let mut sent = 0;
    while sent < MOST {
        if sent + counted > client.allowed_on(stream) {
            client.wait(PAUSE, |client| client.allowed_on(stream) >= sent + counted || client.is_ended(stream));
        }
        if client.is_ended(stream) {
            return Err(format!("ended after {sent} of {} bytes that were allowed", client.allowed_on(stream)));
        }
        client.send(data);
        sent += counted;
        if sent > client.allowed_on(stream) {
            client.wait(PATIENCE, |client| client.allowed_on(stream) >= sent || client.is_ended(stream));
            let code = client.reset_of(stream).or(client.goaway());
            if code.is_some() || client.allowed_on(stream) < sent {
                let right = code == Some(code::FLOW_CONTROL_ERROR);
                let allowed = client.allowed_on(stream);
                return if right { Ok(()) } else { Err(format!("{code:?} after {sent} bytes of {allowed}")) };
            }
        }
    }
    Err(format!("{sent} bytes were taken"))
}
