//! Bodies of any size with constant memory.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::io::{Read, Write};
use std::time::Duration;

use meshwright_testkit::{Launch, Meshwright, Origin, Pattern, binary, pass};

const MOST_GROWTH: u64 = 16 << 20;

/// Sends `size` bytes of the pattern; the verdict of the service.
fn upload(process: &Meshwright, size: u64) -> String {
    let mut client = process.connect();
    client.send(format!("POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n"));
    let mut pattern = Pattern::default();
    let mut stream = client.stream();
    while pattern.total() < size {
        let most = usize::try_from(size - pattern.total()).unwrap();
        stream.write_all(pattern.next(most)).unwrap();
    }
    client.response().text()
}

/// Reads an answer of `size` bytes, the first `slow_part` of them at about 1 MiB/s. Returns the largest resident memory seen
/// on the way.
fn download(process: &Meshwright, size: u64, slow_part: u64) -> u64 {
    const EVERY: u64 = 64 << 10;
    const PAUSE: Duration = Duration::from_micros(62_500);
    let mut client = process.connect();
    client.send("GET /down HTTP/1.1\r\nHost: x\r\n\r\n");
    let head = client.head();
    assert_eq!(head.header("content-length"), Some(size.to_string().as_str()));
    let mut pattern = Pattern::default();
    let mut largest = 0;
    let (mut next_pause, mut next_look) = (EVERY, 1 << 20);
    // Bytes behind the head were read with it.
    let ahead = client.take_ahead();
    assert!(pattern.check(&ahead));
    let mut buffer = vec![0; 32 * 1024];
    let mut stream = client.stream();
    while pattern.total() < size {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "cut after {} bytes", pattern.total());
        assert!(pattern.check(&buffer[..count]), "broken near byte {}", pattern.total());
        if pattern.total() >= next_pause && pattern.total() < slow_part {
            next_pause += EVERY;
            pass(PAUSE);
        }
        if pattern.total() >= next_look {
            next_look += 4 << 20;
            largest = largest.max(process.rss_bytes());
        }
    }
    assert_eq!(pattern.total(), size);
    largest
}

#[test]
fn bodies_stream_intact_both_ways_also_to_a_slow_reader_and_memory_stays_constant() {
    stream_through(64 << 20, 1 << 20);
}

#[test]
#[ignore = "longer tier"]
fn a_gibibyte_streams_intact_both_ways_also_to_a_slow_reader_and_memory_stays_constant() {
    stream_through(1 << 30, 30 << 20);
}

fn stream_through(size: u64, slow_part: u64) {
    let (up, down) = (Origin::checks_pattern(), Origin::sends_pattern(size));
    let to_up = Launch::proxy(binary!(), &[up.address()]).start();
    assert_eq!(to_up.get("x", "/warm").text(), "intact 0");
    let before = to_up.rss_bytes();
    assert_eq!(upload(&to_up, size), format!("intact {size}"));
    let grown = to_up.rss_bytes().saturating_sub(before);
    assert!(grown < MOST_GROWTH, "grew by {grown} bytes");

    let to_down = Launch::proxy(binary!(), &[down.address()]).start();
    let before = to_down.rss_bytes();
    for slow_part in [0, slow_part] {
        let most = download(&to_down, size, slow_part);
        assert!(most.saturating_sub(before) < MOST_GROWTH, "grew to {most} from {before} bytes");
    }
    to_down.metric_becomes("istio_response_bytes_sum", &[], 2.0 * size as f64);
    to_up.metric_becomes("istio_request_bytes_sum", &[], size as f64);
}
