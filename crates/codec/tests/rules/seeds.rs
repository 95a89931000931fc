//! The seeds of the fuzz targets, replayed on every test run.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::invariants;

#[allow(clippy::disallowed_methods, reason = "a test reads the seeds from where they are committed")]
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
    let files = fs::read_dir(&folder).expect("the seeds are committed");
    let read = |entry: std::io::Result<fs::DirEntry>| fs::read(entry.expect("the folder can be listed").path());
    let seeds: Vec<Vec<u8>> = files.map(|entry| read(entry).expect("a seed can be read")).collect();
    assert!(!seeds.is_empty(), "{} has no seed", folder.display());
    seeds
}

fn replay(target: &str, check: fn(&[u8])) {
    seeds(target).iter().for_each(|seed| check(seed));
}

/// Changes bytes of a seed, cuts it, or repeats a part of it.
fn changed(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 0..6);
    (prop::sample::select(seeds), edits).prop_map(|(mut bytes, edits)| {
        for (place, byte, how) in edits {
            let at = place.index(bytes.len() + 1);
            match how {
                0 if at < bytes.len() => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 if at < bytes.len() => drop(bytes.remove(at)),
                _ => {
                    let tail = bytes[at..].to_vec();
                    bytes.extend(tail);
                }
            }
        }
        bytes
    })
}

proptest! {
    #[test]
    fn changed_proxy_headers_keep_the_invariants(bytes in changed(seeds("proxy_header"))) {
        invariants::proxy_header(&bytes);
    }

    #[test]
    fn changed_frames_keep_the_invariants(bytes in changed(seeds("frame_meter"))) {
        invariants::frame_meter(&bytes);
    }

    #[test]
    fn changed_requests_that_go_from_http2_to_http1_keep_the_invariants(bytes in changed(seeds("http2_to_http1"))) {
        invariants::http2_to_http1(&bytes);
    }
}

#[test]
fn seeds_of_request_heads_keep_the_invariants() {
    replay("request_head", invariants::request_head);
}

#[test]
fn seeds_of_response_heads_keep_the_invariants() {
    replay("response_head", invariants::response_head);
}

#[test]
fn seeds_of_chunked_bodies_keep_the_invariants() {
    replay("chunked_body", invariants::chunked_body);
}

#[test]
fn seeds_of_proxy_headers_keep_the_invariants() {
    replay("proxy_header", invariants::proxy_header);
}

#[test]
fn seeds_of_frames_keep_the_invariants() {
    replay("frame_meter", invariants::frame_meter);
}

#[test]
fn seeds_of_requests_that_go_from_http2_to_http1_keep_the_invariants() {
    replay("http2_to_http1", invariants::http2_to_http1);
}
