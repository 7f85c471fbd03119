//! A chain with a factory, a fleet and a bounty for it.

use std::path::Path;

use alloy::primitives::{Address, U256};
use alloy::providers::{Provider, ProviderBuilder};
use alloy::rpc::types::{TransactionReceipt, TransactionRequest};
use alloy::sol_types::SolEvent;
use posthouse_contracts::abi::UpdateFactory;
use posthouse_contracts::calls::{self, Call, Publish};
use posthouse_contracts::chain::{Limits, RpcChain, RpcConfig, provider};
use posthouse_contracts::fleet::{Fleet, FleetError};
use posthouse_contracts::receipts::{Deal, Receipt};
use posthouse_contracts::terms::Group;
use posthouse_devchain::{Clock, Config, DevChain};
use posthouse_protocol::id::{
    Attempt, Bounty, ChainId, Curve, DeviceKey, PackageId, Payee, ProductId, UpdateId, Version,
};
use posthouse_protocol::key::SigningKey;
use posthouse_protocol::secret::{KeyR, PreimageT};

pub(crate) const GENESIS: u64 = 1_800_000_000;
pub(crate) const LOCK: u32 = 7_200;
pub(crate) const SHARE: u128 = 1_000_000_000_000_000;
pub(crate) const PRODUCT: ProductId = ProductId::new([1; 32]);
pub(crate) const U_ID: UpdateId = UpdateId::new([2; 32]);

/// Keys with the scalars 1 to `count`, as the Solidity tests have them.
pub(crate) fn signers(curve: Curve, count: u8) -> Vec<SigningKey> {
    let scalar = |n| {
        let mut scalar = [0; 32];
        scalar[31] = n;
        scalar
    };
    (1..=count).map(|n| SigningKey::from_bytes(curve, &scalar(n)).unwrap()).collect()
}

/// Its files are gone when this returns: what is open stays readable.
pub(crate) fn fleet_of(signers: &[SigningKey]) -> Fleet {
    let keys: Vec<DeviceKey> = signers.iter().map(SigningKey::device_key).collect();
    create(tempfile::tempdir().unwrap().path(), signers[0].curve(), &keys).unwrap()
}

/// Makes the fleet file `fleet` in a folder, with its index.
pub(crate) fn create(folder: &Path, curve: Curve, keys: &[DeviceKey]) -> Result<Fleet, FleetError> {
    Fleet::create(&folder.join("fleet"), curve, keys.iter().copied().map(Ok), &mut |_, _| {})
}

pub(crate) fn secret(byte: u8) -> PreimageT {
    PreimageT::new([byte; 32])
}

/// A published bounty and everybody who has to do with it.
pub(crate) struct Market {
    pub(crate) chain: DevChain,
    pub(crate) reader: RpcChain,
    pub(crate) signers: Vec<SigningKey>,
    pub(crate) fleet: Fleet,
    pub(crate) bounty: Bounty,
}

impl Market {
    pub(crate) async fn open(curve: Curve, devices: u8) -> Self {
        let config = Config { clock: Clock::Manual, genesis_timestamp: Some(GENESIS), ..Config::default() };
        let chain = DevChain::start(config).unwrap();
        let factory = send(&chain, 0, calls::deploy_factory()).await.contract_address.unwrap();
        // The factory is final, what is published by it is not.
        chain.mine_many(3).unwrap();
        let signers = signers(curve, devices);
        let fleet = fleet_of(&signers);
        let published = send(&chain, 0, calls::publish(factory, &update(&fleet))).await;
        assert!(published.status());
        let events = published.logs().iter().filter(|log| log.address() == factory);
        let event = UpdateFactory::UpdatePublished::decode_log(&events.last().unwrap().inner).unwrap();
        let bounty = event.bounty.into_array().into();
        let reader = RpcChain::new(&RpcConfig {
            urls: vec![chain.url().into()],
            chain: ChainId::new(chain.chain_id()),
            factory,
            limits: Limits::default(),
        });
        Self { chain, reader: reader.unwrap(), signers, fleet, bounty }
    }

    pub(crate) fn payee(&self, account: usize) -> Payee {
        self.chain.accounts()[account].address().into_array().into()
    }

    /// What `account` and the devices agree on over `t`.
    pub(crate) fn deal(&self, account: usize, t: &PreimageT) -> Deal {
        let payee = self.payee(account);
        Deal {
            chain: ChainId::new(self.chain.chain_id()),
            bounty: self.bounty,
            curve: self.fleet.curve(),
            u_id: U_ID,
            payee,
            s: KeyR::derive(&payee, t).lock(),
        }
    }

    pub(crate) fn receipts(&self, deal: &Deal, indices: &[u32], attempt: u8) -> Vec<Receipt> {
        indices.iter().map(|index| self.receipt(deal, *index, attempt)).collect()
    }

    pub(crate) fn receipt(&self, deal: &Deal, index: u32, attempt: u8) -> Receipt {
        let attempt = Attempt::new(attempt);
        let signer = &self.signers[index as usize];
        let signature = signer.sign(&deal.digest(attempt));
        Receipt { index, key: signer.device_key(), attempt, signature }
    }

    pub(crate) async fn send(&self, account: usize, call: Call) -> TransactionReceipt {
        send(&self.chain, account, call).await
    }

    /// Whether a call would succeed.
    pub(crate) async fn would_take(&self, account: usize, call: Call) -> bool {
        let request = call.into_request().from(self.chain.accounts()[account].address());
        self.reader.provider().call(request).await.is_ok()
    }

    pub(crate) fn finalize(&self) {
        self.chain.mine_many(3).unwrap();
    }
}

pub(crate) fn update(fleet: &Fleet) -> Publish {
    Publish {
        product: PRODUCT,
        version: Version::new(1),
        u_id: U_ID,
        p_id: PackageId::new([3; 32]),
        root: fleet.root(),
        depth: fleet.depth(),
        curve: fleet.curve(),
        claim_by: GENESIS + 30 * 86_400,
        lock_secs: LOCK,
        bonus_until: GENESIS + 2 * 86_400,
        bonus_bps: 5_000,
        groups: vec![
            Group { end_index: 2, share: 2 * SHARE },
            Group { end_index: fleet.size(), share: SHARE },
        ],
    }
}

pub(crate) async fn send(chain: &DevChain, account: usize, call: Call) -> TransactionReceipt {
    send_request(chain, account, call.into_request()).await
}

pub(crate) async fn send_request(
    chain: &DevChain,
    account: usize,
    request: TransactionRequest,
) -> TransactionReceipt {
    let urls = [chain.url().to_owned()];
    let inner = provider(&urls, ChainId::new(chain.chain_id()), Limits::default()).unwrap();
    let wallet = chain.accounts()[account].clone();
    let provider = ProviderBuilder::new().wallet(wallet).connect_provider(inner);
    let sent = provider.send_transaction(request).await.unwrap();
    provider.get_transaction_receipt(*sent.tx_hash()).await.unwrap().unwrap()
}

pub(crate) fn balance(chain: &DevChain, payee: &Payee) -> U256 {
    chain.balance(Address::from(payee.to_bytes()))
}
