//! Keys that a bounty showed, by the word of whoever tells them: each opens its lock.

use posthouse_light_client::rpc::Rpc;
use posthouse_protocol::id::Bounty;

use super::{ChainError, Key, events};

/// The keys shown in the blocks `from..=to`, oldest first.
///
/// Without `claimed` the first endpoint's answer is taken. With it every endpoint is asked and all their keys count: one of
/// them could show a key that it made up for a device, and keep the true one to itself.
pub(super) async fn shown(
    rpc: &Rpc,
    bounty: &Bounty,
    from: u64,
    to: u64,
    claimed: &[u32],
) -> Result<Vec<Key>, ChainError> {
    let filter = events::key_revealed(bounty);
    let (mut skip, mut found, mut liar) = (Vec::new(), Vec::<Key>::new(), None);
    let mut told = Vec::new();
    loop {
        let hints = match rpc.hints(&filter, from, to, &skip).await {
            Ok(Some(hints)) => hints,
            Ok(None) => break,
            Err(error) if skip.is_empty() => return Err(error.into()),
            // Those that are left do not answer.
            Err(_) => break,
        };
        skip.push(hints.endpoint);
        match hints.logs.iter().map(|log| events::key(&log.inner)).collect::<Result<Vec<_>, _>>() {
            Ok(keys) if claimed.is_empty() => return Ok(keys),
            Ok(keys) => {
                told.push((hints.endpoint, missing(&keys, claimed)));
                found.extend(keys.into_iter().filter(|key| !found.contains(key)).collect::<Vec<_>>());
            }
            Err(lie) => {
                rpc.blame(hints.endpoint, &lie);
                liar = Some(lie);
            }
        }
    }
    if let (true, Some(lie)) = (told.is_empty(), liar) {
        return Err(lie);
    }
    for (endpoint, hidden) in told {
        if let Some(index) = hidden {
            rpc.blame(endpoint, &hides(bounty, index));
        }
    }
    match missing(&found, claimed) {
        Some(index) => Err(hides(bounty, index)),
        None => Ok(found),
    }
}

/// A device that was paid for and whose key is not there.
fn missing(keys: &[Key], claimed: &[u32]) -> Option<u32> {
    claimed.iter().copied().find(|index| !keys.iter().any(|key| key.index == *index))
}

fn hides(bounty: &Bounty, index: u32) -> ChainError {
    ChainError::Hidden { bounty: *bounty, index, what: "its key" }
}
