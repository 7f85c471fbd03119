//! A chain with blocks of every kind of receipt, and a way to have lies told about it.

use std::fmt::Debug;
use std::time::Duration;

use alloy::consensus::{SignableTransaction, TxEip1559, TxEip2930, TxEnvelope, TxLegacy};
use alloy::network::TxSignerSync;
use alloy::primitives::{Address, B256, Bytes, TxKind, U256, bytes};
use alloy::signers::local::PrivateKeySigner;
use posthouse_devchain::{Clock, Config, DevChain, Proxy};
use posthouse_light_client::execution::{Block, Filter, Refused, verify_header};
use posthouse_light_client::http::{Exhausted, Limits};
use posthouse_light_client::rpc::{AnswerError, Rpc, RpcError};
use serde_json::Value;

const CHAIN_ID: u64 = 31_337;

/// 64 bytes of calldata `(slot, value)` store and log with topics `(1, slot)`; anything else is reverted with.
pub(crate) const PROBE: Bytes = bytes!(
    "60348060095f395ff3"
    "36604014601557"
    "36602014602a57"
    "365f5f37365ffd"
    "5b6020355f35556020355f525f35600160205fa200"
    "5b5f35545f5260205ff3"
);

/// Dearer transactions come first, so those with a gas price. Block 1 deploys the probe; 2 has three logs of two transactions and a transfer; 3 is empty; 4 has all types that the
/// devchain executes, a failure among them; 5 is a transfer; 6 and 7 are empty.
pub(crate) struct Stage {
    pub(crate) chain: DevChain,
    pub(crate) probe: Address,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let config =
            Config { clock: Clock::Manual, genesis_timestamp: Some(1_800_000_000), ..Config::default() };
        let chain = DevChain::start(Config { automine: false, ..config }).unwrap();
        let [a, b, c] = [0, 1, 2].map(|account| chain.accounts()[account].clone());
        let probe = a.address().create(0);
        let at_probe = TxKind::Call(probe);
        let nobody = TxKind::Call(Address::repeat_byte(7));
        let blocks = [
            vec![dynamic(&a, 0, TxKind::Create, PROBE)],
            vec![
                dynamic(&a, 1, at_probe, words(&[7, 1])),
                dynamic(&a, 2, at_probe, words(&[8, 2])),
                legacy(&b, 0, at_probe, words(&[7, 3])),
                dynamic(&c, 0, nobody, Bytes::new()),
            ],
            vec![],
            vec![
                dynamic(&a, 3, at_probe, words(&[9, 0])),
                dynamic(&a, 4, at_probe, Bytes::from_static(b"revert with this")),
                legacy(&b, 1, at_probe, words(&[7, 4])),
                listed(&c, 1, at_probe, words(&[8, 5])),
            ],
            vec![dynamic(&a, 5, nobody, Bytes::new())],
            vec![],
            vec![],
        ];
        for transactions in blocks {
            let count = transactions.len();
            for transaction in transactions {
                chain.send(transaction).unwrap();
            }
            assert_eq!(chain.mine().transactions().len(), count);
        }
        Self { chain, probe }
    }

    /// A block that is proven by its hash.
    pub(crate) fn block(&self, number: u64) -> Block {
        let block = self.chain.block(number).unwrap();
        verify_header(block.hash(), block.header()).unwrap()
    }

    pub(crate) fn head(&self) -> Block {
        self.block(self.chain.head().number())
    }

    pub(crate) fn filter(&self) -> Filter {
        Filter::of(self.probe)
    }

    pub(crate) fn honest(&self) -> Rpc {
        rpc(&[self.chain.url()])
    }

    /// What becomes of the answers to `ask` that `rewrite` changes: the error of an endpoint that stands alone, once an
    /// honest one behind it is found to be asked.
    pub(crate) async fn lie<T: Debug + PartialEq>(
        &self,
        rewrite: impl Fn(&str, &Value, &mut Value) + Send + Sync + 'static,
        ask: impl AsyncFn(&Rpc) -> Result<T, RpcError>,
    ) -> AnswerError {
        let liar = Proxy::start(self.chain.url(), rewrite).unwrap();
        let error = only(ask(&rpc(&[liar.url()])).await.unwrap_err());

        let truth = ask(&self.honest()).await.unwrap();
        let both = rpc(&[liar.url(), self.chain.url()]);
        assert_eq!(ask(&both).await.unwrap(), truth, "the next endpoint's answer comes through");
        let report = both.report();
        assert_eq!(report[0].last_error, Some(error.to_string()), "the lie is remembered");
        assert_eq!(format!("http://{}", report[0].endpoint), liar.url());
        assert_eq!((report[1].failures, &report[1].last_error), (0, &None));
        error
    }

    /// As [`Stage::lie`], for a lie that a proof brings to light.
    pub(crate) async fn refused<T: Debug + PartialEq>(
        &self,
        rewrite: impl Fn(&str, &Value, &mut Value) + Send + Sync + 'static,
        ask: impl AsyncFn(&Rpc) -> Result<T, RpcError>,
    ) -> Refused {
        match self.lie(rewrite, ask).await {
            AnswerError::Refused { why, .. } => *why,
            other => panic!("not refused by a proof: {other}"),
        }
    }
}

/// The one endpoint's failure.
pub(crate) fn only(error: RpcError) -> AnswerError {
    match error {
        RpcError::Exhausted(Exhausted(mut failures)) if failures.len() == 1 => failures.remove(0).error,
        other => panic!("not the failure of one endpoint: {other}"),
    }
}

/// A client of these endpoints, in this order.
pub(crate) fn rpc(urls: &[&str]) -> Rpc {
    let limits = Limits { timeout: Duration::from_secs(10), max_response: 1 << 20 };
    Rpc::new(&urls.iter().map(|url| (*url).to_owned()).collect::<Vec<_>>(), CHAIN_ID, limits).unwrap()
}

/// A rewrite of the answers to one method.
pub(crate) fn answers_to(
    method: &'static str,
    change: impl Fn(&mut Value) + Send + Sync + 'static,
) -> impl Fn(&str, &Value, &mut Value) + Send + Sync + 'static {
    move |asked, _, answer| {
        if asked == method {
            change(&mut answer["result"]);
        }
    }
}

pub(crate) fn slot(number: u64) -> B256 {
    U256::from(number).into()
}

pub(crate) fn words(words: &[u64]) -> Bytes {
    words.iter().flat_map(|word| U256::from(*word).to_be_bytes::<32>()).collect()
}

pub(crate) fn dynamic(from: &PrivateKeySigner, nonce: u64, to: TxKind, input: Bytes) -> TxEnvelope {
    let mut tx = TxEip1559 {
        chain_id: CHAIN_ID,
        nonce,
        gas_limit: 200_000,
        max_fee_per_gas: 10_000_000_000,
        max_priority_fee_per_gas: 1_000_000_000,
        to,
        input,
        ..TxEip1559::default()
    };
    let signature = from.sign_transaction_sync(&mut tx).unwrap();
    tx.into_signed(signature).into()
}

fn legacy(from: &PrivateKeySigner, nonce: u64, to: TxKind, input: Bytes) -> TxEnvelope {
    let (chain_id, gas_price, gas_limit) = (Some(CHAIN_ID), 9_000_000_000, 200_000);
    let mut tx = TxLegacy { chain_id, nonce, gas_price, gas_limit, to, input, ..TxLegacy::default() };
    let signature = from.sign_transaction_sync(&mut tx).unwrap();
    tx.into_signed(signature).into()
}

fn listed(from: &PrivateKeySigner, nonce: u64, to: TxKind, input: Bytes) -> TxEnvelope {
    let (chain_id, gas_price, gas_limit) = (CHAIN_ID, 9_000_000_000, 200_000);
    let mut tx = TxEip2930 { chain_id, nonce, gas_price, gas_limit, to, input, ..TxEip2930::default() };
    let signature = from.sign_transaction_sync(&mut tx).unwrap();
    tx.into_signed(signature).into()
}
