//! Light client data as an endpoint hands it out, honest or bent.

use std::sync::Arc;

use alloy::primitives::B256;

use super::committee::{Committee, Kin};
use super::config::Fork;
use super::container::{Branch, Container, Decimal};
use super::ledger::{Entry, Ledger};
use super::payload::ExecutionHeader;
use super::state::State;
use super::types::{BeaconBlockHeader, SyncAggregate};

/// `LightClientHeader`.
#[derive(Clone, Debug)]
pub(super) struct LightHeader {
    pub(super) beacon: BeaconBlockHeader,
    pub(super) execution: ExecutionHeader,
    pub(super) branch: Vec<B256>,
}

impl LightHeader {
    pub(super) fn of(entry: &Entry) -> Self {
        let (beacon, execution) = (entry.header, entry.execution.clone());
        Self { beacon, execution, branch: entry.execution_branch() }
    }

    /// What stands for a finalized header that does not exist.
    fn absent() -> Self {
        let (beacon, execution) = (BeaconBlockHeader::default(), ExecutionHeader::default());
        Self { beacon, execution, branch: vec![B256::ZERO; 4] }
    }

    fn container(&self, layout: Fork) -> Container {
        Container::default()
            .with("beacon", self.beacon)
            .with("execution", self.execution.container(layout))
            .with("execution_branch", Branch(self.branch.clone()))
    }
}

/// `LightClientBootstrap`.
#[derive(Clone)]
pub(super) struct Bootstrap {
    pub(super) header: LightHeader,
    pub(super) committee: Arc<Committee>,
    pub(super) branch: Vec<B256>,
}

impl Bootstrap {
    pub(super) fn of(ledger: &Ledger, entry: &Entry) -> Self {
        Self {
            header: LightHeader::of(entry),
            committee: Committee::of(Kin::Validators, entry.period()),
            branch: State::new(&ledger.network, &entry.state).current_committee_branch(),
        }
    }

    pub(super) fn container(&self, layout: Fork) -> Container {
        Container::default()
            .with("header", self.header.container(layout))
            .with("current_sync_committee", self.committee.keys.clone())
            .with("current_sync_committee_branch", Branch(self.branch.clone()))
    }
}

/// Which of the three kinds of update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `LightClientUpdate`: the next committee, and finality if there is any.
    Period,
    /// `LightClientFinalityUpdate`.
    Finality,
    /// `LightClientOptimisticUpdate`.
    Optimistic,
}

/// An update of any kind; what its kind does not carry is left out when it is encoded.
#[derive(Clone)]
pub(super) struct Update {
    pub(super) attested: LightHeader,
    pub(super) next_committee: Arc<Committee>,
    pub(super) next_committee_branch: Vec<B256>,
    pub(super) finalized: LightHeader,
    pub(super) finality_branch: Vec<B256>,
    pub(super) aggregate: SyncAggregate,
    pub(super) signature_slot: u64,
}

impl Update {
    pub(super) fn of(ledger: &Ledger, entry: &Entry) -> Self {
        let state = State::new(&ledger.network, &entry.state);
        let mut finality_branch = state.finality_branch();
        let finalized = entry.finalized.map(|height| LightHeader::of(&ledger.entries()[height]));
        if finalized.is_none() {
            finality_branch.fill(B256::ZERO);
        }
        Self {
            attested: LightHeader::of(entry),
            next_committee: Committee::of(entry.state.next_committee, entry.period() + 1),
            next_committee_branch: state.next_committee_branch(),
            finalized: finalized.unwrap_or_else(LightHeader::absent),
            finality_branch,
            aggregate: entry.aggregate,
            signature_slot: entry.signature_slot(),
        }
    }

    pub(super) fn container(&self, kind: Kind, layout: Fork) -> Container {
        let mut fields = Container::default().with("attested_header", self.attested.container(layout));
        if kind == Kind::Period {
            fields = fields
                .with("next_sync_committee", self.next_committee.keys.clone())
                .with("next_sync_committee_branch", Branch(self.next_committee_branch.clone()));
        }
        if kind != Kind::Optimistic {
            fields = fields
                .with("finalized_header", self.finalized.container(layout))
                .with("finality_branch", Branch(self.finality_branch.clone()));
        }
        fields.with("sync_aggregate", self.aggregate).with("signature_slot", Decimal(self.signature_slot))
    }
}
