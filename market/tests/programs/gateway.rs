//! A gateway as a peer of the network: just enough of one to buy.

use posthouse_circuits::cipher::{Body, apply_payload};
use posthouse_circuits::{Statement, VerifyingKey};
use posthouse_dsn::{Config, Dsn, FetchError, Keypair, Network, PeerId, peer_hash};
use posthouse_protocol::digest;
use posthouse_protocol::exchange::{PROTOCOL, Request, Response};
use posthouse_protocol::id::*;
use posthouse_protocol::package::Package;
use posthouse_protocol::release::{self, Release};
use posthouse_protocol::secret::KeyR;
use sha2::{Digest as _, Sha256};

use crate::world::{CHAIN, Running, World};

const CHAIN_ID: ChainId = ChainId::new(CHAIN);

/// The offer that the gateway holds.
pub(crate) struct Offer {
    pub(crate) cipher: Vec<u8>,
    pub(crate) s: LockHash,
}

pub(crate) struct Gateway {
    pub(crate) dsn: Dsn,
    bounty: Bounty,
    u_id: UpdateId,
    pub(crate) package: Package,
    pub(crate) release: Release,
    payee: Option<Payee>,
    folder: std::path::PathBuf,
    /// Its first sensor's place in the fleet.
    first: usize,
}

fn cid(id: &ContentId) -> posthouse_dsn::Cid {
    posthouse_dsn::Cid::try_from(&id.to_bytes()[..]).unwrap()
}

impl Gateway {
    /// Joins the network by the vendor's seeder and takes the package from it.
    pub(crate) async fn start(world: &World, seeder: &Running, published: &serde_json::Value) -> Self {
        Self::of_site(world, seeder, published, 0).await
    }

    /// One of several: its sensors begin at this place of the fleet.
    pub(crate) async fn of_site(
        world: &World,
        seeder: &Running,
        published: &serde_json::Value,
        first: usize,
    ) -> Self {
        let keypair = Keypair::ed25519_from_bytes([42 + first as u8; 32]).unwrap();
        let mut config = Config::new(keypair, world.path(&format!("gateway-{first}")));
        config.network = Network::Fleet("test".into());
        config.bootstrap = vec![seeder.address().parse().unwrap()];
        config.request_protocols = vec![PROTOCOL.into()];
        let (dsn, _) = Dsn::start(config).await.unwrap();
        let source = dsn.dial(seeder.address().parse().unwrap()).await.unwrap();
        let field = |name: &str| published[name].as_str().unwrap().to_string();
        let p_id: PackageId = field("p_id").parse().unwrap();
        let root = cid(&ContentId::dag_cbor(p_id.to_bytes()));
        // The seeder hashes a new release before it serves it.
        let root = loop {
            match dsn.get_block(root, &[source], 4096).await {
                Ok(block) => break block,
                Err(FetchError::NotDelivered { .. }) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        };
        let package = Package::decode(&root).unwrap();
        let key = world.release_key().parse().unwrap();
        let release = release::open(&package.release, &key).unwrap();
        Self {
            dsn,
            bounty: field("bounty").parse().unwrap(),
            u_id: field("u_id").parse().unwrap(),
            package,
            release,
            payee: None,
            folder: world.path(""),
            first,
        }
    }

    /// Whom the DHT names for the update, when somebody is there.
    pub(crate) async fn find(&self) -> PeerId {
        loop {
            let u_id = cid(&ContentId::raw(self.u_id.to_bytes()));
            let mut providers = self.dsn.providers(u_id).await.unwrap();
            if let Some(provider) = providers.recv().await {
                return provider.peer;
            }
        }
    }

    pub(crate) async fn wants_block(&self, from: PeerId, id: ContentId) -> Result<(), FetchError> {
        self.dsn.get_block(cid(&id), &[from], 1 << 20).await.map(drop)
    }

    /// Asks until it is answered; a distributor that is restarting answers later.
    pub(crate) async fn ask(&self, peer: PeerId, request: &Request) -> Response {
        self.try_ask(peer, request).await.unwrap()
    }

    /// Asks until the answer is not "later"; `None` when nobody answers any more.
    pub(crate) async fn try_ask(&self, peer: PeerId, request: &Request) -> Option<Response> {
        loop {
            let answer = self.dsn.request(peer, PROTOCOL, request.to_vec()).await.ok()?;
            match Response::decode(&answer).unwrap() {
                Response::Pending { retry_after_ms } => {
                    let wait = std::time::Duration::from_millis(retry_after_ms.into());
                    tokio::time::sleep(wait).await;
                }
                response => return Some(response),
            }
        }
    }

    pub(crate) async fn hello(&mut self, world: &World, peer: PeerId) -> Option<[u8; 32]> {
        let me = peer_hash(&self.dsn.peer_id()).into();
        let delegation = world.devices[self.first].sign(&digest::delegation(CHAIN_ID, &self.bounty, &me));
        let device_key = world.devices[self.first].device_key();
        let hello = Request::Hello { chain: CHAIN_ID, bounty: self.bounty, device_key, delegation };
        let Response::Challenge { c, payee, .. } = self.try_ask(peer, &hello).await? else {
            return None;
        };
        self.payee = Some(payee);
        Some(c)
    }

    /// Hello and Auth, until the offer is there; it is held against the package's verifying key.
    pub(crate) async fn offer(&mut self, world: &World, peer: PeerId) -> Option<Offer> {
        let c = self.hello(world, peer).await?;
        let challenge = digest::challenge(CHAIN_ID, &self.bounty, &self.payee.unwrap(), &c);
        let sig = self.dsn.sign(challenge.as_bytes());
        let auth = Request::Auth { chain: CHAIN_ID, bounty: self.bounty, sig };
        let Response::Offer { cipher, s, proof, vk_id, .. } = self.try_ask(peer, &auth).await? else {
            return None;
        };
        assert_eq!(vk_id, self.release.vk_id);
        // One that has just come back does not serve its files yet.
        let vk = self.dsn.get_block(cid(&self.package.vk), &[peer], 1 << 16).await.ok()?;
        let vk = VerifyingKey::from_bytes(&vk).unwrap();
        let sold = self.release.key_id.map_or(self.u_id.to_bytes(), |id| id.to_bytes());
        let statement = Statement { s: s.to_bytes(), u_id: sold, cipher: &cipher };
        vk.verify(&statement, &proof).unwrap();
        Some(Offer { cipher, s })
    }

    pub(crate) fn receipt(&self, world: &World, offer: &Offer, device: usize) -> Request {
        let (attempt, payee) = (Attempt::new(1), self.payee.unwrap());
        let key = &world.devices[self.first + device];
        let receipt = digest::receipt(CHAIN_ID, &self.bounty, &payee, &self.u_id, &offer.s, attempt);
        let (device_key, sig) = (key.device_key(), key.sign(&receipt));
        Request::Receipt { bounty: self.bounty, s: offer.s, device_key, attempt, sig }
    }

    pub(crate) fn members(&self, world: &World, devices: &[usize]) -> Request {
        let keys = devices.iter().map(|device| world.devices[*device].device_key()).collect();
        Request::Members { bounty: self.bounty, keys }
    }

    pub(crate) fn seal(&self, offer: &Offer) -> Request {
        Request::Seal { bounty: self.bounty, s: offer.s }
    }

    pub(crate) fn poll(&self, offer: &Offer) -> Request {
        Request::Poll { bounty: self.bounty, s: offer.s }
    }

    pub(crate) fn copy(&self, world: &World, offer: &Offer, device: usize) -> Request {
        let device_key = world.devices[self.first + device].device_key();
        Request::Copy { bounty: self.bounty, s: offer.s, device_key }
    }

    /// The image, from the cipher, `r` and in key mode the body.
    pub(crate) async fn open(&self, offer: &Offer, r: &KeyR, peer: PeerId) -> Vec<u8> {
        assert_eq!(r.lock(), offer.s);
        let mut secret = offer.cipher.clone();
        apply_payload(r.as_bytes(), &mut secret);
        let Some(body) = &self.package.body else { return secret };
        let dest = self.folder.join(format!("body-{}", self.bounty));
        let (size, id) = (self.release.body_size, self.release.body_id.unwrap().to_bytes());
        self.dsn.fetch_file(cid(body), size, id, &dest, &[peer], |_| {}).await.unwrap();
        let mut image = std::fs::read(&dest).unwrap();
        Body::new(&secret.try_into().unwrap()).apply_at(0, &mut image);
        assert_eq!(Sha256::digest(&image).as_slice(), self.u_id.as_bytes());
        image
    }
}
