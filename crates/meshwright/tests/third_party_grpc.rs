//! gRPC's own stack on both sides of the gateway: clients of grpcio, and a service of grpcio behind it. `cargo xtask tools`
//! installs it. What the gateway does with frames and heads is asked more closely in `grpc.rs`.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod support;

use std::net::SocketAddr;

use meshwright_testkit::{
    Authority, Config, Launch, Meshwright, RefusingPort, binary, gateway_routes, gateway_to, https_gateway_to,
    service_entry,
};
use support::{Backend, python, python_command};

/// A service with every kind of method. It counts the calls that wait, and those of them that were cancelled.
const ORIGIN: &str = r#"
import grpc, threading
from concurrent import futures
waiting, cancelled, lock = 0, 0, threading.Lock()
def metadata_of(context):
    sent = [(key, value) for key, value in context.invocation_metadata() if key.startswith("x-")]
    context.send_initial_metadata([("x-began", "yes"), ("x-raw-bin", bytes(range(256)))] + sent)
    context.set_trailing_metadata([("x-ended", "yes"), ("x-rest-bin", b"\x00\xff")] + sent)
    return dict(context.invocation_metadata())
def unary(message, context):
    metadata_of(context)
    return message
def several(message, context):
    for _ in range(int(metadata_of(context).get("x-count", "3"))):
        yield message
def join(messages, context):
    metadata_of(context)
    return b"".join(messages)
def each(messages, context):
    metadata_of(context)
    for message in messages:
        yield message
def fail(message, context):
    context.set_trailing_metadata([("grpc-status-details-bin", b"\x08\x09"), ("x-why", "because")])
    context.abort(next(code for code in grpc.StatusCode if code.value[0] == int(message)), "nein: \u00e4 %\n")
def fail_late(message, context):
    yield message
    context.abort(grpc.StatusCode.DATA_LOSS, "behind a message")
def remaining(message, context):
    return repr(context.time_remaining()).encode()
def wait(context):
    global waiting, cancelled
    over = threading.Event()
    context.add_callback(over.set)
    with lock: waiting += 1
    over.wait()
    with lock: waiting, cancelled = waiting - 1, cancelled + 1
def wait_unary(message, context):
    wait(context)
    return b""
def wait_several(message, context):
    yield message
    wait(context)
def wait_join(messages, context):
    next(messages)
    wait(context)
    return b""
def wait_each(messages, context):
    yield next(messages)
    wait(context)
def counts(message, context):
    with lock: return b"%d %d" % (waiting, cancelled)
uu, us = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
su, ss = grpc.stream_unary_rpc_method_handler, grpc.stream_stream_rpc_method_handler
server = grpc.server(futures.ThreadPoolExecutor(200))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.T", {
    "Unary": uu(unary), "Several": us(several), "Join": su(join), "Each": ss(each), "Fail": uu(fail), "FailLate": us(fail_late),
    "Remaining": uu(remaining), "Counts": uu(counts),
    "WaitUnary": uu(wait_unary), "WaitSeveral": us(wait_several), "WaitJoin": su(wait_join), "WaitEach": ss(wait_each),
}),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print("grpc://127.0.0.1:%d" % port, flush=True)
server.wait_for_termination()
"#;

/// What all clients begin with. The first argument is the gateway, the second the service.
const BEGIN: &str = r#"
import grpc, sys, threading, time
channel = grpc.insecure_channel(sys.argv[1])
direct = grpc.insecure_channel(sys.argv[2])
uu = lambda name, on=channel: on.unary_unary("/t.T/" + name)
us = lambda name, on=channel: on.unary_stream("/t.T/" + name)
su = lambda name, on=channel: on.stream_unary("/t.T/" + name)
ss = lambda name, on=channel: on.stream_stream("/t.T/" + name)
def failure(call):
    try:
        result = call()
        list(result) if hasattr(result, "__next__") else None
    except grpc.RpcError as error:
        return error
    raise AssertionError("the call did not fail")
def said(call):
    error = failure(call)
    return error.code().name, error.details()
def counts():
    return tuple(int(count) for count in uu("Counts", direct)(b"").split())
def eventually(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, counts()
        time.sleep(0.01)
"#;

fn origin() -> Backend {
    Backend::spawn(&mut python_command(ORIGIN, &[]))
}

fn gateway(documents: &[&str]) -> (Config, Meshwright) {
    let config = Config::new(documents);
    let process = Launch::run(binary!()).file(config.path()).args(&["--no-watch", "--workers", "1"]).start();
    (config, process)
}

#[track_caller]
fn run(process: &Meshwright, origin: SocketAddr, script: &str) {
    let script = format!("{BEGIN}{script}\nchannel.close()\nprint('fine')");
    assert_eq!(python(&script, &[&process.gateway().to_string(), &origin.to_string()]), "fine");
}

/// Runs a client against a gateway in front of the service.
#[track_caller]
fn through(script: &str) -> (Meshwright, Backend) {
    let origin = origin();
    let (_config, process) = gateway(&[&gateway_to("svc"), &service_entry("svc", "GRPC", origin.address)]);
    run(&process, origin.address, script);
    (process, origin)
}

#[test]
fn all_kinds_of_calls_pass_between_client_and_service() {
    let (process, _origin) = through(
        r#"
large = bytes(range(256)) * 12000
assert uu("Unary")(b"") == b""
assert uu("Unary")(large) == large
assert uu("Unary")(large, compression=grpc.Compression.Gzip) == large
assert list(us("Several")(b"y", metadata=[("x-count", "2000")])) == [b"y"] * 2000
assert list(us("Several")(large)) == [large] * 3
assert su("Join")(iter([b"a", b"", b"bc"] * 1000)) == b"abc" * 1000
assert list(ss("Each")(iter([b"%d" % n for n in range(2000)]))) == [b"%d" % n for n in range(2000)]
assert list(ss("Each")(iter([]))) == []
turn = threading.Semaphore(1)
def ask():
    for number in range(100):
        turn.acquire()
        yield b"%d" % number
for number, answer in enumerate(ss("Each")(ask())):
    assert answer == b"%d" % number
    turn.release()
assert number == 99
calls = [uu("Unary").future(b"%d" % n) for n in range(1000)]
assert [call.result() for call in calls] == [b"%d" % n for n in range(1000)]
"#,
    );
    process.metric_becomes("istio_requests_total", &[("grpc_response_status", "0")], 1009.0);
}

#[test]
fn metadata_of_both_ends_and_every_status_pass() {
    through(
        r#"
binary = bytes(range(256))
sent = [("x-key", "value"), ("x-twice", "1"), ("x-twice", "2"), ("x-sent-bin", binary), ("x-blank", "")]
for call in [uu("Unary").with_call(b"m", metadata=sent)[1], us("Several")(b"m", metadata=sent), ss("Each")(iter([b"m"]), metadata=sent)]:
    if hasattr(call, "__next__"): list(call)
    first, last = [[tuple(pair) for pair in pairs] for pairs in (call.initial_metadata(), call.trailing_metadata())]
    for pair in sent:
        assert pair in first and pair in last, (pair, first, last)
    assert [value for key, value in first if key == "x-twice"] == ["1", "2"], first
    assert ("x-began", "yes") in first and ("x-raw-bin", binary) in first, first
    assert ("x-ended", "yes") in last and ("x-rest-bin", b"\x00\xff") in last, last
    assert call.code() == grpc.StatusCode.OK
for status in range(1, 17):
    error = failure(lambda: uu("Fail")(b"%d" % status))
    assert error.code().value[0] == status, error
    assert error.details() == "nein: \u00e4 %\n", repr(error.details())
    trailing = [tuple(pair) for pair in error.trailing_metadata()]
    assert ("x-why", "because") in trailing and ("grpc-status-details-bin", b"\x08\x09") in trailing, trailing
call = us("FailLate")(b"first")
assert next(call) == b"first"
assert said(lambda: call) == ("DATA_LOSS", "behind a message")
assert said(lambda: uu("None")(b"")) == ("UNIMPLEMENTED", "Method not found!")
"#,
    );
}

#[test]
fn the_deadline_of_a_client_is_known_to_the_service_and_ends_the_call_there() {
    through(
        r#"
left = float(uu("Remaining")(b"", timeout=30))
assert 1 < left <= 30, left
assert float(uu("Remaining")(b"")) > 1e6
calls = [lambda: uu("WaitUnary")(b"m", timeout=0.3), lambda: us("WaitSeveral")(b"m", timeout=0.3),
         lambda: su("WaitJoin")(iter([b"m"]), timeout=0.3), lambda: ss("WaitEach")(iter([b"m"]), timeout=0.3)]
for number, call in enumerate(calls):
    code, details = said(call)
    assert code == "DEADLINE_EXCEEDED", (number, code, details)
eventually(lambda: counts()[0] == 0)
assert uu("Unary")(b"after") == b"after"
"#,
    );
}

#[test]
fn the_deadline_of_a_route_ends_calls_with_a_status_that_says_so() {
    let origin = origin();
    let routes = gateway_routes("- timeout: 300ms\n  route: [{destination: {host: svc}}]");
    let (_config, process) = gateway(&[&routes, &service_entry("svc", "GRPC", origin.address)]);
    run(
        &process,
        origin.address,
        r#"
for call in [lambda: uu("WaitUnary")(b"m", timeout=30), lambda: uu("WaitUnary")(b"m"), lambda: su("WaitJoin")(iter([b"m"]))]:
    code, details = said(call)
    assert code == "DEADLINE_EXCEEDED" and details, (code, details)
    eventually(lambda: counts()[0] == 0)
assert uu("Unary")(b"after") == b"after"
"#,
    );
}

#[test]
fn a_cancelled_call_of_every_kind_ends_at_the_service_and_no_other_does() {
    through(
        r#"
def endless():
    yield b"m"
    threading.Event().wait(60)
turn = threading.Semaphore(1)
def ask():
    while turn.acquire():
        yield b"beside"
beside = ss("Each")(ask())
assert next(beside) == b"beside"
for round in range(4):
    calls = [uu("WaitUnary").future(b"m") for _ in range(5)] + [us("WaitSeveral")(b"m") for _ in range(5)]
    calls += [su("WaitJoin").future(iter([b"m"])) for _ in range(5)] + [ss("WaitEach")(iter([b"m"])) for _ in range(5)]
    eventually(lambda: counts()[0] == 20)
    for call in calls:
        call.cancel()
        assert call.code() == grpc.StatusCode.CANCELLED
    eventually(lambda: counts() == (0, 20 * (round + 1)))
    turn.release()
    assert next(beside) == b"beside"
    assert uu("Unary")(b"x") == b"x"
beside.cancel()
"#,
    );
}

#[test]
fn failures_of_the_gateway_are_statuses_with_their_reason() {
    let refusing = RefusingPort::new();
    let routes = gateway_routes(
        "- match: [{uri: {exact: /t.T/Refused}}]
  route: [{destination: {host: svc}}]",
    )
    .replacen("hosts: ['*']\n  gateways", "hosts: [known.example.com]\n  gateways", 1);
    let (_config, process) = gateway(&[&routes, &service_entry("svc", "GRPC", refusing.address())]);
    run(
        &process,
        refusing.address(),
        r#"
known = grpc.insecure_channel(sys.argv[1], options=[("grpc.default_authority", "known.example.com")])
for kind in [lambda name: uu(name, known)(b"m"), lambda name: us(name, known)(b"m"),
             lambda name: su(name, known)(iter([b"m"])), lambda name: ss(name, known)(iter([b"m"]))]:
    code, details = said(lambda: kind("Refused"))
    assert code == "UNAVAILABLE" and "could not be connected to" in details, (code, details)
    code, details = said(lambda: kind("Unknown"))
    assert code == "UNIMPLEMENTED" and "no route" in details, (code, details)
code, details = said(lambda: uu("Refused")(b"m"))
assert code == "UNIMPLEMENTED" and "no route" in details, (code, details)
"#,
    );
}

#[test]
fn calls_over_tls_reach_a_service_in_clear_text() {
    let origin = origin();
    let authority = Authority::new("ours");
    let config = Config::new(&[&https_gateway_to("svc", ""), &service_entry("svc", "GRPC", origin.address)]);
    authority.server(&["localhost"]).write(config.directory(), "edge");
    let root = authority.write(config.directory(), "root.pem");
    let process = Launch::run(binary!()).file(config.path()).args(&["--map-port", "443=0"]).start();
    let edge = process.listener(443).unwrap();
    let script = r#"
import grpc, sys
roots = grpc.ssl_channel_credentials(open(sys.argv[2], "rb").read())
channel = grpc.secure_channel("localhost:%s" % sys.argv[1], roots)
large = bytes(range(256)) * 12000
assert channel.unary_unary("/t.T/Unary")(large) == large
assert list(channel.stream_stream("/t.T/Each")(iter([b"a", large, b"b"]))) == [b"a", large, b"b"]
stranger = grpc.secure_channel("localhost:%s" % sys.argv[1], grpc.ssl_channel_credentials())
try:
    stranger.unary_unary("/t.T/Unary")(b"x", timeout=20)
    raise AssertionError("a certificate of nobody is trusted")
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.UNAVAILABLE, error
print("fine")
"#;
    assert_eq!(python(script, &[&edge.port().to_string(), &root.to_string_lossy()]), "fine");
}
