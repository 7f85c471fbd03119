//! What an endpoint calls finalized: nothing proves it, so it is only good for comparing several.

use alloy::primitives::B256;
use serde::Deserialize;

use super::{BeaconError, MAX_ANSWER};
use crate::http::{Endpoint, HttpError, Limits, UrlError};
use crate::spec::BeaconBlockHeader;
use crate::words;

/// A block that an endpoint calls finalized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FinalizedRoot {
    /// Its slot.
    pub slot: u64,
    /// Its root, which is that of the header that came with it.
    pub root: B256,
}

/// `getBlockHeader`.
#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    finalized: Option<bool>,
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    root: B256,
    canonical: bool,
    header: Signed,
}

#[derive(Deserialize)]
struct Signed {
    message: Message,
}

#[derive(Deserialize)]
struct Message {
    slot: String,
    proposer_index: String,
    parent_root: B256,
    state_root: B256,
    body_root: B256,
}

/// One endpoint, asked by itself.
pub(crate) fn endpoint(url: &str, limits: Limits) -> Result<Endpoint, UrlError> {
    Endpoint::new(url, Limits { max_response: limits.max_response.min(MAX_ANSWER), ..limits })
}

/// The newest block that `endpoint` calls finalized.
pub(crate) async fn newest(endpoint: &Endpoint) -> Result<FinalizedRoot, BeaconError> {
    read(&get(endpoint, "finalized").await?)
}

/// Whether `endpoint` has `block` on its finalized chain too.
pub(crate) async fn has(endpoint: &Endpoint, block: FinalizedRoot) -> Result<(), BeaconError> {
    let answer = match get(endpoint, &block.slot.to_string()).await {
        // Its chain has no block in this slot: that is a no like any other.
        Err(BeaconError::Http(HttpError::Status(404))) => return Err(BeaconError::NotFinalized(block.root)),
        answer => answer?,
    };
    let at_slot = read(&answer)?;
    if at_slot == block {
        return Ok(());
    }
    if at_slot.slot == block.slot {
        return Err(BeaconError::Contradicts { slot: block.slot, ours: block.root, theirs: at_slot.root });
    }
    Err(BeaconError::OtherBlock { wanted: block.root, found: at_slot.root })
}

async fn get(endpoint: &Endpoint, id: &str) -> Result<Vec<u8>, BeaconError> {
    let answer = endpoint.get(&format!("/eth/v1/beacon/headers/{id}"), "application/json").await?;
    match answer.content_type.as_str() {
        "application/json" => Ok(answer.body),
        other => Err(BeaconError::ContentType(words(other).chars().take(64).collect())),
    }
}

fn read(body: &[u8]) -> Result<FinalizedRoot, BeaconError> {
    let body: Body = serde_json::from_slice(body).map_err(|error| HttpError::not_json(&error))?;
    let message = body.data.header.message;
    let number = |field: &str, text: &str| -> Result<u64, BeaconError> {
        text.parse().map_err(|_| HttpError::NotJson(format!("{field} is no number")).into())
    };
    let header = BeaconBlockHeader {
        slot: number("slot", &message.slot)?,
        proposer_index: number("proposer_index", &message.proposer_index)?,
        parent_root: message.parent_root,
        state_root: message.state_root,
        body_root: message.body_root,
    };
    let (wanted, found) = (body.data.root, header.root());
    if wanted != found {
        return Err(BeaconError::OtherBlock { wanted, found });
    }
    if !body.data.canonical || body.finalized == Some(false) {
        return Err(BeaconError::NotFinalized(found));
    }
    Ok(FinalizedRoot { slot: header.slot, root: found })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(root: B256, finalized: bool) -> Vec<u8> {
        let hash = B256::repeat_byte(1);
        let body = serde_json::json!({ "execution_optimistic": false, "finalized": finalized, "data": {
            "root": root, "canonical": true, "header": { "signature": "0x", "message": {
                "slot": "64", "proposer_index": "3", "parent_root": hash, "state_root": hash, "body_root": hash,
        }}}});
        serde_json::to_vec(&body).unwrap()
    }

    #[test]
    fn a_root_is_that_of_the_header_it_comes_with() {
        let hash = B256::repeat_byte(1);
        let header = BeaconBlockHeader {
            slot: 64,
            proposer_index: 3,
            parent_root: hash,
            state_root: hash,
            body_root: hash,
        };
        let root = header.root();
        assert_eq!(read(&body(root, true)).unwrap(), FinalizedRoot { slot: 64, root });
        assert_eq!(read(&body(root, false)).unwrap_err(), BeaconError::NotFinalized(root));
        let other = BeaconError::OtherBlock { wanted: hash, found: root };
        assert_eq!(read(&body(hash, true)).unwrap_err(), other);
        assert!(matches!(read(b"{}").unwrap_err(), BeaconError::Http(HttpError::NotJson(_))));
    }
}
