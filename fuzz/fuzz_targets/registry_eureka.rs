//! `cargo +nightly fuzz run registry_eureka fuzz/corpus/registry_eureka fuzz/seeds/registry_eureka -- -detect_leaks=0`;
//! every input has a registry with a thread, which may still be ending when leaks are looked for.
#![no_main]

#[path = "../src/registry.rs"]
#[allow(dead_code, reason = "every target runs one of its functions")]
mod registry;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| registry::registry_eureka(bytes));
