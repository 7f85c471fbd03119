use coap_lite::{CoapOption, MessageClass, MessageType, Packet, RequestType};

use super::super::message;
use super::*;

const DEVICE: DeviceId = DeviceId::new([0xd0; 16]);
const OTHER: DeviceId = DeviceId::new([0x0e; 16]);

/// Method, path, options, body, and the code of the refusal.
type Case<'a> = (RequestType, &'a str, &'a [(CoapOption, &'a [u8])], &'a [u8], ResponseType);
const NOBODY: Who = Who::Said(None);

fn request(method: RequestType, path: &str, options: &[(CoapOption, &[u8])], payload: &[u8]) -> Request {
    let mut packet = Packet::new();
    packet.header.set_version(1);
    packet.header.set_type(MessageType::Confirmable);
    packet.header.code = MessageClass::Request(method);
    for segment in path.split('/') {
        packet.add_option(CoapOption::UriPath, segment.as_bytes().to_vec());
    }
    for (option, value) in options {
        packet.add_option(*option, value.to_vec());
    }
    packet.payload = payload.to_vec();
    message::request(packet).unwrap().0
}

fn refused(request: &Request, who: Who) -> ResponseType {
    match route(request, who) {
        Err(astray) => astray.answer().code,
        Ok(route) => panic!("{route:?}"),
    }
}

#[test]
fn each_resource_has_its_methods_formats_and_errors() {
    use RequestType::{Get, Post};
    use ResponseType::*;
    let status = [names::ROOT, names::STATUS].join("/");
    let image = format!("ph/image/{}", "ab".repeat(32));
    let cases: &[Case<'_>] = &[
        (Get, "nothing", &[], &[], NotFound),
        (Get, "ph", &[], &[], NotFound),
        (Get, "ph/nothing", &[], &[], NotFound),
        (Get, "ph/image/zz", &[], &[], NotFound),
        (Get, "ph/image", &[], &[], NotFound),
        (Get, "ph/hello", &[], &[], MethodNotAllowed),
        (Get, "ph/signature", &[], &[], MethodNotAllowed),
        (Get, "ph/refused", &[], &[], MethodNotAllowed),
        (Get, &status, &[], &[], MethodNotAllowed),
        (Post, ".well-known/core", &[], &[], MethodNotAllowed),
        (Post, "ph/manifest", &[], &[], MethodNotAllowed),
        (Post, "ph/sign", &[], &[], MethodNotAllowed),
        (Post, &image, &[], &[], MethodNotAllowed),
        (Post, "ph/hello", &[(CoapOption::ContentFormat, &[50])], &[], UnsupportedContentFormat),
        (Post, "ph/hello", &[(CoapOption::ContentFormat, &[])], &[], UnsupportedContentFormat),
        (Post, "ph/hello", &[(CoapOption::ContentFormat, &[60])], &[0xff], BadRequest),
        (Post, "ph/hello", &[], &[], BadRequest),
        (Post, "ph/signature", &[], &[0xa0], BadRequest),
        (Post, &status, &[], &[0; 1024], BadRequest),
        (Post, "ph/refused", &[], &[0x80], BadRequest),
        (Get, "ph/manifest", &[], &[], BadRequest),
        (Get, "ph/sign", &[], &[], BadRequest),
        (Get, "ph/sign", &[(CoapOption::UriQuery, b"d=zz")], &[], BadRequest),
        (Get, "ph/sign", &[(CoapOption::Accept, &[50])], &[], NotAcceptable),
        (Get, "ph/manifest", &[(CoapOption::Accept, &[60])], &[], NotAcceptable),
        (Get, &image, &[(CoapOption::Accept, &[60])], &[], NotAcceptable),
        (Get, ".well-known/core", &[(CoapOption::Accept, &[60])], &[], NotAcceptable),
    ];
    for (method, path, options, payload, code) in cases {
        assert_eq!(
            refused(&request(*method, path, options, payload), NOBODY),
            *code,
            "{method:?} {path} {options:?}"
        );
    }
}

/// Under a key a device speaks for itself alone, whatever it says.
#[test]
fn a_session_is_one_devices() {
    let query = format!("d={OTHER}");
    let for_other = [(CoapOption::UriQuery, query.as_bytes())];
    let image = format!("ph/image/{}", "ab".repeat(32));
    for path in ["ph/manifest", "ph/sign", &image] {
        let ask = request(RequestType::Get, path, &for_other, &[]);
        assert_eq!(refused(&ask, Who::Shown(DEVICE)), ResponseType::Forbidden, "{path}");
        assert!(route(&ask, Who::Shown(OTHER)).is_ok());
        assert!(route(&ask, Who::Said(Some(DEVICE))).is_ok(), "without a key a query counts");
    }
    let ask = request(RequestType::Get, "ph/sign", &[], &[]);
    assert!(matches!(route(&ask, Who::Shown(DEVICE)), Ok(Route::Word { device: DEVICE, .. })));
}

#[test]
fn what_is_observed_and_absent_is_an_empty_answer() {
    let plain = request(RequestType::Get, "ph/sign", &[], &[]);
    let observed = request(RequestType::Get, "ph/sign", &[(CoapOption::Observe, &[])], &[]);
    assert_eq!(answer(&plain, DEVICE, &Up::Sign, &[]).code, ResponseType::NotFound);
    let empty = answer(&observed, DEVICE, &Up::Sign, &[]);
    assert_eq!((empty.code, empty.payload.len(), empty.watch), (ResponseType::Content, 0, Some(DEVICE)));
    let none = Down::Error(ErrorMsg { code: ErrorCode::UnknownImage, retry_after: Some(5) });
    let downs = std::slice::from_ref(&none);
    let empty = answer(&observed, DEVICE, &Up::Manifest, downs);
    assert_eq!((empty.code, empty.watch), (ResponseType::Content, Some(DEVICE)));
    let absent = answer(&plain, DEVICE, &Up::Manifest, downs);
    assert_eq!((absent.code, absent.max_age), (ResponseType::NotFound, Some(5)));
    for code in [ErrorCode::Unauthenticated, ErrorCode::UnknownDevice] {
        let refused = [Down::Error(ErrorMsg { code, retry_after: None })];
        assert_eq!(answer(&observed, DEVICE, &Up::Sign, &refused).watch, None, "{code:?}");
    }
}

#[test]
fn a_manifest_that_is_held_is_not_sent_again() {
    let envelope = Bytes::from_static(b"envelope");
    let downs = [Down::Manifest(envelope.clone())];
    let first = answer(&request(RequestType::Get, "ph/manifest", &[], &[]), DEVICE, &Up::Manifest, &downs);
    assert_eq!(first.payload, envelope);
    let held = first.etag.unwrap();
    let again =
        request(RequestType::Get, "ph/manifest", &[(CoapOption::ETag, &[1]), (CoapOption::ETag, &held)], &[]);
    let second = answer(&again, DEVICE, &Up::Manifest, &downs);
    assert_eq!((second.code, second.payload.len(), second.etag), (ResponseType::Valid, 0, Some(held)));
}

/// RFC 6690 §4.1, its filters on our links.
#[test]
fn discovery_is_filtered() {
    let found = |queries: &[&str]| {
        let options: Vec<_> = queries.iter().map(|query| (CoapOption::UriQuery, query.as_bytes())).collect();
        let response = links(&request(RequestType::Get, ".well-known/core", &options, &[]));
        String::from_utf8(response.payload.to_vec()).unwrap()
    };
    assert_eq!(found(&[]).split(',').count(), 7);
    assert_eq!(found(&["rt=ph.*"]), found(&[]));
    assert_eq!(found(&["rt=ph.image"]), "</ph/image>;rt=\"ph.image\";ct=42");
    assert_eq!(found(&["rt=\"ph.image\""]), found(&["rt=ph.image"]));
    assert_eq!(found(&["href=/ph/manifest"]), "</ph/manifest>;rt=\"ph.manifest\";ct=18;obs");
    assert_eq!(found(&["href=/ph/s*"]).split(',').count(), 3);
    assert_eq!(found(&["ct=60"]).split(',').count(), 2);
    assert_eq!(found(&["ct=60", "href=/ph/si*"]).split(',').count(), 1);
    for nothing in ["rt=core.*", "if=sensor", "rt=ph", "ct=6"] {
        assert_eq!(found(&[nothing]), "", "{nothing}");
    }
}
