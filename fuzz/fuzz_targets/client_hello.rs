//! `cargo +nightly fuzz run client_hello fuzz/corpus/client_hello fuzz/seeds/client_hello`
#![no_main]

#[path = "../src/client_hello.rs"]
mod client_hello;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| client_hello::client_hello(bytes));
