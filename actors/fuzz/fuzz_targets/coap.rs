//! The gateway's CoAP side before peers that send anything in any order: see `bench.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| posthouse_actors_fuzz::coap::bench::run(data, false));
