//! From a datagram to a request, and from a response to a datagram (RFC 7252 §3 to §5).

use bytes::Bytes;
use coap_lite::{CoapOption, MessageClass, MessageType, Packet, RequestType, ResponseType};

use posthouse_protocol::id::DeviceId;

use super::option::{BadOption, BlockOption, read_uint, uint};

/// Most segments of a path, and queries: ours have three and one.
const MAX_SEGMENTS: usize = 8;
/// Number of the Echo option (RFC 9175 §2.2.1), which coap-lite has no name for.
const ECHO: CoapOption = CoapOption::Unknown(252);
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

/// The value of an ETag or Echo option, as long as an ETag may be.
pub(super) type Tag = [u8; 8];

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
    /// 0 registers, 1 deregisters an observer (RFC 7641 §2); nothing else is one.
    pub observe: Option<u32>,
    /// Body.
    pub payload: Bytes,
    /// What the client was given to show that it is where it says (RFC 9175).
    pub(super) echo: Option<Vec<u8>>,
    /// Bytes of the whole body, as announced.
    pub(super) size1: Option<u32>,
    format: Option<u32>,
    accept: Option<u32>,
}

impl Request {
    /// Whether the client takes this format.
    pub fn accepts(&self, format: Format) -> bool {
        self.accept.is_none_or(|accept| accept == format as u32)
    }

    /// Whether the body is of this format, as far as the client says.
    pub fn is(&self, format: Format) -> bool {
        self.format.is_none_or(|given| given == format as u32)
    }

    /// Whether it asks to be told of changes. Only the first block can: RFC 7959 §2.6.
    pub(super) fn observes(&self) -> bool {
        self.method == Method::Get && self.observe == Some(0) && self.block2.is_none_or(|b| b.number == 0)
    }
}

/// Why a datagram is no request.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Refusal {
    /// A message that has no place here, or no form: reset it if it is confirmable.
    Reset,
    /// A critical option that is not understood: 4.02, or nothing where the request is not confirmable (RFC 7252 §5.4.1).
    Option(&'static str),
    /// A request that is answered with an error.
    Answer(ResponseType, &'static str),
}

/// Type, id and token of a message.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Envelope {
    pub(super) kind: MessageType,
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
        // Codes 0.08 to 0.31 are methods that nobody has defined yet (RFC 7252 §5.8, §12.1.1).
        MessageClass::Request(_) | MessageClass::Reserved(1..32) => {
            return Err(Refusal::Answer(ResponseType::MethodNotAllowed, "GET and POST"));
        }
        _ => return Err(Refusal::Reset),
    };
    check_options(&packet)?;
    let bad = |BadOption| Refusal::Answer(ResponseType::BadRequest, "block option");
    let block1 = BlockOption::of(&packet, CoapOption::Block1).map_err(bad)?;
    let block2 = BlockOption::of(&packet, CoapOption::Block2).map_err(bad)?;
    // The lengths of critical ones were checked; an elective one that is no number is as if it were not there (§5.4.3).
    let number = |option, max| packet.get_first_option(option).and_then(|bytes| read_uint(bytes, max).ok());
    let request = Request {
        method,
        path: texts(&packet, CoapOption::UriPath)?,
        queries: texts(&packet, CoapOption::UriQuery)?,
        etags: etags(&packet),
        block2,
        observe: number(CoapOption::Observe, 3),
        echo: packet.get_first_option(ECHO).cloned(),
        size1: number(CoapOption::Size1, 4),
        format: number(CoapOption::ContentFormat, 2),
        accept: number(CoapOption::Accept, 2),
        payload: packet.payload.into(),
    };
    Ok((request, block1))
}

/// Odd numbers are critical: not to be ignored (RFC 7252 §5.4.1), nor is one whose length is none that it may have (§5.4.3).
fn check_options(packet: &Packet) -> Result<(), Refusal> {
    let bad = || Refusal::Option("critical option");
    for (number, values) in packet.options() {
        let option = CoapOption::from(*number);
        if matches!(option, CoapOption::ProxyUri | CoapOption::ProxyScheme) {
            return Err(Refusal::Answer(ResponseType::ProxyingNotSupported, "no proxy"));
        }
        if number % 2 == 0 {
            continue;
        }
        let lengths = match option {
            CoapOption::UriHost => 1..=255,
            CoapOption::UriPath | CoapOption::UriQuery => 0..=255,
            CoapOption::UriPort | CoapOption::Accept => 0..=2,
            CoapOption::Block1 | CoapOption::Block2 => 0..=3,
            _ => return Err(bad()),
        };
        let repeatable = matches!(option, CoapOption::UriPath | CoapOption::UriQuery);
        if (values.len() > 1 && !repeatable) || values.iter().any(|value| !lengths.contains(&value.len())) {
            return Err(bad());
        }
    }
    Ok(())
}

fn etags(packet: &Packet) -> Vec<Vec<u8>> {
    let values = packet.get_option(CoapOption::ETag).into_iter().flatten();
    values.filter(|value| (1..=8).contains(&value.len())).take(MAX_SEGMENTS).cloned().collect()
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
    pub(super) etag: Option<Tag>,
    /// Seconds that the answer is good for; with 5.03, when to come back.
    pub(super) max_age: Option<u32>,
    pub(super) block1: Option<BlockOption>,
    pub(super) block2: Option<BlockOption>,
    /// Bytes of the whole representation.
    pub(super) size2: Option<u32>,
    /// Bytes of a body that would be taken.
    pub(super) size1: Option<u32>,
    /// Place in the order of notifications (RFC 7641 §4.4).
    pub(super) observe: Option<u32>,
    /// To be sent back by who wants more (RFC 9175).
    pub(super) echo: Option<Tag>,
    /// The device whose changes would change this answer, if they can be observed.
    pub(super) watch: Option<DeviceId>,
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
            observe: None,
            echo: None,
            watch: None,
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
    pub fn with_etag(self, etag: Tag) -> Self {
        Self { etag: Some(etag), ..self }
    }

    /// Whether it is a success (2.xx).
    pub(super) fn is_success(&self) -> bool {
        u8::from(MessageClass::Response(self.code)) >> 5 == 2
    }

    /// The datagram of it.
    pub(super) fn datagram(&self, to: &Envelope) -> Vec<u8> {
        let mut packet = Packet::new();
        packet.header.set_version(1);
        packet.header.code = MessageClass::Response(self.code);
        packet.header.set_type(to.kind);
        packet.header.message_id = to.id;
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
        add(CoapOption::ETag, self.etag.map(Vec::from));
        add(CoapOption::Observe, self.observe.map(uint));
        add(ECHO, self.echo.map(Vec::from));
        add(CoapOption::ContentFormat, self.format.map(|format| uint(format as u32)));
        add(CoapOption::MaxAge, self.max_age.map(uint));
        add(CoapOption::Block2, self.block2.map(BlockOption::to_bytes));
        add(CoapOption::Block1, self.block1.map(BlockOption::to_bytes));
        add(CoapOption::Size2, self.size2.map(uint));
        add(CoapOption::Size1, self.size1.map(uint));
    }
}

/// Four bytes, of version 1 and without a token: an empty message (RFC 7252 §4.1).
fn empty(kind: u8, id: u16) -> Bytes {
    let [high, low] = id.to_be_bytes();
    Bytes::copy_from_slice(&[0x40 | (kind << 4), 0, high, low])
}

/// Asks whether anybody is there: who is answers with a reset (RFC 7252 §4.3).
pub(super) fn ping(id: u16) -> Bytes {
    empty(0, id)
}

/// An acknowledgement that carries nothing.
pub(super) fn acknowledgement(id: u16) -> Bytes {
    empty(2, id)
}

/// Reset of a message.
pub(super) fn reset(id: u16) -> Bytes {
    empty(3, id)
}
