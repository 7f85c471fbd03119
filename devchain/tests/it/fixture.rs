//! A chain with a manual clock, a provider on it, and a contract that does what tests need.

use alloy::consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy::eips::eip2718::Encodable2718;
use alloy::network::{TransactionBuilder, TxSignerSync};
use alloy::primitives::{Address, Bytes, TxKind, U256, bytes};
use alloy::providers::{Provider, ProviderBuilder, RootProvider};
use alloy::rpc::types::{TransactionReceipt, TransactionRequest};
use alloy::signers::local::PrivateKeySigner;
use posthouse_devchain::{Clock, Config, DevChain};

/// Genesis of every test, so that blocks have the same hashes each time.
pub(crate) const GENESIS: u64 = 1_800_000_000;

/// 64 bytes of calldata `(slot, value)` store and log with topics `(1, slot)`; 32 bytes `(slot)` load;
/// anything else is reverted with.
pub(crate) const PROBE: Bytes = bytes!(
    "60348060095f395ff3"
    "36604014601557"
    "36602014602a57"
    "365f5f37365ffd"
    "5b6020355f35556020355f525f35600160205fa200"
    "5b5f35545f5260205ff3"
);

pub(crate) fn config() -> Config {
    Config { clock: Clock::Manual, genesis_timestamp: Some(GENESIS), ..Config::default() }
}

pub(crate) fn start() -> DevChain {
    DevChain::start(config()).unwrap()
}

/// reqwest asks for a TLS provider even where there is no TLS.
fn install_crypto() {
    // A second installation fails, and is not needed.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A provider that only asks.
pub(crate) fn root_provider(url: &str) -> RootProvider {
    install_crypto();
    RootProvider::new_http(url.parse().unwrap())
}

/// A provider that fills in, signs as the first account, and sends.
pub(crate) fn provider(chain: &DevChain) -> impl Provider + Clone + use<> {
    install_crypto();
    let wallet = chain.accounts()[0].clone();
    ProviderBuilder::new().wallet(wallet).connect_http(chain.url().parse().unwrap())
}

pub(crate) async fn receipt(provider: &impl Provider, tx: TransactionRequest) -> TransactionReceipt {
    let sent = provider.send_transaction(tx).await.unwrap();
    provider.get_transaction_receipt(*sent.tx_hash()).await.unwrap().unwrap()
}

pub(crate) async fn deploy_probe(provider: &impl Provider) -> Address {
    let receipt = receipt(provider, TransactionRequest::default().with_deploy_code(PROBE)).await;
    assert!(receipt.status());
    receipt.contract_address.unwrap()
}

pub(crate) fn words(words: &[u64]) -> Bytes {
    words.iter().flat_map(|word| U256::from(*word).to_be_bytes::<32>()).collect()
}

pub(crate) fn store(probe: Address, slot: u64, value: u64) -> TransactionRequest {
    TransactionRequest::default().with_to(probe).with_input(words(&[slot, value]))
}

/// A signed transaction with everything given.
pub(crate) fn signed(
    from: &PrivateKeySigner,
    nonce: u64,
    to: TxKind,
    input: Bytes,
    gas_limit: u64,
) -> TxEnvelope {
    let tx = TxEip1559 {
        chain_id: 31_337,
        nonce,
        gas_limit,
        max_fee_per_gas: 10_000_000_000,
        max_priority_fee_per_gas: 1_000_000_000,
        to,
        input,
        ..TxEip1559::default()
    };
    sign(from, tx)
}

pub(crate) fn sign(from: &PrivateKeySigner, mut tx: TxEip1559) -> TxEnvelope {
    let signature = from.sign_transaction_sync(&mut tx).unwrap();
    tx.into_signed(signature).into()
}

pub(crate) fn transfer(from: &PrivateKeySigner, nonce: u64, to: Address) -> TxEnvelope {
    signed(from, nonce, TxKind::Call(to), Bytes::new(), 21_000)
}

pub(crate) fn raw(tx: &TxEnvelope) -> Bytes {
    tx.encoded_2718().into()
}
