//! The resources: which request is which word of a sensor, and which answer is which response.

use bytes::Bytes;
use coap_lite::ResponseType;
use posthouse_protocol::id::{DeviceId, UpdateId};
use posthouse_protocol::sensor::{ErrorCode, ErrorMsg, Hello, SignatureMsg, Status, StatusReply, names};
use posthouse_protocol::wire::WireError;
use sha2::{Digest as _, Sha256};

use super::message::{Format, Method, Request, Response, Tag};
use super::option::{BlockOption, MAX_SZX};
use crate::sensors::{Down, ImagePart, Up};

/// A site's images change seldom, and under other names, s.
const IMAGE_MAX_AGE: u32 = 24 * 3600;
/// Who observes hears of changes, and need not ask again before, s.
const OBSERVED_MAX_AGE: u32 = 24 * 3600;

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

/// Who asks, as far as that is known.
#[derive(Debug, Clone, Copy)]
pub(super) enum Who {
    /// The device that said hello from the same address, if any did.
    Said(Option<DeviceId>),
    /// The device whose key the session was made with. It speaks for itself alone.
    Shown(DeviceId),
}

/// Why a request has no route.
#[derive(Debug)]
pub(super) enum Astray {
    /// It cannot be so: the answer says why.
    Answer(Response),
    /// It is for this device, and the session is another one's.
    Another(DeviceId),
}

impl From<Response> for Astray {
    fn from(response: Response) -> Self {
        Self::Answer(response)
    }
}

impl Astray {
    /// What the sensor is told.
    pub(super) fn answer(self) -> Response {
        match self {
            Self::Answer(response) => response,
            Self::Another(_) => {
                Response::diagnostic(ResponseType::Forbidden, "this session is another device's")
            }
        }
    }
}

/// Finds what a request is for.
pub(super) fn route(request: &Request, who: Who) -> Result<Route, Astray> {
    let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
    match path[..] {
        [".well-known", "core"] => {
            get(request)?;
            acceptable(request, Format::Link)?;
            Ok(Route::Discover)
        }
        [names::ROOT, names::IMAGE, u_id] => image(request, u_id, who),
        [names::ROOT, name] => word(request, name, who),
        _ => Err(Response::code(ResponseType::NotFound).into()),
    }
}

fn get(request: &Request) -> Result<(), Response> {
    method(request, Method::Get)
}

fn method(request: &Request, method: Method) -> Result<(), Response> {
    let right = request.method == method;
    if right { Ok(()) } else { Err(Response::code(ResponseType::MethodNotAllowed)) }
}

fn acceptable(request: &Request, format: Format) -> Result<(), Response> {
    let right = request.accepts(format);
    if right { Ok(()) } else { Err(Response::code(ResponseType::NotAcceptable)) }
}

fn word(request: &Request, name: &str, who: Who) -> Result<Route, Astray> {
    let bytes = &request.payload;
    match name {
        names::MANIFEST | names::SIGN => get(request)?,
        names::HELLO | names::SIGNATURE | names::STATUS | names::REFUSED => {
            method(request, Method::Post)?;
            if !request.is(Format::Cbor) {
                return Err(Response::code(ResponseType::UnsupportedContentFormat).into());
            }
        }
        _ => return Err(Response::code(ResponseType::NotFound).into()),
    }
    match name {
        names::MANIFEST => acceptable(request, Format::Cose)?,
        names::SIGN | names::STATUS => acceptable(request, Format::Cbor)?,
        _ => {}
    }
    let up = match name {
        names::MANIFEST => Up::Manifest,
        names::SIGN => Up::Sign,
        names::HELLO => Up::Hello(decoded(Hello::decode(bytes))?),
        names::SIGNATURE => Up::Signature(decoded(SignatureMsg::decode(bytes))?),
        names::STATUS => Up::Status(decoded(Status::decode(bytes))?),
        _ => Up::Refused(decoded(ErrorMsg::decode(bytes))?),
    };
    let named = match up {
        Up::Hello(hello) => Some(hello.key.device_id()),
        _ => device(request)?,
    };
    let device = known(named, who)?.ok_or_else(|| {
        Response::diagnostic(ResponseType::BadRequest, "which device? say hello, or ?d=<device>")
    })?;
    Ok(Route::Word { device, up })
}

/// The device that is meant: the one that is named, else the one that is there.
fn known(named: Option<DeviceId>, who: Who) -> Result<Option<DeviceId>, Astray> {
    match (named, who) {
        (Some(named), Who::Shown(shown)) if named != shown => Err(Astray::Another(named)),
        (_, Who::Shown(shown)) => Ok(Some(shown)),
        (named, Who::Said(said)) => Ok(named.or(said)),
    }
}

fn decoded<T>(message: Result<T, WireError>) -> Result<T, Response> {
    message.map_err(|error| Response::diagnostic(ResponseType::BadRequest, error.to_string()))
}

/// The device in the query.
fn device(request: &Request) -> Result<Option<DeviceId>, Response> {
    let named = request.queries.iter().find_map(|query| query.strip_prefix(names::DEVICE_QUERY));
    let bad = |_| Response::diagnostic(ResponseType::BadRequest, "d=<device>");
    named.map(|named| named.parse().map_err(bad)).transpose()
}

fn image(request: &Request, u_id: &str, who: Who) -> Result<Route, Astray> {
    get(request)?;
    let u_id: UpdateId = u_id.parse().map_err(|_| Response::code(ResponseType::NotFound))?;
    acceptable(request, Format::Octets)?;
    let first = BlockOption { number: 0, more: false, szx: MAX_SZX };
    let block = request.block2.unwrap_or(first);
    let held = request.etags.iter().any(|held| *held == etag(u_id.as_bytes()));
    if held && block.number == 0 {
        return Err(valid(etag(u_id.as_bytes())).into());
    }
    Ok(Route::Image { u_id, block, device: known(device(request)?, who)? })
}

fn etag(digest: &[u8; 32]) -> Tag {
    let mut tag = Tag::default();
    tag.copy_from_slice(&digest[..size_of::<Tag>()]);
    tag
}

fn valid(etag: Tag) -> Response {
    Response::code(ResponseType::Valid).with_etag(etag)
}

/// The answer to a sensor's word. What changes can be observed: nothing to sign, and no manifest, are answers as well then,
/// without a body, as no error can be observed (RFC 7641 §4.1).
pub(super) fn answer(request: &Request, device: DeviceId, up: &Up, downs: &[Down]) -> Response {
    let error = downs.iter().find_map(|down| if let Down::Error(error) = down { Some(error) } else { None });
    let found = match (up, error) {
        (Up::Manifest, None) => downs.iter().find_map(|down| manifest(request, down)),
        (Up::Sign, None) => downs.iter().find_map(sign),
        (Up::Manifest, Some(ErrorMsg { code: ErrorCode::UnknownImage, .. })) => None,
        (_, Some(error)) => return refusal(error),
        (Up::Status(_), None) => return downs.iter().find_map(reply).unwrap_or_else(changed),
        _ => return changed(),
    };
    if request.observe != Some(0) {
        return found.unwrap_or_else(|| error.map_or_else(not_found, refusal));
    }
    let found = found.unwrap_or_else(|| Response::code(ResponseType::Content));
    Response { watch: Some(device), max_age: Some(OBSERVED_MAX_AGE), ..found }
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
    if request.etags.iter().any(|held| *held == tag) {
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

/// The links of the sensors' resources with their attributes, filtered as RFC 6690 §4.1 has it: by `href` or any attribute.
pub(super) fn links(request: &Request) -> Response {
    let resources: [(&str, &[(&str, &str)]); 7] = [
        (names::HELLO, &[]),
        (names::MANIFEST, &[("ct", "18"), ("obs", "")]),
        (names::SIGN, &[("ct", "60"), ("obs", "")]),
        (names::SIGNATURE, &[]),
        (names::IMAGE, &[("ct", "42")]),
        (names::STATUS, &[("ct", "60")]),
        (names::REFUSED, &[]),
    ];
    let mut links = Vec::with_capacity(resources.len());
    for (name, attributes) in resources {
        let (href, kind) = (format!("/{}/{name}", names::ROOT), format!("ph.{name}"));
        let fixed = [("href", href.as_str()), ("rt", kind.as_str())];
        let has = |query: &String| {
            // A query that filters nothing is none.
            let Some((wanted, pattern)) = query.split_once('=') else { return true };
            fixed.iter().chain(attributes).any(|(name, value)| *name == wanted && matches(pattern, value))
        };
        if request.queries.iter().all(has) {
            let attributes = attributes.iter().map(|(name, value)| match *value {
                "" => format!(";{name}"),
                value => format!(";{name}={value}"),
            });
            links.push(format!("<{href}>;rt=\"{kind}\"{}", attributes.collect::<String>()));
        }
    }
    Response::content(Format::Link, Bytes::from(links.join(",")))
}

/// Equal, or a prefix before a final `*`.
fn matches(wanted: &str, value: &str) -> bool {
    let wanted = wanted.trim_matches('"');
    match wanted.strip_suffix('*') {
        Some(prefix) => value.starts_with(prefix),
        None => wanted == value,
    }
}

#[cfg(test)]
mod tests;
