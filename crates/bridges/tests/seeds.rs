//! The fuzz targets of the faces, on the committed seeds and on changes of them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on ends here")]

#[path = "../../../fuzz/src/registry.rs"]
mod registry;

use std::path::Path;

/// Changes of each seed.
const CHANGES: u64 = 12;

/// Runs `holds` on every seed of `target`, and on what is left of it after bytes of it were changed, cut out and doubled.
fn replay(target: &str, holds: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
    let mut seeds: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    seeds.sort();
    assert!(seeds.len() > 4, "the seeds of {target}");
    for seed in seeds {
        let bytes = std::fs::read(&seed).unwrap();
        holds(&bytes);
        for number in 0..CHANGES {
            let mut rng = fastrand::Rng::with_seed(number);
            let mut changed = bytes.clone();
            for _ in 0..=number % 3 {
                let at = rng.usize(1..changed.len().max(2)).min(changed.len().saturating_sub(1));
                let end = (at + rng.usize(0..16)).min(changed.len());
                match rng.u8(0..4) {
                    0 => changed[at] = rng.u8(..),
                    1 => drop(changed.drain(at..end)),
                    2 => changed.extend_from_within(at..end),
                    _ => changed.truncate(end),
                }
                if changed.is_empty() {
                    break;
                }
            }
            holds(&changed);
        }
    }
}

#[test]
fn bodies_of_the_api_get_a_clear_answer() {
    replay("registry_api", registry::registry_api);
}

#[test]
fn registrations_of_eureka_get_a_clear_answer() {
    replay("registry_eureka", registry::registry_eureka);
}

#[test]
fn requests_of_consul_get_a_clear_answer() {
    replay("registry_consul", registry::registry_consul);
}

#[test]
fn dns_queries_get_an_answer_of_theirs() {
    replay("registry_dns", registry::registry_dns);
}
