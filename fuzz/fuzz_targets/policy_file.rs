#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| omni::policy::fuzzing::policy_file(text));
