//! One block into memory.

use bytes::Bytes;
use cid::Cid;
use libp2p::PeerId;

use super::FetchError;
use super::pull::{Need, Pull, Pulled};
use super::sources::{Net, Sources};
use crate::unixfs::read::{MAX_BLOCK, Part};

/// Peers asked for the same block at once would waste it; one after the other costs a timeout at worst.
const ONE: usize = 1;

/// Fetches the block of `cid`, an accepted CID, of at most `max_len` bytes.
pub(crate) async fn block(net: Net, cid: Cid, from: &[PeerId], max_len: usize) -> Result<Bytes, FetchError> {
    let max_len = max_len.min(MAX_BLOCK);
    let sources = Sources::new(net.clone(), cid, max_len, from);
    let mut pull = Pull::new(net, sources, ONE);
    let mut waiting = vec![Need::new(Part::root(cid, max_len as u64), max_len)];
    loop {
        if let Some(need) = waiting.pop()
            && let Err(need) = pull.assign(need)
        {
            waiting.push(need);
        }
        match pull.next(&waiting).await? {
            Pulled::Block(_, block) => return Ok(block),
            Pulled::Failed(need) => waiting.push(need),
            Pulled::NewSource => {}
        }
    }
}
