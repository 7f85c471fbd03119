//! What a request is answered with, in the encoding that it asked for.

use std::time::Duration;

use alloy::primitives::FixedBytes;
use serde_json::{Value, json};

use super::container::{Container, Field};

/// Encodings of the beacon API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Json,
    Ssz,
}

impl Encoding {
    /// What an `Accept` header likes best (RFC 9110, section 12.5.1); JSON in doubt.
    pub(super) fn accepted(accept: Option<&str>) -> Self {
        let (mut ssz, mut json) = (0.0, 0.0);
        for range in accept.unwrap_or("*/*").split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(Ok(1.0), str::parse);
            let weight: f32 = weight.unwrap_or(0.0);
            match media {
                "application/octet-stream" => ssz = weight,
                "application/json" | "application/*" | "*/*" => json = weight.max(json),
                _ => {}
            }
        }
        if ssz > json { Self::Ssz } else { Self::Json }
    }

    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ssz => "application/octet-stream",
        }
    }
}

/// A container and the fork that it says it is of.
pub(super) struct Versioned {
    pub(super) version: &'static str,
    pub(super) digest: FixedBytes<4>,
    pub(super) data: Container,
}

impl Versioned {
    fn json(&self) -> Value {
        json!({ "version": self.version, "data": self.data.json() })
    }

    /// An item of `updates`: length of what follows (u64, little-endian), fork digest, container.
    fn chunk(&self) -> Vec<u8> {
        let ssz = self.data.ssz();
        let length = (self.digest.len() + ssz.len()) as u64;
        [&length.to_le_bytes(), self.digest.as_slice(), &ssz].concat()
    }
}

/// An answer before it is encoded.
pub(super) enum Answer {
    /// Light client data.
    One(Versioned),
    /// `updates`.
    Many(Vec<Versioned>),
    /// A beacon block; in JSON it says whether it is finalized.
    Block { block: Versioned, finalized: bool },
    /// What there is in JSON only.
    Json(Value),
    /// Good, and nothing to say.
    Empty,
    /// An HTTP status and why.
    Refused(u16, &'static str),
}

/// Status, headers and body.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
    /// How long it is kept back.
    pub(super) delay: Duration,
}

impl Reply {
    fn ok(encoding: Encoding, version: Option<&str>, body: Vec<u8>) -> Self {
        let mut headers = vec![("Content-Type", encoding.media_type().to_owned())];
        headers.extend(version.map(|version| ("Eth-Consensus-Version", version.to_owned())));
        Self { status: 200, headers, body, delay: Duration::ZERO }
    }

    fn json(value: &Value) -> Self {
        Self::ok(Encoding::Json, None, value.to_string().into_bytes())
    }

    pub(super) fn encode(answer: &Answer, encoding: Encoding) -> Self {
        match (answer, encoding) {
            (Answer::One(one) | Answer::Block { block: one, .. }, Encoding::Ssz) => {
                Self::ok(encoding, Some(one.version), one.data.ssz())
            }
            (Answer::One(one), Encoding::Json) => {
                Self::ok(encoding, Some(one.version), one.json().to_string().into_bytes())
            }
            (Answer::Block { block, finalized }, Encoding::Json) => {
                let mut value = block.json();
                value["execution_optimistic"] = json!(false);
                value["finalized"] = json!(finalized);
                Self::ok(encoding, Some(block.version), value.to_string().into_bytes())
            }
            (Answer::Many(many), Encoding::Ssz) => {
                Self::ok(encoding, None, many.iter().flat_map(Versioned::chunk).collect())
            }
            (Answer::Many(many), Encoding::Json) => Self::json(&many.iter().map(Versioned::json).collect()),
            (Answer::Json(value), _) => Self::json(value),
            (Answer::Empty, _) => Self { headers: Vec::new(), ..Self::ok(encoding, None, Vec::new()) },
            (Answer::Refused(status, message), _) => {
                let value = json!({ "code": status, "message": message });
                Self { status: *status, ..Self::json(&value) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Encoding::{self, Json, Ssz};

    #[test]
    fn the_heavier_media_type_wins() {
        for (accept, encoding) in [
            (None, Json),
            (Some("*/*"), Json),
            (Some("application/octet-stream"), Ssz),
            (Some("application/octet-stream;q=1, application/json;q=0.9"), Ssz),
            (Some("application/octet-stream;q=0.5,application/json"), Json),
            (Some("application/octet-stream;q=x"), Json),
            (Some("text/html"), Json),
        ] {
            assert_eq!(Encoding::accepted(accept), encoding, "{accept:?}");
        }
    }
}
