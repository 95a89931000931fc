//! Ports that carry bytes, and PROXY headers: from a balancer in front, and to services.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use meshwright_testkit::{
    Config, GATEWAY_FOR_BYTES, Http2Client, Launch, Meshwright, Origin, PATIENCE, Pattern, RawClient, RefusingPort,
    binary, destination_rule, eventually, gateway_to, service_entry,
};

/// A rule that changes nothing.
const NO_RULE: &str = "{loadBalancer: {simple: ROUND_ROBIN}}";

/// A gateway whose port 9000 sends bytes to `address`.
fn bytes_to(address: SocketAddr, rule: &str, arguments: &[&str]) -> (Config, Meshwright) {
    let config =
        Config::new(&[GATEWAY_FOR_BYTES, &service_entry("svc", "TCP", address), &destination_rule("svc", rule)]);
    let ports = ["--map-port", "9000=0", "--access-log", "text", "--workers", "1"];
    let process = Launch::run(binary!()).file(config.path()).args(&ports).args(arguments).start();
    (config, process)
}

fn connect(process: &Meshwright) -> RawClient {
    RawClient::connect(process.listener(9000).unwrap())
}

/// Whether the next connection is closed. A connection that is reset at once may already fail to connect.
fn is_turned_away(process: &Meshwright) -> bool {
    let address = process.listener(9000).unwrap();
    RawClient::try_connect(address).map_or(true, |mut client| client.is_closed_within(PATIENCE))
}

/// Whether the next connection reaches a service that says hello.
fn is_greeted(process: &Meshwright) -> bool {
    let address = process.listener(9000).unwrap();
    let mut hello = [0; 5];
    RawClient::try_connect(address).is_ok_and(|client| client.stream().read_exact(&mut hello).is_ok())
}

#[test]
fn each_side_may_end_while_the_other_goes_on() {
    // Says how much came, once nothing more comes.
    let counts = Origin::start(|connection| {
        let mut buffer = [0; 1024];
        let mut count = 0;
        loop {
            match connection.read_some(&mut buffer)? {
                0 => return connection.send(format!("{count} bytes")),
                more => count += more,
            }
        }
    });
    let (_config, process) = bytes_to(counts.address(), NO_RULE, &[]);
    let mut client = connect(&process);
    client.send("12345");
    client.finish_sending();
    assert_eq!(client.read_to_end(), b"5 bytes");
    // Ends first, and still hears what comes.
    let (heard, hears) = std::sync::mpsc::channel();
    let ends_first = Origin::start(move |connection| {
        connection.send("hello")?;
        connection.finish_sending();
        let mut buffer = [0; 1024];
        let mut all = Vec::new();
        loop {
            match connection.read_some(&mut buffer)? {
                0 => break,
                count => all.extend_from_slice(&buffer[..count]),
            }
        }
        heard.send(all).unwrap();
        Ok(())
    });
    let (_config, process) = bytes_to(ends_first.address(), NO_RULE, &[]);
    let mut client = connect(&process);
    assert_eq!(client.read_to_end(), b"hello");
    client.send("after the end");
    client.finish_sending();
    assert_eq!(hears.recv_timeout(PATIENCE).unwrap(), b"after the end");
    eventually("both ends are closed", || ends_first.open() == 0);
}

#[test]
fn large_streams_pass_both_ways_at_once_intact_with_constant_memory() {
    const LARGE: u64 = 64 << 20;
    let origin = Origin::start(|connection| {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match connection.read_some(&mut buffer)? {
                0 => return Ok(()),
                count => connection.send(&buffer[..count])?,
            }
        }
    });
    let (_config, process) = bytes_to(origin.address(), NO_RULE, &[]);
    let before = process.rss_bytes();
    let client = connect(&process);
    let mut writer = client.stream().try_clone().unwrap();
    let writing = std::thread::spawn(move || {
        let mut pattern = Pattern::default();
        while pattern.total() < LARGE {
            let most = usize::try_from(LARGE - pattern.total()).unwrap();
            writer.write_all(pattern.next(most)).unwrap();
        }
        writer.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut pattern = Pattern::default();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = client.stream().read(&mut buffer).unwrap();
        if count == 0 {
            break;
        }
        assert!(pattern.check(&buffer[..count]), "broken near byte {}", pattern.total());
    }
    assert_eq!(pattern.total(), LARGE);
    writing.join().unwrap();
    let grown = process.rss_bytes().saturating_sub(before);
    assert!(grown < 8 << 20, "grew by {grown} bytes");
}

#[test]
fn messages_pass_one_by_one_after_much_at_once_and_before_it_again() {
    const LARGE: usize = 4 << 20;
    // Answers with as many bytes as the one says that it gets; 0 is many.
    let origin = Origin::start(|connection| {
        let mut asked = [0];
        while connection.read_some(&mut asked)? > 0 {
            let mut pattern = Pattern::default();
            let mut left = if asked == [0] { LARGE } else { usize::from(asked[0]) };
            while left > 0 {
                let piece = pattern.next(left);
                left -= piece.len();
                connection.send(piece)?;
            }
        }
        Ok(())
    });
    let (_config, process) = bytes_to(origin.address(), NO_RULE, &[]);
    let client = connect(&process);
    let mut received = vec![0; LARGE];
    for asked in [1, 0, 2, 3, 0, 0, 4] {
        client.stream().write_all(&[asked]).unwrap();
        let received = &mut received[..if asked == 0 { LARGE } else { usize::from(asked) }];
        client.stream().read_exact(received).unwrap();
        assert!(Pattern::default().check(received), "the answer to {asked}");
    }
}

#[test]
fn a_reset_is_not_passed_on_as_an_end() {
    let origin = Origin::start(|connection| {
        connection.send("part")?;
        let mut byte = [0];
        connection.read_some(&mut byte)?;
        connection.reset();
        Ok(())
    });
    let (_config, process) = bytes_to(origin.address(), NO_RULE, &[]);
    let mut client = connect(&process);
    assert_eq!(client.read_exactly(4), b"part");
    client.send("x");
    let mut byte = [0];
    assert!(client.stream().read(&mut byte).is_err(), "what was lost looks complete");
}

#[test]
fn a_service_that_is_not_there_closes_the_connection() {
    let refusing = RefusingPort::new();
    let (_config, process) = bytes_to(refusing.address(), NO_RULE, &[]);
    assert!(is_turned_away(&process));
    assert!(process.record(|_| true).flags().starts_with("UF"));
}

#[test]
fn connections_are_limited_and_idle_ones_end() {
    let origin = Origin::start(|connection| {
        connection.send("hello")?;
        connection.wait_for_close(PATIENCE);
        Ok(())
    });
    let rule = "{connectionPool: {tcp: {maxConnections: 2}}}";
    let (_config, process) = bytes_to(origin.address(), rule, &["--tunnel-idle-timeout", "1s"]);
    let mut clients: Vec<RawClient> = (0..2).map(|_| connect(&process)).collect();
    for client in &mut clients {
        assert_eq!(client.read_exactly(5), b"hello");
    }
    assert!(is_turned_away(&process), "a third one is too many");
    for client in &mut clients {
        assert!(client.is_closed_within(PATIENCE), "idle for too long");
    }
    eventually("both ends are closed", || origin.open() == 0);
    eventually("there is room again", || is_greeted(&process));
}

#[test]
fn a_proxy_header_of_a_balancer_in_front_says_who_the_client_is() {
    let origin = Origin::echoes();
    let config = Config::new(&[&gateway_to("svc"), &service_entry("svc", "HTTP", origin.address())]);
    let process = Launch::run(binary!())
        .file(config.path())
        .args(&["--proxy-protocol-port", "80", "--workers", "1", "--header-timeout", "1s"])
        .start();
    let first = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 80\r\n".to_vec();
    let second = {
        let addresses =
            [&[192, 0, 2, 8][..], &[198, 51, 100, 1], &4712_u16.to_be_bytes(), &80_u16.to_be_bytes()].concat();
        [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11"[..], &12_u16.to_be_bytes(), &addresses].concat()
    };
    let sixth = b"PROXY TCP6 2001:db8::9 2001:db8::1 4713 80\r\n".to_vec();
    for (header, client) in [(first, "192.0.2.7"), (second, "192.0.2.8"), (sixth, "2001:db8::9")] {
        for split in [header.len(), 1, 5] {
            let mut raw = process.connect();
            let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
            raw.send_split(&[&header[..], request].concat(), &[split.min(header.len())]);
            assert_eq!(raw.response().status, 200);
            assert_eq!(origin.last().header("x-forwarded-for"), Some(client));
            // It stands before the first request only.
            assert_eq!(raw.get("x", "/").status, 200);
            assert_eq!(origin.last().header("x-forwarded-for"), Some(client));
        }
    }
    let count = origin.count();
    for wrong in
        [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], b"PROXY TCP4 nonsense\r\n", b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0"]
    {
        let mut raw = process.connect();
        raw.send(wrong);
        raw.read_to_end();
    }
    let mut silent = process.connect();
    silent.send("PROXY");
    silent.read_to_end();
    assert_eq!(origin.count(), count, "nobody may leave it out");
    // A check of the balancer's own: the address of the connection counts.
    let mut own = process.connect();
    own.send("PROXY UNKNOWN\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(own.response().status, 200);
    assert_eq!(origin.last().header("x-forwarded-for"), Some("127.0.0.1"));
}

#[test]
fn a_rule_sends_a_proxy_header_before_everything_else() {
    for (version, expected) in
        [("V1", &b"PROXY TCP4 127.0.0.1 127.0.0.1 "[..]), ("V2", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01")]
    {
        let length = expected.len();
        let (sent, came) = std::sync::mpsc::channel();
        let origin = Origin::start(move |connection| {
            let mut all = Vec::new();
            let mut buffer = [0; 1024];
            while !all.ends_with(b"the bytes") {
                let count = connection.read_some(&mut buffer)?;
                if count == 0 {
                    break;
                }
                all.extend_from_slice(&buffer[..count]);
            }
            sent.send(all).unwrap();
            connection.send("thanks")
        });
        let rule = format!("{{proxyProtocol: {{version: {version}}}}}");
        let (_config, process) = bytes_to(origin.address(), &rule, &[]);
        let mut client = connect(&process);
        let port = client.local_address().port();
        client.send("the bytes");
        assert_eq!(client.read_exactly(6), b"thanks");
        let all = came.recv_timeout(PATIENCE).unwrap();
        assert_eq!(&all[..length], expected, "{version}");
        let text = String::from_utf8_lossy(&all);
        let has_port = text.contains(&format!(" {port} ")) || all.windows(2).any(|pair| pair == port.to_be_bytes());
        assert!(has_port && all.ends_with(b"the bytes"), "{version}: {text}");
    }
}

#[test]
fn http_requests_of_two_clients_never_share_a_connection_with_a_proxy_header() {
    let origin = Origin::start(|connection| {
        // The header is a line of its own before the first request.
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\r\n") && connection.read_some(&mut byte)? > 0 {
            line.push(byte[0]);
        }
        let port = String::from_utf8_lossy(&line).split(' ').nth(4).unwrap_or_default().to_owned();
        while connection.request()?.is_some() {
            connection.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{port}", port.len()))?;
        }
        Ok(())
    });
    let rule = destination_rule("svc", "{proxyProtocol: {version: V1}}");
    let config = Config::new(&[&gateway_to("svc"), &service_entry("svc", "HTTP", origin.address()), &rule]);
    let process = Launch::run(binary!()).file(config.path()).args(&["--workers", "1"]).start();
    let mut clients: Vec<RawClient> = (0..3).map(|_| process.connect()).collect();
    for _ in 0..3 {
        for client in &mut clients {
            let port = client.local_address().port().to_string();
            assert_eq!(client.get("x", "/").text(), port);
        }
    }
    let second = Http2Client::connect(process.gateway());
    assert_eq!(second.get("x", "/").text(), second.local_address().port().to_string());
    meshwright_testkit::pass(Duration::from_millis(10));
    assert!(origin.connections() >= 4);
}
