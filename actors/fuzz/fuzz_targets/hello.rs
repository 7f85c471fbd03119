//! Hellos and all else that sensors say, in any order and over either carrier, by the resources' own rules and the hub's
//! registry. Made-up hellos take the bytes of a true one with some of them changed, so that the fuzzer gets past the form.
//!
//! Nothing may panic; the registry keeps to its bound; nobody without a true key is registered, nor takes the place of a
//! sensor whose carrier knew it; and an honest sensor whose word comes last is answered.
#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use posthouse_actors_fuzz::messages::Carrier;
use posthouse_actors_fuzz::sensors::{Link, Registry, Up};
use posthouse_actors_fuzz::site::{self, Input, MAX_SENSORS};
use posthouse_protocol::id::DeviceId;
use posthouse_protocol::key;
use posthouse_protocol::sensor::{BlockRequest, ErrorMsg, Hello, SignatureMsg, Status};

fn link(flags: u8) -> Link {
    let carrier = if flags & 1 == 0 { Carrier::Mqtt } else { Carrier::Coap };
    Link { carrier, authenticated: flags & 2 == 0, live: flags & 4 == 0 }
}

/// A true hello, a changed one, or any bytes.
fn said(input: &mut Input<'_>) -> Option<Hello> {
    let pick = input.byte();
    let mut bytes = site::hello(pick).to_vec();
    if pick & 0x80 != 0 {
        for _ in 0..input.byte() % 8 {
            let at = usize::from(input.byte()) % bytes.len();
            bytes[at] = input.byte();
        }
    } else if pick & 0x40 != 0 {
        bytes = input.bytes(Hello::MAX_LEN + 1).to_vec();
    }
    let hello = Hello::decode(&bytes).ok()?;
    assert_eq!(hello.to_vec(), bytes);
    Some(hello)
}

fn word(input: &mut Input<'_>) -> Option<Up> {
    Some(match input.byte() % 8 {
        0..3 => Up::Hello(said(input)?),
        3 => Up::Signature(SignatureMsg::decode(input.bytes(SignatureMsg::MAX_LEN)).ok()?),
        4 => Up::Status(Status::decode(input.bytes(Status::MAX_LEN)).ok()?),
        5 => Up::Refused(ErrorMsg::decode(input.bytes(ErrorMsg::MAX_LEN)).ok()?),
        6 => Up::Get(BlockRequest::decode(input.bytes(BlockRequest::MAX_LEN)).ok()?),
        _ => [Up::Manifest, Up::Sign][usize::from(input.byte() % 2)],
    })
}

fn check(registry: &Registry, now: u64) {
    let sensors = registry.list(now);
    assert!(sensors.len() <= MAX_SENSORS);
    for sensor in sensors {
        let device: DeviceId = sensor.device.parse().expect("a name");
        let hello = registry.hello_of(&device).expect("it is listed");
        assert_eq!(hello.key.device_id(), device);
        assert!(key::check_key(hello.curve, &hello.key).is_ok());
    }
}

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let mut registry = site::registry();
    let mut now = 0;
    let mut shown = BTreeSet::new();
    while !input.is_empty() {
        now += u64::from(input.byte());
        if now % 5 == 0 {
            let (device, pick) = (site::device(input.byte()), input.byte());
            let _ = registry.set_intent(device, site::intent(pick), now);
            continue;
        }
        let link = link(input.byte());
        let Some(up) = word(&mut input) else { continue };
        let device = match (&up, input.byte()) {
            (Up::Hello(hello), pick) if pick < 0xf0 => hello.key.device_id(),
            (_, pick) => site::device(pick),
        };
        let known = |registry: &Registry| {
            let sensors = registry.list(now);
            sensors.into_iter().find(|sensor| sensor.device == device.to_string() && sensor.authenticated)
        };
        let before = known(&registry);
        let answer = registry.take(&device, link, &up, now);
        if let (Some(before), false) = (before, link.authenticated) {
            assert!(answer.is_err(), "a stranger in an authenticated sensor's place");
            assert_eq!(known(&registry).map(|sensor| sensor.installed), Some(before.installed));
        }
        if let Up::Hello(_) = up {
            assert!(link.authenticated || answer.is_err() || !shown.contains(&device), "it was known before");
            if link.authenticated && answer.is_ok() {
                shown.insert(device);
            }
        }
        let _ = registry.changes(&device);
        check(&registry, now);
    }
    // Whatever was said, one that proves who it is and is wanted for nothing else finds a place, or is told to come back.
    let hello = site::hello(0);
    let taken = registry.take(&hello.key.device_id(), link(0), &Up::Hello(hello), now);
    assert!(taken.is_ok() || taken.is_err_and(|error| error.retry_after.is_some()));
    check(&registry, now);
});
