//! The Python package `websockets` on both sides of the gateway, over TLS and in clear text. `cargo xtask tools` installs it.
//! Frames are asked about more closely in `websocket.rs`.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod support;

use meshwright_testkit::{Authority, Config, Launch, Meshwright, binary, gateway_with_https_to, service_entry};
use support::{Backend, python, python_command};

/// A service that sends messages back and closes as its path asks for; its pings are counted.
const ORIGIN: &str = r#"
import asyncio, websockets
from websockets.asyncio.server import serve
async def talk(ws):
    path, _, value = ws.request.path.partition("?")
    if path == "/close":
        return await ws.close(int(value), "as asked")
    if path == "/abort":
        return ws.transport.abort()
    if path == "/headers":
        return await ws.send(";".join("%s=%s" % pair for pair in ws.request.headers.raw_items()))
    if path == "/pings":
        for number in range(int(value)):
            await (await ws.ping(b"%d" % number))
        return await ws.send("pinged")
    if path == "/fragments":
        return await ws.send([b"part %d " % number for number in range(int(value))])
    try:
        while True: await ws.send(await ws.recv())
    except websockets.ConnectionClosed:
        pass
async def main():
    options = dict(subprotocols=["chat", "other"], max_size=None, ping_interval=None)
    async with serve(talk, "127.0.0.1", 0, **options) as server:
        print("ws://127.0.0.1:%d" % server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Future()
asyncio.run(main())
"#;

/// What all clients begin with. Arguments: the gateway in clear text, the one over TLS, the root of its certificate.
const BEGIN: &str = r#"
import asyncio, os, ssl, sys, websockets
plain, secure = "ws://%s" % sys.argv[1], "wss://localhost:%s" % sys.argv[2].rsplit(":", 1)[1]
trusting = ssl.create_default_context(cafile=sys.argv[3])
def connect(base, path="/", **more):
    more = dict(ssl=trusting if base == secure else None, max_size=None, ping_interval=None, subprotocols=["new", "chat"], **more)
    return websockets.connect(base + path, **more)
async def closed(ws):
    try:
        while True: await ws.recv()
    except websockets.ConnectionClosed as end:
        return end.rcvd and (end.rcvd.code, end.rcvd.reason)
"#;

/// The gateway of all tests and what it needs to go on.
struct Mesh {
    process: Meshwright,
    config: Config,
    documents: [String; 2],
    _origin: Backend,
}

impl Mesh {
    fn start() -> Self {
        let origin = Backend::spawn(&mut python_command(ORIGIN, &[]));
        let documents = [gateway_with_https_to("svc"), service_entry("svc", "HTTP", origin.address)];
        let config = Config::new(&[&documents[0], &documents[1]]);
        let authority = Authority::new("ours");
        authority.server(&["localhost"]).write(config.directory(), "edge");
        authority.write(config.directory(), "root.pem");
        let process = Launch::run(binary!()).file(config.path()).args(&["--map-port", "443=0"]).start();
        Self { process, config, documents, _origin: origin }
    }

    #[track_caller]
    fn run(&self, script: &str) {
        let root = self.config.directory().join("root.pem");
        let next = self.config.directory().join("next.yaml");
        std::fs::write(&next, format!("# another\n{}", self.documents.join("---\n"))).unwrap();
        let paths = [root, next, self.config.path().to_owned()].map(|path| path.to_string_lossy().into_owned());
        let [plain, secure] = [80, 443].map(|port| self.process.listener(port).unwrap().to_string());
        let admin = self.process.admin().to_string();
        let script = format!("{BEGIN}{script}\nasyncio.run(main())\nprint('fine')");
        assert_eq!(python(&script, &[&plain, &secure, &paths[0], &paths[1], &paths[2], &admin]), "fine");
    }
}

#[test]
fn messages_fragments_and_pings_pass_both_ways_over_tls_and_in_clear_text() {
    let mesh = Mesh::start();
    mesh.run(
        r#"
async def one(base, number):
    async with connect(base) as ws:
        assert ws.subprotocol == "chat", ws.subprotocol
        for message in ["hello", "", b"", "\u00e4\u20ac\U0001F600" * 1000, bytes(range(256)) * 300, "%d" % number]:
            await ws.send(message)
            assert await ws.recv() == message, len(message)
        await ws.send(["frag", "men", "", "ted"])
        assert await ws.recv() == "fragmented"
        await (await ws.ping(b"are you there"))
    async with connect(base, "/pings?50") as ws:
        assert await ws.recv() == "pinged"
    async with connect(base, "/fragments?200") as ws:
        assert await ws.recv() == b"".join(b"part %d " % number for number in range(200))
async def main():
    for base in (plain, secure):
        await asyncio.gather(*[one(base, number) for number in range(10)])
        for options in ({}, {"compression": None}):
            async with connect(base, **options) as ws:
                large = os.urandom(2 << 20)
                await ws.send(large)
                assert await ws.recv() == large
                # Both ways at one time.
                sending = asyncio.create_task(ws.send(large * 2))
                assert await ws.recv() == large * 2
                await sending
"#,
    );
    mesh.process.metric_becomes("meshwright_downstream_upgrades_total", &[], 64.0);
}

#[test]
fn close_codes_of_either_side_and_broken_connections_are_seen_by_the_other() {
    Mesh::start().run(
        r#"
async def main():
    for base in (plain, secure):
        for code in (1000, 1001, 1003, 1008, 1011, 3000, 4999):
            async with connect(base, "/close?%d" % code) as ws:
                assert await closed(ws) == (code, "as asked")
            async with connect(base) as ws:
                await ws.send("x")
                await ws.close(code, "enough")
            assert (ws.close_code, ws.close_reason) == (code, "enough"), (ws.close_code, ws.close_reason)
        async with connect(base, "/abort") as ws:
            assert await closed(ws) is None
        async with connect(base, "/headers", additional_headers={"X-Mine": "1"}) as ws:
            seen = (await ws.recv()).lower()
            assert "x-mine=1" in seen and "x-forwarded-proto=%s" % ("https" if base == secure else "http") in seen, seen
"#,
    );
}

#[test]
fn open_websockets_go_on_over_reloads() {
    Mesh::start().run(
        r#"
import shutil, urllib.request
async def generation():
    def ask():
        with urllib.request.urlopen("http://%s/metrics" % sys.argv[6], timeout=20) as answer:
            lines = answer.read().decode().splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith("meshwright_config_generation "))
    return await asyncio.to_thread(ask)
async def main():
    sockets = [await connect(base) for base in (plain, secure) for _ in range(10)]
    for reload in range(5):
        before = await generation()
        with open(sys.argv[4]) as next_one: text = next_one.read()
        with open(sys.argv[5] + ".next", "w") as file: file.write("%s\n# %d\n" % (text, reload))
        os.rename(sys.argv[5] + ".next", sys.argv[5])
        async with asyncio.timeout(20):
            while await generation() == before: await asyncio.sleep(0.01)
        for number, ws in enumerate(sockets):
            await ws.send("%d after reload %d" % (number, reload))
            assert await ws.recv() == "%d after reload %d" % (number, reload)
    for ws in sockets:
        await ws.close()
        assert ws.close_code == 1000
"#,
    );
}
