//! Any text as a call.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(call) = std::str::from_utf8(bytes) {
        musubi_fuzz::hold(call);
    }
});
