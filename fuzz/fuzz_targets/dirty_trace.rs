#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lgr_fuzz::dirty_trace::run(bytes));
