//! `meshwright echo` as a gRPC server, called by grpcio.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod support;

use support::{Backend, curl, python};

/// What all scripts begin with: a channel, and the methods with bytes as messages.
const BEGIN: &str = r#"
import grpc, sys, threading, time
channel = grpc.insecure_channel(sys.argv[1])
echo = "/meshwright.Echo/"
unary = channel.unary_unary(echo + "Unary")
server_stream = channel.unary_stream(echo + "ServerStream")
client_stream = channel.stream_unary(echo + "ClientStream")
bidi = channel.stream_stream(echo + "Bidi")
check = channel.unary_unary("/grpc.health.v1.Health/Check")
watch = channel.unary_stream("/grpc.health.v1.Health/Watch")
def failure(call):
    try:
        result = call()
        list(result) if hasattr(result, "__next__") else None
    except grpc.RpcError as error:
        return error.code().name, error.details()
    raise AssertionError("the call did not fail")
"#;

fn run(backend: &Backend, script: &str) {
    let script = format!("{BEGIN}{script}\nchannel.close()\nprint('fine')");
    assert_eq!(python(&script, &[&backend.address.to_string()]), "fine");
}

#[test]
fn all_kinds_of_methods_send_received_bytes_back() {
    let backend = Backend::start(&["--name", "grpc-1"]);
    run(
        &backend,
        r#"
answer, call = unary.with_call(b"hello")
assert answer == b"hello"
assert ("echo-name", "grpc-1") in [tuple(pair) for pair in call.initial_metadata()]
assert unary(b"") == b""
large = bytes(range(256)) * 8192
assert unary(large) == large
assert list(server_stream(b"x")) == [b"x"] * 3
assert list(server_stream(b"y", metadata=[("echo-count", "1000")])) == [b"y"] * 1000
assert client_stream(iter([b"a", b"", b"bc"])) == b"abc"
assert list(bidi(iter([b"1", b"22", b"333"]))) == [b"1", b"22", b"333"]
assert list(bidi(iter([b"1", b"2"]), metadata=[("echo-count", "2")])) == [b"1", b"1", b"2", b"2"]
assert list(bidi(iter([]))) == []
"#,
    );
}

#[test]
fn a_bidirectional_call_answers_each_message_before_the_next_is_sent() {
    let backend = Backend::start(&[]);
    run(
        &backend,
        r#"
turn = threading.Semaphore(1)
def ask():
    for number in range(100):
        turn.acquire()
        yield b"%d" % number
count = 0
for answer in bidi(ask()):
    assert answer == b"%d" % count
    count += 1
    turn.release()
assert count == 100
"#,
    );
}

#[test]
fn calls_end_with_the_status_that_metadata_asks_for() {
    let backend = Backend::start(&[]);
    run(
        &backend,
        r#"
assert failure(lambda: unary(b"x", metadata=[("echo-status", "14")])) == ("UNAVAILABLE", "as echo-status asked for")
assert failure(lambda: client_stream(iter([b"x"]), metadata=[("echo-status", "not_found")]))[0] == "NOT_FOUND"
seen = []
try:
    for message in server_stream(b"x", metadata=[("echo-status", "ABORTED"), ("echo-count", "2")]):
        seen.append(message)
    raise AssertionError("no status")
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.ABORTED
assert seen == [b"x", b"x"]
assert failure(lambda: bidi(iter([b"x"]), metadata=[("echo-status", "8")]))[0] == "RESOURCE_EXHAUSTED"
code, details = failure(lambda: unary(b"x", metadata=[("echo-status", "17")]))
assert (code, "echo-status" in details and "0 to 16" in details) == ("INVALID_ARGUMENT", True), details
assert failure(lambda: unary(b"x", metadata=[("echo-count", "many")]))[0] == "INVALID_ARGUMENT"
assert failure(lambda: channel.unary_unary("/meshwright.Echo/None")(b"")) == ("UNIMPLEMENTED", "there is no method /meshwright.Echo/None")
assert failure(lambda: unary(b"x" * ((4 << 20) + 1)))[0] == "RESOURCE_EXHAUSTED"
assert failure(lambda: unary(b"x" * 4096, compression=grpc.Compression.Gzip))[0] == "UNIMPLEMENTED"
"#,
    );
}

#[test]
fn delays_and_deadlines_are_kept() {
    let backend = Backend::start(&["--delay", "20ms"]);
    run(
        &backend,
        r#"
start = time.monotonic()
assert unary(b"x") == b"x"
assert time.monotonic() - start >= 0.02
start = time.monotonic()
assert len(list(server_stream(b"x", metadata=[("echo-delay", "30ms"), ("echo-count", "3")]))) == 3
assert time.monotonic() - start >= 0.09
assert failure(lambda: unary(b"x", metadata=[("echo-delay", "1h")], timeout=0.2))[0] == "DEADLINE_EXCEEDED"
call = server_stream(b"x", metadata=[("echo-delay", "1h")])
call.cancel()
assert failure(lambda: list(call))[0] == "CANCELLED"
"#,
    );
    // grpcio ends a call by its own clock; curl shows that the backend keeps the deadline too.
    let said = call_by_curl(&backend, "Unary", &["-H", "grpc-timeout: 50m", "-H", "echo-delay: 1h"]);
    assert!(said.contains("grpc-status: 4"), "{said}");
}

#[test]
fn a_cancelled_call_gives_its_place_to_the_next() {
    let backend = Backend::start(&["--concurrency", "1"]);
    run(
        &backend,
        r#"
waiting = unary.future(b"x", metadata=[("echo-delay", "1h")])
# Until the first call has the only place, others are answered.
while True:
    try:
        unary(b"y", timeout=0.2)
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        break
waiting.cancel()
assert unary(b"y", timeout=20) == b"y"
begun = server_stream(b"x", metadata=[("echo-count", "1000000")])
assert next(begun) == b"x"
begun.cancel()
assert unary(b"y", timeout=20) == b"y"
"#,
    );
}

/// The head of the answer to a call with one empty message.
fn call_by_curl(backend: &Backend, method: &str, more: &[&str]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let message = directory.path().join("message");
    std::fs::write(&message, [0; 5]).unwrap();
    let data = format!("@{}", message.display());
    let url = format!("http://{}/meshwright.Echo/{method}", backend.address);
    let mut arguments = vec!["-D", "-", "-o", "/dev/null", "--data-binary", &data];
    arguments.extend(["-H", "Content-Type: application/grpc", "-H", "TE: trailers"]);
    if !more.contains(&"--http1.1") {
        arguments.push("--http2-prior-knowledge");
    }
    arguments.extend(more);
    arguments.push(&url);
    curl(&arguments)
}

#[test]
fn a_failing_call_is_one_head_and_a_good_one_has_trailers() {
    let backend = Backend::start(&[]);
    let failed = call_by_curl(&backend, "Unary", &["-H", "echo-status: 5"]);
    assert!(failed.contains("grpc-status: 5") && failed.contains("grpc-message: as echo-status asked for"), "{failed}");
    assert_eq!(failed.matches("\r\n\r\n").count(), 1, "{failed}");
    let good = call_by_curl(&backend, "Unary", &[]);
    let (head, trailers) = good.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-type: application/grpc") && !head.contains("grpc-status"), "{good}");
    assert!(trailers.contains("grpc-status: 0"), "{good}");
    let old = call_by_curl(&backend, "Unary", &["--http1.1"]);
    assert!(old.contains("grpc-status: 13") && old.contains("gRPC needs HTTP/2"), "{old}");
}

#[test]
fn flags_that_make_requests_fail_make_calls_fail() {
    let backend = Backend::start(&["--fail", "100"]);
    run(&backend, r#"assert failure(lambda: unary(b"x"))[0] == "UNAVAILABLE""#);
}

#[test]
fn health_can_be_asked_and_watched() {
    let backend = Backend::start(&[]);
    run(
        &backend,
        r#"
serving, unknown = b"\x08\x01", b"\x08\x03"
assert check(b"") == serving
assert check(b"\x0a\x0fmeshwright.Echo") == serving
assert failure(lambda: check(b"\x0a\x04what"))[0] == "NOT_FOUND"
assert failure(lambda: check(b"\x0a"))[0] == "INVALID_ARGUMENT"
call = watch(b"")
assert next(call) == serving
call.cancel()
call = watch(b"\x0a\x04what")
assert next(call) == unknown
call.cancel()
"#,
    );
}

#[test]
fn whoever_watches_health_hears_of_the_end() {
    let backend = Backend::start(&[]);
    let script = r#"
import os, signal
call = watch(b"")
assert next(call) == b"\x08\x01"
os.kill(int(sys.argv[2]), signal.SIGTERM)
assert next(call) == b"\x08\x02"
assert failure(lambda: list(call))[0] == "UNAVAILABLE"
print("fine")
"#;
    let id = backend.child.id().to_string();
    assert_eq!(python(&format!("{BEGIN}{script}"), &[&backend.address.to_string(), &id]), "fine");
}

#[test]
fn a_thousand_calls_at_once_are_answered() {
    let backend = Backend::start(&[]);
    run(
        &backend,
        r#"
calls = [unary.future(b"%d" % number) for number in range(1000)]
assert [call.result() for call in calls] == [b"%d" % number for number in range(1000)]
streams = [server_stream(b"%d" % number, metadata=[("echo-count", "10")]) for number in range(50)]
for number, stream in enumerate(streams):
    assert list(stream) == [b"%d" % number] * 10
"#,
    );
}
