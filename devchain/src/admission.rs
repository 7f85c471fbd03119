//! Which transactions are let into the pool. The words are geth's, which anvil's follow.

use alloy::consensus::{Transaction, TxEnvelope, Typed2718, transaction::Recovered};
use alloy::eips::eip2718::{Decodable2718, Encodable2718};
use revm::context::result::InvalidTransaction;

use crate::config::Config;
use crate::evm::{self, Ancestors, EvmError, View};
use crate::pool::{Pool, PoolError};
use crate::state::State;

/// A transaction larger than this, encoded, is not taken (geth: 4 slots of 32 KiB).
const MAX_BYTES: usize = 128 * 1024;

/// Why a transaction is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Not the EIP-2718 encoding of a transaction.
    #[error("failed to decode signed transaction")]
    Decode,
    /// A transaction type that the chain does not have: blobs (EIP-4844), set-code (EIP-7702).
    #[error("transaction type not supported")]
    Type(u8),
    /// No key signed this.
    #[error("invalid sender")]
    Signature,
    /// The encoding is longer than 128 KiB.
    #[error("oversized data: transaction size {0}, limit {MAX_BYTES}")]
    Oversized(usize),
    /// The pool has this very transaction.
    #[error("already known")]
    AlreadyKnown,
    /// The pool has one with this nonce that pays as much or nearly so.
    #[error("replacement transaction underpriced")]
    Underpriced,
    /// Too many transactions wait, of this sender or altogether.
    #[error("txpool is full")]
    Full,
    /// The sender has used this nonce.
    #[error("nonce too low: next nonce {next}, tx nonce {nonce}")]
    NonceTooLow {
        /// The nonce the sender is at.
        next: u64,
        /// The nonce of the transaction.
        nonce: u64,
    },
    /// The consensus rules forbid it, now or ever.
    #[error("{0}")]
    Rule(String),
}

impl From<PoolError> for Rejection {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::AlreadyKnown => Self::AlreadyKnown,
            PoolError::Underpriced => Self::Underpriced,
            PoolError::Full => Self::Full,
        }
    }
}

impl From<EvmError> for Rejection {
    fn from(error: EvmError) -> Self {
        Self::Rule(match error {
            EvmError::Transaction(invalid) => wording(&invalid),
            other => other.to_string(),
        })
    }
}

/// Decodes a raw transaction and finds out who signed it.
pub(crate) fn decode(raw: &[u8]) -> Result<Recovered<TxEnvelope>, Rejection> {
    if raw.len() > MAX_BYTES {
        return Err(Rejection::Oversized(raw.len()));
    }
    let tx = TxEnvelope::decode_2718_exact(raw).map_err(|_| Rejection::Decode)?;
    recover(tx)
}

/// Finds out who signed `tx`. High-s signatures are refused (EIP-2).
pub(crate) fn recover(tx: TxEnvelope) -> Result<Recovered<TxEnvelope>, Rejection> {
    if tx.is_eip4844() || tx.is_eip7702() {
        return Err(Rejection::Type(tx.ty()));
    }
    let size = tx.encode_2718_len();
    if size > MAX_BYTES {
        return Err(Rejection::Oversized(size));
    }
    if tx.signature().normalize_s().is_some() {
        return Err(Rejection::Signature);
    }
    let signer = tx.signature().recover_address_from_prehash(&tx.signature_hash());
    let signer = signer.map_err(|_| Rejection::Signature)?;
    Ok(Recovered::new_unchecked(tx, signer))
}

/// Whether `tx` may wait for a block like `header`, on `state`.
pub(crate) fn check(
    config: &Config,
    header: &alloy::consensus::Header,
    state: &State,
    pool: &Pool,
    tx: &Recovered<TxEnvelope>,
) -> Result<(), Rejection> {
    if pool.get(tx.tx_hash()).is_some() {
        return Err(Rejection::AlreadyKnown);
    }
    let (next, nonce) = (state.nonce(tx.signer()), tx.nonce());
    if nonce < next {
        return Err(Rejection::NonceTooLow { next, nonce });
    }
    let view = View { state, ancestors: &Ancestors::default() };
    let rules = evm::admission_rules(config.chain_id);
    Ok(evm::validate(view, rules, evm::block_env(header), evm::tx_env(tx))?)
}

/// What geth says, since programs look for these words.
fn wording(invalid: &InvalidTransaction) -> String {
    match invalid {
        InvalidTransaction::LackOfFundForMaxFee { fee, balance } => {
            format!("insufficient funds for gas * price + value: balance {balance}, tx cost {fee}")
        }
        InvalidTransaction::OverflowPaymentInTransaction => {
            "insufficient funds for gas * price + value: cost overflows".into()
        }
        InvalidTransaction::CallGasCostMoreThanGasLimit { initial_gas, gas_limit } => {
            format!("intrinsic gas too low: gas {gas_limit}, minimum needed {initial_gas}")
        }
        InvalidTransaction::GasFloorMoreThanGasLimit { gas_floor, gas_limit } => {
            format!("insufficient gas for floor data gas cost: gas {gas_limit}, minimum needed {gas_floor}")
        }
        InvalidTransaction::TxGasLimitGreaterThanCap { gas_limit, cap } => {
            format!("transaction gas limit too high (cap: {cap}, tx: {gas_limit})")
        }
        InvalidTransaction::CallerGasLimitMoreThanBlock => "exceeds block gas limit".into(),
        InvalidTransaction::GasPriceLessThanBasefee => "max fee per gas less than block base fee".into(),
        InvalidTransaction::PriorityFeeGreaterThanMaxFee => {
            "max priority fee per gas higher than max fee per gas".into()
        }
        InvalidTransaction::CreateInitCodeSizeLimit => "max initcode size exceeded".into(),
        InvalidTransaction::RejectCallerWithCode => "sender not an eoa".into(),
        InvalidTransaction::InvalidChainId => "invalid chain id for signer".into(),
        InvalidTransaction::NonceOverflowInTransaction => "nonce has max value".into(),
        other => other.to_string(),
    }
}
