//! Any bytes as lines of records, held against the rule of agreement. The seeds are NDJSON, and stay readable.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pintail_fuzz::decoding;

fuzz_target!(|data: &[u8]| {
    // The bytes are the input and nothing else: where they are cut and what they are decoded into follows from them.
    let sum = data.iter().fold(data.len() as u32, |sum, byte| sum.rotate_left(5) ^ u32::from(*byte));
    for schema in 0..decoding::SCHEMAS {
        decoding::check(schema, sum, data);
    }
});
