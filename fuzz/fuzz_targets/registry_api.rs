//! `cargo +nightly fuzz run registry_api fuzz/corpus/registry_api fuzz/seeds/registry_api`
#![no_main]

#[path = "../src/registry.rs"]
#[allow(dead_code, reason = "every target runs one of its functions")]
mod registry;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| registry::registry_api(bytes));
