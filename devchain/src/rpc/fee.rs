//! What gas costs.

use alloy::consensus::Transaction;
use alloy::eips::BlockNumberOrTag;
use alloy::primitives::{U64, U128};
use alloy::rpc::types::FeeHistory;

use crate::assemble::next_base_fee;
use crate::block::Block;
use crate::node::Node;
use crate::rpc::error::RpcError;
use crate::rpc::params::Params;
use crate::rpc::{Reply, select, to_json};

/// Tip that is suggested, in wei per gas: there is no competition to outbid. As anvil.
const PRIORITY_FEE: u64 = 1_000_000_000;
/// Blocks in one `eth_feeHistory`, as geth has it.
const MAX_BLOCKS: u64 = 1024;
/// Percentiles in one `eth_feeHistory`.
const MAX_PERCENTILES: usize = 100;

pub(super) fn gas_price(node: &Node) -> Reply {
    let base = next_base_fee(node.chain().canon.head().header());
    to_json(U128::from(base) + U128::from(PRIORITY_FEE))
}

pub(super) fn priority_fee() -> Reply {
    to_json(U64::from(PRIORITY_FEE))
}

pub(super) fn history(node: &Node, mut params: Params) -> Reply {
    let count: U64 = params.required(0, "block count")?;
    let newest: BlockNumberOrTag = params.required(1, "newest block")?;
    let percentiles: Vec<f64> = params.optional(2, "reward percentiles")?.unwrap_or_default();
    check_percentiles(&percentiles)?;
    let chain = node.chain();
    let head = chain.canon.head().number();
    let newest = select::height(&chain.canon, newest).unwrap_or(head);
    if newest > head {
        return Err(RpcError::server(format!("request beyond head block: requested {newest}, head {head}")));
    }
    let count = count.to::<u64>().min(MAX_BLOCKS).min(newest + 1);
    if count == 0 {
        return to_json(FeeHistory::default());
    }
    let oldest = newest + 1 - count;
    let blocks: Vec<_> = (oldest..=newest).filter_map(|number| chain.canon.block(number).cloned()).collect();
    drop(chain);
    to_json(summary(oldest, &blocks.iter().map(AsRef::as_ref).collect::<Vec<_>>(), &percentiles))
}

fn check_percentiles(percentiles: &[f64]) -> Result<(), RpcError> {
    let sorted = percentiles.is_sorted_by(|a, b| a <= b);
    let in_range = percentiles.iter().all(|percentile| (0.0..=100.0).contains(percentile));
    if percentiles.len() > MAX_PERCENTILES || !sorted || !in_range {
        return Err(RpcError::invalid_params("reward percentiles are not rising from 0 to 100"));
    }
    Ok(())
}

fn summary(oldest: u64, blocks: &[&Block], percentiles: &[f64]) -> FeeHistory {
    let base = |block: &&Block| u128::from(block.header().base_fee_per_gas.unwrap_or_default());
    let next = blocks.last().map(|block| u128::from(next_base_fee(block.header())));
    let ratio = |block: &&Block| block.header().gas_used as f64 / block.header().gas_limit.max(1) as f64;
    FeeHistory {
        oldest_block: oldest,
        base_fee_per_gas: blocks.iter().map(base).chain(next).collect(),
        gas_used_ratio: blocks.iter().map(ratio).collect(),
        // There are no blobs: their base fee stays at its least, one wei (EIP-4844).
        base_fee_per_blob_gas: vec![1; blocks.len() + 1],
        blob_gas_used_ratio: vec![0.0; blocks.len()],
        reward: (!percentiles.is_empty())
            .then(|| blocks.iter().map(|block| rewards(block, percentiles)).collect()),
    }
}

/// Tips at the percentiles of the block's gas.
fn rewards(block: &Block, percentiles: &[f64]) -> Vec<u128> {
    let base_fee = block.header().base_fee_per_gas.unwrap_or_default();
    let tip = |(index, tx): (usize, &alloy::consensus::TxEnvelope)| {
        (tx.effective_tip_per_gas(base_fee).unwrap_or_default(), block.gas_used(index))
    };
    let envelopes = block.transactions().iter().map(|tx| tx.inner());
    let mut tips: Vec<_> = envelopes.enumerate().map(tip).collect();
    tips.sort_unstable();
    percentiles.iter().map(|percentile| tip_at(&tips, block.header().gas_used, *percentile)).collect()
}

fn tip_at(tips: &[(u128, u64)], gas_used: u64, percentile: f64) -> u128 {
    let threshold = (gas_used as f64 * percentile / 100.0) as u64;
    let mut sum = 0;
    let reached = tips.iter().find(|(_, gas)| {
        sum += gas;
        sum >= threshold
    });
    reached.or(tips.last()).map_or(0, |(tip, _)| *tip)
}
