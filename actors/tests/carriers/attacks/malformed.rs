//! Oversized, malformed and out-of-order messages on every resource and every topic, in the name of a sensor that is in the
//! middle of its update: each has a typed answer, nothing that is known of the sensor changes, and its update goes on.

use std::net::{Ipv4Addr, SocketAddr};

use coap_lite::{CoapOption, MessageClass, MessageType, Packet, RequestType, ResponseType};
use posthouse_protocol::id::DeviceId;
use posthouse_protocol::sensor::{BlockRequest, ErrorCode, ErrorMsg, Hello, State, Status, UpdateResult};

use super::asker::{Asker, code};
use super::speaker::Speaker;
use super::{made_up, state};
use crate::broker;
use crate::fleet::{Sensor, cut_power};
use crate::site::Site;
use crate::update::{all_arrive, coap, mqtt};

const LEN: usize = 60_001;

/// A sensor with part of its image, and without power.
async fn halfway(site: &Site, dir: &std::path::Path, carrier: &str, gateway: SocketAddr) -> Sensor {
    let sensor = Sensor::new(dir, 1, carrier, gateway, "block = 256\n");
    cut_power(&sensor, sensor.power_up(), 20_000).await;
    assert!(site.heard.lock().unwrap().reports.is_empty());
    sensor
}

fn status() -> Status {
    let (state, result) = (State::Idle, UpdateResult::Initial);
    Status { state, result, installed: made_up(0).installed, next: 0, next_wake: 0, report: None }
}

/// What a sensor says, by name, as it should be.
fn words(hello: &Hello) -> [(&'static str, Vec<u8>); 3] {
    let refused = ErrorMsg { code: ErrorCode::BadManifest, retry_after: None };
    [("hello", hello.to_vec()), ("status", status().to_vec()), ("refused", refused.to_vec())]
}

/// Bytes that are no message, made of one that is.
fn bodies(good: &[u8]) -> Vec<Vec<u8>> {
    let cut = good[..good.len() - 1].to_vec();
    let more = [good, &[0]].concat();
    let list = [&[0x87], &good[1..]].concat();
    let deep = vec![0x81; 200];
    let endless = [&[0xbf], &good[1..], &[0xff]].concat();
    let long = [0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff].to_vec();
    vec![cut, more, list, deep, endless, long, vec![0xff], vec![0; 900]]
}

/// A resource, and how it is asked.
struct Resource {
    method: RequestType,
    path: String,
    body: Vec<u8>,
}

fn resources(site: &Site, device: DeviceId, hello: &Hello) -> Vec<Resource> {
    let post = |(name, body): (&str, Vec<u8>)| Resource {
        method: RequestType::Post,
        path: format!("ph/{name}?d={device}"),
        body,
    };
    let get = |path: String| Resource { method: RequestType::Get, path, body: Vec::new() };
    let mut all: Vec<_> = words(hello).into_iter().map(post).collect();
    all.push(post(("signature", vec![0xa0])));
    all.extend(["manifest", "sign"].map(|name| get(format!("ph/{name}?d={device}"))));
    all.push(get(format!("ph/image/{}?d={device}", site.u_id)));
    all.push(get(".well-known/core".into()));
    all
}

/// What is wrong with a request, whatever it is for, and the answer.
type Fault = (&'static str, fn(&mut Packet), ResponseType);

fn add(packet: &mut Packet, option: CoapOption, value: &[u8]) {
    packet.add_option(option, value.to_vec());
}

const FAULTS: &[Fault] = &[
    ("PUT", |p| p.header.code = MessageClass::Request(RequestType::Put), ResponseType::MethodNotAllowed),
    (
        "DELETE",
        |p| p.header.code = MessageClass::Request(RequestType::Delete),
        ResponseType::MethodNotAllowed,
    ),
    ("a body of 1025 bytes", |p| p.payload = vec![0; 1025], ResponseType::RequestEntityTooLarge),
    ("a datagram of 2048 bytes", |p| cut_off(p, 2048), ResponseType::RequestEntityTooLarge),
    ("a datagram of 60000 bytes", |p| cut_off(p, 60_000), ResponseType::RequestEntityTooLarge),
    (
        "a body of 64 KiB to come",
        |p| add(p, CoapOption::Size1, &[1, 0, 0]),
        ResponseType::RequestEntityTooLarge,
    ),
    (
        "the second block of nothing",
        |p| add(p, CoapOption::Block1, &[0x10]),
        ResponseType::RequestEntityIncomplete,
    ),
    ("a block that is short", |p| block(p, 0x0a, 63), ResponseType::BadRequest),
    ("a block that is long", |p| block(p, 0x0a, 65), ResponseType::BadRequest),
    ("a size of block that is none", |p| add(p, CoapOption::Block2, &[7]), ResponseType::BadRequest),
    (
        "two sizes of block",
        |p| [[2], [3]].iter().for_each(|v| add(p, CoapOption::Block2, v)),
        ResponseType::BadOption,
    ),
    ("an option that nobody knows", |p| add(p, CoapOption::Unknown(2049), &[1]), ResponseType::BadOption),
    ("an option that is too long", |p| add(p, CoapOption::UriPort, &[1, 2, 3]), ResponseType::BadOption),
    ("another server's", |p| add(p, CoapOption::ProxyUri, b"coap://x"), ResponseType::ProxyingNotSupported),
    ("a long path", |p| (0..9).for_each(|_| add(p, CoapOption::UriPath, b"x")), ResponseType::NotFound),
    ("a path that is no text", |p| add(p, CoapOption::UriPath, &[0xff, 0xfe]), ResponseType::BadRequest),
    ("a path that leads nowhere", |p| add(p, CoapOption::UriPath, b"nowhere"), ResponseType::NotFound),
];

fn cut_off(packet: &mut Packet, len: usize) {
    packet.payload = vec![0; len - packet.to_bytes_unlimited().unwrap().len()];
}

fn block(packet: &mut Packet, value: u8, len: usize) {
    add(packet, CoapOption::Block1, &[value]);
    packet.payload = vec![0; len];
}

/// Sends a request, and once more, as from a network that doubles; and the same as one that is not confirmable.
async fn refused(asker: &mut Asker, packet: &Packet, expected: ResponseType, what: &str) {
    let answer = asker.ask(packet).await;
    assert_eq!(code(&answer), expected, "{what}");
    assert_eq!(answer.get_token(), packet.get_token());
    assert_eq!(code(&asker.ask(packet).await), expected, "{what}, again");
    let mut packet = packet.clone();
    packet.header.set_type(MessageType::NonConfirmable);
    packet.header.message_id |= 0x8000;
    asker.send(&packet.to_bytes_unlimited().unwrap()).await;
    asker.settled().await;
}

#[actix::test]
async fn over_coap_each_has_its_answer_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::start(dir.path(), LEN);
    let gateway = coap(&site).await;
    let sensor = halfway(&site, dir.path(), "coap", gateway).await;
    let (device, hello) = (sensor.device(), sensor.hello());
    let mut asker = Asker::new(Ipv4Addr::LOCALHOST.into(), gateway).await;
    // The sensor's last words may still be on their way.
    asker.settled().await;
    let before = state(&site).await;
    assert_eq!(before.sensors.len(), 1);

    for resource in resources(&site, device, &hello) {
        let Resource { method, path, body } = &resource;
        for (what, fault, expected) in FAULTS {
            let mut packet = asker.request(*method, path);
            packet.payload.clone_from(body);
            fault(&mut packet);
            refused(&mut asker, &packet, *expected, &format!("{what} at {path}")).await;
        }
        let other = if *method == RequestType::Get { RequestType::Post } else { RequestType::Get };
        let wrong = asker.request(other, path);
        refused(&mut asker, &wrong, ResponseType::MethodNotAllowed, path).await;
        let (option, expected) = match other {
            RequestType::Get => (CoapOption::ContentFormat, ResponseType::UnsupportedContentFormat),
            _ => (CoapOption::Accept, ResponseType::NotAcceptable),
        };
        let mut foreign = asker.request(*method, path);
        foreign.payload.clone_from(body);
        add(&mut foreign, option, &[50]);
        refused(&mut asker, &foreign, expected, path).await;
        if *method == RequestType::Post {
            for body in bodies(body).into_iter().chain([Vec::new()]) {
                let mut packet = asker.request(*method, path);
                packet.payload = body;
                refused(&mut asker, &packet, ResponseType::BadRequest, path).await;
            }
        }
    }

    // In the form that they should have, and saying what is not so.
    let mut said: Vec<(RequestType, String, Vec<u8>, ResponseType)> = Vec::new();
    let stranger = DeviceId::new([0xab; 16]);
    for (name, body) in words(&hello) {
        if name != "hello" {
            said.push((
                RequestType::Post,
                format!("ph/{name}?d={stranger}"),
                body.clone(),
                ResponseType::NotFound,
            ));
            said.push((RequestType::Post, format!("ph/{name}?d=zz"), body.clone(), ResponseType::BadRequest));
            said.push((RequestType::Post, format!("ph/{name}"), body, ResponseType::BadRequest));
        }
    }
    for name in ["manifest", "sign"] {
        said.push((RequestType::Get, format!("ph/{name}?d={stranger}"), vec![], ResponseType::NotFound));
        said.push((RequestType::Get, format!("ph/{name}?d=zz"), vec![], ResponseType::BadRequest));
        said.push((RequestType::Get, format!("ph/{name}"), vec![], ResponseType::BadRequest));
    }
    let mut key = hello.key.to_bytes();
    key[0] ^= 4;
    let no_key = Hello { key: posthouse_protocol::id::DeviceKey::new(key), ..hello };
    for wrong in [Hello { v: 2, ..hello }, no_key] {
        said.push((RequestType::Post, "ph/hello".into(), wrong.to_vec(), ResponseType::BadRequest));
    }
    for path in
        [format!("ph/image/{}", "00".repeat(32)), "ph/image/zz".into(), "ph/image".into(), "ph".into()]
    {
        said.push((RequestType::Get, path, vec![], ResponseType::NotFound));
    }
    for (method, path, body, expected) in said {
        let mut packet = asker.request(method, &path);
        packet.payload = body;
        refused(&mut asker, &packet, expected, &path).await;
    }
    for number in [LEN.div_ceil(1024) as u32, (1 << 20) - 1] {
        let past = asker.block(&format!("ph/image/{}", site.u_id), number, 6, None).await;
        assert_eq!(code(&past), ResponseType::BadRequest, "block {number}");
    }

    // No messages at all, and answers to what was never asked.
    let no_messages: [&[u8]; 8] = [
        &[0x40, 1, 0x70, 1, 0xf0],
        &[0x40, 1, 0x70, 2, 0x0f],
        &[0x40, 1, 0x70, 3, 0xb5, b'p'],
        &[0x40, 1, 0x70, 4, 0xb1, b'p', 0xff],
        &[0x40, 0, 0x70, 5, 0xff, b'x'],
        &[0x49, 1, 0x70, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0x40, 0x45, 0x70, 7],
        &[0x40, 0xff, 0x70, 8],
    ];
    for datagram in no_messages {
        let answer = asker.exchange(datagram).await;
        assert_eq!(answer.header.get_type(), MessageType::Reset, "{datagram:x?}");
    }
    for ignored in
        [&[][..], &[0x40], &[0x80, 1, 0, 1], &[0x60, 0x45, 0, 1], &[0x60, 0, 0, 1], &[0x70, 0, 0, 1]]
    {
        asker.send(ignored).await;
    }
    asker.settled().await;

    assert_eq!(state(&site).await, before);
    all_arrive(&site, &[sensor]).await;
}

/// A gateway and its broker, a sensor halfway, and somebody who can publish as the sensor. Whether the broker keeps what is
/// longer than the gateway takes to itself, as it must (MQTT 5, 3.1.2.11.4).
async fn over_mqtt(dir: &std::path::Path, broker: SocketAddr, bounded: bool) {
    let site = Site::start(dir, LEN);
    mqtt(&site, broker);
    let sensor = halfway(&site, dir, "mqtt", broker).await;
    let (device, hello) = (sensor.device(), sensor.hello());
    let topic = |name: &str| format!("ph/1/{device}/{name}");
    let stranger = DeviceId::new([0xab; 16]);
    let errors = [topic("error"), format!("ph/1/{stranger}/error")];
    let mut speaker = Speaker::new("speaker", broker, &errors).await;
    let get = |offset, len| BlockRequest { u_id: site.u_id, offset, len, count: 1 }.to_vec();
    // The sensor's last words may still be on their way: this one comes after them, and moves nothing.
    let next = |state: &super::State| state.sensors[0]["next"].as_u64().unwrap() as u32;
    speaker.say(topic("get"), get(u32::MAX, 64)).await;
    let refusal = async |speaker: &mut Speaker, from: DeviceId| {
        let (heard, payload) = speaker.hear().await;
        assert_eq!(heard, format!("ph/1/{from}/error"));
        ErrorMsg::decode(&payload).unwrap().code
    };
    assert_eq!(refusal(&mut speaker, device).await, ErrorCode::OutOfRange);
    let before = state(&site).await;
    assert_eq!((before.sensors.len(), next(&before)), (1, u32::MAX));

    let words = words(&hello).into_iter().chain([("signature", vec![0xa2; 8]), ("get", get(0, 64))]);
    for (name, good) in words {
        for body in bodies(&good).into_iter().chain([vec![0x55; 4000]]) {
            speaker.say(topic(name), body).await;
            assert_eq!(refusal(&mut speaker, device).await, ErrorCode::Malformed, "{name}");
        }
        // Taken back, which is nothing.
        speaker.say(topic(name), Vec::new()).await;
        if bounded {
            speaker.say(topic(name), vec![0x55; 5000]).await;
        }
    }
    // In the form that they should have, and saying what is not so; none of them moves anything but the place asked for.
    let unknown = BlockRequest {
        u_id: posthouse_protocol::id::UpdateId::new([9; 32]),
        ..BlockRequest::decode(&get(u32::MAX, 64)).unwrap()
    };
    let not_so = [
        (topic("hello"), Hello { v: 2, ..hello }.to_vec(), device, ErrorCode::UnknownVersion),
        (topic("hello"), made_up(5).to_vec(), device, ErrorCode::Malformed),
        (topic("get"), get(u32::MAX, 0), device, ErrorCode::Malformed),
        (topic("get"), get(u32::MAX, 1025), device, ErrorCode::Malformed),
        (topic("get"), unknown.to_vec(), device, ErrorCode::UnknownImage),
        (format!("ph/1/{stranger}/status"), status().to_vec(), stranger, ErrorCode::UnknownDevice),
        (format!("ph/1/{stranger}/get"), get(0, 64), stranger, ErrorCode::UnknownDevice),
    ];
    for (topic, body, whose, expected) in not_so {
        speaker.say(topic.clone(), body).await;
        assert_eq!(refusal(&mut speaker, whose).await, expected, "{topic}");
    }
    // Topics that are nobody's: the next answer is to what comes after them.
    let spelt = device.to_string().to_uppercase();
    for nobodys in [topic("nothing"), topic("hello/x"), format!("ph/1/{spelt}/hello"), "ph/2/x/hello".into()]
    {
        speaker.say(nobodys, hello.to_vec()).await;
    }
    speaker.say(topic("get"), get(u32::MAX, 64)).await;
    assert_eq!(refusal(&mut speaker, device).await, ErrorCode::OutOfRange);
    assert_eq!(state(&site).await, before);
    all_arrive(&site, &[sensor]).await;
}

#[actix::test]
async fn over_mqtt_with_mosquitto_each_has_its_answer_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let Some((_broker, address)) = broker::mosquitto(dir.path()).await else { return };
    over_mqtt(dir.path(), address, true).await;
}

#[actix::test]
async fn over_mqtt_with_the_embedded_broker_each_has_its_answer_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    over_mqtt(dir.path(), broker::rumqttd(), false).await;
}
