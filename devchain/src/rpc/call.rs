//! `eth_call` and `eth_estimateGas`.

use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::primitives::{Address, Bytes, U64, U256};
use alloy::rpc::types::TransactionRequest;
use revm::context::TxEnv;
use revm::context::result::{ExecutionResult, HaltReason, InvalidTransaction};
use serde_json::Value;

use crate::config::TX_GAS_LIMIT_CAP;
use crate::evm::{self, EvmError};
use crate::node::Node;
use crate::rpc::error::RpcError;
use crate::rpc::params::Params;
use crate::rpc::select::{self, At};
use crate::rpc::{Reply, to_json};

/// Gas of a transfer to an account without code.
const TRANSFER_GAS: u64 = 21_000;
/// EIP-2200: with less than this left a call cannot store.
const CALL_STIPEND: u64 = 2_300;
/// An estimate may be above what is needed by one part in this many, as geth has it.
const ESTIMATE_PRECISION: u64 = 64;

pub(super) fn call(node: &Node, mut params: Params) -> Reply {
    let request: TransactionRequest = params.required(0, "transaction")?;
    let id = params.optional(1, "block")?.unwrap_or(BlockNumberOrTag::Latest.into());
    refuse_overrides(&mut params, 2)?;
    let at = select::at(node, id)?;
    let tx = tx_env(&at, request, u64::MAX)?;
    to_json(succeeded(run(node, &at, tx)?)?)
}

pub(super) fn estimate(node: &Node, mut params: Params) -> Reply {
    let request: TransactionRequest = params.required(0, "transaction")?;
    // What is estimated will be mined in the next block, after what waits already.
    let id: BlockId = params.optional(1, "block")?.unwrap_or(BlockId::pending());
    refuse_overrides(&mut params, 2)?;
    let at = select::at(node, id)?;
    let tx = tx_env(&at, request, TX_GAS_LIMIT_CAP)?;
    to_json(U64::from(least_gas(node, &at, tx)?))
}

/// Overrides of state or block are not offered; silence would be a wrong answer.
fn refuse_overrides(params: &mut Params, from: usize) -> Result<(), RpcError> {
    for index in from..params.len() {
        let value: Option<Value> = params.optional(index, "overrides")?;
        if value.is_some_and(|value| value.as_object().is_none_or(|map| !map.is_empty())) {
            return Err(RpcError::invalid_params("state and block overrides are not supported"));
        }
    }
    Ok(())
}

/// The request as a transaction with as much gas as it may have: what it asks for, the block's limit,
/// `cap`, and what its sender can pay.
fn tx_env(at: &At, request: TransactionRequest, cap: u64) -> Result<TxEnv, RpcError> {
    let caller = request.from.unwrap_or_default();
    let gas_price = request.max_fee_per_gas.or(request.gas_price).unwrap_or_default();
    let value = request.value.unwrap_or_default();
    let input = request.input.try_into_unique_input().map_err(RpcError::invalid_params)?;
    let gas_limit = request.gas.unwrap_or(u64::MAX).min(at.header.gas_limit).min(cap);
    Ok(TxEnv {
        tx_type: if request.max_fee_per_gas.is_some() { 2 } else { 1 },
        caller,
        gas_limit: gas_limit.min(affordable(at, caller, value, gas_price)?),
        gas_price,
        kind: request.to.unwrap_or_default(),
        value,
        data: input.unwrap_or_default(),
        nonce: request.nonce.unwrap_or_else(|| at.state.nonce(caller)),
        chain_id: None,
        access_list: request.access_list.unwrap_or_default(),
        gas_priority_fee: request.max_priority_fee_per_gas.filter(|_| request.max_fee_per_gas.is_some()),
        ..TxEnv::default()
    })
}

fn affordable(at: &At, caller: Address, value: U256, gas_price: u128) -> Result<u64, RpcError> {
    if gas_price == 0 {
        return Ok(u64::MAX);
    }
    let balance = at.state.balance(caller);
    let left = balance.checked_sub(value).ok_or_else(|| {
        RpcError::rejected(format!("insufficient funds for transfer: balance {balance}, value {value}"))
    })?;
    Ok((left / U256::from(gas_price)).saturating_to())
}

fn run(node: &Node, at: &At, tx: TxEnv) -> Result<ExecutionResult, EvmError> {
    let rules = evm::call_rules(node.config.chain_id);
    Ok(evm::transact(at.view(), rules, evm::block_env(&at.header), tx)?.result)
}

fn succeeded(result: ExecutionResult) -> Result<Bytes, RpcError> {
    match result {
        ExecutionResult::Success { output, .. } => Ok(output.into_data()),
        ExecutionResult::Revert { output, .. } => Err(RpcError::reverted(&output)),
        ExecutionResult::Halt { reason, .. } => Err(RpcError::rejected(format!("EVM error: {reason}"))),
    }
}

/// Binary search for the least gas with which `tx` succeeds, to a precision of 1.5 %.
fn least_gas(node: &Node, at: &At, tx: TxEnv) -> Result<u64, RpcError> {
    let with = |gas_limit: u64| TxEnv { gas_limit, ..tx.clone() };
    let enough = |gas_limit: u64| match run(node, at, with(gas_limit)) {
        Ok(result) => Ok(result.is_success()),
        Err(EvmError::Transaction(
            InvalidTransaction::CallGasCostMoreThanGasLimit { .. }
            | InvalidTransaction::GasFloorMoreThanGasLimit { .. },
        )) => Ok(false),
        Err(error) => Err(RpcError::from(error)),
    };
    let mut high = tx.gas_limit;
    if is_transfer(at, &tx) && high >= TRANSFER_GAS && enough(TRANSFER_GAS)? {
        return Ok(TRANSFER_GAS);
    }
    let result = run(node, at, tx.clone())?;
    let gas = *result.gas();
    if let ExecutionResult::Halt { reason: HaltReason::OutOfGas(_), .. } = result {
        return Err(RpcError::rejected(format!("gas required exceeds allowance ({high})")));
    }
    succeeded(result)?;
    let mut low = gas.tx_gas_used().saturating_sub(1);
    // A call passes on 63/64 of what is left (EIP-150): most often this much is enough.
    let likely = (gas.tx_gas_used() + gas.inner_refunded() + CALL_STIPEND) / 63 * 64 + 64;
    if likely < high {
        if enough(likely)? { high = likely } else { low = likely }
    }
    while high - low > 1 + high / ESTIMATE_PRECISION {
        let middle = (low + (high - low) / 2).min(low.saturating_mul(2)).max(low + 1);
        if enough(middle)? { high = middle } else { low = middle }
    }
    Ok(high)
}

fn is_transfer(at: &At, tx: &TxEnv) -> bool {
    let to = tx.kind.to().copied();
    tx.data.is_empty() && tx.access_list.is_empty() && to.is_some_and(|to| at.state.code(to).is_empty())
}
