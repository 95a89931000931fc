//! `cargo +nightly fuzz run response_head fuzz/corpus/response_head fuzz/seeds/response_head`
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| meshwright_fuzz::response_head(bytes));
