//! What is for sale: a release that was fetched whole and checked, and its secret.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use posthouse_circuits::{KeyFileError, ProvingKey};
use posthouse_contracts::fleet::{Fleet, FleetError};
use posthouse_contracts::terms::Terms;
use posthouse_dsn::{PeerId, peer_hash, verify_peer_signature};
use posthouse_protocol::distributor::{Campaign, Group, Peer, Roster, Unreadable, Wei};
use posthouse_protocol::id::{Bounty, DeviceKey, Digest, PeerHash, PkId};
use posthouse_protocol::package::Package;
use posthouse_protocol::release::Release;
use zeroize::Zeroizing;

/// A bounty's goods.
pub(super) struct Goods {
    pub(super) bounty: Bounty,
    pub(super) terms: Terms,
    pub(super) package: Package,
    pub(super) release: Release,
    pub(super) fleet: Fleet,
    /// `K`, or the image in file mode.
    pub(super) secret: Zeroizing<Vec<u8>>,
    /// The proving key's file.
    pub(super) proving_key: PathBuf,
    /// The files of the package, but that of the fleet: it is served because it was fetched.
    pub(super) files: Vec<PathBuf>,
    /// First block whose payments were not taken in when the program began.
    pub(super) unread: u64,
}

/// The fleet of some goods.
pub(super) struct Members(pub(super) Arc<Goods>);

impl Members {
    fn unreadable(&self, error: &FleetError) -> Unreadable {
        tracing::error!(bounty = %self.0.bounty, %error, "the fleet's index cannot be read");
        Unreadable
    }
}

impl Roster for Members {
    fn index(&self, key: &DeviceKey) -> Result<Option<u32>, Unreadable> {
        self.0.fleet.index_of(key).map_err(|error| self.unreadable(&error))
    }

    fn path(&self, index: u32) -> Result<Option<Vec<[u8; 32]>>, Unreadable> {
        match self.0.fleet.path(index) {
            Ok(path) => Ok(Some(path.into_iter().map(|node| node.0).collect())),
            Err(FleetError::Index { .. }) => Ok(None),
            Err(error) => Err(self.unreadable(&error)),
        }
    }
}

/// The goods as the machine sees them.
pub(super) fn campaign(goods: &Arc<Goods>) -> Campaign {
    let groups = goods.terms.groups.iter();
    Campaign {
        bounty: goods.bounty,
        u_id: goods.release.u_id,
        vk_id: goods.release.vk_id,
        curve: goods.release.curve,
        depth: goods.release.fleet_depth,
        claim_by: goods.terms.claim_by,
        groups: groups
            .map(|group| Group { end_index: group.end_index, share: Wei::new(group.share) })
            .collect(),
        roster: Arc::new(Members(goods.clone())),
    }
}

/// Most look-ups of members that are under way: each holds a thread.
const LOOK_UPS: usize = 16;

/// Peers for which members are being looked up. Shared; cheap to clone.
#[derive(Clone, Default)]
pub(super) struct LookUps(Arc<Mutex<BTreeSet<PeerHash>>>);

impl LookUps {
    /// One look-up for a peer, until the turn is dropped. `None` while the peer has one, or all are taken: an honest gateway
    /// asks one thing at a time, and asks again.
    pub(super) fn turn(&self, peer: PeerHash) -> Option<Turn> {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (peers.len() < LOOK_UPS && peers.insert(peer)).then(|| Turn { peer, of: self.clone() })
    }
}

/// A look-up under way.
pub(super) struct Turn {
    peer: PeerHash,
    of: LookUps,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.of.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.peer);
    }
}

/// All goods, by bounty; shared by the tasks. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Shelf(Arc<RwLock<BTreeMap<Bounty, Arc<Goods>>>>);

impl Shelf {
    pub(super) fn put(&self, goods: Arc<Goods>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(goods.bounty, goods);
    }

    pub(super) fn take(&self, bounty: &Bounty) -> Option<Arc<Goods>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(bounty)
    }

    pub(super) fn get(&self, bounty: &Bounty) -> Option<Arc<Goods>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(bounty).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Goods>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

/// A gateway, as the connection's handshake has authenticated it.
pub(super) struct Gateway(pub(super) PeerId);

impl Peer for Gateway {
    fn hash(&self) -> PeerHash {
        peer_hash(&self.0).into()
    }

    fn signed(&self, digest: &Digest, sig: &[u8]) -> bool {
        verify_peer_signature(&self.0, digest.as_bytes(), sig).is_ok()
    }
}

/// The proving key that was used last: each is large, and one serves many exchanges. Held while a
/// proof is made, so that proofs come one at a time, each with all cores.
pub(super) type Prover = Arc<tokio::sync::Mutex<Option<(PkId, Arc<ProvingKey>)>>>;

/// The key of these goods, from memory or by its digest from disk.
pub(super) fn proving_key(
    held: &mut Option<(PkId, Arc<ProvingKey>)>,
    goods: &Goods,
) -> Result<Arc<ProvingKey>, KeyFileError> {
    let id = goods.release.pk_id;
    let key = match held.take().filter(|(held, _)| *held == id) {
        Some((_, key)) => key,
        None => Arc::new(ProvingKey::read_pinned(&goods.proving_key, id.as_bytes())?),
    };
    *held = Some((id, key.clone()));
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_has_one_look_up_and_all_have_so_many() {
        let (look_ups, peer) = (LookUps::default(), |n: usize| PeerHash::new([n as u8; 32]));
        let mut turns: Vec<_> = (0..LOOK_UPS).map(|n| look_ups.turn(peer(n)).unwrap()).collect();
        assert!(look_ups.turn(peer(LOOK_UPS)).is_none());
        turns.pop();
        assert!(look_ups.turn(peer(0)).is_none(), "it has one");
        assert!(look_ups.turn(peer(LOOK_UPS)).is_some());
        drop(turns);
        assert!(look_ups.turn(peer(0)).is_some());
    }
}
