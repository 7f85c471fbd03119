//! Becomes a distributor of an update: fetches the package, checks all of it, asks for the secret.
//!
//! Whoever offers what it has not checked sells what does not open (paper, 4.4.2, 3). So before the
//! update is announced: release and manifest against each other and the chain, the fleet against its
//! root, proving and verifying key against their digests, the secret against its own digest, and the
//! decrypted body against `U_id`.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use posthouse_circuits::cipher::Body;
use posthouse_circuits::{KeyFileError, ProvingKey};
use posthouse_contracts::chain::{At, Chain, ChainError, Latest};
use posthouse_contracts::fleet::{self, Fleet, FleetError, FleetReader};
use posthouse_contracts::terms::Terms;
use posthouse_dsn::{Dsn, FetchError, PeerId, peer_hash};
use posthouse_light_client::words;
use posthouse_protocol::digest;
use posthouse_protocol::id::{Bounty, ChainId, ContentId, Payee, ProductId};
use posthouse_protocol::join::{self, JoinRefusal, Request, Response};
use posthouse_protocol::package::{MAX_ROOT, Package};
use posthouse_protocol::release::{Mode, Release};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

use super::config::{MaxBytes, Vendor};
use super::market::{Goods, Prover};
use super::store::CampaignRow;
use crate::console;
use crate::network::peer_of;
use crate::release::{UnfitRelease, check, cid, payload_digest, payload_len};
use crate::wallet::{Wallet, WalletError};

/// Most bytes of a verifying key: 512 bytes of payload have 21 inputs of 32 bytes.
const MAX_VERIFYING_KEY: usize = 64 * 1024;
const CHUNK: usize = 1 << 20;

/// Why a bounty was not joined.
#[derive(Debug, Error)]
pub(super) enum JoinError {
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error("the bounty is of vendor {0}, not of the one that the factory names")]
    Vendor(alloy::primitives::Address),
    #[error("claims are over")]
    Closed,
    #[error("package: {0}")]
    Fetch(Box<FetchError>),
    #[error("package: {0}")]
    Package(#[from] posthouse_protocol::wire::WireError),
    #[error(transparent)]
    Unfit(#[from] UnfitRelease),
    #[error("{what} of {size} bytes, at most {max} are fetched")]
    TooLarge { what: &'static str, size: u64, max: u64 },
    #[error("{0} is linked by another content identifier than its digest")]
    Link(&'static str),
    #[error(transparent)]
    Fleet(#[from] FleetError),
    #[error("{0} of the fleet file differs from the release")]
    FleetDiffers(&'static str),
    #[error("proving key: {0}")]
    ProvingKey(#[from] KeyFileError),
    #[error("the proving key's {0} is not what the release names")]
    Keys(&'static str),
    #[error("nobody gave the secret: {0}")]
    NoSecret(String),
    #[error("the secret does not have the digest that the release names")]
    WrongSecret,
    #[error("the body does not decrypt to U_id")]
    WrongBody,
    #[error(transparent)]
    Wallet(#[from] WalletError),
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("a worker died: {0}")]
    Worker(#[from] tokio::task::JoinError),
}

impl From<FetchError> for JoinError {
    fn from(error: FetchError) -> Self {
        Self::Fetch(Box::new(error))
    }
}

impl JoinError {
    /// Whether the release itself is at fault, so that trying again changes nothing.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Closed
            | Self::Package(_)
            | Self::Unfit(_)
            | Self::TooLarge { .. }
            | Self::Link(_)
            | Self::FleetDiffers(_)
            | Self::Keys(_)
            | Self::WrongBody => true,
            Self::Fleet(error) => !matches!(error, FleetError::Io(_)),
            _ => false,
        }
    }
}

/// Fetches and checks for one payee. Cheap to clone.
#[derive(Clone)]
pub(super) struct Joiner {
    pub(super) chain_id: ChainId,
    pub(super) chain: Arc<dyn Chain>,
    pub(super) dsn: Dsn,
    pub(super) wallet: Wallet,
    pub(super) payee: Payee,
    pub(super) state_dir: PathBuf,
    pub(super) max: MaxBytes,
    /// Gets the key that was checked, for the first proof.
    pub(super) prover: Prover,
}

impl Joiner {
    /// Joins the bounty of a product's latest version.
    pub(super) async fn join(
        &self,
        vendor: &Vendor,
        product: ProductId,
        latest: Latest,
    ) -> Result<(CampaignRow, Arc<Goods>), JoinError> {
        let terms = self.terms(vendor, &latest.bounty).await?;
        let from = self.sources(vendor).await;
        let root_cid = cid(&ContentId::dag_cbor(terms.p_id.to_bytes()));
        let root = self.dsn.get_block(root_cid, &from, MAX_ROOT).await?;
        let package = Package::decode(&root)?;
        let release = check(&package, &vendor.release_key.0, &product, latest.version, &terms)?;
        let files = self.files(&package, &release, &latest.bounty, &from).await?;
        let secret = self.secret(&latest.bounty, &release, &root_cid, from).await?;
        // Nobody pays us before we have joined.
        let start_block = self.chain.head(At::Finalized).await?.number;
        let row = CampaignRow {
            bounty: latest.bounty,
            vendor: vendor.address.0.into_array(),
            product,
            version: latest.version,
            p_id: terms.p_id,
            root: root.to_vec(),
            secret,
            start_block,
            read_to: 0,
        };
        let goods = self.goods(&row, terms, package, release, files).await?;
        Ok((row, goods))
    }

    /// Takes goods back from disk, and from the network what is missing there.
    pub(super) async fn reopen(&self, vendor: &Vendor, row: &CampaignRow) -> Result<Arc<Goods>, JoinError> {
        let terms = self.chain.terms(&row.bounty).await?;
        let package = Package::decode(&row.root)?;
        let release = check(&package, &vendor.release_key.0, &row.product, row.version, &terms)?;
        let from = self.sources(vendor).await;
        let files = self.files(&package, &release, &row.bounty, &from).await?;
        self.goods(row, terms, package, release, files).await
    }

    async fn terms(&self, vendor: &Vendor, bounty: &Bounty) -> Result<Terms, JoinError> {
        let terms = self.chain.terms(bounty).await?;
        if terms.vendor != vendor.address.0 {
            return Err(JoinError::Vendor(terms.vendor));
        }
        let now = self.chain.head(At::Latest).await?.timestamp;
        if now >= terms.claim_by { Err(JoinError::Closed) } else { Ok(terms) }
    }

    /// The vendor's own peers, where they can be reached.
    async fn sources(&self, vendor: &Vendor) -> Vec<PeerId> {
        let mut peers = Vec::new();
        for address in &vendor.peers {
            let Some(peer) = peer_of(&address.0) else { continue };
            match self.dsn.dial(address.0.clone()).await {
                Ok(peer) => peers.push(peer),
                Err(error) => tracing::debug!(%peer, %error, "the vendor's peer does not answer"),
            }
        }
        peers
    }

    async fn files(
        &self,
        package: &Package,
        release: &Release,
        bounty: &Bounty,
        from: &[PeerId],
    ) -> Result<Files, JoinError> {
        let bound = |what, size, max| {
            if size > max { Err(JoinError::TooLarge { what, size, max }) } else { Ok(()) }
        };
        let fleet_size = fleet::file_len(release.fleet_size);
        bound("body", release.body_size, self.max.body)?;
        bound("proving key", release.pk_size, self.max.key)?;
        bound("fleet", fleet_size, self.max.fleet)?;
        let folder = package_folder(&self.state_dir, bounty);
        let keys = self.state_dir.join("proving-keys");
        for folder in [&folder, &keys] {
            let io = |source| JoinError::Io { path: folder.clone(), source };
            crate::secret_file::create_folder(folder).map_err(io)?;
        }
        let files = Files {
            body: release.body_id.is_some().then(|| folder.join("body")),
            fleet: folder.join("fleet"),
            vk: folder.join("vk"),
            // One key serves all of a vendor's updates in key mode.
            pk: keys.join(release.pk_id.to_string()),
        };
        // Nobody signs a digest of the file, and none is needed: the package's root is on chain and links it, and
        // the tree that is made of it has to have the root on chain.
        let fleet = Wanted { cid: &package.fleet, size: fleet_size, sha256: None };
        self.fetch("fetching the fleet", fleet, &files.fleet, from).await?;
        self.fetch_vk(package, release, &files.vk, from).await?;
        let pk = Wanted { cid: &package.pk, size: release.pk_size, sha256: Some(release.pk_id.to_bytes()) };
        self.fetch("fetching the proving key", pk, &files.pk, from).await?;
        if let (Some(cid), Some(id), Some(path)) = (&package.body, release.body_id, &files.body) {
            let body = Wanted { cid, size: release.body_size, sha256: Some(id.to_bytes()) };
            self.fetch("fetching the body", body, path, from).await?;
        }
        Ok(files)
    }

    /// A small file, which is one block.
    async fn fetch_block(
        &self,
        id: &ContentId,
        max: usize,
        path: &Path,
        from: &[PeerId],
    ) -> Result<(), JoinError> {
        if digest_of(path).await? == Some(id.digest()) {
            return Ok(());
        }
        let block = self.dsn.get_block(cid(id), from, max).await?;
        let io = |source| JoinError::Io { path: path.into(), source };
        tokio::fs::write(path, &block).await.map_err(io)
    }

    async fn fetch_vk(
        &self,
        package: &Package,
        release: &Release,
        path: &Path,
        from: &[PeerId],
    ) -> Result<(), JoinError> {
        if package.vk != ContentId::raw(release.vk_id.to_bytes()) {
            return Err(JoinError::Link("the verifying key"));
        }
        self.fetch_block(&package.vk, MAX_VERIFYING_KEY, path, from).await
    }

    /// A file; one that is there already is only hashed.
    async fn fetch(
        &self,
        label: &'static str,
        wanted: Wanted<'_>,
        path: &Path,
        from: &[PeerId],
    ) -> Result<(), JoinError> {
        let bar = console::bytes_bar(label, wanted.size);
        let progress = |progress: posthouse_dsn::Progress| bar.set_position(progress.bytes);
        let Wanted { cid: id, size, sha256 } = wanted;
        let fetched = self.dsn.fetch_file(cid(id), size, sha256, path, from, progress).await;
        bar.finish_and_clear();
        Ok(fetched?)
    }

    /// Asks the vendor's peers, then whoever else has the package.
    async fn secret(
        &self,
        bounty: &Bounty,
        release: &Release,
        root: &posthouse_dsn::Cid,
        mut from: Vec<PeerId>,
    ) -> Result<Zeroizing<Vec<u8>>, JoinError> {
        if let Ok(mut providers) = self.dsn.providers(*root).await {
            while let Some(provider) = providers.recv().await {
                if !from.contains(&provider.peer) && provider.peer != self.dsn.peer_id() {
                    from.push(provider.peer);
                }
                // The vendor seeds; who else has the package seldom gives secrets out.
                if from.len() >= 8 {
                    break;
                }
            }
        }
        let request = self.request(bounty)?;
        let mut refusal = "nobody was found to ask".to_string();
        for peer in from {
            match self.ask(peer, &request, release).await {
                Ok(secret) => return Ok(secret),
                Err(why) => refusal = format!("{peer}: {why}"),
            }
        }
        Err(JoinError::NoSecret(refusal))
    }

    fn request(&self, bounty: &Bounty) -> Result<Vec<u8>, JoinError> {
        let peer = peer_hash(&self.dsn.peer_id()).into();
        let digest = digest::join(self.chain_id, bounty, &self.payee, &peer);
        let sig = self.wallet.sign_digest(&digest)?;
        let request = Request { chain: self.chain_id, bounty: *bounty, payee: self.payee, sig };
        Ok(request.to_vec())
    }

    async fn ask(
        &self,
        peer: PeerId,
        request: &[u8],
        release: &Release,
    ) -> Result<Zeroizing<Vec<u8>>, AskError> {
        let answer = self.dsn.request(peer, join::PROTOCOL, request.to_vec()).await;
        let answer = Zeroizing::new(answer.map_err(|error| AskError::Peer(words(&error.to_string())))?);
        let payload = match Response::decode(&answer) {
            Ok(Response::Secret { payload }) => payload,
            Ok(Response::Refused { reason }) => return Err(AskError::Refused(reason)),
            Err(error) => return Err(AskError::Peer(words(&error.to_string()))),
        };
        let fits = payload.len() == payload_len(release)
            && Sha256::digest(&*payload).as_slice() == payload_digest(release);
        if fits { Ok(payload) } else { Err(AskError::WrongSecret) }
    }

    /// The checks that take long, off the async threads.
    async fn goods(
        &self,
        row: &CampaignRow,
        terms: Terms,
        package: Package,
        release: Release,
        files: Files,
    ) -> Result<Arc<Goods>, JoinError> {
        let (secret, bounty) = (row.secret.clone(), row.bounty);
        let unread = if row.read_to == 0 { row.start_block } else { row.read_to.saturating_add(1) };
        let prover = self.prover.clone();
        let checked = tokio::task::spawn_blocking(move || {
            let fleet = files.check(&release, &secret, &prover)?;
            let proving_key = files.pk.clone();
            let files = files.served();
            Ok::<_, JoinError>(Goods {
                bounty,
                terms,
                package,
                release,
                fleet,
                secret,
                proving_key,
                files,
                unread,
            })
        });
        Ok(Arc::new(checked.await??))
    }
}

/// What is fetched for a bounty, and for no other; but the proving key, which serves many.
pub(super) fn package_folder(state_dir: &Path, bounty: &Bounty) -> PathBuf {
    state_dir.join("packages").join(bounty.to_string())
}

/// A file that the release or the package names.
struct Wanted<'a> {
    cid: &'a ContentId,
    size: u64,
    /// Of the whole, where the release names it.
    sha256: Option<[u8; 32]>,
}

/// Why one peer did not give the secret.
#[derive(Debug, Error)]
enum AskError {
    #[error("{0}")]
    Peer(String),
    #[error("refuses: {0}")]
    Refused(JoinRefusal),
    #[error("gave a secret that is not the release's")]
    WrongSecret,
}

/// Where the files of a package are.
struct Files {
    body: Option<PathBuf>,
    fleet: PathBuf,
    vk: PathBuf,
    pk: PathBuf,
}

impl Files {
    /// Those that are served as files.
    fn served(self) -> Vec<PathBuf> {
        self.body.into_iter().chain([self.vk, self.pk]).collect()
    }

    /// Everything against the release; gives the fleet, with its index, which the first time takes long to make.
    fn check(&self, release: &Release, secret: &[u8], prover: &Prover) -> Result<Fleet, JoinError> {
        self.check_keys(release, prover)?;
        self.check_secret(release, secret)?;
        self.check_fleet(release)
    }

    fn check_fleet(&self, release: &Release) -> Result<Fleet, JoinError> {
        let io = |source| JoinError::Io { path: self.fleet.clone(), source };
        let header = FleetReader::new(File::open(&self.fleet).map_err(io)?)?;
        let differs = |field| Err(JoinError::FleetDiffers(field));
        match () {
            () if header.size() != release.fleet_size => differs("size"),
            () if header.curve() != release.curve => differs("curve"),
            () => Ok(()),
        }?;
        let bar = console::devices_bar("indexing the fleet", true);
        let fleet = Fleet::open(&self.fleet, Some(&release.fleet_root), &mut console::counts(&bar));
        bar.finish_and_clear();
        let fleet = fleet?;
        if fleet.depth() != release.fleet_depth {
            return Err(JoinError::FleetDiffers("depth"));
        }
        Ok(fleet)
    }

    /// Every element of the proving key is checked once, here; what reads it later does so by its
    /// digest. That its randomness is known to nobody cannot be seen yet: the vendor is trusted for it.
    fn check_keys(&self, release: &Release, prover: &Prover) -> Result<(), JoinError> {
        let id = release.pk_id.to_bytes();
        let checked = self.pk.with_extension("checked");
        let key = if checked.exists() {
            ProvingKey::read_pinned(&self.pk, &id)?
        } else {
            ProvingKey::read(&self.pk)?
        };
        let differs = |what| Err(JoinError::Keys(what));
        match () {
            () if key.id() != id => differs("digest"),
            () if key.verifying_key().id() != release.vk_id.to_bytes() => differs("verifying key"),
            () if key.payload_len() != payload_len(release) => differs("payload length"),
            () => Ok(()),
        }?;
        let io = |source| JoinError::Io { path: checked.clone(), source };
        File::create(&checked).map_err(io)?;
        *prover.blocking_lock() = Some((release.pk_id, Arc::new(key)));
        Ok(())
    }

    fn check_secret(&self, release: &Release, secret: &[u8]) -> Result<(), JoinError> {
        if Sha256::digest(secret).as_slice() != payload_digest(release) {
            return Err(JoinError::WrongSecret);
        }
        match (release.mode, &self.body) {
            (Mode::File, _) => Ok(()),
            (Mode::Key, Some(body)) => check_body(body, release, secret),
            (Mode::Key, None) => Err(JoinError::WrongBody),
        }
    }
}

/// `H(Dec(body, K)) = U_id`, in pieces.
fn check_body(body: &Path, release: &Release, secret: &[u8]) -> Result<(), JoinError> {
    let key: &[u8; 32] = secret.try_into().map_err(|_| JoinError::WrongSecret)?;
    let cipher = Body::new(key);
    let io = |source| JoinError::Io { path: body.into(), source };
    let mut file = File::open(body).map_err(io)?;
    let mut buffer = Zeroizing::new(vec![0; CHUNK]);
    let (mut hash, mut at) = (Sha256::new(), 0u64);
    loop {
        let got = file.read(&mut buffer).map_err(io)?;
        if got == 0 {
            break;
        }
        cipher.apply_at(at, &mut buffer[..got]);
        hash.update(&buffer[..got]);
        at += got as u64;
    }
    let right = at == release.size && hash.finalize().as_slice() == release.u_id.as_bytes();
    if right { Ok(()) } else { Err(JoinError::WrongBody) }
}

/// SHA-256 of a file, if it is there.
async fn digest_of(path: &Path) -> Result<Option<[u8; 32]>, JoinError> {
    let path = path.to_path_buf();
    let hashed = tokio::task::spawn_blocking(move || {
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(JoinError::Io { path, source }),
        };
        let mut hash = Sha256::new();
        let io = |source| JoinError::Io { path: path.clone(), source };
        io::copy(&mut file, &mut hash).map_err(io)?;
        Ok(Some(hash.finalize().into()))
    });
    hashed.await?
}
