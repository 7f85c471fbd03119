//! Several updates in one answer, and answers whose form is not known.

use super::network::Network;
use super::update::{Bootstrap, Update};
use super::{Fork, Refused, json, ssz};

/// More than a mainnet update's 26.9 kB with both headers' `extra_data` full.
const MAX_SSZ: usize = 32 * 1024;

/// `[{"version": …, "data": …}, …]`, at most `max` of them, in the order they came.
///
/// # Errors
/// [`Refused`]; one that is wrong refuses all.
pub fn updates_from_json(network: &Network, bytes: &[u8], max: usize) -> Result<Vec<Update>, Refused> {
    json::updates(network, bytes, max)
}

/// What the beacon API sends as `application/octet-stream`: for each update its length as eight bytes (little endian,
/// the next four included), the fork digest at its slot, and its SSZ; at most `max` of them.
///
/// From Fulu on any digest will do: it changes with each entry of the blob schedule, those made after this program among
/// them. Nothing is lost by that, for the layout follows the slot, and signatures are bound to the fork's version.
///
/// # Errors
/// [`Refused`]; one that is wrong refuses all. [`Refused::ForkDigest`] where the digest is not that of a slot before Fulu.
pub fn updates_from_octet_stream(
    network: &Network,
    mut bytes: &[u8],
    max: usize,
) -> Result<Vec<Update>, Refused> {
    let mut updates = Vec::new();
    while !bytes.is_empty() {
        if updates.len() == max {
            return Err(Refused::TooManyUpdates(max));
        }
        let (update, rest) = first(network, bytes)?;
        updates.push(update);
        bytes = rest;
    }
    Ok(updates)
}

fn first<'a>(network: &Network, bytes: &'a [u8]) -> Result<(Update, &'a [u8]), Refused> {
    let refused = |why: &str| Refused::Ssz { what: "updates", why: why.to_owned() };
    let (length, rest) = bytes.split_first_chunk().ok_or_else(|| refused("a length is cut off"))?;
    let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| refused("longer than memory"))?;
    if length > MAX_SSZ {
        return Err(Refused::TooLarge { found: length, limit: MAX_SSZ });
    }
    let (chunk, rest) = rest.split_at_checked(length).ok_or_else(|| refused("an update is cut off"))?;
    let (digest, chunk) = chunk.split_first_chunk().ok_or_else(|| refused("a fork digest is cut off"))?;
    let slot = ssz::slot_behind_offset(chunk)?;
    let wanted = network.fork_digest(slot)?;
    if *digest != wanted && network.fork_at(slot)? < Fork::Fulu {
        return Err(Refused::ForkDigest { found: *digest, wanted, slot });
    }
    let kind = ssz::kind(network, chunk).ok_or_else(|| refused("an update of no known kind"))?;
    Ok((Update::from_ssz(network, kind, chunk)?, rest))
}

/// A bootstrap in SSZ or JSON: SSZ begins with an offset, whose first byte is no brace in any layout.
pub(crate) fn any_bootstrap(network: &Network, bytes: &[u8]) -> Result<Bootstrap, Refused> {
    match begins(bytes) {
        Some(b'{') => Bootstrap::from_json(network, bytes),
        _ => Bootstrap::from_ssz(network, bytes),
    }
}

/// Updates of any kind: JSON of one or of a list, SSZ of one, or a stream as the beacon API sends it.
pub(crate) fn any_updates(network: &Network, bytes: &[u8], max: usize) -> Result<Vec<Update>, Refused> {
    if let Some(kind) = ssz::kind(network, bytes) {
        return Ok(vec![Update::from_ssz(network, kind, bytes)?]);
    }
    match begins(bytes) {
        Some(b'[') => updates_from_json(network, bytes, max),
        Some(b'{') => Ok(vec![Update::from_json(network, bytes)?]),
        _ => updates_from_octet_stream(network, bytes, max),
    }
}

fn begins(bytes: &[u8]) -> Option<u8> {
    bytes.iter().copied().find(|byte| !byte.is_ascii_whitespace())
}
