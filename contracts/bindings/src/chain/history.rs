//! All that happened to a bounty, as endpoints tell it: for whoever watches the money.

use alloy::primitives::{Address, B256, U256};
use alloy::rpc::types::{Filter, Log};
use alloy::sol_types::SolEventInterface as _;
use posthouse_protocol::id::{Bounty, LockHash, Payee};

use super::rpc::{RpcChain, wrong};
use super::{ChainError, Head};
use crate::abi::UpdateBounty::UpdateBountyEvents;

/// Something that a bounty's log says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Number of its block.
    pub block: u64,
    /// Hash of its block: another one at the same height is another fork's.
    pub block_hash: B256,
    /// Its transaction.
    pub transaction: B256,
    /// Its place among the block's logs.
    pub log: u64,
    /// What it says.
    pub what: What,
}

/// What a bounty's log says. Amounts are wei.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A share was earned (`KeyRevealed`).
    Claimed {
        /// Who earned it.
        payee: Payee,
        /// For which device.
        index: u32,
        /// Bonus included.
        amount: U256,
    },
    /// A lock took devices of a page.
    Reserved {
        /// For whom.
        payee: Payee,
        /// Under which lock hash.
        s: LockHash,
        /// Index / [`PAGE`](crate::receipts::PAGE) of its devices.
        page: u32,
        /// Bit i stands for the page's device i; those that came by this event.
        devices: U256,
        /// Last second in which the lock lives, unix time.
        until: u64,
    },
    /// A lock that had ended was cleared.
    Released {
        /// Its [`tag`](crate::receipts::tag).
        tag: B256,
        /// Index / [`PAGE`](crate::receipts::PAGE) of its devices.
        page: u32,
    },
    /// A payee refused its money, which waits for it in the contract.
    Credited {
        /// Who may withdraw it.
        payee: Payee,
        /// How much.
        amount: U256,
    },
    /// Such money was taken out.
    Withdrawn {
        /// Whose it was.
        payee: Payee,
        /// Where it went.
        to: Address,
        /// How much.
        amount: U256,
    },
    /// What nobody earned went back to the vendor.
    Refunded {
        /// How much.
        amount: U256,
    },
}

impl RpcChain {
    /// The events of a bounty in a range of blocks, oldest first, but for receipts that were passed over. An endpoint that
    /// leaves some out is not noticed here.
    ///
    /// # Errors
    /// [`ChainError`]; endpoints refuse ranges and answers that are too large for them.
    pub async fn events(&self, bounty: &Bounty, from: u64, to: u64) -> Result<Vec<Event>, ChainError> {
        let filter = Filter::new().address(Address::from(bounty.to_bytes()));
        let logs = self.logs(&filter, from, to).await?;
        let events = logs.iter().filter_map(|log| event(log).transpose());
        let mut events = events.collect::<Result<Vec<_>, _>>()?;
        events.sort_unstable_by_key(|event| (event.block, event.log));
        let twice = |pair: &[Event]| (pair[0].block, pair[0].log) == (pair[1].block, pair[1].log);
        if events.windows(2).any(twice) {
            return Err(wrong("eth_getLogs", "two logs in one place"));
        }
        Ok(events)
    }

    /// What an account had after a block, wei.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`], also where no endpoint keeps the block's state any more.
    pub async fn balance_after(&self, account: Address, block: &Head) -> Result<U256, ChainError> {
        use alloy::providers::Provider as _;
        Ok(self.provider().get_balance(account).hash(block.hash).await?)
    }

    /// Whether devices are claimed after a block, by the contract's own ledger, in the order asked for. Each 1,000 are a call.
    ///
    /// # Errors
    /// [`ChainError`], also where no endpoint keeps the block's state any more.
    pub async fn claimed_after(
        &self,
        bounty: &Bounty,
        indices: &[u32],
        block: &Head,
    ) -> Result<Vec<bool>, ChainError> {
        let devices = self.devices(bounty, indices, block.hash).await?;
        Ok(devices.into_iter().map(|device| device.claimed).collect())
    }
}

/// `None` for a log that moves nothing.
fn event(log: &Log) -> Result<Option<Event>, ChainError> {
    let place = (log.block_number, log.block_hash, log.transaction_hash, log.log_index);
    let (Some(block), Some(block_hash), Some(transaction), Some(place)) = place else {
        return Err(wrong("eth_getLogs", "a log outside a block"));
    };
    let said = UpdateBountyEvents::decode_log(&log.inner);
    let said = said.map_err(|_| wrong("eth_getLogs", "an event that no bounty has"))?.data;
    let what = match said {
        UpdateBountyEvents::KeyRevealed(event) => {
            What::Claimed { payee: payee(event.payee), index: event.index, amount: event.amount }
        }
        UpdateBountyEvents::Reserved(event) => What::Reserved {
            payee: payee(event.payee),
            s: event.s.0.into(),
            page: event.page,
            devices: U256::from(event.devices),
            until: event.until.to(),
        },
        UpdateBountyEvents::Released(event) => What::Released { tag: event.tag, page: event.page },
        UpdateBountyEvents::Credited(event) => {
            What::Credited { payee: payee(event.payee), amount: event.amount }
        }
        UpdateBountyEvents::Withdrawn(event) => {
            What::Withdrawn { payee: payee(event.payee), to: event.to, amount: event.amount }
        }
        UpdateBountyEvents::Refunded(event) => What::Refunded { amount: event.amount },
        UpdateBountyEvents::Skipped(_) => return Ok(None),
    };
    Ok(Some(Event { block, block_hash, transaction, log: place, what }))
}

fn payee(address: Address) -> Payee {
    address.into_array().into()
}
