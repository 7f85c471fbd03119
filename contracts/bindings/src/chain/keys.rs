//! Keys that a bounty showed, by the word of whoever tells them: each opens its lock.

use std::collections::HashMap;

use alloy::rpc::types::Log;
use posthouse_light_client::rpc::Rpc;
use posthouse_protocol::id::{Bounty, LockHash};

use super::{ChainError, Key, Keys, events};

/// The keys shown in the blocks `from..=to`, oldest first.
///
/// Without `claimed` the first endpoint's answer is taken. With it every endpoint is asked and all their keys count: one of
/// them could show a key that it made up for a device, and keep the true one to itself. So nothing is known for good before
/// all of them have answered.
pub(super) async fn shown(
    rpc: &Rpc,
    bounty: &Bounty,
    from: u64,
    to: u64,
    claimed: &[u32],
) -> Result<Keys, ChainError> {
    let filter = events::key_revealed(bounty);
    let (mut skip, mut found, mut liar) = (Vec::new(), Vec::<Key>::new(), None);
    let mut told = Vec::new();
    let mut all = true;
    loop {
        let hints = match rpc.hints(&filter, from, to, &skip).await {
            Ok(Some(hints)) => hints,
            Ok(None) => break,
            Err(error) if skip.is_empty() => return Err(error.into()),
            Err(_) => {
                all = false;
                break;
            }
        };
        skip.push(hints.endpoint);
        match read(&hints.logs) {
            Ok(list) if claimed.is_empty() => return Ok(Keys { list, all: false }),
            Ok(keys) => {
                told.push((hints.endpoint, missing(&keys, claimed)));
                found.extend(keys.into_iter().filter(|key| !found.contains(key)).collect::<Vec<_>>());
            }
            Err(lie) => {
                rpc.blame(hints.endpoint, &lie);
                liar = Some(lie);
                all = false;
            }
        }
    }
    if let (true, Some(lie)) = (told.is_empty(), liar) {
        return Err(lie);
    }
    // Who shows a key that was made up is not told from who shows a true one: only who shows none is blamed.
    for (endpoint, hidden) in told {
        if let Some(index) = hidden {
            rpc.blame(endpoint, &hides(bounty, index));
        }
    }
    match missing(&found, claimed) {
        Some(index) => Err(hides(bounty, index)),
        None => Ok(Keys { list: found, all }),
    }
}

/// One endpoint's keys. A share is paid once, so that a second key for it is a lie: otherwise a true one could be hidden among
/// thousands.
fn read(logs: &[Log]) -> Result<Vec<Key>, ChainError> {
    let mut keys = Vec::new();
    let mut locks = HashMap::<u32, LockHash>::new();
    for log in logs {
        let key = events::key(&log.inner)?;
        match locks.insert(key.index, key.s) {
            None => keys.push(key),
            Some(s) if s == key.s => {}
            Some(_) => {
                let reason = "two keys for one share";
                return Err(ChainError::WrongAnswer { call: "eth_getLogs", reason });
            }
        }
    }
    Ok(keys)
}

/// A device that was paid for and whose key is not there.
fn missing(keys: &[Key], claimed: &[u32]) -> Option<u32> {
    claimed.iter().copied().find(|index| !keys.iter().any(|key| key.index == *index))
}

fn hides(bounty: &Bounty, index: u32) -> ChainError {
    ChainError::Hidden { bounty: *bounty, index, what: "its key" }
}
