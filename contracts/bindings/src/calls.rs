//! What to send to the contracts: calls without nonce, gas or signature, which are the sender's affair.

use alloy::network::TransactionBuilder as _;
use alloy::primitives::aliases::{U40, U96};
use alloy::primitives::{Address, Bytes, U256};
use alloy::rpc::types::TransactionRequest;
use alloy::sol_types::{SolCall, SolInterface as _};
use posthouse_protocol::id::{Bounty, Curve, FleetRoot, PackageId, Payee, ProductId, UpdateId, Version};
use posthouse_protocol::secret::PreimageT;

use crate::abi::{UpdateBounty, UpdateFactory};
use crate::receipts::{Batch, Deal, address};
use crate::terms::{BASIS_POINTS, Group};

/// A call of a contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The contract; `None` deploys one.
    pub to: Option<Address>,
    /// Wei that go with it.
    pub value: U256,
    /// Selector and arguments, or the code to deploy.
    pub input: Bytes,
}

impl Call {
    fn new(to: Address, call: impl SolCall) -> Self {
        Self { to: Some(to), value: U256::ZERO, input: call.abi_encode().into() }
    }

    fn bounty(bounty: &Bounty, call: impl SolCall) -> Self {
        Self::new(Address::from(bounty.to_bytes()), call)
    }

    /// The call as a transaction to complete.
    pub fn into_request(self) -> TransactionRequest {
        let request = TransactionRequest::default().with_value(self.value);
        match self.to {
            Some(to) => request.with_to(to).with_input(self.input),
            None => request.with_deploy_code(self.input),
        }
    }
}

/// Deploys the factory, which brings the implementations of the bounty with it. The factory will be
/// at `sender.create(nonce)`.
pub fn deploy_factory() -> Call {
    Call { to: None, value: U256::ZERO, input: UpdateFactory::BYTECODE.clone() }
}

/// What a vendor publishes. Times are unix seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// Of the vendor.
    pub product: ProductId,
    /// Above the latest one, by at most 2^32.
    pub version: Version,
    /// Digest of the image.
    pub u_id: UpdateId,
    /// Digest of the package's root block.
    pub p_id: PackageId,
    /// Root of the fleet's tree.
    pub root: FleetRoot,
    /// Depth of the fleet's tree, at most 32.
    pub depth: u8,
    /// Which keys the devices hold.
    pub curve: Curve,
    /// Last second for claims, at most ten years ahead.
    pub claim_by: u64,
    /// 30 minutes to 24 hours, in seconds.
    pub lock_secs: u32,
    /// When the early bonus ends; 0 without one.
    pub bonus_until: u64,
    /// Bonus at publication in 1/10000 of a share; 0 without one.
    pub bonus_bps: u16,
    /// One to eight, ascending; the last ends with the fleet.
    pub groups: Vec<Group>,
}

impl Publish {
    /// Wei that must go with it: every device's largest share.
    pub fn deposit(&self) -> U256 {
        let mut begin = 0;
        self.groups.iter().fold(U256::ZERO, |sum, group| {
            let base = U256::from(group.share);
            let count = U256::from(group.end_index.saturating_sub(begin));
            begin = group.end_index;
            sum + count * (base + base * U256::from(self.bonus_bps) / U256::from(BASIS_POINTS))
        })
    }

    fn abi(&self) -> UpdateFactory::Publish {
        UpdateFactory::Publish {
            product: self.product.to_bytes().into(),
            version: self.version.get(),
            uId: self.u_id.to_bytes().into(),
            pId: self.p_id.to_bytes().into(),
            root: self.root.to_bytes().into(),
            depth: self.depth,
            curve: self.curve as u8,
            claimBy: saturating(self.claim_by),
            lockSecs: self.lock_secs,
            bonusUntil: saturating(self.bonus_until),
            bonusBps: self.bonus_bps,
            groups: self.groups.iter().map(Group::abi).collect(),
        }
    }
}

/// Publishes an update and funds its bounty.
pub fn publish(factory: Address, update: &Publish) -> Call {
    let call = UpdateFactory::publishUpdateCall { update: update.abi() };
    Call { value: update.deposit(), ..Call::new(factory, call) }
}

/// Locks the devices of a batch without showing a secret. Reverts if they are worth less than `min_sum` wei.
pub fn reserve(batch: Batch, min_sum: U256) -> Call {
    let deal = *batch.deal();
    let call = UpdateBounty::reserveCall {
        s: deal.s.to_bytes().into(),
        payee: address(deal.payee.as_bytes()),
        batch: batch.into_abi(),
        minSum: min_sum,
    };
    Call::bounty(&deal.bounty, call)
}

/// Earns what is locked, and makes `r` public. Past its lock it earns nothing and still shows `t`.
pub fn reveal(bounty: &Bounty, payee: &Payee, t: &PreimageT, indices: Vec<u32>) -> Call {
    let call =
        UpdateBounty::revealCall { t: (*t.as_bytes()).into(), payee: address(payee.as_bytes()), indices };
    Call::bounty(bounty, call)
}

/// Claims the devices of a batch in one step. Shows `t`, whether it earns or not.
pub fn publish_proofs(batch: Batch, t: &PreimageT, min_sum: U256) -> Call {
    let deal = *batch.deal();
    let call = UpdateBounty::publishProofsCall {
        t: (*t.as_bytes()).into(),
        payee: address(deal.payee.as_bytes()),
        batch: batch.into_abi(),
        minSum: min_sum,
    };
    Call::bounty(&deal.bounty, call)
}

/// Claims one device in one step: the paper's call. Shows `t`, whether it earns or not.
pub fn publish_proof(deal: &Deal, claim: UpdateBounty::Claim) -> Call {
    let call = UpdateBounty::publishProofCall { claim, payee: address(deal.payee.as_bytes()) };
    Call::bounty(&deal.bounty, call)
}

/// Brings what nobody earned back to the vendor; see [`crate::terms::Terms::refund_from`].
pub fn refund(bounty: &Bounty) -> Call {
    Call::bounty(bounty, UpdateBounty::refundCall {})
}

/// Pays the sender's credit to `to`.
pub fn withdraw(bounty: &Bounty, to: Address) -> Call {
    Call::bounty(bounty, UpdateBounty::withdrawCall { to })
}

/// What a reverted call of the factory or a bounty says, by the name of its error.
pub fn revert_reason(data: &[u8]) -> Option<String> {
    if let Ok(error) = UpdateBounty::UpdateBountyErrors::abi_decode(data) {
        return Some(format!("{error:?}"));
    }
    UpdateFactory::UpdateFactoryErrors::abi_decode(data).ok().map(|error| format!("{error:?}"))
}

/// A time that does not fit is one that the factory refuses as too far ahead.
fn saturating(time: u64) -> U40 {
    U40::try_from(time).unwrap_or(U40::MAX)
}

impl Group {
    fn abi(&self) -> UpdateFactory::Group {
        UpdateFactory::Group {
            endIndex: self.end_index,
            share: U96::try_from(self.share).unwrap_or(U96::MAX),
        }
    }
}
