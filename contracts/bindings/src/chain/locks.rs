//! Who holds devices: told by any endpoint, and proven by the lock's own slot.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use posthouse_light_client::execution::Block;
use posthouse_light_client::rpc::{Hints, Rpc};
use posthouse_protocol::id::{Bounty, LockHash, Payee};

use super::{ChainError, Lock, events};
use crate::layout;
use crate::receipts::{PAGE, tag};

/// Blocks looked through first: reservations last for hours, and are made anew after that.
const RECENT: u64 = 5_000;
/// Reservations of one page that are tried: no more than that can have held one of its devices by turns, short of somebody
/// who makes them up.
const MAX_TRIED: usize = 1024;

/// The locks that hold these devices after `block`, each known to be held; `start` is a block before all of the bounty's.
///
/// A device's bit is set in exactly one lock of its page, so the slot in which it is found tells who holds it, whoever said
/// where to look.
pub(super) async fn holders(
    rpc: &Rpc,
    block: &Block,
    bounty: &Bounty,
    held: &[u32],
    start: u64,
) -> Result<HashMap<u32, Lock>, ChainError> {
    let mut pages: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    for index in held {
        pages.entry(index / PAGE).or_default().insert(*index);
    }
    let mut found = HashMap::new();
    let recent = block.number.saturating_sub(RECENT).max(start);
    for (page, mut wanted) in pages {
        let filter = events::reserved(bounty, page);
        if let Some(hints) = rpc.hints(&filter, recent, block.number, &[]).await? {
            prove(rpc, block, bounty, &hints, &mut wanted, &mut found).await?;
        }
        let mut skip = Vec::new();
        while let Some(index) = wanted.first().copied() {
            let hidden = ChainError::Hidden { bounty: *bounty, index, what: "who holds it" };
            let Some(hints) = rpc.hints(&filter, start, block.number, &skip).await? else {
                return Err(hidden);
            };
            prove(rpc, block, bounty, &hints, &mut wanted, &mut found).await?;
            if !wanted.is_empty() {
                rpc.blame(hints.endpoint, &hidden);
                skip.push(hints.endpoint);
            }
        }
    }
    Ok(found)
}

/// Takes devices from `wanted` whose holder one of the hints names truly.
async fn prove(
    rpc: &Rpc,
    block: &Block,
    bounty: &Bounty,
    hints: &Hints,
    wanted: &mut BTreeSet<u32>,
    found: &mut HashMap<u32, Lock>,
) -> Result<(), ChainError> {
    let mut tried: Vec<(LockHash, Payee)> = Vec::new();
    for log in hints.logs.iter().rev() {
        let named = wanted.iter().find_map(|index| events::reserver(&log.inner, *index));
        if let Some((s, payee, _)) = named
            && !tried.contains(&(s, payee))
            && tried.len() < MAX_TRIED
        {
            tried.push((s, payee));
        }
    }
    let Some(page) = wanted.first().map(|index| index / PAGE).filter(|_| !tried.is_empty()) else {
        return Ok(());
    };
    let slots: Vec<_> =
        tried.iter().map(|(s, payee)| layout::lock_slot(tag(s, payee), page * PAGE)).collect();
    let (_, words) = rpc.account(block, bounty.to_bytes().into(), &slots).await?;
    for ((s, payee), word) in tried.into_iter().zip(words) {
        wanted.retain(|index| match layout::held_until(word, *index) {
            Some(until) => {
                found.insert(*index, Lock { payee, s, until });
                false
            }
            None => true,
        });
    }
    Ok(())
}
