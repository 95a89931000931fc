//! `cargo +nightly fuzz run registry_dns fuzz/corpus/registry_dns fuzz/seeds/registry_dns`
#![no_main]

#[path = "../src/registry.rs"]
#[allow(dead_code, reason = "every target runs one of its functions")]
mod registry;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| registry::registry_dns(bytes));
