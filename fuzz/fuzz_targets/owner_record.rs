#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lgr_fuzz::owner_record::run(bytes));
