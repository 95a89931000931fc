//! A gateway between a client and a service, each of which speaks HTTP/1.1 or HTTP/2.

#![allow(dead_code, reason = "every test file uses its own part")]

use std::net::SocketAddr;

use meshwright_testkit::{
    Client, Config, Http2Origin, Launch, Meshwright, Origin, Received, Speaks, gateway_to, service_entry,
};

/// What client and service speak.
pub const PAIRS: [(Speaks, Speaks); 4] = [
    (Speaks::Http1, Speaks::Http1),
    (Speaks::Http1, Speaks::Http2),
    (Speaks::Http2, Speaks::Http1),
    (Speaks::Http2, Speaks::Http2),
];

/// A gateway that sends everything to one service.
pub fn in_front_of(address: SocketAddr, speaks: Speaks, arguments: &[&str]) -> (Config, Meshwright) {
    let protocol = if speaks == Speaks::Http2 { "HTTP2" } else { "HTTP" };
    let config = Config::new(&[&gateway_to("svc"), &service_entry("svc", protocol, address)]);
    let process = Launch::run(binary())
        .file(config.path())
        .args(&["--no-watch", "--workers", "1", "--access-log", "text"])
        .args(arguments)
        .start();
    (config, process)
}

fn binary() -> &'static str {
    meshwright_testkit::binary!()
}

/// A service of either protocol that sends back what it gets.
pub enum Echo {
    Http1(Origin),
    Http2(Http2Origin),
}

impl Echo {
    pub fn start(speaks: Speaks) -> Self {
        match speaks {
            Speaks::Http1 => Self::Http1(Origin::echoes()),
            Speaks::Http2 => Self::Http2(Http2Origin::echoes()),
        }
    }

    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Http1(origin) => origin.address(),
            Self::Http2(origin) => origin.address(),
        }
    }

    pub fn last(&self) -> Received {
        match self {
            Self::Http1(origin) => origin.last(),
            Self::Http2(origin) => origin.last(),
        }
    }

    pub fn connections(&self) -> usize {
        match self {
            Self::Http1(origin) => origin.connections(),
            Self::Http2(origin) => origin.connections(),
        }
    }
}

/// A client, the gateway and the echo behind it.
pub struct Mesh {
    pub client: Client,
    pub process: Meshwright,
    pub origin: Echo,
    pub pair: (Speaks, Speaks),
    _config: Config,
}

impl Mesh {
    pub fn start(pair: (Speaks, Speaks)) -> Self {
        let origin = Echo::start(pair.1);
        let (config, process) = in_front_of(origin.address(), pair.1, &[]);
        Self { client: Client::connect(pair.0, process.gateway()), process, origin, pair, _config: config }
    }
}
