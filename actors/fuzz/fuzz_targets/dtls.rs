//! The gateway's CoAP side over DTLS, before peers with keys and without: see `bench.rs`. Handshakes and records have random
//! bytes of dimpl's own in them, so that an input does not always do the same.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| posthouse_actors_fuzz::coap::bench::run(data, true));
