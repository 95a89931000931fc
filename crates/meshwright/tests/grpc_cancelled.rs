//! Calls that are begun and cancelled in great numbers, while others go on: nobody else notices, and nothing of them stays.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod support;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use meshwright_testkit::frames::{FrameClient, data, headers, kind, request, reset};
use meshwright_testkit::{
    Config, Grpc, Http2Client, Launch, PATIENCE, binary, eventually, gateway_to, pass, service_entry,
};
use support::Backend;

/// CANCEL (RFC 9113, section 7).
const CANCEL: u32 = 8;
/// Calls of one connection; the next ones are made on another, as a client may reset only so many in a second.
const BATCH: u32 = 40;
/// Connections at one time.
const CLIENTS: usize = 4;
/// Memory that the process may have taken in between and not given back.
const GROWTH: u64 = 4 * 1024 * 1024;

/// Begins calls on one connection and cancels them all: every second one in the middle of its answer, the others before it.
fn begin_and_cancel(gateway: SocketAddr) {
    let call = |path: &str| {
        let fields = [("content-type", "application/grpc"), ("te", "trailers")];
        let more: &[(&str, &str)] = if path.ends_with("Unary") { &[("echo-delay", "1h")] } else { &[] };
        request("POST", path, &[&fields[..], more].concat())
    };
    let blocks = [call("/meshwright.Echo/Bidi"), call("/meshwright.Echo/Unary")];
    let mut client = FrameClient::open(gateway, None, &[]);
    let streams = || (0..BATCH).map(|number| 2 * number + 1);
    let begin = |stream: u32| {
        let which = stream as usize / 2 % 2;
        [headers(stream, &blocks[which], false), data(stream, [0; 5], which == 1)]
    };
    assert!(client.send(streams().flat_map(begin).collect::<Vec<_>>().concat()));
    let answered = client.read_until(PATIENCE, |frames| {
        frames.iter().filter(|frame| frame.kind == kind::DATA).count() >= BATCH as usize / 2
    });
    assert!(answered, "{:?}", client.goaway());
    assert!(client.send(streams().map(|stream| reset(stream, CANCEL)).collect::<Vec<_>>().concat()));
}

fn cancel(calls: usize) {
    let backend = Backend::start(&[]);
    let config = Config::new(&[&gateway_to("svc"), &service_entry("svc", "GRPC", backend.address)]);
    let process = Launch::run(binary!()).file(config.path()).args(&["--no-watch", "--workers", "1"]).start();
    let gateway = process.gateway();
    let other = Http2Client::connect(gateway);
    let grpc = Grpc::new(&other, "svc");
    let mut open = grpc.call("/meshwright.Echo/Bidi", &[]);
    let (stop, left) = (AtomicBool::new(false), AtomicUsize::new(calls / BATCH as usize));
    let crowd = |connections: usize| {
        left.store(connections, Ordering::SeqCst);
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    while left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
                        begin_and_cancel(gateway);
                    }
                });
            }
        });
    };
    let warm = 4 * CLIENTS;
    crowd(warm);
    let before = process.rss_bytes();
    let asked = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut asked = 0;
            while !stop.load(Ordering::SeqCst) || asked == 0 {
                assert_eq!(grpc.unary("/meshwright.Echo/Unary", &[], b"x").status, Some(0), "call {asked}");
                open.send(b"still there").unwrap();
                assert_eq!(open.message(), Ok(Some(b"still there".to_vec())), "message {asked}");
                asked += 1;
                pass(Duration::from_millis(1));
            }
            asked
        });
        crowd(calls / BATCH as usize);
        stop.store(true, Ordering::SeqCst);
        asking.join().unwrap()
    });
    let cancelled = (calls / BATCH as usize + warm) * BATCH as usize;
    process.metric_becomes("istio_requests_total", &[("response_flags", "DC")], cancelled as f64);
    process.metric_becomes("meshwright_downstream_connections_active", &[], 1.0);
    eventually("the memory is given back", || process.rss_bytes() <= before + GROWTH);
    let growth = process.rss_bytes().saturating_sub(before);
    println!("{cancelled} calls cancelled, {asked} calls of another client, {growth} bytes more");
    open.finish_sending().unwrap();
    assert_eq!(open.end().status, Some(0));
}

#[test]
fn ten_thousand_cancelled_calls_harm_no_other() {
    cancel(10_000);
}

#[test]
#[ignore = "longer tier: it takes ten seconds"]
fn a_hundred_thousand_cancelled_calls_harm_no_other() {
    cancel(100_000);
}
