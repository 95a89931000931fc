//! `cargo +nightly fuzz run http2_to_http1 fuzz/corpus/http2_to_http1 fuzz/seeds/http2_to_http1`
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| meshwright_fuzz::http2_to_http1(bytes));
