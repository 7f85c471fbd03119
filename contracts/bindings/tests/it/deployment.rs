//! The contracts at the addresses that this crate says, with the code that it says.

use alloy::consensus::TxEnvelope;
use alloy::eips::eip2718::Decodable2718 as _;
use alloy::network::TransactionBuilder as _;
use alloy::primitives::{Bytes, U256, keccak256};
use alloy::providers::{Provider as _, RootProvider};
use alloy::rpc::types::TransactionRequest;
use posthouse_contracts::chain::{Limits, provider};
use posthouse_contracts::deployment::{self, Contract};
use posthouse_devchain::{Config, DevChain};
use posthouse_protocol::id::ChainId;

use crate::fixture::send;

async fn stands(node: &RootProvider, contract: Contract) -> bool {
    contract.is(&node.get_code_at(contract.address).await.unwrap())
}

async fn p256(node: &RootProvider, input: [u8; 160]) -> Bytes {
    let request = TransactionRequest::default().with_to(deployment::P256_VERIFY).with_input(input);
    node.call(request).await.unwrap()
}

#[tokio::test]
async fn the_contracts_stand_at_one_address_on_every_chain() {
    for chain_id in [1, 31_337, u64::MAX] {
        let chain = DevChain::start(Config { chain_id, ..Config::default() }).unwrap();
        let node = provider(&[chain.url().into()], ChainId::new(chain_id), Limits::default()).unwrap();
        assert!(!stands(&node, deployment::DEPLOYER).await);
        chain.set_balance(deployment::DEPLOYER_SENDER, deployment::DEPLOYER_COST);
        chain.send(TxEnvelope::decode_2718_exact(&deployment::DEPLOYER_TRANSACTION).unwrap()).unwrap();
        assert!(stands(&node, deployment::DEPLOYER).await);

        let deployed = send(&chain, 0, deployment::deploy()).await;
        assert!(deployed.status());
        for contract in [deployment::FACTORY, deployment::SECP256K1_BOUNTY, deployment::P256_BOUNTY] {
            let code = node.get_code_at(contract.address).await.unwrap();
            assert_eq!(keccak256(code), contract.code_hash, "{} at {}", contract.name, contract.address);
        }
    }
}

#[tokio::test]
async fn the_precompile_answers_what_is_asked_of_it() {
    let chain = DevChain::start(Config::default()).unwrap();
    let node = provider(&[chain.url().into()], ChainId::new(31_337), Limits::default()).unwrap();
    let yes = U256::from(1).to_be_bytes::<32>();
    assert_eq!(p256(&node, deployment::P256_VALID).await[..], yes);
    let mut forged = deployment::P256_VALID;
    forged[0] ^= 1;
    assert!(p256(&node, forged).await.is_empty());
}
