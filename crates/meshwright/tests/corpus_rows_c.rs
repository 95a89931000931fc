//! Rows C6 and C18 to C20: clients that take nothing of their streams, services that break the rules of HTTP/2, and what streams
//! that share a connection to a service do to each other.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[path = "support/pairs.rs"]
mod pairs;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use meshwright_testkit::frames::{
    FrameClient, PREFACE, code, data, field, flag, frame, headers, indexed_field, kind, ping, priority, request, reset,
    settings, window_update,
};
use meshwright_testkit::{
    Ask, Config, Grpc, Http2Client, Http2Origin, Launch, Meshwright, Origin, OriginConnection, PATIENCE, Pattern,
    RawClient, Speaks, binary, eventually, gateway_routes, gateway_to, holds_within, service_entry,
};
use pairs::in_front_of;

fn get(stream: u32, path: &str) -> Vec<u8> {
    headers(stream, request("GET", path, &[]), true)
}

fn streams(count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(|number| 2 * number + 1)
}

#[test]
fn row_c6_a_hundred_answers_that_nobody_takes_are_given_up() {
    let origin = Origin::sends_pattern(1 << 20);
    let (_config, process) = in_front_of(origin.address(), Speaks::Http1, &["--stream-stall-timeout", "1s"]);
    process.get("x", "/warm");
    let before = process.rss_bytes();
    let mut client = FrameClient::open(process.gateway(), None, &[(4, 0)]);
    client.send(streams(100).flat_map(|stream| get(stream, "/")).collect::<Vec<u8>>());
    let answered = |one: &meshwright_testkit::frames::Http2Frame| one.kind == kind::HEADERS;
    assert!(client.read_until(PATIENCE, |all| all.iter().filter(|one| answered(one)).count() == 100));
    let held = process.rss_bytes().saturating_sub(before);
    println!("{} bytes for each of 100 answers of 1 MiB", held / 100);
    assert!(held < 100 * 96 * 1024, "{held} bytes");
    assert!(client.wait(PATIENCE, |client| streams(100).all(|stream| client.reset_of(stream).is_some())));
    process.metric_becomes("meshwright_refusals_total", &[("reason", "stream_idle_timeout")], 100.0);
    eventually("the service is rid of them", || origin.open() == 0);
    client.send([settings(&[(4, 1 << 21)]), window_update(0, 1 << 21), get(201, "/after")].concat());
    assert!(client.read_until(PATIENCE, |all| all.iter().any(|one| one.stream == 201 && one.is_last())));
}

#[test]
fn row_c6_a_byte_at_a_time_is_no_progress_and_a_slow_reader_is_not_given_up() {
    let origin = Origin::sends_pattern(1 << 20);
    let (_config, process) = in_front_of(origin.address(), Speaks::Http1, &["--stream-stall-timeout", "1s"]);
    let mut client = FrameClient::open(process.gateway(), None, &[(4, 0)]);
    client.send(window_update(0, 1 << 24));
    client.send(streams(5).flat_map(|stream| get(stream, "/")).collect::<Vec<u8>>());
    let given_up = holds_within(PATIENCE, || {
        // The fifth takes as much at once as counts.
        client.send(streams(4).flat_map(|stream| window_update(stream, 1)).collect::<Vec<u8>>());
        client.send(window_update(9, 64 * 1024));
        client.read_until(Duration::from_millis(100), |_| false);
        streams(4).all(|stream| client.reset_of(stream).is_some())
    });
    assert!(given_up, "they get a byte now and then and are kept for it");
    assert!(streams(4).all(|stream| client.data_of(stream).len() < 16 * 1024));
    client.send(window_update(9, 1 << 21));
    assert!(client.wait(PATIENCE, |client| client.is_answered(9)), "{:?}", client.reset_of(9));
    assert!(client.data_of(9) == Pattern::bytes(1 << 20));
}

/// A service that answers with bare frames.
struct Hostile<'a> {
    connection: &'a mut OriginConnection,
    buffer: Vec<u8>,
    begun: bool,
}

impl Hostile<'_> {
    /// The stream of the next request; acknowledges what the client says before it.
    fn request(&mut self) -> io::Result<u32> {
        loop {
            if !self.begun && self.buffer.len() >= PREFACE.len() {
                self.buffer.drain(..PREFACE.len());
                self.begun = true;
                self.send(settings(&[(3, 100)]))?;
            }
            while self.begun && self.buffer.len() >= 9 {
                let length = self.buffer[..3].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
                if self.buffer.len() < 9 + length {
                    break;
                }
                let whole: Vec<u8> = self.buffer.drain(..9 + length).collect();
                let stream = u32::from_be_bytes([whole[5], whole[6], whole[7], whole[8]]);
                match (whole[3], whole[4] & flag::ACK) {
                    (kind::HEADERS, _) => return Ok(stream),
                    (kind::SETTINGS, 0) => self.send(frame(kind::SETTINGS, flag::ACK, 0, []))?,
                    (kind::PING, 0) => self.send(frame(kind::PING, flag::ACK, 0, &whole[9..]))?,
                    _ => {}
                }
            }
            let mut piece = [0; 4096];
            match self.connection.read_some(&mut piece)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.buffer.extend_from_slice(&piece[..count]),
            }
        }
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.connection.send(bytes)
    }
}

/// What must come of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Must {
    /// 5xx, or an end that cannot be taken for a whole answer.
    Fail,
    /// 200 with this body.
    Deliver(&'static str),
    /// Either, as long as it costs nothing.
    Bounded,
}

use Must::{Bounded, Deliver, Fail};

type Answer = Box<dyn Fn(u32) -> Vec<Vec<u8>> + Send + Sync>;

struct Case(&'static str, Must, Answer);

/// The head of an answer: 200, or these fields.
fn ok(stream: u32, last: bool) -> Vec<u8> {
    headers(stream, [0x88], last)
}

fn status(stream: u32, status: &str, fields: &[(&str, &str)], last: bool) -> Vec<u8> {
    let fields = fields.iter().flat_map(|(name, value)| field(name, value));
    headers(stream, field(":status", status).into_iter().chain(fields).collect::<Vec<u8>>(), last)
}

fn whole(stream: u32) -> Vec<Vec<u8>> {
    vec![ok(stream, false), data(stream, "whole", true)]
}

fn case(name: &'static str, must: Must, answer: impl Fn(u32) -> Vec<Vec<u8>> + Send + Sync + 'static) -> Case {
    Case(name, must, Box::new(answer))
}

/// Twenty thousand times the same, then an answer.
fn flood(name: &'static str, one: impl Fn(u32) -> Vec<u8> + Send + Sync + 'static) -> Case {
    case(name, Bounded, move |stream| [vec![one(stream).repeat(20_000)], whole(stream)].concat())
}

fn goaway(last: u32, code: u32) -> Vec<u8> {
    frame(kind::GOAWAY, 0, 0, [last.to_be_bytes(), code.to_be_bytes()].concat())
}

fn frames_of_services() -> Vec<Case> {
    vec![
        case("a good answer", Deliver("whole"), whole),
        case("PUSH_PROMISE", Fail, |stream| {
            vec![frame(kind::PUSH_PROMISE, 4, stream, [&[0, 0, 0, 2][..], &request("GET", "/p", &[])].concat())]
        }),
        case("GOAWAY in the middle of the answer", Deliver("whole"), |stream| {
            vec![ok(stream, false), goaway(stream, 0), data(stream, "whole", true)]
        }),
        case("GOAWAY instead of an answer", Fail, |_| vec![goaway(0, 0)]),
        case("GOAWAY with a reason", Fail, |_| vec![goaway(0, code::ENHANCE_YOUR_CALM)]),
        case("RST_STREAM in the middle", Fail, |stream| {
            vec![ok(stream, false), data(stream, "wh", false), reset(stream, 2)]
        }),
        case("WINDOW_UPDATE of 0", Fail, |stream| vec![window_update(stream, 0)]),
        case("WINDOW_UPDATE of 0 on the connection", Fail, |_| vec![window_update(0, 0)]),
        case("a window of the connection beyond all", Fail, |_| vec![window_update(0, 0x7fff_ffff).repeat(2)]),
        case("PRIORITY that depends on itself", Fail, |stream| vec![priority(stream, stream, 1)]),
        case("a block that is none", Fail, |stream| vec![headers(stream, [0x40], true)]),
        case("an index beyond both tables", Fail, |stream| vec![headers(stream, [0x88, 0xff, 0x64], true)]),
        case("more padding than DATA", Fail, |stream| {
            vec![ok(stream, false), frame(kind::DATA, flag::PADDED, stream, [0xff, 1, 2])]
        }),
        case("a frame longer than may be", Fail, |stream| vec![ok(stream, false), data(stream, vec![0; 16_385], true)]),
        case("SETTINGS of three bytes", Fail, |_| vec![frame(kind::SETTINGS, 0, 0, [0, 3, 0])]),
        case("a window beyond all by SETTINGS", Fail, |_| vec![settings(&[(4, 1 << 31)])]),
        case("a frame size of nothing", Fail, |_| vec![settings(&[(5, 0)])]),
        case("SETTINGS in flight", Deliver("whole"), |stream| {
            [vec![settings(&[(4, 0), (1, 0), (5, 20_000)]), settings(&[(3, 1), (4, 100_000)])], whole(stream)].concat()
        }),
        case("DATA on an idle stream", Fail, |_| vec![data(101, "x", true)]),
        case("HEADERS on an even stream", Fail, |_| vec![ok(2, true)]),
        case("DATA before the head", Fail, |stream| vec![data(stream, "x", true)]),
        case("no status", Fail, |stream| vec![headers(stream, field("a", "b"), true)]),
        case("a status that is none", Fail, |stream| vec![status(stream, "20x", &[], true)]),
        case("101", Fail, |stream| vec![status(stream, "101", &[], true)]),
        case("a name in capitals", Fail, |stream| vec![status(stream, "200", &[("X-A", "b")], true)]),
        case("Connection", Fail, |stream| vec![status(stream, "200", &[("connection", "close")], true)]),
        case("a line end in a value", Fail, |stream| vec![status(stream, "200", &[("a", "b\r\nc: d")], true)]),
        case("less DATA than its length", Fail, |stream| {
            vec![status(stream, "200", &[("content-length", "9")], false), data(stream, "whole", true)]
        }),
        case("more DATA than its length", Fail, |stream| {
            vec![status(stream, "200", &[("content-length", "3")], false), data(stream, "whole", true)]
        }),
        case("trailers that do not end the stream", Fail, |stream| {
            vec![ok(stream, false), data(stream, "a", false), headers(stream, field("a", "b"), false)]
        }),
    ]
}

fn floods_of_services() -> Vec<Case> {
    vec![
        flood("PING", |_| ping([0; 8])),
        flood("SETTINGS", |_| settings(&[(3, 100)])),
        flood("GOAWAY", |stream| goaway(stream, 0)),
        flood("PRIORITY", |stream| priority(stream, 0, 15)),
        flood("WINDOW_UPDATE", |_| window_update(0, 1)),
        flood("unknown frames", |_| frame(0xbe, 0, 0, [0; 16])),
        flood("RST_STREAM", |stream| reset(stream, 8)),
        flood("informational heads", |stream| status(stream, "103", &[], false)),
        case("empty DATA", Bounded, |stream| vec![ok(stream, false), data(stream, "", false).repeat(20_000)]),
        case("CONTINUATION without end", Fail, |stream| {
            vec![
                frame(kind::HEADERS, 0, stream, [0x88]),
                frame(kind::CONTINUATION, 0, stream, field("x", "y")).repeat(20_000),
            ]
        }),
        case("16 MiB of HEADERS", Fail, |stream| {
            let block = field("x", vec![b'y'; 16_000]);
            vec![frame(kind::HEADERS, 0, stream, [0x88]), frame(kind::CONTINUATION, 0, stream, block).repeat(1024)]
        }),
        case("references to a large field", Fail, |stream| {
            let block = [&[0x88][..], &indexed_field("x", vec![b'y'; 3900]), &[0xbe; 4000]].concat();
            vec![headers(stream, block, true)]
        }),
        case("references to a field of one byte", Fail, |stream| {
            vec![headers(stream, [&[0x88][..], &indexed_field("a", ""), &[0xbe; 4000]].concat(), true)]
        }),
    ]
}

/// A gateway before a service that answers as the case with the number says, and before a good one.
fn before_hostile(cases: Vec<Case>) -> (Arc<AtomicUsize>, Origin, Http2Origin, Config, Meshwright) {
    let number = Arc::new(AtomicUsize::new(0));
    let of_origin = number.clone();
    let bad = Origin::start(move |connection| {
        let mut hostile = Hostile { connection, buffer: Vec::new(), begun: false };
        loop {
            let stream = hostile.request()?;
            let Case(_, _, answer) = &cases[of_origin.load(Ordering::SeqCst)];
            hostile.send(answer(stream).concat())?;
        }
    });
    let good = Http2Origin::named("good");
    let routes = gateway_routes(
        "- match: [{uri: {prefix: /good}}]\n  route: [{destination: {host: good}}]\n\
         - timeout: 10s\n  route: [{destination: {host: bad}}]",
    );
    let entries = [service_entry("bad", "HTTP2", bad.address()), service_entry("good", "HTTP2", good.address())];
    let config = Config::new(&[&routes, &entries[0], &entries[1]]);
    let process = Launch::run(binary!()).file(config.path()).args(&["--no-watch", "--workers", "1", "--log", "error"]);
    let process = process.start();
    (number, bad, good, config, process)
}

fn survives_services(cases: fn() -> Vec<Case>) {
    let (number, _bad, _good, _config, mut process) = before_hostile(cases());
    let neighbour = Http2Client::connect(process.gateway());
    neighbour.get("x", "/good");
    let before = process.rss_bytes();
    let mut failures = Vec::new();
    for (at, Case(name, must, _)) in cases().iter().enumerate() {
        number.store(at, Ordering::SeqCst);
        let client = Http2Client::connect(process.gateway());
        let answer = client.try_request(&Ask::get("x", "/bad"));
        let right = match (&answer, must) {
            (Ok(answer), Deliver(body)) => answer.status == 200 && answer.text() == *body,
            (Ok(answer), Fail) => answer.status >= 500,
            (Err(_), must) => *must != Deliver("whole"),
            (Ok(_), Bounded) => true,
        };
        if !right {
            failures.push(format!("\n{name}: {answer:?}"));
        }
        for _ in 0..3 {
            assert_eq!(neighbour.get("x", "/good").text(), "good", "{name}");
        }
    }
    assert!(failures.is_empty(), "{}", failures.concat());
    let grown = process.rss_bytes().saturating_sub(before);
    println!("{grown} bytes more after {} services", cases().len());
    assert!(grown < 16 << 20, "grew by {grown} bytes");
    assert!(process.is_running() && !process.stderr().contains("panic"), "{}", process.stderr());
}

#[test]
fn row_c18_services_that_break_the_rules_fail_alone() {
    survives_services(frames_of_services);
}

#[test]
fn row_c18_services_that_flood_are_given_up_and_cost_nothing() {
    survives_services(floods_of_services);
}

#[test]
fn row_c18_services_that_allow_one_stream_or_none() {
    let origin = Origin::start(|connection| {
        let mut hostile = Hostile { connection, buffer: Vec::new(), begun: false };
        let mut stream = hostile.request()?;
        hostile.send(settings(&[(3, 1)]))?;
        loop {
            hostile.send(whole(stream).concat())?;
            stream = hostile.request()?;
        }
    });
    let (_config, process) = in_front_of(origin.address(), Speaks::Http2, &[]);
    let client = Http2Client::connect(process.gateway());
    for answer in client.requests((0..50).map(|_| Ask::get("x", "/"))) {
        assert_eq!(answer.unwrap().text(), "whole");
    }
    let none = Origin::start(|connection| {
        connection.send(settings(&[(3, 0)]))?;
        connection.wait_for_close(PATIENCE);
        Ok(())
    });
    let routes = gateway_routes("- timeout: 500ms\n  route: [{destination: {host: svc}}]");
    let config = Config::new(&[&routes, &service_entry("svc", "HTTP2", none.address())]);
    let process = Launch::run(binary!()).file(config.path()).args(&["--no-watch"]).start();
    let client = Http2Client::connect(process.gateway());
    for answer in client.requests((0..20).map(|_| Ask::get("x", "/"))) {
        assert!(matches!(answer.unwrap().status, 503 | 504));
    }
}

/// Cancels so many calls, a hundred from each client, which share connections to the service with calls that go on.
fn cancel(calls: u32) {
    let origin = Http2Origin::start(|stream| {
        if stream.received.target == "/s.S/Good" {
            let received = stream.request()?;
            stream.begin_call(&[])?;
            stream.sender().send(received.body)?;
            return stream.end_call(0, "");
        }
        stream.begin_call(&[])?;
        stream.send_message(b"and so on")?;
        stream.wait_for_reset(PATIENCE);
        Ok(())
    });
    let config = Config::new(&[&gateway_to("svc"), &service_entry("svc", "GRPC", origin.address())]);
    let process = Launch::run(binary!()).file(config.path()).args(&["--no-watch", "--workers", "1"]).start();
    let client = Http2Client::connect(process.gateway());
    let good = Grpc::new(&client, "svc");
    let block = request("POST", "/s.S/Bad", &[("content-type", "application/grpc"), ("te", "trailers")]);
    for round in 0..calls / 100 {
        let mut client = FrameClient::open(process.gateway(), None, &[]);
        client.send(streams(100).flat_map(|stream| headers(stream, &block, false)).collect::<Vec<u8>>());
        // Half of them have an answer when they are cancelled, the others may not.
        assert!(client.read_until(PATIENCE, |all| all.iter().filter(|one| one.kind == kind::HEADERS).count() >= 50));
        client.send(streams(100).flat_map(|stream| reset(stream, 8)).collect::<Vec<u8>>());
        for _ in 0..3 {
            let end = good.unary("/s.S/Good", &[], b"x");
            assert_eq!((end.status, end.messages.len()), (Some(0), 1), "round {round}: {end:?}");
        }
    }
    eventually("nothing of them is left", || origin.running() == 0);
    let most = u64::from(calls) / 100 + 5;
    assert!(origin.connections() as u64 <= most, "{} connections to the service", origin.connections());
}

#[test]
fn row_c19_cancelled_calls_fail_no_other() {
    cancel(4000);
}

/// So many readers that take nothing, and others that share the connection to the service with them.
fn beside_slow_readers(slow: u32) {
    let origin = Http2Origin::start(|stream| {
        let length = if stream.request()?.target == "/large" { 8 << 20 } else { 1000 };
        stream.head(200, &[])?;
        let mut pattern = Pattern::default();
        while pattern.total() < length {
            let most = usize::try_from(length - pattern.total()).unwrap();
            let block = pattern.next(most.min(1 << 16)).to_vec();
            stream.sender().send(block)?;
        }
        stream.sender().finish()
    });
    let (_config, process) = in_front_of(origin.address(), Speaks::Http2, &["--stream-stall-timeout", "5m"]);
    let mut client = FrameClient::open(process.gateway(), None, &[(4, 0)]);
    client.send(streams(slow).flat_map(|stream| get(stream, "/large")).collect::<Vec<u8>>());
    assert!(
        client.read_until(PATIENCE, |all| all.iter().filter(|one| one.kind == kind::HEADERS).count() == slow as usize)
    );
    let others = Http2Client::connect(process.gateway());
    for _ in 0..50 {
        assert!(others.get("x", "/small").body == Pattern::bytes(1000));
    }
    let mut first = RawClient::connect(process.gateway());
    assert!(first.get("x", "/large").body == Pattern::bytes(8 << 20));
    assert_eq!(origin.connections(), 1, "they share one connection");
    // Who takes at last gets all of it.
    client.send([settings(&[(4, 1 << 24)]), window_update(0, 1 << 30)].concat());
    assert!(client.wait(PATIENCE, |client| client.is_answered(1)));
    assert!(client.data_of(1) == Pattern::bytes(8 << 20));
}

#[test]
fn row_c20_a_slow_reader_holds_up_nobody_who_shares_its_connection_to_the_service() {
    beside_slow_readers(1);
}

#[test]
fn row_c20_many_slow_readers_hold_up_nobody_either() {
    beside_slow_readers(20);
}
