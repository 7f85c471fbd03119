//! Who gets the secret: the join protocol from the vendor's side (paper, 4.4.2).

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use alloy::primitives::{Address, B256, Signature};
use posthouse_dsn::{PeerId, peer_hash};
use posthouse_protocol::digest;
use posthouse_protocol::id::{Bounty, ChainId, Payee};
use posthouse_protocol::join::{JoinRefusal, Request, Response};
use zeroize::Zeroizing;

use super::config::{Admission, Join};

/// Peers whose rate is remembered; when full, one whose minute is over makes room, or the newcomer
/// waits.
const MAX_PEERS: usize = 1024;

/// Answers join requests. Holds the secrets of the releases that are seeded.
pub(super) struct Gate {
    chain: ChainId,
    policy: Join,
    secrets: BTreeMap<Bounty, Zeroizing<Vec<u8>>>,
    rates: HashMap<PeerId, (Instant, u32)>,
}

impl Gate {
    pub(super) fn new(chain: ChainId, policy: Join) -> Self {
        Self { chain, policy, secrets: BTreeMap::new(), rates: HashMap::new() }
    }

    /// From now on the secret of this bounty is given out.
    pub(super) fn add(&mut self, bounty: Bounty, secret: Zeroizing<Vec<u8>>) {
        self.secrets.insert(bounty, secret);
    }

    pub(super) fn answer(&mut self, peer: &PeerId, body: &[u8], now: Instant) -> Response {
        match self.decide(peer, body, now) {
            Ok(payload) => Response::Secret { payload },
            Err(reason) => Response::Refused { reason },
        }
    }

    fn decide(
        &mut self,
        peer: &PeerId,
        body: &[u8],
        now: Instant,
    ) -> Result<Zeroizing<Vec<u8>>, JoinRefusal> {
        self.take_turn(peer, now)?;
        let request = Request::decode(body).map_err(|_| JoinRefusal::Malformed)?;
        if request.chain != self.chain {
            return Err(JoinRefusal::WrongChain);
        }
        let secret = self.secrets.get(&request.bounty).ok_or(JoinRefusal::UnknownBounty)?;
        check_signature(&request, peer)?;
        self.admit(&request.payee)?;
        tracing::info!(%peer, payee = %request.payee, bounty = %request.bounty, "joined");
        Ok(secret.clone())
    }

    fn admit(&self, payee: &Payee) -> Result<(), JoinRefusal> {
        let payee = Address::from(payee.to_bytes());
        let listed = || self.policy.payees.iter().any(|listed| listed.0 == payee);
        match self.policy.admission {
            Admission::Open => Ok(()),
            Admission::AllowList if listed() => Ok(()),
            Admission::AllowList => Err(JoinRefusal::NotAdmitted),
        }
    }

    /// So many requests a minute for each peer; a signature costs more to check than to make up.
    fn take_turn(&mut self, peer: &PeerId, now: Instant) -> Result<(), JoinRefusal> {
        let over = |since: &Instant| now.duration_since(*since).as_secs() >= 60;
        if self.rates.len() >= MAX_PEERS && !self.rates.contains_key(peer) {
            self.rates.retain(|_, (since, _)| !over(since));
        }
        if self.rates.len() >= MAX_PEERS && !self.rates.contains_key(peer) {
            return Err(JoinRefusal::RateLimited);
        }
        let (since, count) = self.rates.entry(*peer).or_insert((now, 0));
        if over(since) {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        if *count > self.policy.per_minute { Err(JoinRefusal::RateLimited) } else { Ok(()) }
    }
}

/// The payee's key signed for this very peer, so that a request cannot be used by who overheard it.
fn check_signature(request: &Request, peer: &PeerId) -> Result<(), JoinRefusal> {
    let hash = peer_hash(peer).into();
    let digest = digest::join(request.chain, &request.bounty, &request.payee, &hash);
    let signature = Signature::from_raw(&request.sig).map_err(|_| JoinRefusal::BadSignature)?;
    let canonical = signature.normalize_s().is_none();
    let signer = signature.recover_address_from_prehash(&B256::from(digest.to_bytes()));
    match signer {
        Ok(signer) if canonical && signer.0 == *request.payee.as_bytes() => Ok(()),
        _ => Err(JoinRefusal::BadSignature),
    }
}

#[cfg(test)]
mod tests {
    use alloy::signers::SignerSync as _;
    use alloy::signers::local::PrivateKeySigner;
    use posthouse_dsn::Keypair;

    use super::*;
    use crate::settings::Text;

    const BOUNTY: Bounty = Bounty::new([1; 20]);

    fn peer() -> PeerId {
        Keypair::generate_ed25519().public().to_peer_id()
    }

    fn gate(policy: Join) -> Gate {
        let mut gate = Gate::new(ChainId::new(5), policy);
        gate.add(BOUNTY, Zeroizing::new(vec![9; 32]));
        gate
    }

    fn request(signer: &PrivateKeySigner, peer: &PeerId, chain: u64, bounty: Bounty) -> Request {
        let (chain, payee) = (ChainId::new(chain), Payee::new(signer.address().into_array()));
        let digest = digest::join(chain, &bounty, &payee, &peer_hash(peer).into());
        let sig = signer.sign_hash_sync(&B256::from(digest.to_bytes())).unwrap().as_bytes();
        Request { chain, bounty, payee, sig }
    }

    fn refusal(gate: &mut Gate, peer: &PeerId, request: &Request) -> JoinRefusal {
        match gate.answer(peer, &request.to_vec(), Instant::now()) {
            Response::Refused { reason } => reason,
            Response::Secret { .. } => panic!("admitted"),
        }
    }

    #[test]
    fn a_payee_that_signs_for_its_peer_gets_the_secret() {
        let (signer, peer) = (PrivateKeySigner::random(), peer());
        let mut gate = gate(Join::default());
        let request = request(&signer, &peer, 5, BOUNTY);
        let answer = gate.answer(&peer, &request.to_vec(), Instant::now());
        assert!(matches!(answer, Response::Secret { payload } if *payload == [9; 32]));
    }

    #[test]
    fn others_are_refused_by_name() {
        let (signer, peer) = (PrivateKeySigner::random(), peer());
        let mut gate = gate(Join { per_minute: 100, ..Join::default() });
        let good = request(&signer, &peer, 5, BOUNTY);
        let other = Keypair::generate_ed25519().public().to_peer_id();
        assert_eq!(refusal(&mut gate, &other, &good), JoinRefusal::BadSignature);
        let stolen = Request { payee: Payee::new([3; 20]), ..good };
        assert_eq!(refusal(&mut gate, &peer, &stolen), JoinRefusal::BadSignature);
        let chain = request(&signer, &peer, 6, BOUNTY);
        assert_eq!(refusal(&mut gate, &peer, &chain), JoinRefusal::WrongChain);
        let bounty = request(&signer, &peer, 5, Bounty::new([2; 20]));
        assert_eq!(refusal(&mut gate, &peer, &bounty), JoinRefusal::UnknownBounty);
        let garbage = gate.answer(&peer, b"\xff", Instant::now());
        assert!(matches!(garbage, Response::Refused { reason: JoinRefusal::Malformed }));
    }

    #[test]
    fn an_allow_list_admits_who_is_on_it() {
        let (listed, stranger, peer) = (PrivateKeySigner::random(), PrivateKeySigner::random(), peer());
        let payees = vec![Text(listed.address())];
        let mut gate = gate(Join { admission: Admission::AllowList, payees, per_minute: 9 });
        let asked = request(&stranger, &peer, 5, BOUNTY);
        assert_eq!(refusal(&mut gate, &peer, &asked), JoinRefusal::NotAdmitted);
        let asked = request(&listed, &peer, 5, BOUNTY);
        let answer = gate.answer(&peer, &asked.to_vec(), Instant::now());
        assert!(matches!(answer, Response::Secret { .. }));
    }

    #[test]
    fn a_peer_has_so_many_turns_a_minute() {
        let (signer, peer) = (PrivateKeySigner::random(), peer());
        let mut gate = gate(Join { per_minute: 1, ..Join::default() });
        let request = request(&signer, &peer, 5, BOUNTY).to_vec();
        let now = Instant::now();
        assert!(matches!(gate.answer(&peer, &request, now), Response::Secret { .. }));
        let again = gate.answer(&peer, &request, now);
        assert!(matches!(again, Response::Refused { reason: JoinRefusal::RateLimited }));
        let later = now + std::time::Duration::from_secs(60);
        assert!(matches!(gate.answer(&peer, &request, later), Response::Secret { .. }));
    }
}
