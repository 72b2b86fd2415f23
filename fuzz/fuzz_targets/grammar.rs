//! Bytes as choices in the grammar of documents that ask for our schema.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let document = musubi_fuzz::grammar::document(bytes);
    musubi_fuzz::hold(&format!("{document}\0{{}}\0O0"));
});
