//! Makes a release's package: body, keys, fleet, envelopes, root block.

use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use posthouse_circuits::cipher::Body;
use posthouse_circuits::{ProvingKey, SystemRandomness, circuit_id};
use posthouse_contracts::fleet::Fleet;
use posthouse_dsn::{Config as DsnConfig, Dsn, FileAdded, Keypair};
use posthouse_protocol::cose::ReleaseSigningKey;
use posthouse_protocol::id::{BodyId, UpdateId, Version};
use posthouse_protocol::package::Package;
use posthouse_protocol::release::{self, Mode, Release};
use posthouse_protocol::suit::{self, Manifest};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::config::Config;
use super::store::{ReleaseRow, Root};
use crate::console;
use crate::release::content_id;

/// Read, encrypted and written at once.
const CHUNK: usize = 1 << 20;

/// Where the files of a package are. `pk` is shared by all releases in key mode.
pub(super) struct Files {
    pub(super) body: Option<PathBuf>,
    pub(super) fleet: PathBuf,
    pub(super) vk: PathBuf,
    pub(super) pk: PathBuf,
}

impl Files {
    pub(super) fn of(config: &Config, version: u64, mode: Mode) -> Self {
        let folder = config.release_dir(version);
        let pk = match mode {
            Mode::Key => config.proving_key_path(),
            Mode::File => folder.join("pk"),
        };
        let body = (mode == Mode::Key).then(|| folder.join("body"));
        Self { body, fleet: folder.join("fleet"), vk: folder.join("vk"), pk }
    }
}

/// Digest and length of the image, which is read once.
pub(super) fn measure(image: &Path) -> anyhow::Result<(UpdateId, u64)> {
    let mut file = File::open(image).with_context(|| image.display().to_string())?;
    let length = file.metadata()?.len();
    let bar = console::bytes_bar("hashing the image", length);
    let (mut hash, mut size) = (Sha256::new(), 0);
    each_chunk(&mut file, |bytes| {
        hash.update(&*bytes);
        size += bytes.len() as u64;
        bar.inc(bytes.len() as u64);
        Ok(())
    })?;
    bar.finish_and_clear();
    Ok((UpdateId::new(hash.finalize().into()), size))
}

fn each_chunk(source: &mut impl Read, mut take: impl FnMut(&mut [u8]) -> io::Result<()>) -> io::Result<()> {
    let mut buffer = Zeroizing::new(vec![0; CHUNK]);
    loop {
        let got = source.read(&mut buffer)?;
        if got == 0 {
            return Ok(());
        }
        take(&mut buffer[..got])?;
    }
}

/// Builds everything that the row does not say. Run again after a crash it makes the same package,
/// because the secret is in the row and signatures are deterministic.
pub(super) async fn build(
    config: &Config,
    row: &ReleaseRow,
    image: &Path,
    key: &ReleaseSigningKey,
) -> anyhow::Result<Root> {
    let files = Files::of(config, row.version, row.mode);
    let folder = config.release_dir(row.version);
    crate::secret_file::create_folder(&folder).with_context(|| folder.display().to_string())?;
    let work = Work { config: config.clone(), row: row.clone(), image: image.into() };
    // Hashing, encrypting and Gen are long: off the async threads.
    let made = tokio::task::spawn_blocking(move || work.files()).await??;
    let cids = Cids::add(&files, &folder).await?;
    seal(config, row, key, &made, &cids)
}

struct Work {
    config: Config,
    row: ReleaseRow,
    image: PathBuf,
}

/// What the release says of the files.
struct Made {
    body_id: Option<BodyId>,
    proving_key: ProvingKeyFacts,
    fleet: FleetFacts,
}

struct ProvingKeyFacts {
    vk_id: [u8; 32],
    pk_id: [u8; 32],
    pk_size: u64,
    payload_len: usize,
}

struct FleetFacts {
    root: posthouse_protocol::id::FleetRoot,
    depth: u8,
    size: u32,
}

impl Work {
    fn files(&self) -> anyhow::Result<Made> {
        let files = Files::of(&self.config, self.row.version, self.row.mode);
        let fleet = self.fleet(&files.fleet)?;
        let body_id = files.body.as_deref().map(|body| self.encrypt(body)).transpose()?;
        let proving_key = self.proving_key(&files)?;
        Ok(Made { body_id, proving_key, fleet })
    }

    /// The fleet as it is now: what is enrolled later belongs to later releases.
    fn fleet(&self, copy: &Path) -> anyhow::Result<FleetFacts> {
        if !copy.exists() {
            let enrolled = self.config.fleet_path();
            anyhow::ensure!(enrolled.exists(), "no fleet: run `posthouse-vendor enrol DEVICES_FILE` first");
            Fleet::share(&enrolled, copy)?;
        }
        let bar = console::devices_bar("indexing the fleet", true);
        let fleet = Fleet::open(copy, None, &mut console::counts(&bar));
        bar.finish_and_clear();
        let fleet = fleet?;
        if fleet.curve() != self.config.curve {
            bail!("the fleet holds {} keys, product.curve is {}", fleet.curve(), self.config.curve);
        }
        Ok(FleetFacts { root: fleet.root(), depth: fleet.depth(), size: fleet.size() })
    }

    fn encrypt(&self, body: &Path) -> anyhow::Result<BodyId> {
        let key: &[u8; 32] = self.row.secret.as_slice().try_into().context("K has 32 bytes")?;
        let cipher = Body::new(key);
        let bar = console::bytes_bar("encrypting the body", self.row.size);
        let (mut id, mut image, mut at) = (Sha256::new(), Sha256::new(), 0u64);
        let mut source = File::open(&self.image)?;
        write_whole(body, |file| {
            each_chunk(&mut source, |bytes| {
                image.update(&*bytes);
                cipher.apply_at(at, bytes);
                id.update(&*bytes);
                at += bytes.len() as u64;
                bar.inc(bytes.len() as u64);
                file.write_all(bytes)
            })
        })?;
        bar.finish_and_clear();
        if image.finalize().as_slice() != self.row.u_id.as_bytes() {
            bail!("{} changed while it was being published", self.image.display());
        }
        Ok(BodyId::new(id.finalize().into()))
    }

    fn proving_key(&self, files: &Files) -> anyhow::Result<ProvingKeyFacts> {
        let key = match self.row.mode {
            Mode::Key => self.key_mode_key(&files.pk)?,
            Mode::File if files.pk.exists() => ProvingKey::read(&files.pk)?,
            Mode::File => generate(usize::try_from(self.row.size)?, &files.pk)?,
        };
        let vk = key.verifying_key().to_bytes();
        write_whole(&files.vk, |file| file.write_all(&vk))?;
        Ok(ProvingKeyFacts {
            vk_id: key.verifying_key().id(),
            pk_id: key.id(),
            pk_size: key.size(),
            payload_len: key.payload_len(),
        })
    }
}

impl Work {
    /// The key that `setup` made and checked.
    fn key_mode_key(&self, path: &Path) -> anyhow::Result<ProvingKey> {
        let id = fs::read_to_string(self.config.proving_key_id_path())
            .context("no keys: run `posthouse-vendor setup` first")?;
        let mut pinned = [0; 32];
        hex::decode_to_slice(id.trim(), &mut pinned).context("key-mode.pk-id")?;
        Ok(ProvingKey::read_pinned(path, &pinned)?)
    }
}

/// `Gen` (paper, 4.4.1): keys for payloads of `len` bytes, written to `path` whole or not at all.
pub(super) fn generate(len: usize, path: &Path) -> anyhow::Result<ProvingKey> {
    let spinner = console::spinner("making proving and verifying keys");
    let mut randomness = SystemRandomness::new()?;
    let key = ProvingKey::generate(len, &mut randomness)?;
    key.write(path)?;
    spinner.finish_and_clear();
    Ok(key)
}

/// Writes a file so that it is there whole and durable, or not at all.
pub(super) fn write_whole(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> anyhow::Result<()> {
    let part = path.with_extension("part");
    let write = || {
        let mut file = File::create(&part)?;
        fill(&mut file)?;
        file.sync_all()?;
        fs::rename(&part, path)?;
        path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    };
    write().with_context(|| path.display().to_string())
}

/// The files' content identifiers.
struct Cids {
    body: Option<FileAdded>,
    fleet: FileAdded,
    vk: FileAdded,
    pk: FileAdded,
}

impl Cids {
    /// By a peer that talks to nobody: the layout that `seed` will serve. Its store goes with it.
    async fn add(files: &Files, folder: &Path) -> anyhow::Result<Self> {
        let scratch = folder.join("scratch");
        let (dsn, _) = Dsn::start(DsnConfig::new(Keypair::generate_ed25519(), &scratch)).await?;
        let added = Self::add_to(&dsn, files).await;
        dsn.stop().await;
        fs::remove_dir_all(&scratch).context("scratch")?;
        added
    }

    async fn add_to(dsn: &Dsn, files: &Files) -> anyhow::Result<Self> {
        let body = match &files.body {
            Some(body) => Some(dsn.add_file(body).await?),
            None => None,
        };
        let fleet = dsn.add_file(&files.fleet).await?;
        let (vk, pk) = (dsn.add_file(&files.vk).await?, dsn.add_file(&files.pk).await?);
        Ok(Self { body, fleet, vk, pk })
    }
}

fn seal(
    config: &Config,
    row: &ReleaseRow,
    key: &ReleaseSigningKey,
    made: &Made,
    cids: &Cids,
) -> anyhow::Result<Root> {
    let version = Version::new(row.version);
    let size = u32::try_from(row.size).context("an image has at most 4 GiB")?;
    let manifest = Manifest { sequence: version, product: config.product, u_id: row.u_id, size };
    let release = Release {
        product: config.product,
        version,
        mode: row.mode,
        u_id: row.u_id,
        size: row.size,
        body_id: made.body_id,
        body_size: cids.body.map_or(0, |body| body.size),
        key_id: row.key_id,
        circuit_id: circuit_id(made.proving_key.payload_len).into(),
        vk_id: made.proving_key.vk_id.into(),
        pk_id: made.proving_key.pk_id.into(),
        pk_size: made.proving_key.pk_size,
        fleet_root: made.fleet.root,
        fleet_depth: made.fleet.depth,
        fleet_size: made.fleet.size,
        curve: config.curve,
    };
    let package = Package {
        manifest: suit::build(&manifest, key),
        release: release::seal(&release, key)?,
        body: cids.body.map(|body| content_id(&body.cid)),
        fleet: content_id(&cids.fleet.cid),
        vk: content_id(&cids.vk.cid),
        pk: content_id(&cids.pk.cid),
    };
    Ok(Root { p_id: package.id(), block: package.to_vec() })
}
