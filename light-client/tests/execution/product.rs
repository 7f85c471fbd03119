//! The question that a gateway asks: what is the latest version and bounty of a product.

use alloy::network::TransactionBuilder;
use alloy::primitives::Address;
use alloy::providers::{Provider, ProviderBuilder};
use alloy::rpc::types::TransactionReceipt;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::SolEvent;
use posthouse_contracts::abi::UpdateFactory;
use posthouse_contracts::calls::{self, Call, Publish};
use posthouse_contracts::layout;
use posthouse_contracts::terms::{Group, Implementations, Terms};
use posthouse_devchain::{Clock, Config, DevChain, dev_accounts};
use posthouse_light_client::execution::{Block, Filter};
use posthouse_light_client::rpc::Rpc;
use posthouse_protocol::id::{Curve, FleetRoot, PackageId, ProductId, UpdateId, Version};
use serde_json::Value;

use crate::stage::rpc;

/// A vendor, its factory, and the transactions by which it published two versions.
pub(crate) struct Vendor {
    pub(crate) address: Address,
    pub(crate) factory: Address,
    pub(crate) published: Vec<TransactionReceipt>,
}

impl Vendor {
    /// On any chain that funds the accounts of development, whose time is about `now` in unix seconds.
    pub(crate) async fn start(url: &str, now: u64) -> Self {
        // A second installation fails, and is not needed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let vendor: PrivateKeySigner = dev_accounts()[0].clone();
        let address = vendor.address();
        let provider = ProviderBuilder::new().wallet(vendor).connect_http(url.parse().unwrap());
        let factory = send(&provider, calls::deploy_factory()).await.contract_address.unwrap();
        let mut published = Vec::new();
        for version in [1, 5] {
            published.push(send(&provider, calls::publish(factory, &update(version, now))).await);
        }
        Self { address, factory, published }
    }

    /// What the light client answers, at a block that is proven.
    pub(crate) async fn check(&self, rpc: &Rpc, head: &Block) {
        let product = ProductId::new([1; 32]);
        let slot = layout::latest_slot(self.address, &product);
        let (_, words) = rpc.account(head, self.factory, &[slot]).await.unwrap();
        let latest = layout::latest(words[0]).unwrap();
        assert_eq!(latest.version, Version::from(5));

        let bounty = Address::from(latest.bounty.to_bytes());
        let code = rpc.code(head, bounty).await.unwrap();
        let terms = Terms::from_code(&code, &Implementations::of(self.factory)).unwrap();
        assert_eq!(terms.vendor, self.address);

        let other = layout::latest_slot(self.address, &ProductId::new([2; 32]));
        let (_, words) = rpc.account(head, self.factory, &[other]).await.unwrap();
        assert_eq!(layout::latest(words[0]), None);

        let event = UpdateFactory::UpdatePublished::SIGNATURE_HASH;
        let logs = rpc.logs(head, &Filter::of(self.factory).topic(0, event), 0).await.unwrap();
        let found: Vec<_> =
            logs.iter().map(|log| (log.block_number, log.transaction_hash, log.log_index)).collect();
        let expected = self.published.iter().map(|receipt| {
            let log = receipt.logs().iter().find(|log| log.topics()[0] == event).unwrap();
            (receipt.block_number.unwrap(), receipt.transaction_hash, log.log_index.unwrap())
        });
        assert_eq!(found, expected.collect::<Vec<_>>());
        let published = UpdateFactory::UpdatePublished::decode_log(&logs[1].inner).unwrap();
        assert_eq!((published.version, published.bounty), (5, bounty));

        for receipt in &self.published {
            let proven = rpc.receipt(head, receipt.transaction_hash).await.unwrap().unwrap();
            assert!(proven.success);
            assert_eq!(proven.block.hash, receipt.block_hash.unwrap());
            assert_eq!(
                proven.logs.iter().map(|log| &log.inner).collect::<Vec<_>>(),
                receipt.logs().iter().map(|log| &log.inner).collect::<Vec<_>>()
            );
        }
    }
}

async fn send(provider: &impl Provider, call: Call) -> TransactionReceipt {
    let sent = provider.send_transaction(call.into_request().with_gas_limit(10_000_000)).await.unwrap();
    let _: Value = provider.raw_request("evm_mine".into(), ()).await.unwrap();
    let receipt = provider.get_transaction_receipt(*sent.tx_hash()).await.unwrap().unwrap();
    assert!(receipt.status());
    receipt
}

fn update(version: u64, now: u64) -> Publish {
    Publish {
        product: ProductId::new([1; 32]),
        version: Version::from(version),
        u_id: UpdateId::new([2; 32]),
        p_id: PackageId::new([3; 32]),
        root: FleetRoot::new([4; 32]),
        depth: 20,
        curve: Curve::Secp256k1,
        claim_by: now + 30 * 86_400,
        lock_secs: 7200,
        bonus_until: 0,
        bonus_bps: 0,
        groups: vec![Group { end_index: 1_000_000, share: 1_000_000_000_000 }],
    }
}

#[tokio::test]
async fn the_latest_version_is_proven_on_the_devchain() {
    let now = 1_800_000_000;
    let config =
        Config { clock: Clock::Manual, genesis_timestamp: Some(now), automine: false, ..Config::default() };
    let chain = DevChain::start(config).unwrap();
    let vendor = Vendor::start(chain.url(), now).await;
    let head = chain.mine();
    let head = posthouse_light_client::execution::verify_header(head.hash(), head.header()).unwrap();
    vendor.check(&rpc(&[chain.url()]), &head).await;
}
