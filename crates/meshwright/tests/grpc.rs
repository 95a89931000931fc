//! gRPC through the gateway: every kind of call, statuses, deadlines, cancellation, and failures told in gRPC's way.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[path = "support/pairs.rs"]
mod pairs;
mod support;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use meshwright_testkit::{
    Ask, Config, Grpc, Http2Client, Http2Origin, Http2Settings, Launch, Meshwright, PATIENCE, Pattern, RefusingPort,
    Speaks, binary, eventually, gateway_routes, gateway_to, service_entry,
};
use pairs::in_front_of;
use support::{Backend, python};

const CANCELLED: u32 = 8;

fn grpc_to(address: SocketAddr) -> (Config, Meshwright) {
    let config = Config::new(&[&gateway_to("svc"), &service_entry("svc", "GRPC", address)]);
    let process =
        Launch::run(binary!()).file(config.path()).args(&["--no-watch", "--workers", "1", "--access-log", "text"]);
    let process = process.start();
    (config, process)
}

fn counted(process: &Meshwright, status: &str, times: f64) {
    let labels = [("request_protocol", "grpc"), ("grpc_response_status", status)];
    process.metric_becomes("istio_requests_total", &labels, times);
}

#[test]
fn all_kinds_of_calls_come_through() {
    let backend = Backend::start(&["--name", "grpc-1"]);
    let (_config, process) = grpc_to(backend.address);
    let script = r#"
import grpc, sys
channel = grpc.insecure_channel(sys.argv[1])
echo = "/meshwright.Echo/"
unary = channel.unary_unary(echo + "Unary")
answer, call = unary.with_call(b"hello", metadata=[("x-key", "value")])
assert answer == b"hello"
assert ("echo-name", "grpc-1") in [tuple(pair) for pair in call.initial_metadata()]
assert unary(b"") == b""
large = bytes(range(256)) * 8192
assert unary(large) == large
server_stream = channel.unary_stream(echo + "ServerStream")
assert list(server_stream(b"y", metadata=[("echo-count", "1000")])) == [b"y"] * 1000
assert channel.stream_unary(echo + "ClientStream")(iter([b"a", b"", b"bc"] * 100)) == b"abc" * 100
bidi = channel.stream_stream(echo + "Bidi")
assert list(bidi(iter([b"1", b"22", b"333"]))) == [b"1", b"22", b"333"]
calls = [unary.future(b"%d" % number) for number in range(1000)]
assert [call.result() for call in calls] == [b"%d" % number for number in range(1000)]
for status in ["5", "7", "14"]:
    for method in [unary, server_stream]:
        try:
            result = method(b"x", metadata=[("echo-status", status)])
            list(result)
            raise AssertionError("no failure")
        except grpc.RpcError as error:
            assert error.code().value[0] == int(status), error
            assert error.details() == "as echo-status asked for", error
channel.close()
print("fine")
"#;
    assert_eq!(python(script, &[&process.gateway().to_string()]), "fine");
    counted(&process, "0", 1006.0);
    for status in ["5", "7", "14"] {
        counted(&process, status, 2.0);
    }
}

#[test]
fn messages_of_a_call_pass_both_ways_one_by_one() {
    let origin = Http2Origin::echoes_messages();
    let (_config, process) = grpc_to(origin.address());
    let client = Http2Client::connect(process.gateway());
    let grpc = Grpc::new(&client, "svc");
    let mut calls: Vec<_> = (0..20).map(|_| grpc.call("/s.S/Chat", &[])).collect();
    for round in 0..50_usize {
        for (number, call) in calls.iter_mut().enumerate() {
            let message = Pattern::bytes(number * round);
            call.send(&message).unwrap();
            assert!(call.message().unwrap().unwrap() == message, "call {number}, round {round}");
        }
    }
    for mut call in calls {
        call.finish_sending().unwrap();
        assert_eq!(call.end().status, Some(0));
    }
    counted(&process, "0", 20.0);
}

#[test]
fn small_messages_in_any_number_are_no_flood() {
    let origin = Http2Origin::echoes_messages();
    let (_config, process) = grpc_to(origin.address());
    let client = Http2Client::connect(process.gateway());
    let grpc = Grpc::new(&client, "svc");
    let mut call = grpc.call("/s.S/Chat", &[]);
    for round in 0..2000 {
        call.send(b"").unwrap();
        assert_eq!(call.message(), Ok(Some(Vec::new())), "round {round}");
    }
    for round in 0..500 {
        assert_eq!(grpc.unary("/s.S/Unary", &[], b"").status, Some(0), "round {round}");
    }
}

#[test]
fn metadata_and_trailers_come_through() {
    let origin = Http2Origin::start(|stream| {
        stream.begin_call(&[("x-initial", "i"), ("x-bytes-bin", "AAEC")])?;
        let received = stream.request()?;
        stream.send_message(b"m")?;
        let more = received.header("x-key").unwrap_or_default().to_owned();
        stream.sender().finish_with(&[
            ("grpc-status", "0"),
            ("x-final", &more),
            ("grpc-status-details-bin", "CAUSBGhhaGE"),
        ])
    });
    let (_config, process) = grpc_to(origin.address());
    let client = Http2Client::connect(process.gateway());
    let mut call = Grpc::new(&client, "svc").call("/s.S/M", &[("x-key", "value"), ("grpc-timeout", "7S")]);
    call.finish_sending().unwrap();
    let head = call.exchange.head();
    assert_eq!((head.header("x-initial"), head.header("x-bytes-bin")), (Some("i"), Some("AAEC")));
    assert_eq!(head.header("content-type"), Some("application/grpc"));
    assert_eq!(call.message(), Ok(Some(b"m".to_vec())));
    let trailers = call.exchange.body().trailers().unwrap();
    for (name, value) in [("grpc-status", "0"), ("x-final", "value"), ("grpc-status-details-bin", "CAUSBGhhaGE")] {
        assert!(trailers.contains(&(name.to_owned(), value.to_owned())), "{name} is missing in {trailers:?}");
    }
    let received = origin.last();
    assert_eq!((received.header("te"), received.header("content-type")), (Some("trailers"), Some("application/grpc")));
    let left = received.header("grpc-timeout").expect("the service knows the deadline");
    assert_eq!(left, "7000m");
    assert_eq!(received.header("x-envoy-expected-rq-timeout-ms"), Some("7000"));
}

#[test]
fn a_head_with_a_status_comes_through_as_the_only_one() {
    let origin = Http2Origin::refuses_calls(16, "who are you%3F");
    let (_config, process) = grpc_to(origin.address());
    let client = Http2Client::connect(process.gateway());
    let end = Grpc::new(&client, "svc").unary("/s.S/M", &[], b"x");
    assert_eq!((end.status, end.message.as_str(), end.trailers_only), (Some(16), "who are you?", true));
    counted(&process, "16", 1.0);
}

#[test]
fn failures_of_the_gateway_are_statuses_with_their_reason() {
    let refusing = RefusingPort::new();
    let (_config, process) = grpc_to(refusing.address());
    let client = Http2Client::connect(process.gateway());
    let end = Grpc::new(&client, "svc").unary("/s.S/M", &[], b"x");
    assert_eq!((end.status, end.trailers_only), (Some(14), true), "{end:?}");
    assert!(end.message.contains("could not be connected to"), "{}", end.message);
    assert_eq!(end.head.unwrap().status, 200);
    assert!(process.record_of("/s.S/M").flags().starts_with("UF"));
    counted(&process, "14", 1.0);

    let routes = gateway_routes("- match: [{uri: {prefix: /known.}}]\n  route: [{destination: {host: svc}}]");
    let config = Config::new(&[&routes, &service_entry("svc", "GRPC", refusing.address())]);
    let process = Launch::run(binary!()).file(config.path()).start();
    let client = Http2Client::connect(process.gateway());
    let end = Grpc::new(&client, "svc").unary("/unknown.S/M", &[], b"x");
    assert_eq!((end.status, end.trailers_only), (Some(12), true), "{end:?}");
    assert!(end.message.contains("no route"), "{}", end.message);
    // Who asks in another way is answered in another way.
    assert_eq!(client.get("svc", "/unknown.S/M").status, 404);
}

#[test]
fn a_call_that_the_service_breaks_off_fails() {
    let origin = Http2Origin::start(|stream| {
        stream.begin_call(&[])?;
        stream.send_message(b"first")?;
        stream.wait_for_reset(Duration::from_millis(100));
        stream.reset(2);
        Ok(())
    });
    let (_config, process) = grpc_to(origin.address());
    let client = Http2Client::connect(process.gateway());
    let mut call = Grpc::new(&client, "svc").call("/s.S/M", &[]);
    assert_eq!(call.message(), Ok(Some(b"first".to_vec())));
    let end = call.end();
    assert!(end.failure.is_some() && end.status.is_none(), "{end:?}");
    let silent = Http2Origin::start(|stream| {
        stream.reset(2);
        Ok(())
    });
    let (_config, process) = grpc_to(silent.address());
    let client = Http2Client::connect(process.gateway());
    let end = Grpc::new(&client, "svc").unary("/s.S/M", &[], b"x");
    assert_eq!((end.status, end.trailers_only), (Some(14), true), "{end:?}");
}

#[test]
fn the_deadline_of_a_call_is_kept_by_the_gateway() {
    let (ended, ends) = channel();
    let origin = Http2Origin::start(move |stream| {
        ended.send(stream.wait_for_reset(PATIENCE)).unwrap();
        Ok(())
    });
    let (_config, process) = grpc_to(origin.address());
    let client = Http2Client::connect(process.gateway());
    let begun = Instant::now();
    let end = Grpc::new(&client, "svc").unary("/s.S/M", &[("grpc-timeout", "200m")], b"x");
    assert_eq!((end.status, end.trailers_only), (Some(4), true), "{end:?}");
    assert!(begun.elapsed() >= Duration::from_millis(200));
    assert_eq!(ends.recv_timeout(PATIENCE), Ok(Some(CANCELLED)), "the service need not go on");
    assert_eq!(process.record_of("/s.S/M").flags(), "UT");
    counted(&process, "4", 1.0);
}

#[test]
fn a_deadline_that_comes_in_the_middle_of_an_answer_cancels_the_stream() {
    let origin = Http2Origin::start(|stream| {
        stream.begin_call(&[])?;
        stream.send_message(b"first")?;
        stream.wait_for_reset(PATIENCE);
        Ok(())
    });
    let (_config, process) = grpc_to(origin.address());
    let client = Http2Client::connect(process.gateway());
    let mut call = Grpc::new(&client, "svc").call("/s.S/M", &[("grpc-timeout", "300m")]);
    assert_eq!(call.message(), Ok(Some(b"first".to_vec())));
    assert_eq!(call.end().failure.and_then(|failure| failure.code()), Some(CANCELLED));
    assert_eq!(process.record_of("/s.S/M").flags(), "UT");
}

#[test]
fn the_deadline_of_a_route_holds_for_a_call_that_asks_for_more() {
    let origin = Http2Origin::never_answers();
    let routes = gateway_routes("- timeout: 200ms\n  route: [{destination: {host: svc}}]");
    let config = Config::new(&[&routes, &service_entry("svc", "GRPC", origin.address())]);
    let process = Launch::run(binary!()).file(config.path()).start();
    let client = Http2Client::connect(process.gateway());
    for timeout in ["1H", "50m", "nonsense"] {
        let end = Grpc::new(&client, "svc").unary("/s.S/M", &[("grpc-timeout", timeout)], b"x");
        assert_eq!(end.status, Some(4), "{timeout}: {end:?}");
    }
}

#[test]
fn cancelled_calls_end_at_the_service_and_harm_no_other() {
    let (ended, ends) = channel();
    let origin = Http2Origin::start(move |stream| {
        if stream.received.target == "/s.S/Good" {
            let received = stream.request()?;
            stream.begin_call(&[])?;
            stream.sender().send(received.body)?;
            return stream.end_call(0, "");
        }
        ended.send(stream.wait_for_reset(PATIENCE)).unwrap();
        Ok(())
    });
    let (_config, process) = grpc_to(origin.address());
    let good = Http2Client::connect(process.gateway());
    for _ in 0..10 {
        let client = Http2Client::connect(process.gateway());
        let grpc = Grpc::new(&client, "svc");
        let mut calls: Vec<_> = (0..50).map(|_| grpc.call("/s.S/Bad", &[])).collect();
        eventually("the calls are there", || origin.running() == 50);
        calls.iter_mut().for_each(meshwright_testkit::GrpcCall::cancel);
        for _ in 0..50 {
            assert_eq!(ends.recv_timeout(PATIENCE), Ok(Some(CANCELLED)));
            assert_eq!(Grpc::new(&good, "svc").unary("/s.S/Good", &[], b"x").status, Some(0));
        }
        eventually("nothing of them is left", || origin.running() == 0);
    }
    process.metric_becomes("istio_requests_total", &[("response_flags", "DC")], 500.0);
}

#[test]
fn calls_are_balanced_one_by_one_over_one_connection() {
    let backends = ["one", "two", "three"].map(|name| Backend::start(&["--name", name]));
    let endpoints: String = backends
        .iter()
        .map(|backend| format!("    - {{address: 127.0.0.1, ports: {{port: {}}}}}\n", backend.address.port()))
        .collect();
    let entry = service_entry("svc", "GRPC", backends[0].address);
    let (head, _) = entry.split_once("  endpoints:").unwrap();
    let config = Config::new(&[&gateway_to("svc"), &format!("{head}  endpoints:\n{endpoints}")]);
    let process = Launch::run(binary!()).file(config.path()).start();
    let client = Http2Client::connect(process.gateway());
    let mut names = std::collections::BTreeMap::new();
    for _ in 0..90 {
        let end = Grpc::new(&client, "svc").unary("/meshwright.Echo/Unary", &[], b"x");
        *names.entry(end.head.unwrap().header("echo-name").unwrap().to_owned()).or_insert(0) += 1;
    }
    assert!(names.len() == 3 && names.values().all(|count| *count >= 10), "{names:?}");
}

#[test]
fn a_service_that_speaks_http1_only_is_named_as_such() {
    let origin = meshwright_testkit::Origin::answers(200, &[("Content-Type", "text/html")], "<html>");
    let (_config, process) = in_front_of(origin.address(), Speaks::Http2, &[]);
    let client = Http2Client::connect(process.gateway());
    let end = Grpc::new(&client, "svc").unary("/s.S/M", &[], b"x");
    assert_eq!((end.status, end.trailers_only), (Some(14), true), "{end:?}");
    let answer = client.request(&Ask::post("svc", "/plain", "x"));
    assert!(matches!(answer.status, 502 | 503), "{answer:?}");
}

#[test]
fn health_checks_and_watches_pass() {
    let backend = Backend::start(&[]);
    let (_config, process) = grpc_to(backend.address);
    let client = Http2Client::connect(process.gateway());
    let grpc = Grpc::new(&client, "svc");
    assert_eq!(grpc.unary("/grpc.health.v1.Health/Check", &[], b"").messages, [b"\x08\x01"]);
    let mut watch = grpc.call("/grpc.health.v1.Health/Watch", &[]);
    watch.send(b"").unwrap();
    watch.finish_sending().unwrap();
    assert_eq!(watch.message(), Ok(Some(b"\x08\x01".to_vec())));
    assert_eq!(backend.terminate(), Some(0));
    assert_eq!(watch.message(), Ok(Some(b"\x08\x02".to_vec())));
    assert_eq!(watch.end().status, Some(14));
}

/// Messages of a stream that nobody takes for a while, and bytes of each.
const SMALL: (usize, [u8; 30]) = (10_000, [b'm'; 30]);

#[test]
fn many_small_messages_wait_for_a_slow_service_and_harm_no_other_call() {
    let (go_on, waits) = channel();
    let waits = std::sync::Mutex::new(waits);
    let settings = Http2Settings { stream_window: 65_535, ..Http2Settings::default() };
    let origin = Http2Origin::with(None, settings, move |stream| {
        if stream.received.target == "/s.S/Slow" {
            let _ = waits.lock().unwrap().recv_timeout(PATIENCE);
        }
        let count = stream.request()?.body.len() / (5 + SMALL.1.len());
        stream.begin_call(&[])?;
        stream.send_message(count.to_string().as_bytes())?;
        stream.end_call(0, "")
    });
    let (_config, process) = grpc_to(origin.address());
    let client = Http2Client::connect(process.gateway());
    let grpc = Grpc::new(&client, "svc");
    let mut slow = grpc.call("/s.S/Slow", &[]);
    let sent = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| {
            for _ in 0..SMALL.0 {
                slow.send(&SMALL.1).unwrap();
                sent.fetch_add(1, Ordering::SeqCst);
            }
            slow.finish_sending().unwrap();
            slow.end()
        });
        eventually("the gateway holds many messages", || sent.load(Ordering::SeqCst) > 5000);
        for _ in 0..20 {
            assert_eq!(grpc.unary("/s.S/Other", &[], b"x").status, Some(0));
        }
        go_on.send(()).unwrap();
        let end = slow.join().unwrap();
        assert_eq!((end.status, &end.messages), (Some(0), &vec![SMALL.0.to_string().into_bytes()]));
    });
}

#[test]
fn many_small_messages_wait_for_a_slow_client_and_harm_no_other_call() {
    let origin = Http2Origin::start(|stream| {
        let slow = stream.received.target == "/s.S/Slow";
        stream.begin_call(&[])?;
        for _ in 0..if slow { SMALL.0 } else { 1 } {
            stream.send_message(&SMALL.1)?;
        }
        stream.end_call(0, "")
    });
    let (_config, process) = grpc_to(origin.address());
    let settings = Http2Settings { stream_window: 1000, ..Http2Settings::default() };
    let client = Http2Client::with(process.gateway(), None, settings).unwrap();
    let mut slow = Grpc::new(&client, "svc").call("/s.S/Slow", &[]);
    slow.finish_sending().unwrap();
    assert!(slow.exchange.head_within(PATIENCE));
    let other = Http2Client::connect(process.gateway());
    for _ in 0..100 {
        assert_eq!(Grpc::new(&other, "svc").unary("/s.S/Other", &[], b"x").status, Some(0));
    }
    assert_eq!(origin.connections(), 1, "all calls share a connection");
    let end = slow.end();
    assert_eq!((end.status, end.messages.len()), (Some(0), SMALL.0), "{:?}", end.failure);
}

#[test]
fn a_cancelled_call_ends_at_a_service_that_has_stopped_reading() {
    let (ended, ends) = channel();
    let settings = Http2Settings { stream_window: 65_535, ..Http2Settings::default() };
    let origin = Http2Origin::with(None, settings, move |stream| {
        ended.send(stream.wait_for_reset(PATIENCE)).unwrap();
        Ok(())
    });
    let (_config, process) = grpc_to(origin.address());
    let client = Http2Client::connect(process.gateway());
    let mut call = Grpc::new(&client, "svc").call("/s.S/M", &[]);
    let quiet = Duration::from_millis(300);
    let sent = call.exchange.sender.send_until_stalled(&mut Pattern::default(), 10 << 20, quiet).unwrap();
    assert!(sent > 65_535, "{sent}");
    call.cancel();
    assert_eq!(ends.recv_timeout(PATIENCE), Ok(Some(CANCELLED)));
    assert_eq!(process.record_of("/s.S/M").flags(), "DC");
}

#[test]
fn a_cancelled_call_ends_at_the_service_however_late_its_messages_had_ended() {
    let (ended, ends) = channel();
    let origin = Http2Origin::start(move |stream| {
        stream.begin_call(&[])?;
        stream.send_message(b"first")?;
        ended.send(stream.wait_for_reset(PATIENCE)).unwrap();
        Ok(())
    });
    let (_config, process) = grpc_to(origin.address());
    let client = Http2Client::connect(process.gateway());
    for _ in 0..20 {
        let mut call = Grpc::new(&client, "svc").call("/s.S/M", &[]);
        call.send(b"x").unwrap();
        assert_eq!(call.message(), Ok(Some(b"first".to_vec())));
        call.finish_sending().unwrap();
        assert_eq!(Grpc::new(&client, "svc").call("/s.S/M", &[]).message(), Ok(Some(b"first".to_vec())));
        call.cancel();
        for _ in 0..2 {
            assert_eq!(ends.recv_timeout(PATIENCE), Ok(Some(CANCELLED)));
        }
    }
}
