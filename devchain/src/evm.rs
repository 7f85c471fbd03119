//! revm under Osaka rules on a [`State`].

use alloy::consensus::{Header, Transaction, TxEnvelope, Typed2718, transaction::Recovered};
use alloy::primitives::{Address, B256, U256};
use revm::bytecode::Bytecode;
use revm::context::result::{EVMError, ResultAndState};
use revm::context::{BlockEnv, CfgEnv, TxEnv};
use revm::context_interface::block::BlobExcessGasAndPrice;
use revm::database_interface::{DBErrorMarker, DatabaseRef, WrapDatabaseRef};
use revm::handler::{Handler, MainnetContext, MainnetEvm, MainnetHandler};
use revm::primitives::eip4844::BLOB_BASE_FEE_UPDATE_FRACTION_PRAGUE;
use revm::primitives::hardfork::SpecId;
use revm::state::AccountInfo;
use revm::{Context, ExecuteEvm, MainBuilder, MainContext};

use crate::state::State;

/// EVM rules of every block: P-256 at 0x100 (EIP-7951), gas cap of a transaction (EIP-7825),
/// calldata floor (EIP-7623).
const SPEC: SpecId = SpecId::OSAKA;

/// How far BLOCKHASH reaches back.
pub(crate) const BLOCK_HASHES: u64 = 256;

/// Why a transaction could not be executed at all.
pub(crate) type EvmError = EVMError<StateError>;

/// What the EVM asked of the state and cannot get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StateError {
    #[error("code {0} was asked for apart from its account")]
    DetachedCode(B256),
}

impl DBErrorMarker for StateError {}

/// A state, and the hashes of the blocks that lead to it.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) state: &'a State,
    pub(crate) ancestors: &'a Ancestors,
}

/// Hashes of the last 256 blocks, oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ancestors {
    pub(crate) first: u64,
    pub(crate) hashes: Vec<B256>,
}

impl Ancestors {
    fn get(&self, number: u64) -> Option<B256> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.hashes.get(index).copied()
    }
}

impl DatabaseRef for View<'_> {
    type Error = StateError;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, StateError> {
        Ok(self.state.account(address).map(|account| account.info()))
    }

    fn code_by_hash_ref(&self, hash: B256) -> Result<Bytecode, StateError> {
        Err(StateError::DetachedCode(hash))
    }

    fn storage_ref(&self, address: Address, slot: U256) -> Result<U256, StateError> {
        Ok(self.state.storage(address, slot))
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, StateError> {
        Ok(self.ancestors.get(number).unwrap_or_default())
    }
}

/// What the block says of itself to the code that runs in it.
pub(crate) fn block_env(header: &Header) -> BlockEnv {
    BlockEnv {
        number: U256::from(header.number),
        beneficiary: header.beneficiary,
        timestamp: U256::from(header.timestamp),
        gas_limit: header.gas_limit,
        basefee: header.base_fee_per_gas.unwrap_or_default(),
        difficulty: header.difficulty,
        prevrandao: Some(header.mix_hash),
        blob_excess_gas_and_price: Some(BlobExcessGasAndPrice::new(
            header.excess_blob_gas.unwrap_or_default(),
            BLOB_BASE_FEE_UPDATE_FRACTION_PRAGUE,
        )),
        ..BlockEnv::default()
    }
}

/// A signed transaction as revm takes it.
pub(crate) fn tx_env(tx: &Recovered<TxEnvelope>) -> TxEnv {
    TxEnv {
        tx_type: tx.ty(),
        caller: tx.signer(),
        gas_limit: tx.gas_limit(),
        gas_price: tx.max_fee_per_gas(),
        kind: tx.kind(),
        value: tx.value(),
        data: tx.input().clone(),
        nonce: tx.nonce(),
        chain_id: tx.chain_id(),
        access_list: tx.access_list().cloned().unwrap_or_default(),
        gas_priority_fee: tx.max_priority_fee_per_gas(),
        ..TxEnv::default()
    }
}

/// Rules for transactions in blocks.
pub(crate) fn consensus_rules(chain_id: u64) -> CfgEnv {
    CfgEnv::new_with_spec(SPEC).with_chain_id(chain_id)
}

/// Rules for transactions that wait: as in blocks, but the nonce may be ahead.
pub(crate) fn admission_rules(chain_id: u64) -> CfgEnv {
    let mut cfg = consensus_rules(chain_id);
    cfg.disable_nonce_check = true;
    cfg
}

/// Rules for `eth_call`: nobody signs, nobody need pay, contracts may be callers. Gas is bounded by
/// the caller of this function instead of EIP-7825.
pub(crate) fn call_rules(chain_id: u64) -> CfgEnv {
    let mut cfg = admission_rules(chain_id);
    cfg.tx_chain_id_check = false;
    cfg.disable_base_fee = true;
    cfg.disable_eip3607 = true;
    cfg.tx_gas_limit_cap = Some(u64::MAX);
    cfg
}

type Db<'a> = WrapDatabaseRef<View<'a>>;

fn evm<'a>(view: View<'a>, cfg: CfgEnv, block: BlockEnv) -> MainnetEvm<MainnetContext<Db<'a>>> {
    Context::mainnet().with_db(WrapDatabaseRef(view)).with_cfg(cfg).with_block(block).build_mainnet()
}

/// Executes `tx`; the changes are in the result, `view` stays as it is.
pub(crate) fn transact(
    view: View<'_>,
    cfg: CfgEnv,
    block: BlockEnv,
    tx: TxEnv,
) -> Result<ResultAndState, EvmError> {
    evm(view, cfg, block).transact(tx)
}

/// Everything that is checked of `tx` before its code runs.
pub(crate) fn validate(view: View<'_>, cfg: CfgEnv, block: BlockEnv, tx: TxEnv) -> Result<(), EvmError> {
    let mut evm = evm(view, cfg, block);
    evm.ctx.tx = tx;
    MainnetHandler::<_, EvmError, _>::default().validate(&mut evm).map(|_| ())
}
