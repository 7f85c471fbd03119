//! The bounty's events: what to look for, and what they say.

use alloy::primitives::{B256, Log};
use alloy::sol_types::SolEvent as _;
use posthouse_light_client::execution::Filter;
use posthouse_protocol::id::{Bounty, LockHash, Payee};
use posthouse_protocol::secret::KeyR;

use super::{ChainError, Key, Payment};
use crate::abi::UpdateBounty::{KeyRevealed, Reserved};
use crate::receipts::PAGE;

/// All `KeyRevealed` of a bounty.
pub(super) fn key_revealed(bounty: &Bounty) -> Filter {
    Filter::of(bounty.to_bytes().into()).topic(0, KeyRevealed::SIGNATURE_HASH)
}

/// All `Reserved` of a page of a bounty's devices.
pub(super) fn reserved(bounty: &Bounty, page: u32) -> Filter {
    let page = B256::left_padding_from(&page.to_be_bytes());
    Filter::of(bounty.to_bytes().into()).topic(0, Reserved::SIGNATURE_HASH).topic(3, page)
}

/// The key in a `KeyRevealed`, if it opens the lock beside it.
pub(super) fn key(log: &Log) -> Result<Key, ChainError> {
    let event = decoded(log)?;
    let (r, s) = (KeyR::new(event.r.0), LockHash::new(event.s.0));
    if r.lock() != s {
        return Err(wrong("a KeyRevealed whose r does not open its s"));
    }
    Ok(Key { payee: event.payee.into_array().into(), index: event.index, s, r })
}

/// The payment in a `KeyRevealed` of a block.
pub(super) fn payment(log: &Log, block: u64) -> Result<Payment, ChainError> {
    let event = decoded(log)?;
    Ok(Payment {
        payee: event.payee.into_array().into(),
        index: event.index,
        s: event.s.0.into(),
        amount: event.amount,
        block,
    })
}

/// Who reserved, if a `Reserved` names the device.
pub(super) fn reserver(log: &Log, index: u32) -> Option<(LockHash, Payee, u64)> {
    let event = Reserved::decode_log(log).ok()?;
    let names_it = event.page == index / PAGE && event.devices.bit((index % PAGE) as usize);
    names_it.then(|| (event.s.0.into(), event.payee.into_array().into(), event.until.to()))
}

fn decoded(log: &Log) -> Result<KeyRevealed, ChainError> {
    KeyRevealed::decode_log(log).map(|log| log.data).map_err(|_| wrong("a KeyRevealed that does not decode"))
}

fn wrong(reason: &'static str) -> ChainError {
    ChainError::WrongAnswer { call: "eth_getLogs", reason }
}
