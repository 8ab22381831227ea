#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entries::retry_after(bytes));
