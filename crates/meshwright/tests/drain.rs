//! The end of a process: what is in flight is finished, nobody who keeps a connection loses a request.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use meshwright_testkit::{
    Config, Launch, Meshwright, Origin, RawClient, Signal, binary, eventually, gateway_to, holds_within,
};

fn in_front_of(origin: &Origin, arguments: &[&str]) -> Meshwright {
    let config = Config::new(&[&gateway_to("svc")]);
    Launch::run(binary!())
        .file(config.path())
        .service_at("svc", origin.address())
        .args(&["--no-watch", "--access-log", "text"])
        .args(arguments)
        .start()
}

/// An origin that answers when `open` says so.
fn gated(open: &Arc<AtomicBool>) -> Origin {
    let open = open.clone();
    Origin::start(move |connection| {
        while connection.request()?.is_some() {
            holds_within(Duration::from_secs(20), || open.load(Ordering::SeqCst));
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")?;
        }
        Ok(())
    })
}

#[test]
fn requests_in_flight_are_finished_and_readiness_says_no() {
    let open = Arc::new(AtomicBool::new(false));
    let origin = gated(&open);
    let mut process = in_front_of(&origin, &["--drain-timeout", "20s"]);
    let mut clients: Vec<RawClient> = (0..5).map(|_| process.connect()).collect();
    for client in &mut clients {
        client.send("POST /in-flight HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx");
    }
    eventually("all requests are with the service", || origin.count() == 5);
    assert_eq!(process.admin_get("/ready").status, 200);
    process.signal(Signal::TERM);
    eventually("it is not ready any more", || process.admin_get("/ready").status == 503);
    assert!(process.admin_get("/ready").text().contains("draining"));
    assert_eq!(process.admin_get("/healthz").status, 200, "it lives");
    assert_eq!(process.metrics().value("meshwright_ready"), 0.0);
    eventually("nobody is accepted any more", || RawClient::try_connect(process.gateway()).is_err());
    assert!(process.is_running());
    open.store(true, Ordering::SeqCst);
    for client in &mut clients {
        let answer = client.response();
        assert_eq!((answer.status, answer.text().as_str()), (200, "done"));
        assert!(answer.says_close(), "the client learns that its connection ends");
        assert!(client.is_closed_within(Duration::from_secs(5)));
    }
    assert_eq!(process.wait_exit(), 0);
    assert_eq!(process.records().len(), 5, "the log is complete");
}

#[test]
fn an_idle_connection_is_served_once_more_and_then_closed() {
    let origin = Origin::named("ok");
    let mut process = in_front_of(&origin, &["--drain-timeout", "20s"]);
    let mut clients: Vec<RawClient> = (0..3).map(|_| process.connect()).collect();
    for client in &mut clients {
        assert!(!client.get("x", "/").says_close());
    }
    process.signal(Signal::INT);
    eventually("it drains", || process.admin_get("/ready").status == 503);
    for client in &mut clients {
        assert!(!client.is_closed_within(Duration::from_millis(30)), "idle connections stay");
        let answer = client.request("POST", "x", "/", &[], b"not lost");
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
        assert!(answer.says_close());
        assert!(client.is_closed_within(Duration::from_secs(5)));
    }
    assert_eq!(process.wait_exit(), 0);
}

#[test]
fn what_does_not_end_in_time_is_ended() {
    let origin = Origin::never_answers();
    let mut process = in_front_of(&origin, &["--drain-timeout", "300ms"]);
    let mut client = process.connect();
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    eventually("the request is with the service", || origin.count() == 1);
    let start = Instant::now();
    process.signal(Signal::TERM);
    process.wait_exit();
    assert!(start.elapsed() >= Duration::from_millis(280), "{:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    assert_eq!(process.records().len(), 1, "also a request that was cut is logged");
    assert!(process.stderr().contains("the drain time is over"), "{}", process.stderr());
}

#[test]
fn a_tunnel_goes_on_until_the_time_is_over() {
    let origin = Origin::switches_protocol_and_echoes();
    let mut process = in_front_of(&origin, &["--drain-timeout", "600ms"]);
    let mut client = process.connect();
    client.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(client.head().status, 101);
    process.signal(Signal::TERM);
    eventually("it drains", || process.admin_get("/ready").status == 503);
    client.send("still");
    assert_eq!(client.read_exactly(5), b"still");
    process.wait_exit();
    assert!(client.is_closed_within(Duration::from_secs(5)));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let origin = Origin::never_answers();
    let mut process = in_front_of(&origin, &["--drain-timeout", "60s"]);
    let mut client = process.connect();
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    eventually("the request is with the service", || origin.count() == 1);
    process.signal(Signal::TERM);
    eventually("it drains", || process.admin_get("/ready").status == 503);
    assert!(process.is_running());
    let start = Instant::now();
    process.signal(Signal::TERM);
    assert_eq!(process.wait_exit(), 1);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn a_log_that_nobody_reads_holds_up_neither_requests_nor_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("log");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // Open for both, so that nobody waits for the other side; never read.
    let unread = std::fs::File::options().read(true).write(true).open(&pipe).unwrap();
    let origin = Origin::named("ok");
    let config = Config::new(&[&gateway_to("svc")]);
    let mut process = Launch::run(binary!())
        .file(config.path())
        .service_at("svc", origin.address())
        .args(&["--access-log", &format!("text:{}", pipe.display())])
        .start();
    let mut client = process.connect();
    let long = "a".repeat(8000);
    eventually("lines are dropped", || {
        for _ in 0..200 {
            assert_eq!(client.get("x", &format!("/{long}")).text(), "ok");
        }
        process.metrics().value("meshwright_access_log_lines_dropped_total") > 0.0
    });
    drop(client);
    process.signal(Signal::TERM);
    process.wait_exit();
    drop(unread);
}

#[test]
fn under_load_no_request_is_lost() {
    let origin = Origin::answers_after(Duration::from_millis(3), "ok");
    let mut process = in_front_of(&origin, &["--drain-timeout", "20s"]);
    let address = process.gateway();
    let answered = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..16)
        .map(|_| {
            let answered = answered.clone();
            // Connects anew as long as somebody accepts; a request on an accepted connection must be answered.
            thread::spawn(move || {
                let mut lost = Vec::new();
                while let Ok(mut client) = RawClient::try_connect(address) {
                    loop {
                        match client.try_request("POST", "x", "/", &[], b"never repeated") {
                            Ok(answer) if answer.status == 200 => {
                                answered.fetch_add(1, Ordering::SeqCst);
                                if answer.says_close() {
                                    break;
                                }
                            }
                            Ok(answer) => lost.push(format!("status {}", answer.status)),
                            Err(error) => {
                                lost.push(error.to_string());
                                break;
                            }
                        }
                    }
                }
                lost
            })
        })
        .collect();
    eventually("there is load", || answered.load(Ordering::SeqCst) > 500);
    process.signal(Signal::TERM);
    let lost: Vec<String> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    assert!(lost.is_empty(), "{} lost, for example {:?}", lost.len(), &lost[..lost.len().min(5)]);
    assert_eq!(process.wait_exit(), 0);
    assert_eq!(origin.count(), answered.load(Ordering::SeqCst));
    assert_eq!(process.records().len(), answered.load(Ordering::SeqCst));
}
