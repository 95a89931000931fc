//! Peers that break off, stall, dawdle or crowd at the worst moment: nothing is smuggled, nobody waits in vain, and memory
//! does not grow.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::io::{self, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use meshwright_testkit::{
    Config, FullPort, GATEWAY, Launch, Meshwright, Origin, PATIENCE, RawClient, ReadError, Response, Signal, binary,
    destination_rule, eventually, gateway_routes, gateway_to, holds_within, pass,
};

const SVC: [(&str, &str); 1] = [("cluster_name", "outbound|80||svc.default.svc.cluster.local")];

/// A traffic policy that limits nothing.
const PLAIN: &str = "{loadBalancer: {simple: ROUND_ROBIN}}";
/// One connection for everybody.
const ONE_CONNECTION: &str = "{connectionPool: {tcp: {maxConnections: 1}}}";

/// One worker in front of `endpoints`, with the entries of a traffic policy and of `http`.
fn with(policy: &str, http: &str, endpoints: &[String]) -> Meshwright {
    let rule = destination_rule("svc", policy);
    let routes = if http.is_empty() { gateway_to("svc") } else { gateway_routes(http) };
    let config = Config::new(&[&routes, &rule]);
    let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
    Launch::run(binary!())
        .file(config.path())
        .service("svc", &endpoints)
        .args(&["--workers", "1", "--no-watch", "--access-log", "text", "--header-timeout", "300ms"])
        .start()
}

fn in_front_of(origin: &Origin) -> Meshwright {
    with(PLAIN, "", &[origin.address().to_string()])
}

fn targets(origin: &Origin) -> Vec<String> {
    origin.requests().into_iter().map(|request| request.target).collect()
}

/// An answer 200 with `body`.
fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// The next answer, or `None` when the connection has ended. Neither within the time is a failure.
#[track_caller]
fn answer_or_end(client: &mut RawClient) -> Option<Response> {
    match client.try_response(false) {
        Ok(answer) => Some(answer),
        Err(ReadError::Closed | ReadError::Truncated(_)) => None,
        Err(ReadError::Failed(error)) if error.kind() == io::ErrorKind::ConnectionReset => None,
        Err(other) => panic!("neither an answer nor an end: {other}"),
    }
}

// Uploads that the service breaks off.

/// What a service does to an upload of which it has read enough.
#[derive(Clone, Copy, Debug)]
enum BreakOff {
    AnswersAndResets,
    AnswersAndCloses,
    Resets,
    Closes,
}

const BREAK_OFFS: [BreakOff; 4] =
    [BreakOff::AnswersAndResets, BreakOff::AnswersAndCloses, BreakOff::Resets, BreakOff::Closes];

/// A service that reads `first` bytes of what follows the head of a POST, waits for `gate` and breaks off; other requests
/// it answers with their target.
fn breaks_off(how: BreakOff, first: usize, gate: &Arc<AtomicBool>) -> Origin {
    let gate = gate.clone();
    Origin::start(move |connection| {
        while let Some(received) = connection.head()? {
            if received.method != "POST" {
                let target = connection.body_of(received)?.target;
                connection.send(ok(&target))?;
                continue;
            }
            let mut missing = first;
            let mut buffer = [0; 16 * 1024];
            while missing > 0 {
                let most = buffer.len().min(missing);
                match connection.read_some(&mut buffer[..most])? {
                    0 => return Ok(()),
                    count => missing -= count,
                }
            }
            connection.record(received);
            holds_within(PATIENCE, || gate.load(Ordering::SeqCst));
            if matches!(how, BreakOff::AnswersAndResets | BreakOff::AnswersAndCloses) {
                connection.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\n\r\nearly")?;
            }
            if matches!(how, BreakOff::AnswersAndResets | BreakOff::Resets) {
                connection.reset();
            }
            return Ok(());
        }
        Ok(())
    })
}

/// Bytes in which a request begins wherever a reader loses its place.
fn smuggled(length: usize) -> Vec<u8> {
    b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n".iter().copied().cycle().take(length).collect()
}

fn framed(method: &str, target: &str, body: &[u8], chunk: Option<usize>) -> Vec<u8> {
    let mut out = format!("{method} {target} HTTP/1.1\r\nHost: x\r\n").into_bytes();
    let Some(chunk) = chunk else {
        out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
        out.extend_from_slice(body);
        return out;
    };
    out.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
    for piece in body.chunks(chunk) {
        out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

/// Stops every thread of the process, so that all that happens meanwhile is found at once.
fn freeze(process: &Meshwright) {
    process.signal(Signal::STOP);
    eventually("every thread stands still", || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", process.id())).unwrap();
        tasks.flatten().all(|task| {
            std::fs::read_to_string(task.path().join("status")).is_ok_and(|status| status.contains("State:\tT"))
        })
    });
}

/// What came behind a broken upload must be the answers to what was asked behind it, in order, or the end.
#[track_caller]
fn goes_on_honestly(client: &mut RawClient, case: &str) -> usize {
    let mut answered = 0;
    for expected in ["/honest", "/decoy", "/last"] {
        let Some(answer) = answer_or_end(client) else { break };
        assert_eq!((answer.status, answer.text().as_str()), (200, expected), "{case}");
        answered += 1;
    }
    answered
}

fn never_smuggled(origin: &Origin, case: &str) {
    let targets = targets(origin);
    let honest = ["/upload", "/honest", "/decoy", "/last"];
    assert!(targets.iter().all(|target| honest.contains(&target.as_str())), "{case}: {targets:?}");
}

/// The rest of an upload and the end of the upstream connection are found in one turn: the write of the rest fails in
/// the middle of decoding it.
fn upload_broken_off_between_two_reads(chunk: Option<usize>) {
    let mut served_on = 0;
    for how in BREAK_OFFS {
        // As much as can be kept for another try, and more.
        for first in [60_000, 66_000] {
            let case = format!("{how:?} after {first}");
            let gate = Arc::new(AtomicBool::new(false));
            let origin = breaks_off(how, first, &gate);
            let process = in_front_of(&origin);
            let mut client = process.connect();
            let upload = framed("POST", "/upload", &smuggled(100_000), chunk);
            let (sent_first, rest) = upload.split_at(first + 200);
            client.send(sent_first);
            eventually("the first part arrives", || origin.count() == 1);
            freeze(&process);
            gate.store(true, Ordering::SeqCst);
            eventually("the upstream connection is broken off", || origin.open() == 0);
            let mut then = rest.to_vec();
            then.extend_from_slice(&framed("GET", "/honest", b"", None));
            client.send(then);
            process.signal(Signal::CONT);
            let answer = answer_or_end(&mut client);
            assert!(answer.as_ref().is_none_or(|one| [413, 503].contains(&one.status)), "{case}: {answer:?}");
            let _ = client.try_send(framed("PUT", "/decoy", &smuggled(70_000), None));
            let _ = client.try_send(framed("GET", "/last", b"", None));
            if answer.is_some() {
                served_on += usize::from(goes_on_honestly(&mut client, &case) == 3);
            }
            never_smuggled(&origin, &case);
        }
    }
    assert!(served_on > 0, "the end of a request that came whole is known: its connection can serve on");
}

#[test]
fn the_rest_of_a_sized_upload_that_the_service_breaks_off_is_never_taken_for_a_request() {
    upload_broken_off_between_two_reads(None);
}

#[test]
fn the_rest_of_a_chunked_upload_that_the_service_breaks_off_is_never_taken_for_a_request() {
    upload_broken_off_between_two_reads(Some(8 * 1024));
}

#[test]
fn a_request_in_the_same_write_behind_an_upload_that_is_broken_off_is_answered_as_itself_or_not_at_all() {
    let gate = Arc::new(AtomicBool::new(true));
    for how in BREAK_OFFS {
        let origin = breaks_off(how, 0, &gate);
        let process = in_front_of(&origin);
        for round in 0..16 {
            let chunk = (round % 2 == 1).then_some(8 * 1024);
            let case = format!("{how:?}, round {round}");
            let mut all = framed("POST", "/upload", &smuggled(100_000), chunk);
            all.extend_from_slice(&framed("GET", "/honest", b"", None));
            all.extend_from_slice(&framed("PUT", "/decoy", &smuggled(70_000), chunk));
            all.extend_from_slice(&framed("GET", "/last", b"", None));
            let mut client = process.connect();
            let mut writer = client.stream().try_clone().unwrap();
            // A first piece that is as much as is read at once; the rest right behind it.
            let sender = thread::spawn(move || {
                let (first, rest) = all.split_at(64 * 1024);
                let _ = writer.write_all(first).and_then(|()| writer.write_all(rest));
            });
            if let Some(answer) = answer_or_end(&mut client) {
                assert!([413, 503].contains(&answer.status), "{case}: {answer:?}");
                goes_on_honestly(&mut client, &case);
            }
            let _ = client.stream().shutdown(Shutdown::Both);
            sender.join().unwrap();
            never_smuggled(&origin, &case);
        }
    }
}

#[test]
fn up_to_64_kib_of_an_answered_upload_are_dropped_and_beyond_that_the_connection_ends() {
    let origin = Origin::start(|connection| {
        while let Some(received) = connection.head()? {
            if received.method == "GET" {
                let target = connection.body_of(received)?.target;
                connection.send(ok(&target))?;
                continue;
            }
            connection.record(received);
            connection.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\nearly")?;
            connection.wait_for_close(PATIENCE);
            return Ok(());
        }
        Ok(())
    });
    let process = in_front_of(&origin);
    for (length, kept) in [(60_000, true), (400_000, false)] {
        let mut client = process.connect();
        client.send(format!("POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n"));
        assert_eq!(client.response().status, 403);
        let mut rest = smuggled(length);
        rest.extend_from_slice(&framed("GET", "/last", b"", None));
        // A refused rest may not even be taken.
        let _ = client.try_send(rest);
        let last = answer_or_end(&mut client);
        assert_eq!(last.map(|answer| answer.text()), kept.then(|| "/last".to_owned()), "{length} bytes");
        never_smuggled(&origin, "early answer");
    }
    eventually("both are recorded", || process.records().iter().filter(|record| record.status() == 403).count() == 2);
}

#[test]
fn a_body_that_follows_a_refused_expectation_is_not_a_request() {
    let origin = Origin::answers_early_without_reading(401);
    let process = in_front_of(&origin);
    for framing in ["Content-Length: 3500", "Transfer-Encoding: chunked"] {
        let mut client = process.connect();
        client.send(format!("POST /upload HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n{framing}\r\n\r\n"));
        let answer = client.response();
        assert_eq!((answer.status, answer.informational.len(), answer.says_close()), (401, 0, true));
        let _ = client.try_send(smuggled(3500));
        assert!(client.is_closed_within(PATIENCE));
    }
    assert_eq!(targets(&origin), ["/upload", "/upload"]);
}

// Memory.

#[test]
fn a_client_that_never_pauses_between_requests_costs_no_memory() {
    const ALL: usize = 64 << 20;
    const BLOCK: usize = 16;
    let config = Config::new(&[GATEWAY]);
    let process = Launch::run(binary!()).file(config.path()).args(&["--workers", "1", "--no-watch"]).start();
    let request = format!("GET /nope HTTP/1.1\r\nHost: x\r\nX-Pad: {}\r\n\r\n", "p".repeat(4_000)).into_bytes();
    let rounds = ALL / (request.len() * BLOCK);
    let mut client = process.connect();
    for _ in 0..100 {
        client.send(&request);
        assert_eq!(client.response().status, 404);
    }
    let before = process.rss_bytes();
    let mut writer = client.stream().try_clone().unwrap();
    let middle = request.len() / 2;
    let sender = thread::spawn(move || {
        // Every write but the last ends in the middle of a request.
        let block = [&request[middle..], &request.repeat(BLOCK - 1), &request[..middle]].concat();
        writer.write_all(&request[..middle]).unwrap();
        for _ in 0..rounds {
            writer.write_all(&block).unwrap();
        }
        writer.write_all(&request[middle..]).unwrap();
    });
    let mut most = before;
    for index in 0..=rounds * BLOCK {
        assert_eq!(client.response().status, 404);
        if index % 500 == 0 {
            most = most.max(process.rss_bytes());
        }
    }
    sender.join().unwrap();
    let grown = most.max(process.rss_bytes()).saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes more");
}

// Times.

#[test]
fn the_time_of_a_try_ends_with_the_head_of_its_answer() {
    let origin = Origin::start(|connection| {
        while let Some(received) = connection.request()? {
            let chunked = received.target == "/chunked";
            let framing = if chunked { "Transfer-Encoding: chunked" } else { "Content-Length: 30" };
            connection.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n"))?;
            for _ in 0..6 {
                pass(Duration::from_millis(150));
                connection.send(if chunked { "5\r\nabcde\r\n" } else { "abcde" })?;
            }
            if chunked {
                connection.send("0\r\n\r\n")?;
            }
        }
        Ok(())
    });
    let route = "- retries: {attempts: 2, perTryTimeout: 0.3s, retryOn: 5xx}
  route: [{destination: {host: svc}}]";
    let process = with(PLAIN, route, &[origin.address().to_string()]);
    let mut clients = [process.connect(), process.connect()];
    for (client, target) in clients.iter_mut().zip(["/chunked", "/sized"]) {
        client.send(framed("GET", target, b"", None));
    }
    for client in &mut clients {
        let answer = client.response();
        assert_eq!((answer.status, answer.text()), (200, "abcde".repeat(6)));
    }
    assert_eq!(origin.count(), 2);
    process.metric_becomes("envoy_cluster_upstream_rq_per_try_timeout", &SVC, 0.0);
}

#[test]
fn the_timeout_of_a_request_with_a_body_also_ends_its_retries() {
    let origin = Origin::start(|connection| {
        while let Some(received) = connection.request()? {
            if received.header("x-envoy-attempt-count") != Some("1") {
                connection.wait_for_close(PATIENCE);
                return Ok(());
            }
            connection.send("HTTP/1.1 503 Not yet\r\nContent-Length: 0\r\n\r\n")?;
        }
        Ok(())
    });
    let route = "- timeout: 0.5s
  retries: {attempts: 2, retryOn: 5xx}
  route: [{destination: {host: svc}}]";
    let process = with(PLAIN, route, &[origin.address().to_string()]);
    let mut client = process.connect();
    let start = Instant::now();
    assert_eq!(client.request("POST", "x", "/sized", &[], b"the body").status, 504);
    assert!(start.elapsed() >= Duration::from_millis(490), "{:?}", start.elapsed());
    client.send(framed("POST", "/chunked", b"the body", Some(3)));
    assert_eq!(client.response().status, 504);
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
    for target in ["/sized", "/chunked"] {
        let record = process.record_of(target);
        assert_eq!(record.status(), 504);
        assert!(["UT", "UT,URX", "URX,UT"].contains(&record.flags()), "{record:?}");
    }
    assert_eq!(origin.count(), 4);
}

#[test]
fn an_endpoint_that_never_accepts_costs_one_try_and_not_the_request() {
    let (black_hole, good) = (FullPort::new(), Origin::echoes());
    let route = "- retries: {attempts: 2, perTryTimeout: 0.3s, retryOn: 5xx}
  route: [{destination: {host: svc}}]";
    let process = with(PLAIN, route, &[black_hole.address().to_string(), good.address().to_string()]);
    let start = Instant::now();
    let mut client = process.connect();
    for index in 0..4 {
        let answer = client.request("POST", "x", "/", &[], index.to_string().as_bytes());
        assert_eq!((answer.status, answer.text()), (200, index.to_string()));
    }
    // The time to connect would be 10 s.
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
    assert_eq!(good.count(), 4);
    process.metric_becomes("envoy_cluster_upstream_rq_per_try_timeout", &SVC, 2.0);
}

#[test]
fn an_endpoint_is_not_blamed_for_the_time_that_a_try_waits_for_a_connection() {
    let gate = Arc::new(AtomicBool::new(false));
    let origin = gated(&gate, "");
    let route = "- match: [{uri: {prefix: /held}}]
  route: [{destination: {host: svc}}]
- retries: {attempts: 1, perTryTimeout: 0.2s, retryOn: connect-failure}
  route: [{destination: {host: svc}}]";
    let policy = "{connectionPool: {tcp: {maxConnections: 1}}, \
                   outlierDetection: {consecutive5xxErrors: 1, baseEjectionTime: 300s, maxEjectionPercent: 100}}";
    let process = with(policy, route, &[origin.address().to_string()]);
    let mut holder = process.connect();
    holder.send(framed("GET", "/held", b"", None));
    eventually("the connection is taken", || origin.count() == 1);
    assert_eq!(process.get("x", "/waits").status, 504);
    assert!(process.record_of("/waits").flags().starts_with("UT"));
    process.metric_becomes("envoy_cluster_upstream_rq_per_try_timeout", &SVC, 1.0);
    let metrics = process.metrics();
    assert_eq!(metrics.sum("envoy_cluster_outlier_detection_ejections_active", &SVC), 0.0);
    assert_eq!(metrics.sum("envoy_cluster_membership_healthy", &SVC), 1.0);
    gate.store(true, Ordering::SeqCst);
    assert_eq!(holder.response().status, 200);
    assert_eq!(process.get("x", "/after").text(), "/after");
}

// Waiting for a connection.

/// Answers with the target: `/held` once `gate` is open, others at once. `headers` are lines of the answers.
fn gated(gate: &Arc<AtomicBool>, headers: &'static str) -> Origin {
    let gate = gate.clone();
    Origin::start(move |connection| {
        while let Some(received) = connection.request()? {
            if received.target == "/held" {
                holds_within(PATIENCE, || gate.load(Ordering::SeqCst));
            }
            let target = received.target;
            let length = target.len();
            connection.send(format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: {length}\r\n\r\n{target}"))?;
            if !headers.is_empty() {
                return Ok(());
            }
        }
        Ok(())
    })
}

fn first_come_first_served(headers: &'static str) {
    const WAITERS: usize = 50;
    const PIPELINED: usize = 20;
    let gate = Arc::new(AtomicBool::new(false));
    let origin = gated(&gate, headers);
    let process = with(ONE_CONNECTION, "", &[origin.address().to_string()]);
    let mut holder = process.connect();
    holder.send(framed("GET", "/held", b"", None));
    eventually("the connection is taken", || origin.count() == 1);
    let pending = |count: usize| process.metric_becomes("envoy_cluster_upstream_rq_pending_active", &SVC, count as f64);
    let mut greedy = process.connect();
    greedy.send((0..PIPELINED).map(|index| format!("GET /p{index} HTTP/1.1\r\nHost: x\r\n\r\n")).collect::<String>());
    pending(1);
    let mut waiters: Vec<RawClient> = Vec::new();
    for index in 1..WAITERS {
        let mut waiter = process.connect();
        waiter.send(framed("GET", &format!("/w{index}"), b"", None));
        waiters.push(waiter);
        pending(index + 1);
    }
    gate.store(true, Ordering::SeqCst);
    assert_eq!(holder.response().text(), "/held");
    for (index, waiter) in waiters.iter_mut().enumerate() {
        assert_eq!(waiter.response().text(), format!("/w{}", index + 1));
    }
    for index in 0..PIPELINED {
        assert_eq!(greedy.response().text(), format!("/p{index}"));
    }
    let waited = (1..WAITERS).map(|index| format!("/w{index}"));
    let order: Vec<String> = ["/held".to_owned(), "/p0".to_owned()]
        .into_iter()
        .chain(waited)
        .chain((1..PIPELINED).map(|index| format!("/p{index}")))
        .collect();
    assert_eq!(targets(&origin), order);
    process.metric_becomes("envoy_cluster_upstream_rq_pending_active", &SVC, 0.0);
}

#[test]
fn a_kept_connection_goes_to_who_waits_longest_and_not_to_who_has_more_to_ask() {
    first_come_first_served("");
}

#[test]
fn the_place_of_a_closed_connection_goes_to_who_waits_longest_and_not_to_who_has_more_to_ask() {
    first_come_first_served("Connection: close\r\n");
}

#[test]
fn everybody_is_served_although_every_kept_connection_turns_out_to_be_closed() {
    let origin = Origin::closes_unanswered_after(1);
    let process = with(ONE_CONNECTION, "", &[origin.address().to_string()]);
    let mut clients: Vec<RawClient> = (0..8).map(|_| process.connect()).collect();
    for round in 0..10 {
        for client in &mut clients {
            client.send(framed("GET", "/", b"", None));
        }
        for client in &mut clients {
            assert_eq!(client.response().text(), "alive", "round {round}");
        }
    }
    process.metric_becomes("istio_requests_total", &[("response_code", "200")], 80.0);
    process.metric_becomes("envoy_cluster_upstream_rq_pending_active", &SVC, 0.0);
    process.metric_becomes("envoy_cluster_upstream_rq_active", &SVC, 0.0);
    assert_eq!(process.metrics().sum("istio_requests_total", &[]), 80.0);
}

// Connections.

#[test]
fn the_client_of_a_silent_event_stream_that_leaves_takes_its_upstream_request_with_it() {
    for framing in ["Transfer-Encoding: chunked", "Connection: close"] {
        let origin = Origin::start(move |connection| {
            if connection.request()?.is_some() {
                let event = if framing.starts_with('T') { "9\r\ndata: 1\n\n\r\n" } else { "data: 1\n\n" };
                connection.send(format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{framing}\r\n\r\n"))?;
                connection.send(event)?;
                connection.wait_for_close(PATIENCE);
            }
            Ok(())
        });
        let process = in_front_of(&origin);
        let mut client = process.connect();
        client.send(framed("GET", "/events", b"", None));
        assert_eq!(client.head().status, 200);
        // Either way it is chunked towards the client.
        assert_eq!(client.read_exactly(14), b"9\r\ndata: 1\n\n\r\n");
        process.metric_becomes("envoy_cluster_upstream_rq_active", &SVC, 1.0);
        drop(client);
        eventually("the service is told", || origin.open() == 0);
        process.metric_becomes("envoy_cluster_upstream_rq_active", &SVC, 0.0);
        assert_eq!(process.record_of("/events").flags(), "DC");
    }
}

#[test]
fn an_empty_line_between_requests_begins_no_request() {
    let origin = Origin::echoes();
    let process = in_front_of(&origin);
    let silence = Duration::from_millis(700);
    let mut clients: Vec<RawClient> = (0..2).map(|_| process.connect()).collect();
    // By itself, and behind a body in the same write.
    for client in &mut clients {
        assert_eq!(client.request("POST", "x", "/first", &[], b"abc").text(), "abc");
    }
    clients[0].send("\r\n");
    clients[1].send("POST /second HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc\r\n");
    assert_eq!(clients[1].response().text(), "abc");
    // Longer than a head may take.
    pass(silence);
    for (index, client) in clients.iter_mut().enumerate() {
        let target = format!("/{index}");
        let answer = client.get("x", &target);
        assert_eq!((answer.status, answer.header("x-target")), (200, Some(target.as_str())), "client {index}");
    }
    clients[0].send("\r\nGET /behind HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(clients[0].response().header("x-target"), Some("/behind"));
    eventually("all are recorded", || process.records().len() == 6);
    assert!(process.records().iter().all(|record| record.status() == 200));
}

#[test]
fn a_protocol_switch_that_nobody_asked_for_is_a_bad_answer() {
    let origin = Origin::sends("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    let process = in_front_of(&origin);
    let mut client = process.connect();
    assert_eq!(client.get("x", "/unasked").status, 502);
    let record = process.record_of("/unasked");
    assert_eq!((record.status(), record.flags()), (502, "UPE"));
    assert_eq!(client.get("x", "/again").status, 502, "the connection is HTTP still");
    assert_eq!(origin.connections(), 2, "the one to the service is gone");
    let early = Origin::start(|connection| {
        if connection.head()?.is_some() {
            connection.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")?;
            connection.wait_for_close(PATIENCE);
        }
        Ok(())
    });
    let process = in_front_of(&early);
    let mut client = process.connect();
    client.send(
        "POST /early HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n\r\nab",
    );
    assert_eq!(client.response().status, 502);
    process.metric_becomes("envoy_cluster_upstream_cx_active", &SVC, 0.0);
    assert_eq!(process.record_of("/early").status(), 502);
    process.metric_becomes("istio_requests_total", &[("response_code", "502")], 1.0);
    assert_eq!(process.metrics().sum("istio_requests_total", &[]), 1.0);
}

#[test]
fn a_port_that_gets_the_number_it_listens_on_keeps_its_socket() {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let text = gateway_routes("- directResponse: {status: 200, body: {string: here}}");
    let config = Config::new(&[&text]);
    let process = Launch::command(binary!())
        .args(&["run", "--bind", "127.0.0.1", "--admin", "127.0.0.1:0", "--map-port", &format!("80={port}")])
        .file(config.path())
        .start();
    assert_eq!(process.gateway().port(), port);
    let mut kept = process.connect();
    assert_eq!(kept.get("x", "/").text(), "here");
    config.replace(&[&text.replace("number: 80", &format!("number: {port}")).replace("here", "there")]);
    process.generation_becomes(2.0);
    let metrics = process.metrics();
    assert_eq!(metrics.value("meshwright_config_last_reload_successful"), 1.0);
    assert_eq!(metrics.value("meshwright_config_reload_failures_total"), 0.0);
    assert_eq!(process.listener(port).map(|address| address.port()), Some(port));
    eventually("new connections see the new text", || process.get("x", "/").text() == "there");
    let answer = kept.get("x", "/");
    assert_eq!((answer.status, answer.says_close()), (200, false));
    assert_eq!(kept.get("x", "/").text(), "there");
}
