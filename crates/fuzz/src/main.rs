//! Owns the place where libFuzzer starts: it hands its bytes to the target that `HOOKFAST_FUZZ_TARGET` names.
//! It must not know the targets. `cargo xtask fuzz` builds and runs it.
#![no_main]

libfuzzer_sys::fuzz_target!(init: { fuzz::choose() }, |bytes: &[u8]| fuzz::chosen(bytes));
