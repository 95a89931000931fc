//! `cargo +nightly fuzz run chunked_body fuzz/corpus/chunked_body fuzz/seeds/chunked_body`
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| meshwright_fuzz::chunked_body(bytes));
