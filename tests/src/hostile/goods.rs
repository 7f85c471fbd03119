//! What a distributor holds of an update once it has joined.

use std::path::{Path, PathBuf};

use alloy::signers::{SignerSync as _, local::PrivateKeySigner};
use anyhow::{Context as _, Result, bail, ensure};
use posthouse_circuits::ProvingKey;
use posthouse_contracts::{
    chain::Chain as _,
    fleet::{Fleet, file_len},
};
use posthouse_dsn::{Cid, Codec, Dsn, PeerId, peer_hash};
use posthouse_protocol::{
    digest,
    id::{Bounty, ChainId, ContentId, Payee},
    join::{self, Request, Response},
    package::{MAX_ROOT, Package},
    release::{self, Release},
    secret::PayloadKey,
};

use crate::{
    chain::CHAIN_ID,
    poll::until,
    scene::reader,
    site::{PATIENCE, Published, Site},
};

/// Most bytes of a verifying key in key mode.
const MAX_VK: usize = 64 * 1024;

/// A key-mode release with everything that belongs to it.
pub(super) struct Goods {
    pub(super) bounty: Bounty,
    pub(super) release: Release,
    pub(super) fleet: Fleet,
    pub(super) key: PayloadKey,
    pub(super) proving_key: ProvingKey,
    root: Cid,
    body: Cid,
}

impl Goods {
    pub(super) async fn join(
        dsn: &Dsn,
        wallet: &PrivateKeySigner,
        site: &Site,
        published: &Published,
        folder: &Path,
    ) -> Result<Self> {
        let bounty: Bounty = published.bounty.parse()?;
        let vendor = dsn.dial(site.vendor.multiaddr.parse()?).await?;
        let terms = reader(site)?.terms(&bounty).await?;
        let root = cid(&ContentId::dag_cbor(terms.p_id.to_bytes()));
        // The vendor begins to seed when it next looks at its database.
        let block =
            until("the package", PATIENCE, async || Ok(dsn.get_block(root, &[vendor], MAX_ROOT).await.ok()));
        let block = block.await?;
        let package = Package::decode(&block)?;
        let release = release::open(&package.release, &site.vendor.release_key.parse()?)?;
        let files = Files::fetch(dsn, vendor, &package, &release, folder).await?;
        dsn.put_block(block, Codec::DagCbor).await?;
        let key = secret(dsn, vendor, wallet, bounty).await?;
        ensure!(Some(key.key_id()) == release.key_id, "the vendor gave another secret");
        let pk_id = release.pk_id.to_bytes();
        let proving_key =
            tokio::task::spawn_blocking(move || ProvingKey::read_pinned(&files.pk, &pk_id)).await??;
        let (file, fleet_root) = (files.fleet, release.fleet_root);
        let fleet = move || Fleet::open(&file, Some(&fleet_root), &mut |_, _| {});
        let fleet = tokio::task::spawn_blocking(fleet).await??;
        Ok(Self { bounty, release, fleet, key, proving_key, root, body: files.body })
    }

    /// Says in the DHT that it has the update. What is for sale is withheld, as an honest one would.
    pub(super) async fn announce(&self, dsn: &Dsn) -> Result<()> {
        let u_id = cid(&ContentId::raw(self.release.u_id.to_bytes()));
        dsn.withhold(u_id).await?;
        dsn.withhold(cid(&ContentId::raw(self.key.key_id().to_bytes()))).await?;
        for content in [self.root, self.body, u_id] {
            dsn.provide(content).await?;
        }
        Ok(())
    }
}

/// The package's files, served as well from where they are.
struct Files {
    body: Cid,
    fleet: PathBuf,
    pk: PathBuf,
}

impl Files {
    async fn fetch(
        dsn: &Dsn,
        vendor: PeerId,
        package: &Package,
        release: &Release,
        folder: &Path,
    ) -> Result<Self> {
        let (body_id, body) = release.body_id.zip(package.body).context("a release in key mode")?;
        let (body, fleet, pk) = (cid(&body), folder.join("fleet"), folder.join("pk"));
        let from = &[vendor][..];
        let size = file_len(release.fleet_size);
        dsn.fetch_file(cid(&package.fleet), size, None, &fleet, from, |_| {}).await?;
        let (size, digest) = (release.pk_size, release.pk_id.to_bytes());
        dsn.fetch_file(cid(&package.pk), size, digest, &pk, from, |_| {}).await?;
        let (size, digest) = (release.body_size, body_id.to_bytes());
        dsn.fetch_file(body, size, digest, &folder.join("body"), from, |_| {}).await?;
        let vk = dsn.get_block(cid(&package.vk), from, MAX_VK).await?;
        dsn.put_block(vk, Codec::Raw).await?;
        Ok(Self { body, fleet, pk })
    }
}

/// The secret, by the join protocol.
async fn secret(dsn: &Dsn, vendor: PeerId, wallet: &PrivateKeySigner, bounty: Bounty) -> Result<PayloadKey> {
    let (chain, payee) = (ChainId::new(CHAIN_ID), Payee::from(wallet.address().into_array()));
    let digest = digest::join(chain, &bounty, &payee, &peer_hash(&dsn.peer_id()).into());
    let sig = wallet.sign_hash_sync(&digest.to_bytes().into())?.as_bytes();
    let request = Request { chain, bounty, payee, sig };
    match Response::decode(&dsn.request(vendor, join::PROTOCOL, request.to_vec()).await?)? {
        Response::Secret { payload } => {
            let key: &[u8; 32] =
                payload.as_slice().try_into().context("a secret in key mode has 32 bytes")?;
            Ok(PayloadKey::new(*key))
        }
        Response::Refused { reason } => bail!("the vendor refuses: {reason}"),
    }
}

fn cid(id: &ContentId) -> Cid {
    Cid::try_from(&id.to_bytes()[..]).expect("36 bytes of CIDv1 with SHA-256")
}
