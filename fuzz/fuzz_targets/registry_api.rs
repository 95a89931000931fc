//! `cargo +nightly fuzz run registry_api fuzz/corpus/registry_api fuzz/seeds/registry_api -- -detect_leaks=0`;
//! every input has a registry with a thread, which may still be ending when leaks are looked for.
#![no_main]

#[path = "../src/registry.rs"]
#[allow(dead_code, reason = "every target runs one of its functions")]
mod registry;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| registry::registry_api(bytes));
