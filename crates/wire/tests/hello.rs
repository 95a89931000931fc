//! A ClientHello and what it asks for, behind a PROXY header or not: the seeds of the fuzz target, and changes of them.

#[path = "../../../fuzz/src/client_hello.rs"]
mod client_hello;

use std::fs;
use std::path::Path;

use client_hello::Verdict;
use proptest::prelude::*;

/// Every seed and what becomes of it: `Some` name, none, or no verdict that leads to one.
const SEEDS: [(&str, Result<Option<&str>, Verdict>); 30] = [
    ("address_as_name", Ok(None)),
    ("alert_first", Err(Verdict::Refused)),
    ("cut", Err(Verdict::Incomplete)),
    ("cut_record_behind", Ok(Some("shop.example.com"))),
    ("doubled_extension", Err(Verdict::Refused)),
    ("empty_key_share", Ok(Some("a.example"))),
    ("empty_record", Err(Verdict::Refused)),
    ("garbage_behind", Ok(Some("a.example"))),
    ("http", Err(Verdict::Refused)),
    ("length_of_16_mib", Err(Verdict::Refused)),
    ("name_empty", Err(Verdict::Refused)),
    ("name_of_other_kind", Err(Verdict::Refused)),
    ("name_with_dot", Ok(Some("a.example"))),
    ("name_with_nul", Err(Verdict::Refused)),
    ("no_extensions", Err(Verdict::Refused)),
    ("no_key_share", Ok(Some("a.example"))),
    ("no_name", Ok(None)),
    ("proxy_twice", Err(Verdict::Refused)),
    ("proxy_v1", Ok(Some("a.example"))),
    ("proxy_v2", Ok(Some("a.example"))),
    ("proxy_v2_local_cut", Err(Verdict::Incomplete)),
    ("records_of_one_byte", Ok(Some("shop.example.com"))),
    ("server_hello", Err(Verdict::Refused)),
    ("small", Ok(Some("a.example"))),
    ("something_behind", Ok(Some("a.example"))),
    ("sslv2", Err(Verdict::Refused)),
    ("tls12", Ok(Some("shop.example.com"))),
    ("two_names", Err(Verdict::Refused)),
    ("two_records", Ok(Some("shop.example.com"))),
    ("usual", Ok(Some("shop.example.com"))),
];

fn seed(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/client_hello");
    fs::read(folder.join(name)).expect("the seeds are committed")
}

#[test]
fn every_seed_has_its_verdict_however_it_is_split() {
    for (name, expected) in SEEDS {
        let bytes = seed(name);
        client_hello::client_hello(&bytes);
        let expected = match expected {
            Ok(server) => Verdict::Named(server.map(str::to_owned)),
            Err(verdict) => verdict,
        };
        assert_eq!(client_hello::verdict(&bytes, bytes.len()), expected, "{name}");
    }
}

proptest! {
    #[test]
    fn changed_hellos_keep_the_invariants(
        (name, _) in prop::sample::select(SEEDS.to_vec()),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..6),
    ) {
        let mut bytes = seed(name);
        for (place, byte, how) in edits {
            let at = place.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        client_hello::client_hello(&bytes);
    }
}
