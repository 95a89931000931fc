//! HTTP/2 by the Python package `h2`, another implementation than ours, as a client of the gateway and as a service behind it.
//! `cargo xtask tools` installs it.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[path = "support/pairs.rs"]
mod pairs;
mod support;

use meshwright_testkit::Speaks;
use pairs::in_front_of;
use support::{Backend, python, python_command};

/// A service whose answers depend on the path. The argument is its window, in bytes.
const ORIGIN: &str = r#"
import socket, sys, threading
import h2.config, h2.connection, h2.errors, h2.events, h2.settings
from hyperframe.frame import GoAwayFrame
S = h2.settings.SettingCodes
window, cancelled, connections, refused = int(sys.argv[1]), [], [], set()
class Connection:
    def __init__(self, peer):
        self.peer, self.pending, self.streams, self.waiting = peer, {}, {}, []
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        self.h2.local_settings = h2.settings.Settings(client=False, initial_values={S.INITIAL_WINDOW_SIZE: window, S.MAX_CONCURRENT_STREAMS: 100})
    def serve(self):
        self.h2.initiate_connection()
        self.flush()
        try:
            while data := self.peer.recv(65536):
                for event in self.h2.receive_data(data):
                    self.take(event)
                self.flush()
        except (OSError, h2.exceptions.ProtocolError):
            pass
        self.peer.close()
    def flush(self):
        self.peer.sendall(self.h2.data_to_send())
    def take(self, event):
        if isinstance(event, h2.events.RequestReceived):
            self.streams[event.stream_id] = [dict(event.headers), b"", []]
        elif isinstance(event, h2.events.DataReceived):
            self.streams[event.stream_id][1] += event.data
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.TrailersReceived):
            self.streams[event.stream_id][2] = event.headers
        elif isinstance(event, h2.events.StreamEnded):
            self.answer(event.stream_id, *self.streams[event.stream_id])
        elif isinstance(event, h2.events.StreamReset):
            cancelled.append(int(event.error_code))
            self.pending.pop(event.stream_id, None)
        elif isinstance(event, h2.events.PingAckReceived):
            for stream in self.waiting:
                self.respond(stream, b"pong")
            self.waiting = []
        elif isinstance(event, (h2.events.WindowUpdated, h2.events.RemoteSettingsChanged)):
            for stream in list(self.pending):
                self.push(stream)
    def respond(self, stream, body, trailers=(), status="200"):
        self.h2.send_headers(stream, [(":status", status), ("x-connection", str(connections.index(self)))])
        self.pending[stream] = (body, list(trailers))
        self.push(stream)
    def push(self, stream):
        body, trailers = self.pending[stream]
        while body and (room := min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)) > 0:
            self.h2.send_data(stream, body[:room])
            body = body[room:]
        self.pending[stream] = (body, trailers)
        if not body:
            del self.pending[stream]
            self.h2.send_headers(stream, trailers, end_stream=True) if trailers else self.h2.end_stream(stream)
    def goaway(self, last):
        self.flush()
        self.peer.sendall(GoAwayFrame(0, last_stream_id=last, error_code=0).serialize())
    def answer(self, stream, head, body, trailers):
        path, _, value = head[":path"].partition("?")
        if path == "/echo":
            self.respond(stream, body, trailers)
        elif path == "/large":
            self.respond(stream, bytes(range(256)) * (int(value) // 256))
        elif path == "/informational":
            for number in range(int(value)):
                self.h2.send_headers(stream, [(":status", "103"), ("link", "</%d>" % number)])
            self.respond(stream, b"final", [("x-sum", "7")])
        elif path == "/reset":
            self.h2.send_headers(stream, [(":status", "200")])
            self.h2.send_data(stream, b"begun")
            self.h2.reset_stream(stream, int(value))
        elif path == "/refuse":
            if (first := value not in refused):
                refused.add(value)
                self.h2.reset_stream(stream, h2.errors.ErrorCodes.REFUSED_STREAM)
            else:
                self.respond(stream, b"taken")
        elif path == "/goaway":
            self.goaway(stream)
            self.respond(stream, b"last words")
        elif path == "/goaway-before":
            if value in refused:
                self.respond(stream, b"taken")
            else:
                refused.add(value)
                self.goaway(max(stream - 2, 0))
        elif path == "/settings":
            self.h2.update_settings({S.INITIAL_WINDOW_SIZE: int(value), S.HEADER_TABLE_SIZE: 0, S.MAX_FRAME_SIZE: 1 << 20})
            self.respond(stream, b"changed")
        elif path == "/ping":
            self.waiting.append(stream)
            self.h2.ping(b"12345678")
        elif path == "/cancelled":
            self.respond(stream, repr(sorted(cancelled)).encode())
        elif path == "/silent":
            pass
listener = socket.create_server(("127.0.0.1", 0))
print("h2://127.0.0.1:%d" % listener.getsockname()[1], flush=True)
while True:
    peer, _ = listener.accept()
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connections.append(Connection(peer))
    threading.Thread(target=connections[-1].serve, daemon=True).start()
"#;

/// What all clients begin with. The first argument is the gateway, the second its process.
const BEGIN: &str = r#"
import os, signal, socket, sys, time
import h2.config, h2.connection, h2.errors, h2.events, h2.settings
from hyperframe.frame import Frame, GoAwayFrame
S, E = h2.settings.SettingCodes, h2.events
class Client:
    def __init__(self, settings={}):
        host, port = sys.argv[1].rsplit(":", 1)
        self.peer = socket.create_connection((host, int(port)), 20)
        self.peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.local_settings = h2.settings.Settings(client=True, initial_values={S.ENABLE_PUSH: 0, **settings})
        self.events, self.credit = [], True
        self.h2.initiate_connection()
        self.flush()
        self.until(E.RemoteSettingsChanged)
    def flush(self):
        self.peer.sendall(self.h2.data_to_send())
    def read(self):
        data = self.peer.recv(65536)
        assert data, "the gateway has closed"
        events = self.h2.receive_data(data)
        for event in events:
            if isinstance(event, E.DataReceived) and self.credit and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        self.events += events
        self.flush()
    def seen(self, kind, stream=None):
        return [event for event in self.events if isinstance(event, kind) and (stream is None or event.stream_id == stream)]
    def until(self, kind, stream=None):
        while not self.seen(kind, stream):
            self.read()
        return self.seen(kind, stream)[0]
    def begin(self, path, method="POST", end=False, **priority):
        stream = self.h2.get_next_available_stream_id()
        head = [(":method", method), (":scheme", "http"), (":authority", "x"), (":path", path), ("te", "trailers")]
        self.h2.send_headers(stream, head, end_stream=end, **priority)
        self.flush()
        return stream
    def get(self, path, **priority):
        return self.begin(path, "GET", True, **priority)
    def send(self, stream, body):
        while body:
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            if room > 0:
                self.h2.send_data(stream, body[:room])
                body = body[room:]
                self.flush()
            else:
                self.read()
    def post(self, path, body, trailers=None):
        stream = self.begin(path)
        self.send(stream, body)
        self.h2.send_headers(stream, trailers, end_stream=True) if trailers else self.h2.end_stream(stream)
        self.flush()
        return stream
    def body(self, stream):
        return b"".join(event.data for event in self.seen(E.DataReceived, stream))
    def answer(self, stream):
        self.until(E.StreamEnded, stream)
        head = dict(self.until(E.ResponseReceived, stream).headers)
        trailers = [pair for event in self.seen(E.TrailersReceived, stream) for pair in event.headers]
        return int(head[":status"]), self.body(stream), trailers
    def fetch(self, path):
        return self.answer(self.get(path))[:2]
large = bytes(range(256)) * 4000
"#;

/// Runs a client against a gateway in front of a service with this window.
#[track_caller]
fn run(window: &str, script: &str) {
    let origin = Backend::spawn(&mut python_command(ORIGIN, &[window]));
    let (_config, process) = in_front_of(origin.address, Speaks::Http2, &[]);
    let script = format!("{BEGIN}{script}\nprint('fine')");
    assert_eq!(python(&script, &[&process.gateway().to_string(), &process.id().to_string()]), "fine");
}

#[test]
fn requests_bodies_trailers_and_informational_answers_pass() {
    run(
        "65535",
        r#"
client = Client()
streams = [client.get("/large?%d" % (256 * number)) for number in range(60)]
for number, stream in enumerate(streams):
    status, body, _ = client.answer(stream)
    assert (status, body) == (200, bytes(range(256)) * number), (number, status, len(body))
assert client.answer(client.post("/echo", large))[:2] == (200, large)
status, body, trailers = client.answer(client.post("/echo", b"body", [("x-sum", "7"), ("x-more", "8")]))
assert (status, body) == (200, b"body") and ("x-sum", "7") in trailers and ("x-more", "8") in trailers, trailers
stream = client.get("/informational?3")
status, body, trailers = client.answer(stream)
assert (status, body) == (200, b"final") and ("x-sum", "7") in trailers, (status, body, trailers)
links = [dict(event.headers)["link"] for event in client.seen(E.InformationalResponseReceived, stream)]
assert links == ["</0>", "</1>", "</2>"], links
client.h2.ping(b"abcdefgh")
client.flush()
assert client.until(E.PingAckReceived).ping_data == b"abcdefgh"
assert client.fetch("/ping") == (200, b"pong")
"#,
    );
}

#[test]
fn windows_of_the_client_hold_and_its_settings_may_change_in_the_middle() {
    run(
        "65535",
        r#"
client = Client({S.INITIAL_WINDOW_SIZE: 1000})
slow = client.get("/large?102400")
assert client.fetch("/large?512")[0] == 200
assert client.answer(slow)[1] == bytes(range(256)) * 400
# No credit: the answer stops at the window, and others go on as long as theirs.
client.credit = False
stopped = client.get("/large?102400")
while len(client.body(stopped)) < 1000: client.read()
assert client.fetch("/large?512")[1] == bytes(range(256)) * 2
assert len(client.body(stopped)) == 1000, len(client.body(stopped))
# A larger window for all streams that are open (RFC 9113, section 6.9.2), other sizes of frames and of the table.
client.credit = True
client.h2.acknowledge_received_data(1000, stopped)
client.h2.update_settings({S.INITIAL_WINDOW_SIZE: 50000, S.MAX_FRAME_SIZE: 32768, S.HEADER_TABLE_SIZE: 0})
client.flush()
assert client.answer(stopped)[1] == bytes(range(256)) * 400
assert client.seen(E.SettingsAcknowledged)
client.h2.update_settings({S.INITIAL_WINDOW_SIZE: 0, S.HEADER_TABLE_SIZE: 65536})
client.flush()
acknowledged = len(client.seen(E.SettingsAcknowledged))
while len(client.seen(E.SettingsAcknowledged)) == acknowledged: client.read()
starved = client.get("/large?1024")
client.until(E.ResponseReceived, starved)
assert client.body(starved) == b""
client.h2.increment_flow_control_window(600, starved)
client.flush()
while len(client.body(starved)) < 600: client.read()
client.h2.increment_flow_control_window(4000, starved)
client.flush()
assert client.answer(starved)[1] == bytes(range(256)) * 4
"#,
    );
}

#[test]
fn priorities_resets_and_goodbyes_of_both_sides_are_heeded() {
    run(
        "65535",
        r#"
client = Client()
first = client.get("/large?2560", priority_weight=200, priority_depends_on=0, priority_exclusive=False)
second = client.get("/large?2560", priority_weight=1, priority_depends_on=first, priority_exclusive=True)
client.h2.prioritize(second, weight=256, depends_on=0)
client.flush()
assert client.answer(second)[0] == client.answer(first)[0] == 200
# A request that is given up in its middle ends at the service, and no other does.
given_up = client.begin("/echo")
client.send(given_up, b"a beginning")
silent = client.get("/silent")
kept = client.begin("/echo")
client.send(kept, b"first ")
client.fetch("/large?256")
client.h2.reset_stream(given_up, h2.errors.ErrorCodes.CANCEL)
client.h2.reset_stream(silent, h2.errors.ErrorCodes.CANCEL)
client.flush()
client.send(kept, b"second")
client.h2.end_stream(kept)
client.flush()
assert client.answer(kept)[1] == b"first second"
end = time.monotonic() + 20
while client.fetch("/cancelled")[1] != b"[8, 8]":
    assert time.monotonic() < end, client.fetch("/cancelled")
# Who says goodbye gets what was asked for before.
last = client.get("/large?256000")
client.peer.sendall(GoAwayFrame(0, last_stream_id=0, error_code=0).serialize())
assert client.answer(last)[:2] == (200, bytes(range(256)) * 1000)
# A gateway that ends says so.
idle = Client()
assert idle.fetch("/large?256")[0] == 200
os.kill(int(sys.argv[2]), signal.SIGTERM)
received = b""
def frames():
    at = 0
    while at + 9 <= len(received):
        frame, length = Frame.parse_frame_header(memoryview(received[at:at + 9]))
        if at + 9 + length > len(received): return
        frame.parse_body(memoryview(received[at + 9:at + 9 + length]))
        yield frame
        at += 9 + length
while not any(isinstance(frame, GoAwayFrame) for frame in frames()):
    data = idle.peer.recv(65536)
    assert data, "no GOAWAY"
    received += data
assert [frame.error_code for frame in frames() if isinstance(frame, GoAwayFrame)] == [0]
"#,
    );
}

#[test]
fn resets_refusals_goodbyes_and_settings_of_the_service_are_heeded() {
    run(
        "65535",
        r#"
client = Client()
number = lambda stream: dict(client.until(E.ResponseReceived, stream).headers)["x-connection"]
for code in (1, 2, 8, 11):
    stream = client.get("/reset?%d" % code)
    reset = client.until(E.StreamReset, stream)
    assert client.body(stream) in (b"", b"begun") and not client.seen(E.StreamEnded, stream), (code, client.events)
    assert client.fetch("/large?256")[0] == 200
# What the service has not begun with is asked again.
assert client.fetch("/refuse?1") == (200, b"taken")
for times in range(3):
    before = number(client.get("/large?0"))
    stream = client.get("/goaway")
    assert client.answer(stream)[:2] == (200, b"last words") and number(stream) == before
    stream = client.get("/large?256")
    assert client.answer(stream)[0] == 200 and number(stream) != before
assert client.fetch("/goaway-before?1") == (200, b"taken")
slow = client.begin("/echo")
client.send(slow, b"before ")
assert client.fetch("/goaway")[0] == 200
client.send(slow, b"and after")
client.h2.end_stream(slow)
client.flush()
assert client.answer(slow)[:2] == (200, b"before and after")
for window in (65535, 100, 1 << 20, 0x7fffffff):
    assert client.fetch("/settings?%d" % window) == (200, b"changed")
    assert client.answer(client.post("/echo", large[:100000]))[:2] == (200, large[:100000]), window
assert client.fetch("/informational?20") == (200, b"final")
"#,
    );
}

#[test]
fn a_service_with_a_window_of_a_hundred_bytes_gets_whole_bodies() {
    run(
        "100",
        r#"
client = Client()
for size in (99, 100, 101, 20000):
    answer = client.answer(client.post("/echo", large[:size], [("x-sum", "7")]))
    assert answer == (200, large[:size], [("x-sum", "7")]), (size, answer[0], len(answer[1]), answer[2])
assert client.fetch("/large?102400")[0] == 200
"#,
    );
}
