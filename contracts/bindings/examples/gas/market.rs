//! Posthouse's own contracts.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256, U256, keccak256};
use alloy::sol_types::SolEvent as _;
use posthouse_contracts::abi::UpdateFactory;
use posthouse_contracts::calls::{self, Publish};
use posthouse_contracts::fleet::{Tree, leaf};
use posthouse_contracts::receipts::{Batch, Deal, Receipt};
use posthouse_contracts::terms::Group;
use posthouse_protocol::id::{
    Attempt, Bounty, ChainId, Curve, FleetRoot, PackageId, ProductId, UpdateId, Version,
};
use posthouse_protocol::key::SigningKey;
use posthouse_protocol::secret::{KeyR, PreimageT};

use crate::chains::{CHAIN_ID, Chains, GENESIS};
use crate::{Figure, Result, gas};

const MILLION: u32 = 1_000_000;
/// Wei for each device.
const SHARE: u128 = 1_000_000_000_000;
const U_ID: UpdateId = UpdateId::new([2; 32]);
const T: PreimageT = PreimageT::new([7; 32]);

/// The devices of one gateway, enrolled one after the other: they begin an aligned subtree of 128.
fn site() -> Vec<u32> {
    (640_000..640_100).collect()
}

/// As many, no two in one row of the bounty's ledger.
fn scattered() -> Vec<u32> {
    (0..100).map(|place| place * 5_000).collect()
}

pub(crate) async fn measure(chains: &mut Chains) -> Result<Vec<Figure>> {
    let mut market = Market::open(chains).await?;
    let mut figures = Vec::new();
    for (name, size, depth) in [("publish_1e2", 100, 7), ("publish_1e4", 10_000, 14)] {
        let root = FleetRoot::new(keccak256(name).0);
        figures.push(gas(name, market.publish(Curve::Secp256k1, root, depth, size).await?.0));
    }

    let fleet = Fleet::of_a_million(Curve::Secp256k1)?;
    let (publish, bounty) = market.publish_fleet(&fleet).await?;
    figures.push(gas("publish_1e6", publish));
    let [first, next] = market.direct(&fleet, bounty).await?;
    figures.push(gas("direct_first_1e6", first));
    figures.push(gas("direct_next_1e6", next));
    figures.push(gas("batch100_site_per_device", market.batch(&fleet, &site()).await?));
    figures.push(gas("batch100_scattered_per_device", market.batch(&fleet, &scattered()).await?));

    let fleet = Fleet::of_a_million(Curve::P256)?;
    let (_, bounty) = market.publish_fleet(&fleet).await?;
    let [_, p256] = market.direct(&fleet, bounty).await?;
    figures.push(gas("p256_extra", p256.saturating_sub(next)));
    Ok(figures)
}

/// A million devices, of which the keys of two hundred are known.
struct Fleet {
    signers: BTreeMap<u32, SigningKey>,
    curve: Curve,
    tree: Tree,
}

impl Fleet {
    /// The leaves of devices that do nothing here are any 32 bytes: to make a million keys takes a minute.
    fn of_a_million(curve: Curve) -> Result<Self> {
        let mut leaves: Vec<B256> = (0..MILLION).map(|index| keccak256(index.to_be_bytes())).collect();
        let mut signers = BTreeMap::new();
        for index in scattered().into_iter().chain(site()) {
            let signer = SigningKey::from_bytes(curve, &keccak256(format!("device {index}")).0)?;
            leaves[index as usize] = leaf(curve, &signer.device_key(), index)?;
            signers.insert(index, signer);
        }
        Ok(Self { signers, curve, tree: Tree::build(tempfile::tempfile()?, leaves)? })
    }

    fn receipt(&self, deal: &Deal, index: u32) -> Receipt {
        let attempt = Attempt::new(1);
        let signer = &self.signers[&index];
        let signature = signer.sign(&deal.digest(attempt));
        Receipt { index, key: signer.device_key(), attempt, signature }
    }
}

/// A factory and whoever uses it.
struct Market<'a> {
    chains: &'a mut Chains,
    factory: Address,
    products: u8,
}

impl<'a> Market<'a> {
    async fn open(chains: &'a mut Chains) -> Result<Self> {
        let deployed = chains.run(calls::deploy_factory()).await?;
        let factory = deployed.contract_address.ok_or("no factory was deployed")?;
        Ok(Self { chains, factory, products: 0 })
    }

    async fn publish_fleet(&mut self, fleet: &Fleet) -> Result<(u64, Bounty)> {
        let tree = &fleet.tree;
        self.publish(fleet.curve, tree.root(), tree.depth(), tree.size()).await
    }

    /// The gas is that of a product's first version; those that follow find its slot in use and pay 17,100 less.
    async fn publish(
        &mut self,
        curve: Curve,
        root: FleetRoot,
        depth: u8,
        size: u32,
    ) -> Result<(u64, Bounty)> {
        self.products += 1;
        let update = Publish {
            product: ProductId::new([self.products; 32]),
            version: Version::new(1),
            u_id: U_ID,
            p_id: PackageId::new([3; 32]),
            root,
            depth,
            curve,
            claim_by: GENESIS + 30 * 86_400,
            lock_secs: 7_200,
            bonus_until: 0,
            bonus_bps: 0,
            groups: vec![Group { end_index: size, share: SHARE }],
        };
        let receipt = self.chains.run(calls::publish(self.factory, &update)).await?;
        let log = receipt.logs().iter().find(|log| log.address() == self.factory).ok_or("no event")?;
        let event = UpdateFactory::UpdatePublished::decode_log(&log.inner)?;
        Ok((receipt.gas_used, event.bounty.into_array().into()))
    }

    fn deal(&self, fleet: &Fleet, bounty: Bounty) -> Deal {
        let payee = self.chains.payee();
        let s = KeyR::derive(&payee, &T).lock();
        Deal { chain: ChainId::new(CHAIN_ID), bounty, curve: fleet.curve, u_id: U_ID, payee, s }
    }

    /// Direct claims of the first device of a row and of its neighbour.
    async fn direct(&mut self, fleet: &Fleet, bounty: Bounty) -> Result<[u64; 2]> {
        let deal = self.deal(fleet, bounty);
        let mut used = [0; 2];
        for (used, index) in used.iter_mut().zip(site()) {
            let claim = deal.claim(&fleet.receipt(&deal, index), &T, &fleet.tree)?;
            *used = self.chains.gas(calls::publish_proof(&deal, claim)).await?;
        }
        Ok(used)
    }

    /// Reserves and reveals the devices on a new bounty.
    async fn batch(&mut self, fleet: &Fleet, indices: &[u32]) -> Result<u64> {
        let (_, bounty) = self.publish_fleet(fleet).await?;
        let deal = self.deal(fleet, bounty);
        let receipts = indices.iter().map(|index| fleet.receipt(&deal, *index)).collect();
        let worth = U256::from(SHARE) * U256::from(indices.len());
        let batch = Batch::new(deal, receipts, &fleet.tree)?;
        let reserved = self.chains.gas(calls::reserve(batch, worth)).await?;
        let reveal = calls::reveal(&bounty, &deal.payee, &T, indices.to_vec());
        let revealed = self.chains.gas(reveal).await?;
        Ok((reserved + revealed).div_ceil(indices.len() as u64))
    }
}
