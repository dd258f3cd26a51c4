#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| omni::proxy::fuzzing::frames(bytes));
