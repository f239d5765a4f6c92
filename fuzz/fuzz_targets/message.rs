//! See `fengsui::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fengsui::fuzz::message(data));
