//! A small site with an update on sale: what scenarios about one misdeed start from.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use posthouse_contracts::chain::{Chain as _, RpcChain, RpcConfig};
use posthouse_protocol::id::{Bounty, ChainId, Payee};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    broker::Broker,
    chain::{CHAIN_ID, Chain},
    poll::until,
    process::Programs,
    site::{PATIENCE, Plan, Published, Site},
};

/// Bytes of the image: of several blocks for every carrier, and quickly carried.
const IMAGE: usize = 64 * 1024;
/// Between two blocks of the chain.
const BLOCK_TIME: Duration = Duration::from_millis(250);
/// The distributor of the site.
const HONEST: usize = 0;

/// A chain, a broker, a vendor that seeds, a distributor that sells, and what is not started yet: gateway and sensors.
#[derive(Debug)]
pub struct Scene {
    /// Two sensors, one for each carrier, and one distributor.
    pub site: Site,
    /// What is on sale.
    pub published: Published,
    /// The image.
    pub image: Vec<u8>,
    folder: TempDir,
}

impl Scene {
    /// Publishes an image and waits until the distributor sells it. `gateway_toml` is appended to the gateway's
    /// configuration.
    pub async fn on_sale(programs: Programs, gateway_toml: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let plan = Plan {
            sensors: 2,
            distributors: 1,
            gateway_toml: gateway_toml.into(),
            ..Plan::new(programs, folder.path())
        };
        let (chain, broker) = (Chain::devchain(BLOCK_TIME)?, Broker::embedded().await?);
        let mut site = Site::prepare(plan, chain, broker).await?;
        let image: Vec<u8> = (0..IMAGE).map(|at| (at % 251) as u8).collect();
        let path = folder.path().join("image");
        std::fs::write(&path, &image)?;
        let published = site.publish(&path, "key").await?;
        site.start_seeder()?;
        site.start_distributor(HONEST, &[])?;
        let scene = Self { site, published, image, folder };
        scene.sold().await?;
        Ok(scene)
    }

    async fn sold(&self) -> Result<()> {
        let sells = async || {
            // It has no database yet when it is asked for the first time.
            let Ok(status) = self.site.distributor_says(HONEST, &["status"]).await else { return Ok(None) };
            Ok(status["bounties"].as_array().is_some_and(|all| !all.is_empty()).then_some(()))
        };
        until("the distributor to join", PATIENCE, sells).await
    }

    /// A path in the scene's folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Changes the gateway's configuration, which must not run yet.
    pub fn configure_gateway(&self, change: impl FnOnce(&mut toml::Table)) -> Result<()> {
        configure(&self.site.gateway_config(), change)
    }

    /// Starts the gateway and the sensors, and waits until every sensor's flash holds the image and the distributor is
    /// paid exactly once for each, by the contract's events, and nobody else for any.
    pub async fn play(&mut self) -> Result<()> {
        self.site.start_gateway(&[])?;
        self.site.start_sensors()?;
        self.site.updated(&self.image, PATIENCE).await?;
        let sensors = self.site.sensors.len();
        self.site.paid(self.published.version, sensors, PATIENCE).await?;
        self.paid_once_each().await
    }

    async fn paid_once_each(&self) -> Result<()> {
        let (bounty, honest): (Bounty, Payee) =
            (self.published.bounty.parse()?, self.site.distributors[HONEST].address.parse()?);
        let payments = reader(&self.site)?.payments(&bounty, 0).await?.list;
        let paid: BTreeSet<u32> = payments.iter().map(|payment| payment.index).collect();
        ensure!(payments.iter().all(|one| one.payee == honest), "somebody else was paid: {payments:?}");
        ensure!(paid.len() == payments.len(), "a device was paid for twice: {payments:?}");
        ensure!(paid.len() == self.site.sensors.len(), "a device was not paid for: {payments:?}");
        Ok(())
    }

    /// The one exchange of `/v1/exchanges`.
    pub async fn exchange(&self) -> Result<Value> {
        let exchanges = self.site.get("exchanges").await.context("the gateway answers")?;
        exchanges.get(0).cloned().with_context(|| format!("an exchange in {exchanges}"))
    }
}

/// Reads the site's chain.
pub fn reader(site: &Site) -> Result<RpcChain> {
    let factory = site.factory.parse().context("the factory's address")?;
    let urls = vec![site.chain.url().to_owned()];
    Ok(RpcChain::new(&RpcConfig {
        urls,
        chain: ChainId::new(CHAIN_ID),
        factory,
        limits: Default::default(),
    })?)
}

/// Changes a configuration file.
pub fn configure(file: &std::path::Path, change: impl FnOnce(&mut toml::Table)) -> Result<()> {
    let mut table: toml::Table = std::fs::read_to_string(file)?.parse()?;
    change(&mut table);
    Ok(std::fs::write(file, toml::to_string(&table)?)?)
}
