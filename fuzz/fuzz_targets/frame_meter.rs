//! `cargo +nightly fuzz run frame_meter fuzz/corpus/frame_meter fuzz/seeds/frame_meter`
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| meshwright_fuzz::frame_meter(bytes));
