//! The seeds of the fuzz targets, replayed on every test run.

use std::fs;
use std::path::Path;

use super::invariants;

#[allow(clippy::disallowed_methods, reason = "a test reads the seeds from where they are committed")]
fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
    let mut count = 0;
    for entry in fs::read_dir(&folder).expect("the seeds are committed") {
        let path = entry.expect("the folder can be listed").path();
        check(&fs::read(&path).expect("a seed can be read"));
        count += 1;
    }
    assert!(count > 0, "{} has no seed", folder.display());
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
