//! What endpoints send: believed only by [`State`](super::State).

use alloy::primitives::B256;

use super::committee::{SyncAggregate, SyncCommittee};
use super::header::Header;
use super::network::Network;
use super::{Fork, Refused, json, ssz};

/// `LightClientBootstrap`: where to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootstrap {
    /// The checkpoint's header.
    pub header: Header,
    /// The committee of its period.
    pub current_committee: SyncCommittee,
    /// From that committee's root to the state's.
    pub branch: Vec<B256>,
}

impl Bootstrap {
    /// From SSZ; the layout is that of the fork at the header's slot.
    ///
    /// # Errors
    /// [`Refused`], for a wrong length before anything is allocated.
    pub fn from_ssz(network: &Network, bytes: &[u8]) -> Result<Self, Refused> {
        ssz::bootstrap(network, bytes)
    }

    /// From `{"version": …, "data": …}`.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn from_json(network: &Network, bytes: &[u8]) -> Result<Self, Refused> {
        json::bootstrap(network, bytes)
    }

    /// SSZ in the layout of the fork at the header's slot.
    ///
    /// # Errors
    /// [`Refused::UnknownFork`], [`Refused::BeforeCapella`].
    pub fn to_ssz(&self, network: &Network) -> Result<Vec<u8>, Refused> {
        Ok(ssz::write_bootstrap(self, self.fork(network)?))
    }

    /// The fork at the header's slot.
    ///
    /// # Errors
    /// [`Refused::UnknownFork`], [`Refused::BeforeCapella`].
    pub fn fork(&self, network: &Network) -> Result<Fork, Refused> {
        network.fork_at(self.header.beacon.slot)
    }
}

/// Which of the three forms of an update. SSZ does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `LightClientUpdate`.
    Update,
    /// `LightClientFinalityUpdate`.
    Finality,
    /// `LightClientOptimisticUpdate`.
    Optimistic,
}

/// The next sync committee that an update brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextCommittee {
    /// The committee.
    pub committee: SyncCommittee,
    /// From its root to the attested state's.
    pub branch: Vec<B256>,
}

/// The finalized header that an update brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finality {
    /// The header; empty where the attested state has finalized nothing but genesis.
    pub header: Header,
    /// From its root to the attested state's.
    pub branch: Vec<B256>,
}

/// `LightClientUpdate`, and the other two with what they lack left out, as the specification processes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// What was signed.
    pub attested: Header,
    /// The committee after the attested header's. `None` where the branch is all zeros.
    pub next_committee: Option<NextCommittee>,
    /// What the attested state has finalized. `None` where the branch is all zeros.
    pub finalized: Option<Finality>,
    /// Who signed.
    pub aggregate: SyncAggregate,
    /// Slot of the block that carries the signature.
    pub signature_slot: u64,
}

impl Update {
    /// From SSZ; the layout is that of the fork at the attested header's slot.
    ///
    /// # Errors
    /// [`Refused`], for a wrong length before anything is allocated.
    pub fn from_ssz(network: &Network, kind: Kind, bytes: &[u8]) -> Result<Self, Refused> {
        ssz::update(network, kind, bytes)
    }

    /// From `{"version": …, "data": …}` of any [`Kind`], told apart by the fields that are there.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn from_json(network: &Network, bytes: &[u8]) -> Result<Self, Refused> {
        json::update(network, bytes)
    }

    /// SSZ of that kind in the layout of the fork at the attested header's slot; what the kind lacks is left out.
    ///
    /// # Errors
    /// [`Refused::UnknownFork`], [`Refused::BeforeCapella`].
    pub fn to_ssz(&self, network: &Network, kind: Kind) -> Result<Vec<u8>, Refused> {
        Ok(ssz::write_update(self, kind, network.preset, self.fork(network)?))
    }

    /// The fork at the attested header's slot.
    ///
    /// # Errors
    /// [`Refused::UnknownFork`], [`Refused::BeforeCapella`].
    pub fn fork(&self, network: &Network) -> Result<Fork, Refused> {
        network.fork_at(self.attested.beacon.slot)
    }
}

/// Lists as they are sent, before they are known to be there at all.
pub(super) struct Sent {
    pub(super) attested: Header,
    pub(super) next_committee: Option<(SyncCommittee, Vec<B256>)>,
    pub(super) finalized: Option<(Header, Vec<B256>)>,
    pub(super) aggregate: SyncAggregate,
    pub(super) signature_slot: u64,
}

impl Sent {
    /// `is_sync_committee_update`, `is_finality_update`: an all-zero branch says that there is nothing, and then there
    /// has to be nothing.
    pub(super) fn told(self, network: &Network) -> Result<Update, Refused> {
        let zero = |branch: &[B256]| branch.iter().all(|node| node.is_zero());
        let next_committee = match self.next_committee {
            Some((committee, branch)) if zero(&branch) => {
                if !committee.is_empty() {
                    return Err(Refused::NotEmpty("next_sync_committee"));
                }
                None
            }
            sent => sent.map(|(committee, branch)| NextCommittee { committee, branch }),
        };
        let finalized = match self.finalized {
            Some((header, branch)) if zero(&branch) => {
                if !header.is_empty() {
                    return Err(Refused::NotEmpty("finalized_header"));
                }
                None
            }
            Some((header, branch)) if header.beacon.slot == 0 => {
                if !header.is_empty() {
                    return Err(Refused::NotEmpty("finalized_header"));
                }
                Some(Finality { header: Header::default(), branch })
            }
            Some((header, branch)) => Some(Finality { header: header.normalised(network)?, branch }),
            None => None,
        };
        Ok(Update {
            attested: self.attested.normalised(network)?,
            next_committee,
            finalized,
            aggregate: self.aggregate,
            signature_slot: self.signature_slot,
        })
    }
}
