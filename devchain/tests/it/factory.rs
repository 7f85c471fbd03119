//! The project's own contracts on the chain.

use alloy::network::TransactionBuilder;
use alloy::primitives::{Address, U256};
use alloy::providers::Provider;
use alloy::sol_types::SolEvent;
use posthouse_contracts::abi::UpdateFactory;
use posthouse_contracts::calls::{self, Publish};
use posthouse_contracts::chain::{Chain as _, Limits, RpcChain, RpcConfig};
use posthouse_contracts::terms::{Group, Implementations, Terms};
use posthouse_protocol::id::{ChainId, Curve, FleetRoot, PackageId, ProductId, UpdateId, Version};

use crate::fixture::{GENESIS, provider, receipt, start};

pub(crate) fn update(version: u64) -> Publish {
    Publish {
        product: ProductId::new([1; 32]),
        version: Version::from(version),
        u_id: UpdateId::new([2; 32]),
        p_id: PackageId::new([3; 32]),
        root: FleetRoot::new([4; 32]),
        depth: 20,
        curve: Curve::Secp256k1,
        claim_by: GENESIS + 30 * 86_400,
        lock_secs: 7200,
        bonus_until: 0,
        bonus_bps: 0,
        groups: vec![Group { end_index: 1_000_000, share: 1_000_000_000_000 }],
    }
}

#[tokio::test]
async fn an_update_is_published_through_the_factory() {
    let chain = start();
    let provider = provider(&chain);
    let vendor = chain.accounts()[0].address();
    let deployed = receipt(&provider, calls::deploy_factory().into_request()).await;
    let factory = deployed.contract_address.unwrap();
    let published = receipt(&provider, calls::publish(factory, &update(1)).into_request()).await;
    assert!(published.status());

    let log = published.logs().iter().find(|log| log.address() == factory).unwrap();
    let event = UpdateFactory::UpdatePublished::decode_log(&log.inner).unwrap();
    assert_eq!((event.vendor, event.version, event.uId), (vendor, 1, [2; 32].into()));
    assert_eq!(provider.get_balance(event.bounty).await.unwrap(), update(1).deposit());
    let latest = UpdateFactory::new(factory, &provider).latest(vendor, [1; 32].into()).call().await.unwrap();
    assert_eq!((latest.version, latest.bounty), (1, event.bounty));
    let code = provider.get_code_at(event.bounty).await.unwrap();
    let terms = Terms::from_code(&code, &Implementations::of(factory)).unwrap();
    assert_eq!((terms.vendor, terms.start), (vendor, chain.head().timestamp()));

    let reader = RpcChain::new(&RpcConfig {
        urls: vec![chain.url().into()],
        chain: ChainId::from(chain.chain_id()),
        factory,
        limits: Limits::default(),
    });
    let reader = reader.unwrap();
    chain.mine();
    assert_eq!(reader.latest(vendor, &update(1).product).await.unwrap(), None, "not final yet");
    chain.mine();
    let latest = reader.latest(vendor, &update(1).product).await.unwrap().unwrap();
    assert_eq!(latest.bounty, event.bounty.into_array().into());
    assert_eq!(reader.terms(&latest.bounty).await.unwrap(), terms);

    let downgrade = calls::publish(factory, &update(1)).into_request().with_from(vendor);
    let error = provider.estimate_gas(downgrade).await.unwrap_err();
    let data = error.as_error_resp().unwrap().as_revert_data().unwrap();
    assert_eq!(calls::revert_reason(&data).unwrap(), "Downgrade(Downgrade { latest: 1 })");
    assert_ne!(event.bounty, Address::ZERO);
    assert!(U256::from(published.gas_used) <= U256::from(135_000), "publish took {}", published.gas_used);
}
