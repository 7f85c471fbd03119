//! From a datagram to a request, and from a response to a datagram (RFC 7252 §3 to §5).

use bytes::Bytes;
use coap_lite::{CoapOption, MessageClass, MessageType, Packet, RequestType, ResponseType};

use super::option::{BadOption, BlockOption, read_uint, uint};

/// Most segments of a path, and queries: ours have three and one.
const MAX_SEGMENTS: usize = 8;
/// Critical options that are understood (RFC 7252 §5.4.1); the others are answered with 4.02.
const UNDERSTOOD: [CoapOption; 7] = [
    CoapOption::UriHost,
    CoapOption::UriPort,
    CoapOption::UriPath,
    CoapOption::UriQuery,
    CoapOption::Accept,
    CoapOption::Block1,
    CoapOption::Block2,
];

/// Content formats in use (RFC 7252 §12.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Format {
    /// `application/link-format` (RFC 6690).
    Link = 40,
    /// `application/octet-stream`.
    Octets = 42,
    /// `application/cbor`.
    Cbor = 60,
    /// `application/suit-envelope+cose` has no number yet; it travels as `application/cose`.
    Cose = 18,
}

/// What is asked of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// GET.
    Get,
    /// POST.
    Post,
}

/// A request, its body whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Method.
    pub method: Method,
    /// Segments of the path.
    pub path: Vec<String>,
    /// Queries.
    pub queries: Vec<String>,
    /// ETags of what the client holds.
    pub etags: Vec<Vec<u8>>,
    /// Block that is asked for.
    pub block2: Option<BlockOption>,
    /// Body.
    pub payload: Bytes,
    accept: Option<u32>,
}

impl Request {
    /// Whether the client takes this format.
    pub fn accepts(&self, format: Format) -> bool {
        self.accept.is_none_or(|accept| accept == format as u32)
    }
}

/// Why a datagram is no request.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Refusal {
    /// A message that has no place here, or no form: reset it if it is confirmable.
    Reset,
    /// A request that is answered with an error.
    Answer(ResponseType, &'static str),
}

/// Type, id and token of a message: what its answer must carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Envelope {
    pub(super) confirmable: bool,
    pub(super) id: u16,
    pub(super) token: Vec<u8>,
}

/// A datagram's header, read without trusting the rest: version, type, code, id.
pub(super) fn header(datagram: &[u8]) -> Option<(MessageType, u8, u16)> {
    let [first, code, high, low, ..] = *datagram else { return None };
    if first >> 6 != 1 {
        return None;
    }
    let kind = match (first >> 4) & 3 {
        0 => MessageType::Confirmable,
        1 => MessageType::NonConfirmable,
        2 => MessageType::Acknowledgement,
        _ => MessageType::Reset,
    };
    Some((kind, code, u16::from_be_bytes([high, low])))
}

/// Reads a message with the form of RFC 7252 §3, which coap-lite checks but for two things: an empty
/// message is only a header, and a payload marker has a payload.
pub(super) fn parse(datagram: &[u8]) -> Result<Packet, Refusal> {
    let packet = Packet::from_bytes(datagram).map_err(|_| Refusal::Reset)?;
    let empty = packet.header.code == MessageClass::Empty;
    if empty && datagram.len() > 4 {
        return Err(Refusal::Reset);
    }
    if packet.payload.is_empty() && datagram.last() == Some(&0xff) && datagram.len() > 4 {
        let encoded = packet.to_bytes_unlimited().map_err(|_| Refusal::Reset)?;
        if encoded.len() != datagram.len() {
            return Err(Refusal::Reset);
        }
    }
    Ok(packet)
}

/// The request in a packet and its Block1 option.
pub(super) fn request(packet: Packet) -> Result<(Request, Option<BlockOption>), Refusal> {
    let method = match packet.header.code {
        MessageClass::Request(RequestType::Get) => Method::Get,
        MessageClass::Request(RequestType::Post) => Method::Post,
        MessageClass::Request(_) => {
            return Err(Refusal::Answer(ResponseType::MethodNotAllowed, "GET and POST"));
        }
        _ => return Err(Refusal::Reset),
    };
    check_options(&packet)?;
    let bad = |BadOption| Refusal::Answer(ResponseType::BadRequest, "block option");
    let block1 = BlockOption::of(&packet, CoapOption::Block1).map_err(bad)?;
    let block2 = BlockOption::of(&packet, CoapOption::Block2).map_err(bad)?;
    let accept = packet.get_first_option(CoapOption::Accept).map(|bytes| read_uint(bytes, 2));
    let request = Request {
        method,
        path: texts(&packet, CoapOption::UriPath)?,
        queries: texts(&packet, CoapOption::UriQuery)?,
        etags: values(&packet, CoapOption::ETag),
        block2,
        accept: accept.transpose().map_err(bad)?,
        payload: packet.payload.into(),
    };
    Ok((request, block1))
}

/// Odd numbers are critical: not to be ignored (RFC 7252 §5.4.1).
fn check_options(packet: &Packet) -> Result<(), Refusal> {
    for (number, values) in packet.options() {
        let option = CoapOption::from(*number);
        if matches!(option, CoapOption::ProxyUri | CoapOption::ProxyScheme) {
            return Err(Refusal::Answer(ResponseType::ProxyingNotSupported, "no proxy"));
        }
        let repeatable = matches!(option, CoapOption::UriPath | CoapOption::UriQuery);
        let understood = UNDERSTOOD.contains(&option);
        if number % 2 == 1 && (!understood || (values.len() > 1 && !repeatable)) {
            return Err(Refusal::Answer(ResponseType::BadOption, "critical option"));
        }
    }
    Ok(())
}

fn values(packet: &Packet, option: CoapOption) -> Vec<Vec<u8>> {
    let values = packet.get_option(option).into_iter().flatten();
    values.take(MAX_SEGMENTS).cloned().collect()
}

fn texts(packet: &Packet, option: CoapOption) -> Result<Vec<String>, Refusal> {
    let values = packet.get_option(option).into_iter().flatten();
    if values.clone().count() > MAX_SEGMENTS {
        return Err(Refusal::Answer(ResponseType::NotFound, "path"));
    }
    let text = |value: &Vec<u8>| String::from_utf8(value.clone());
    let texts: Result<_, _> = values.map(text).collect();
    texts.map_err(|_| Refusal::Answer(ResponseType::BadRequest, "not UTF-8"))
}

/// An answer, before it is put in a datagram.
#[derive(Debug, Clone, PartialEq)]
pub struct Response {
    pub(super) code: ResponseType,
    pub(super) format: Option<Format>,
    pub(super) etag: Option<Vec<u8>>,
    /// Seconds that the answer is good for; with 5.03, when to come back.
    pub(super) max_age: Option<u32>,
    pub(super) block1: Option<BlockOption>,
    pub(super) block2: Option<BlockOption>,
    /// Bytes of the whole representation.
    pub(super) size2: Option<u32>,
    /// Bytes of a body that would be taken.
    pub(super) size1: Option<u32>,
    pub(super) payload: Bytes,
}

impl Response {
    /// A code and nothing else.
    pub fn code(code: ResponseType) -> Self {
        Self {
            code,
            format: None,
            etag: None,
            max_age: None,
            block1: None,
            block2: None,
            size2: None,
            size1: None,
            payload: Bytes::new(),
        }
    }

    /// An error with a diagnostic for people (RFC 7252 §5.5.2).
    pub fn diagnostic(code: ResponseType, text: impl Into<String>) -> Self {
        Self { payload: Bytes::from(text.into()), ..Self::code(code) }
    }

    /// A representation.
    pub fn content(format: Format, payload: impl Into<Bytes>) -> Self {
        Self { format: Some(format), payload: payload.into(), ..Self::code(ResponseType::Content) }
    }

    /// 5.03 with the seconds after which to come back.
    pub fn come_back(retry_after: u32) -> Self {
        Self { max_age: Some(retry_after), ..Self::code(ResponseType::ServiceUnavailable) }
    }

    /// The same, tagged.
    pub fn with_etag(self, etag: Vec<u8>) -> Self {
        Self { etag: Some(etag), ..self }
    }

    /// The datagram: an acknowledgement that carries the response, or a message of its own.
    pub(super) fn datagram(&self, to: &Envelope, own_id: u16) -> Vec<u8> {
        let mut packet = Packet::new();
        packet.header.set_version(1);
        packet.header.code = MessageClass::Response(self.code);
        let (kind, id) = match to.confirmable {
            true => (MessageType::Acknowledgement, to.id),
            false => (MessageType::NonConfirmable, own_id),
        };
        packet.header.set_type(kind);
        packet.header.message_id = id;
        packet.set_token(to.token.clone());
        self.add_options(&mut packet);
        packet.payload = self.payload.to_vec();
        packet.to_bytes_unlimited().unwrap_or_default()
    }

    fn add_options(&self, packet: &mut Packet) {
        let mut add = |option, value: Option<Vec<u8>>| {
            if let Some(value) = value {
                packet.add_option(option, value);
            }
        };
        add(CoapOption::ETag, self.etag.clone());
        add(CoapOption::ContentFormat, self.format.map(|format| uint(format as u32)));
        add(CoapOption::MaxAge, self.max_age.map(uint));
        add(CoapOption::Block2, self.block2.map(BlockOption::to_bytes));
        add(CoapOption::Block1, self.block1.map(BlockOption::to_bytes));
        add(CoapOption::Size2, self.size2.map(uint));
        add(CoapOption::Size1, self.size1.map(uint));
    }
}

/// Four bytes: reset of a message.
pub(super) fn reset(id: u16) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    vec![0x70, 0, high, low]
}
