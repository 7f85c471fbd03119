//! The resources: which request is which word of a sensor, and which answer is which response.

use bytes::Bytes;
use coap_lite::ResponseType;
use posthouse_protocol::id::{DeviceId, UpdateId};
use posthouse_protocol::sensor::{ErrorCode, ErrorMsg, Hello, SignatureMsg, Status, StatusReply, names};
use posthouse_protocol::wire::WireError;
use sha2::{Digest as _, Sha256};

use super::message::{Format, Method, Request, Response};
use super::option::{BlockOption, MAX_SZX};
use crate::sensors::{Down, ImagePart, Up};

/// Bytes of an ETag, as many as it may have.
const ETAG_LEN: usize = 8;
/// A site's images change seldom, and under other names, s.
const IMAGE_MAX_AGE: u32 = 24 * 3600;

/// What a request is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Route {
    /// `/.well-known/core` (RFC 6690).
    Discover,
    /// A sensor's word.
    Word { device: DeviceId, up: Up },
    /// A block of an image.
    Image { u_id: UpdateId, block: BlockOption, device: Option<DeviceId> },
}

/// Finds what a request is for. `known` is the device that said hello from the same address.
pub(super) fn route(request: &Request, known: Option<DeviceId>) -> Result<Route, Response> {
    let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
    match path[..] {
        [".well-known", "core"] => get(request).map(|()| Route::Discover),
        [names::ROOT, names::IMAGE, u_id] => image(request, u_id, known),
        [names::ROOT, name] => word(request, name, known),
        _ => Err(Response::code(ResponseType::NotFound)),
    }
}

fn get(request: &Request) -> Result<(), Response> {
    method(request, Method::Get)
}

fn method(request: &Request, method: Method) -> Result<(), Response> {
    let right = request.method == method;
    if right { Ok(()) } else { Err(Response::code(ResponseType::MethodNotAllowed)) }
}

fn word(request: &Request, name: &str, known: Option<DeviceId>) -> Result<Route, Response> {
    let downward = matches!(name, names::MANIFEST | names::SIGN);
    let bytes = &request.payload;
    let up = match name {
        names::MANIFEST => Up::Manifest,
        names::SIGN => Up::Sign,
        names::HELLO => Up::Hello(decoded(Hello::decode(bytes))?),
        names::SIGNATURE => Up::Signature(decoded(SignatureMsg::decode(bytes))?),
        names::STATUS => Up::Status(decoded(Status::decode(bytes))?),
        names::REFUSED => Up::Refused(decoded(ErrorMsg::decode(bytes))?),
        _ => return Err(Response::code(ResponseType::NotFound)),
    };
    method(request, if downward { Method::Get } else { Method::Post })?;
    let device = match up {
        Up::Hello(hello) => hello.key.device_id(),
        _ => device(request, known)?.ok_or_else(|| {
            Response::diagnostic(ResponseType::BadRequest, "which device? say hello, or ?d=<device>")
        })?,
    };
    Ok(Route::Word { device, up })
}

/// The methods of a resource differ in whether they have a body: an empty one does not decode, so
/// that a GET of `/ph/hello` is told that its body is wrong. It gets the right code here.
fn decoded<T>(message: Result<T, WireError>) -> Result<T, Response> {
    message.map_err(|error| Response::diagnostic(ResponseType::BadRequest, error.to_string()))
}

/// The device in the query; else the one that is known to be there.
fn device(request: &Request, known: Option<DeviceId>) -> Result<Option<DeviceId>, Response> {
    let named = request.queries.iter().find_map(|query| query.strip_prefix(names::DEVICE_QUERY));
    let Some(named) = named else { return Ok(known) };
    let device = named.parse().map_err(|_| Response::diagnostic(ResponseType::BadRequest, "d=<device>"))?;
    Ok(Some(device))
}

fn image(request: &Request, u_id: &str, known: Option<DeviceId>) -> Result<Route, Response> {
    get(request)?;
    let u_id: UpdateId = u_id.parse().map_err(|_| Response::code(ResponseType::NotFound))?;
    if !request.accepts(Format::Octets) {
        return Err(Response::code(ResponseType::NotAcceptable));
    }
    let first = BlockOption { number: 0, more: false, szx: MAX_SZX };
    let block = request.block2.unwrap_or(first);
    let held = request.etags.iter().any(|held| *held == etag(u_id.as_bytes()));
    if held && block.number == 0 {
        return Err(valid(etag(u_id.as_bytes())));
    }
    Ok(Route::Image { u_id, block, device: device(request, known)? })
}

fn etag(digest: &[u8; 32]) -> Vec<u8> {
    digest[..ETAG_LEN].to_vec()
}

fn valid(etag: Vec<u8>) -> Response {
    Response::code(ResponseType::Valid).with_etag(etag)
}

/// The answer to a sensor's word.
pub(super) fn answer(request: &Request, up: &Up, downs: &[Down]) -> Response {
    let error = downs.iter().find_map(|down| if let Down::Error(error) = down { Some(error) } else { None });
    if let Some(error) = error {
        return refusal(error);
    }
    match up {
        Up::Manifest => downs.iter().find_map(|down| manifest(request, down)).unwrap_or_else(not_found),
        Up::Sign => downs.iter().find_map(sign).unwrap_or_else(not_found),
        Up::Status(_) => downs.iter().find_map(reply).unwrap_or_else(changed),
        Up::Hello(_) | Up::Signature(_) | Up::Refused(_) | Up::Get(_) => changed(),
    }
}

fn changed() -> Response {
    Response::code(ResponseType::Changed)
}

fn not_found() -> Response {
    Response::code(ResponseType::NotFound)
}

fn manifest(request: &Request, down: &Down) -> Option<Response> {
    let Down::Manifest(envelope) = down else { return None };
    let tag = etag(&Sha256::digest(envelope).into());
    if request.etags.contains(&tag) {
        return Some(valid(tag));
    }
    Some(Response::content(Format::Cose, envelope.clone()).with_etag(tag))
}

fn sign(down: &Down) -> Option<Response> {
    let Down::Sign(request) = down else { return None };
    Some(Response::content(Format::Cbor, request.to_vec()))
}

fn reply(down: &Down) -> Option<Response> {
    let Down::Reply(StatusReply { retry_after }) = down else { return None };
    let reply = StatusReply { retry_after: *retry_after }.to_vec();
    Some(Response { format: Some(Format::Cbor), payload: reply.into(), ..changed() })
}

/// The answer to a request for a block.
pub(super) fn block(u_id: &UpdateId, block: BlockOption, part: ImagePart) -> Response {
    let end = block.offset() + part.bytes.len() as u64;
    let more = end < part.total;
    let content = Response::content(Format::Octets, part.bytes).with_etag(etag(u_id.as_bytes()));
    let size2 = u32::try_from(part.total).ok();
    Response { block2: Some(BlockOption { more, ..block }), size2, max_age: Some(IMAGE_MAX_AGE), ..content }
}

/// A refusal in CoAP's codes.
pub(super) fn refusal(error: &ErrorMsg) -> Response {
    let code = match error.code {
        ErrorCode::NotStaged | ErrorCode::Busy => ResponseType::ServiceUnavailable,
        ErrorCode::Unauthenticated => ResponseType::Unauthorized,
        ErrorCode::UnknownDevice | ErrorCode::UnknownProduct | ErrorCode::UnknownImage => {
            ResponseType::NotFound
        }
        _ => ResponseType::BadRequest,
    };
    Response { max_age: error.retry_after, ..Response::diagnostic(code, error.code.to_string()) }
}

/// The links of the sensors' resources, filtered by `rt` as RFC 6690 §4.1 has it.
pub(super) fn links(request: &Request) -> Response {
    let wanted = request.queries.iter().find_map(|query| query.strip_prefix("rt="));
    let names = [
        (names::HELLO, ""),
        (names::MANIFEST, ";ct=18"),
        (names::SIGN, ";ct=60"),
        (names::SIGNATURE, ""),
        (names::IMAGE, ";ct=42"),
        (names::STATUS, ";ct=60"),
        (names::REFUSED, ""),
    ];
    let links: Vec<String> = names
        .into_iter()
        .filter(|(name, _)| wanted.is_none_or(|wanted| matches(wanted, &format!("ph.{name}"))))
        .map(|(name, format)| format!("</{}/{name}>;rt=\"ph.{name}\"{format}", names::ROOT))
        .collect();
    Response::content(Format::Link, Bytes::from(links.join(",")))
}

/// Equal, or a prefix before a final `*`.
fn matches(wanted: &str, value: &str) -> bool {
    match wanted.strip_suffix('*') {
        Some(prefix) => value.starts_with(prefix),
        None => wanted == value,
    }
}
