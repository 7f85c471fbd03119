//! A distributor that joins honestly and then tells one lie.
//!
//! It is a peer of its own in this process: it takes the package and the secret as any distributor does, announces the
//! update in the DHT, serves the body, and answers the exchange protocol as it should, but for its [`Lie`]. It keeps
//! every receipt that it was given, so that a test can say what a gateway let out of its hands.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Result;
use posthouse_dsn::{Config, Dsn, Keypair, Multiaddr, Network, PeerId, Role};
use posthouse_protocol::{
    exchange,
    gateway::{Fault, OfferFault},
    id::{DeviceKey, Payee},
    join,
};
use tokio::task::JoinHandle;

use self::{goods::Goods, offer::Secret, seller::Seller};
use crate::{
    chain::funded,
    site::{Published, Site},
};

mod goods;
mod offer;
mod seller;

/// Which of the funded accounts is the liar's; the site's own take the first ones.
const ACCOUNT: usize = 3;
/// The fleet of [`Site`]'s private network.
const FLEET: &str = "testbed";

/// The one thing that is not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Cipher and proof are of a secret that is not this update's; each is right for the other.
    ProofForAnotherUpdate,
    /// The proof is right for the cipher and another lock than the offer's.
    ProofForAnotherLock,
    /// One bit of the cipher is not as it was proven.
    AlteredCipher,
    /// The offer names another verifying key than the release.
    WrongVkId,
    /// Takes receipts, then answers polls with a key that the lock does not belong to.
    KeyThatDoesNotFit,
    /// Says nothing from the first receipt on.
    SilentAfterReceipt,
    /// Says nothing from the offer on.
    SilentAfterOffer,
    /// Puts off the question for the sensors' paths until its offer is over.
    OfferExpires,
}

impl Lie {
    /// What the gateway must find.
    #[must_use]
    pub fn fault(self) -> Fault {
        match self {
            Self::ProofForAnotherUpdate | Self::ProofForAnotherLock | Self::AlteredCipher => {
                Fault::Offer(OfferFault::Proof)
            }
            Self::WrongVkId => Fault::Offer(OfferFault::WrongVk),
            Self::KeyThatDoesNotFit => Fault::WrongKey,
            Self::SilentAfterReceipt => Fault::SilentAfterReceipt,
            Self::SilentAfterOffer => Fault::SilentAfterOffer,
            Self::OfferExpires => Fault::OfferExpired,
        }
    }

    /// Whether it shows only after a sensor has signed.
    #[must_use]
    pub fn costs_a_receipt(self) -> bool {
        matches!(self, Self::KeyThatDoesNotFit | Self::SilentAfterReceipt)
    }
}

/// Receipts by the device that signed them, as the attempts that they count.
pub type Receipts = BTreeMap<DeviceKey, BTreeSet<u8>>;

/// What it was sent.
#[derive(Clone, Debug, Default)]
struct Seen(Arc<Mutex<Receipts>>);

impl Seen {
    fn receipt(&self, device: DeviceKey, attempt: u8) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(device).or_default().insert(attempt);
    }

    fn receipts(&self) -> Receipts {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A running liar; it ends with this value.
#[derive(Debug)]
pub struct Hostile {
    peer: PeerId,
    address: Multiaddr,
    seen: Seen,
    task: JoinHandle<()>,
}

impl Hostile {
    /// Joins what the site has published, makes its offer, announces it and begins to answer. Its files go to `folder`.
    pub async fn start(site: &Site, published: &Published, lie: Lie, folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let (dsn, inbound) = Dsn::start(config(site, folder)?).await?;
        let wallet = funded(ACCOUNT)?;
        let payee = Payee::from(wallet.address().into_array());
        let goods = Goods::join(&dsn, &wallet, site, published, folder).await?;
        let making = tokio::task::spawn_blocking(move || Ok((Secret::offer(lie, &goods, &payee)?, goods)));
        let (secret, goods): (_, _) = making.await?.map_err(|error: anyhow::Error| error)?;
        goods.announce(&dsn).await?;
        let (peer, address) = (dsn.peer_id(), first_address(&dsn)?);
        let seen = Seen::default();
        let seller = Seller::new(lie, goods, payee, secret, seen.clone(), dsn);
        Ok(Self { peer, address, seen, task: tokio::spawn(seller.run(inbound)) })
    }

    /// Its peer id.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        self.peer
    }

    /// Where it listens, with its peer id.
    #[must_use]
    pub fn address(&self) -> &Multiaddr {
        &self.address
    }

    /// The receipts that it was given.
    #[must_use]
    pub fn receipts(&self) -> Receipts {
        self.seen.receipts()
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn config(site: &Site, folder: &Path) -> Result<Config> {
    let mut config = Config::new(Keypair::generate_ed25519(), folder.join("dsn"));
    config.listen = vec!["/ip4/127.0.0.1/tcp/0".parse()?];
    config.bootstrap = vec![site.vendor.multiaddr.parse()?];
    config.network = Network::Fleet(FLEET.into());
    config.role = Role::Server;
    config.request_protocols = vec![exchange::PROTOCOL.into(), join::PROTOCOL.into()];
    Ok(config)
}

fn first_address(dsn: &Dsn) -> Result<Multiaddr> {
    dsn.addresses().into_iter().next().ok_or_else(|| anyhow::anyhow!("it listens nowhere"))
}
