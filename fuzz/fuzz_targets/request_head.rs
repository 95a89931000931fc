//! `cargo +nightly fuzz run request_head fuzz/corpus/request_head fuzz/seeds/request_head`
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| meshwright_fuzz::request_head(bytes));
