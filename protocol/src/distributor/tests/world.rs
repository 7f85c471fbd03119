//! Gateways and a disk in a few lines each around a chain, with which the machine is held to its promises.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use crate::digest;
use crate::exchange::{Request, Response};
use crate::id::*;
use crate::key::SigningKey;
use crate::secret::{KeyR, PreimageT};

use super::super::*;
use super::chain::{Branch, Chain, RIVAL, Share, State, most};

mod gateways;

pub(super) const DEVICES: usize = 6;
pub(super) const GATEWAYS: usize = 2;
pub(super) const SHARE: u128 = 1_000_000_000;
/// What the wallet has where nothing else is said.
const RICH: Wei = Wei::new(1_000_000_000_000_000_000);
pub(super) const LOCK_SECS: u64 = 7200;
const CLAIM_BY: u64 = 10_000_000;
const CHAIN: ChainId = ChainId::new(31337);
const BOUNTY: Bounty = Bounty::new([0xb0; 20]);
pub(super) const PAYEE: Payee = Payee::new([0xda; 20]);
const U_ID: UpdateId = UpdateId::new([7; 32]);

struct Fleet(Vec<DeviceKey>);

/// Where this key would stand the disk is bad.
pub(super) const UNREADABLE: DeviceKey = DeviceKey::new([9; 33]);

impl Roster for Fleet {
    fn index(&self, key: &DeviceKey) -> Result<Option<u32>, Unreadable> {
        if *key == UNREADABLE {
            return Err(Unreadable);
        }
        Ok(self.0.iter().position(|known| known == key).map(|at| at as u32))
    }

    fn path(&self, _: u32) -> Result<Option<Vec<[u8; 32]>>, Unreadable> {
        Ok(Some(vec![]))
    }
}

/// A peer whose signature of a digest is the digest under its own hash.
pub(super) struct Gateway(pub(super) PeerHash);

impl Gateway {
    fn sign(&self, digest: &Digest) -> Vec<u8> {
        digest.as_bytes().iter().zip(self.0.as_bytes()).map(|(a, b)| a ^ b).collect()
    }
}

impl Peer for Gateway {
    fn hash(&self) -> PeerHash {
        self.0
    }

    fn signed(&self, digest: &Digest, sig: &[u8]) -> bool {
        sig == self.sign(digest)
    }
}

/// What survives a crash.
#[derive(Default)]
struct Disk {
    exchanges: BTreeMap<PeerHash, Exchange>,
    receipts: BTreeMap<(PeerHash, u32), Receipt>,
    slots: BTreeMap<u64, Slot>,
}

impl Disk {
    fn write(&mut self, change: Change) {
        match change {
            Change::Exchange(row) => drop(self.exchanges.insert(row.gateway, through_cbor(&row))),
            Change::Receipt(row) => {
                self.receipts.insert((row.gateway, row.index), through_cbor(&row));
            }
            Change::Transaction(row) => drop(self.slots.insert(row.nonce, through_cbor(&row))),
            Change::Settled { nonce } => drop(self.slots.remove(&nonce)),
            Change::Forget { gateway, .. } => {
                self.exchanges.remove(&gateway);
                self.receipts.retain(|(by, _), _| *by != gateway);
            }
        }
    }
}

/// Rows go through their encoding, so that a restart sees what a database would give back.
fn through_cbor<T>(row: &T) -> T
where
    T: minicbor::Encode<()> + for<'b> minicbor::Decode<'b, ()>,
{
    crate::wire::decode(&crate::wire::to_vec(row), 1 << 20).unwrap()
}

/// Everything, and what was promised so far.
pub(super) struct World {
    machine: Distributor,
    policy: Policy,
    disk: Disk,
    chain: Chain,
    keys: Vec<SigningKey>,
    pub(super) now: u64,
    /// Whether the events of payments can be read.
    pub(super) events: bool,
    /// What simulations say whatever the chain would.
    pub(super) verdict: Option<CallFailure>,
    pub(super) simulations: usize,
    pub(super) look_ups: usize,
    counter: u64,
    /// Answers on their way to the machine.
    inbox: Vec<Input<'static>>,
    offers: BTreeMap<PeerHash, LockHash>,
    challenges: BTreeMap<PeerHash, [u8; 32]>,
    calls: BTreeMap<u64, Call>,
    /// What was offered, by nonce.
    pub(super) fees: Vec<(u64, Fee)>,
    pub(super) waits: usize,
    /// How often it was told that the wallet lacks money.
    pub(super) shorts: usize,
    /// How much it lacks, as was told last.
    pub(super) lacks: u128,
    /// The private relay keeps what it gets.
    pub(super) relay_is_deaf: bool,
    /// No node can be reached to send to.
    pub(super) deaf: bool,
    /// Outputs carried out so far, and the one before which the program dies.
    pub(super) outputs: usize,
    pub(super) crash_at: Option<usize>,
    /// Calls whose blocks were reorganised away once.
    shaken: BTreeSet<(u64, &'static str)>,
    /// Locks of calls given to the private relay and not called off, by nonce.
    relayed: BTreeMap<u64, LockHash>,
    /// Locks that a finalized block had, whole or past their transaction.
    pub(super) final_locks: BTreeSet<LockHash>,
    pub(super) acked: BTreeSet<u32>,
    pub(super) rivals: BTreeSet<u32>,
    pub(super) keys_shown: BTreeSet<LockHash>,
    pub(super) paid_events: Vec<u32>,
    pub(super) last: Option<Response>,
}

pub(super) fn gateway(g: usize) -> Gateway {
    Gateway(PeerHash::new([g as u8 + 1; 32]))
}

fn identity() -> Identity {
    Identity { chain: CHAIN, payee: PAYEE }
}

/// The call of a batch of these devices of [`scattered`], as a program without limits sent it under nonce 3.
pub(super) fn unbounded(stage: &Stage, indices: &[u32]) -> Slot {
    let (device, attempt, sig) = (DeviceKey::new([2; 33]), Attempt::new(1), Signature::new([1; 64]));
    let items = indices.iter().map(|index| Item { index: *index, device, attempt, sig }).collect();
    let (t, min_sum) = (PreimageT::new([7; 32]), stage.batch().unwrap().min_sum);
    let call = match stage {
        Stage::Reserving(_) => Call::Reserve { s: KeyR::derive(&PAYEE, &t).lock(), items, min_sum },
        _ => Call::Claim { t, items, min_sum },
    };
    let fee = Some(Fee { max: Wei::new(3), priority: Wei::new(1) });
    let private = matches!(stage, Stage::Direct(_));
    Slot { nonce: 3, bounty: BOUNTY, gateway: gateway(0).0, call, bumps: 0, fee, private, gas: None }
}

/// A distributor with receipts of these devices, all free, of a million with P-256 keys, after one reading of the chain.
pub(super) fn scattered(policy: Policy, stage: Stage, indices: &[u32], sent: Option<Slot>) -> Distributor {
    let (mut machine, gateway) = (Distributor::new(identity(), policy), gateway(0).0);
    let (challenge, t) = (digest::challenge(CHAIN, &BOUNTY, &PAYEE, &[1; 32]), PreimageT::new([7; 32]));
    let exchange = Exchange { bounty: BOUNTY, gateway, device: 0, challenge, t, stage };
    machine.restore(Change::Exchange(exchange));
    for index in indices.iter().copied() {
        let (device, attempt) = (DeviceKey::new([2; 33]), Attempt::new(1));
        let (sig, fate) = (Signature::new([1; 64]), Fate::Waiting);
        let receipt = Receipt { bounty: BOUNTY, gateway, index, device, attempt, sig, fate };
        machine.restore(Change::Receipt(receipt));
    }
    sent.into_iter().for_each(|slot| machine.restore(Change::Transaction(slot)));
    let campaign = Campaign {
        bounty: BOUNTY,
        u_id: U_ID,
        vk_id: VkId::new([5; 32]),
        curve: Curve::P256,
        depth: 20,
        claim_by: CLAIM_BY,
        groups: vec![Group { end_index: 1 << 20, share: Wei::new(SHARE) }],
        roster: Arc::new(Fleet(vec![])),
    };
    machine.handle(Input::Join(campaign), 1_000_000);
    scattered_reads(&mut machine, 3, indices);
    machine
}

/// One reading of the chain in which so many transactions are final, and all shares free.
pub(super) fn scattered_reads(machine: &mut Distributor, nonce: u64, indices: &[u32]) {
    let gateway = gateway(0).0;
    let head = Head {
        timestamp: 1000,
        latest_nonce: nonce,
        final_nonce: nonce,
        base_fee: Wei::new(1),
        balance: RICH,
    };
    machine.handle(Input::Head(head), 1_000_000);
    let free = indices.iter().map(|index| Seen { index: *index, standing: Standing::Free { attempt: 0 } });
    let (latest, finalized): (Vec<Seen>, Vec<Seen>) = (free.clone().collect(), free.collect());
    let seen = Observation { bounty: BOUNTY, gateway, latest, finalized, paid: Some(vec![]) };
    machine.handle(Input::Observed(seen), 1_000_000);
}

impl World {
    pub(super) fn new(policy: Policy) -> Self {
        let key = |i: usize| SigningKey::from_bytes(Curve::Secp256k1, &[i as u8 + 1; 32]).unwrap();
        let (balance, shares) = (RICH.get(), vec![Share::default(); DEVICES]);
        let state = State { time: 1000, nonce: 3, balance, shares, mined: vec![] };
        let (blocks, pool, stolen) = (vec![state], BTreeMap::new(), BTreeSet::new());
        let mut world = Self {
            machine: Distributor::new(identity(), policy),
            policy,
            disk: Disk::default(),
            chain: Chain { blocks, finality: 2, pool, base_fee: Wei::ZERO, stolen },
            keys: (0..DEVICES).map(key).collect(),
            now: 1_000_000,
            events: true,
            verdict: None,
            simulations: 0,
            look_ups: 0,
            counter: 0,
            inbox: vec![],
            offers: BTreeMap::new(),
            challenges: BTreeMap::new(),
            calls: BTreeMap::new(),
            fees: vec![],
            waits: 0,
            shorts: 0,
            lacks: 0,
            deaf: false,
            relay_is_deaf: false,
            outputs: 0,
            crash_at: None,
            shaken: BTreeSet::new(),
            relayed: BTreeMap::new(),
            final_locks: BTreeSet::new(),
            acked: BTreeSet::new(),
            rivals: BTreeSet::new(),
            keys_shown: BTreeSet::new(),
            paid_events: vec![],
            last: None,
        };
        world.join();
        world.observe();
        world
    }

    pub(super) fn join(&mut self) {
        let roster = Arc::new(self.fleet());
        let groups = vec![Group { end_index: DEVICES as u32, share: Wei::new(SHARE) }];
        let campaign = Campaign {
            bounty: BOUNTY,
            u_id: U_ID,
            vk_id: VkId::new([5; 32]),
            curve: Curve::Secp256k1,
            depth: 3,
            claim_by: CLAIM_BY,
            groups,
            roster,
        };
        self.machine.handle(Input::Join(campaign), self.now);
        self.run(usize::MAX);
    }

    fn fleet(&self) -> Fleet {
        Fleet(self.keys.iter().map(SigningKey::device_key).collect())
    }

    /// Loses everything but the disk, with outputs still in the queue.
    pub(super) fn crash(&mut self) {
        self.crash_before_join();
        self.join();
    }

    pub(super) fn crash_before_join(&mut self) {
        self.machine = Distributor::new(identity(), self.policy);
        self.inbox.clear();
        let exchanges = self.disk.exchanges.values().cloned().map(Change::Exchange);
        let receipts = self.disk.receipts.values().copied().map(Change::Receipt);
        let slots = self.disk.slots.values().cloned().map(Change::Transaction);
        exchanges.chain(receipts).chain(slots).for_each(|row| self.machine.restore(row));
        self.machine.expect(BOUNTY);
    }

    /// Carries out at most `steps` outputs.
    pub(super) fn run(&mut self, steps: usize) {
        let locks = self.machine.exchanges().map(|exchange| post::Locks::of(&exchange.stage));
        assert_eq!(self.machine.locks, locks.fold(post::Locks::default(), post::Locks::and));
        for _ in 0..steps {
            let Some(output) = self.machine.poll() else { return };
            if self.crash_at == Some(self.outputs) {
                self.crash_at = None;
                return self.crash();
            }
            self.outputs += 1;
            self.carry_out(output);
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Persist(change) => {
                if let Change::Transaction(slot) = &change {
                    match &slot.call {
                        Call::Claim { t, .. } if slot.private => {
                            self.relayed.insert(slot.nonce, KeyR::derive(&PAYEE, t).lock());
                        }
                        _ => drop(self.relayed.remove(&slot.nonce)),
                    }
                }
                self.disk.write(change);
            }
            Output::Send { response, .. } => self.sent(response),
            Output::LookUp { keys, .. } => {
                self.look_ups += 1;
                self.sent(look_up(&self.fleet(), &keys));
            }
            Output::Inspect { bounty, index } => {
                let standing = self.chain.latest().standing(LockHash::new([0; 32]), index);
                self.inbox.push(Input::Inspected { bounty, index, standing });
            }
            Output::Prove { bounty, gateway, s, r } => {
                assert_eq!(self.disk.exchanges[&gateway].s(&PAYEE), s, "t is on disk");
                assert_eq!(r.lock(), s);
                let (cipher, proof) = (vec![1; 32], vec![2; 128]);
                self.inbox.push(Input::Proved { bounty, gateway, s, cipher, proof });
            }
            Output::Simulate { bounty, gateway, call, .. } => {
                self.check_secret(&call);
                self.simulations += 1;
                let result = self.verdict.map_or_else(|| self.chain.latest().clone().apply(&call), Err);
                self.inbox.push(Input::Simulated { bounty, gateway, result });
            }
            Output::Submit(slot) => self.submitted(slot),
            Output::Event(Event::Paid { index, .. }) => self.paid_events.push(index),
            Output::Event(Event::Waits { .. }) => self.waits += 1,
            Output::Event(Event::Short { wei, .. }) => {
                assert!(wei > Wei::ZERO);
                self.shorts += 1;
                self.lacks = wei.get();
            }
            Output::Event(_) => {}
        }
    }

    fn submitted(&mut self, slot: Slot) {
        if slot.private {
            assert!(self.policy.direct && matches!(slot.call, Call::Claim { .. }));
        } else {
            self.check_secret(&slot.call);
        }
        if slot.private && self.relay_is_deaf {
            return;
        }
        assert!(self.disk.slots.contains_key(&slot.nonce), "a nonce is on disk before it is used");
        let before = self.calls.insert(slot.nonce, slot.call.clone());
        let same = slot.call == Call::Cancel || before.is_none_or(|before| before == slot.call);
        assert!(same, "a nonce carries one call for ever, or nothing");
        let fee = slot.fee.unwrap();
        assert!(fee.max <= self.policy.max_fee && fee.priority <= fee.max, "{fee:?}");
        self.check_worth(&slot.call, fee);
        self.fees.push((slot.nonce, fee));
        if self.deaf {
            return;
        }
        let raised = |old: Wei, new: Wei| new.get() * 10 >= old.get() * 11;
        match self.chain.pool.get(&slot.nonce) {
            Some((call, old)) if (call, *old) == (&slot.call, fee) => return,
            // For nodes that have forgotten the call.
            Some((_, old)) if *old == fee && slot.call == Call::Cancel => return,
            Some((_, old)) => {
                let replaces = raised(old.max, fee.max) && raised(old.priority, fee.priority);
                assert!(replaces, "no node takes {fee:?} in the place of {old:?}");
            }
            None => {}
        }
        // As nodes do, which count all that waits.
        let others = self.chain.pool.iter().filter(|(nonce, _)| **nonce != slot.nonce);
        let owed: u128 = others.map(|(_, (call, fee))| most(call, *fee)).sum();
        if owed + most(&slot.call, fee) <= self.chain.latest().balance {
            self.chain.pool.insert(slot.nonce, (slot.call, fee));
        }
    }

    /// No gas is paid for at more than its shares bring.
    fn check_worth(&self, call: &Call, fee: Fee) {
        let gas = |indices: &[u32]| Gas::of(indices, 3, Curve::Secp256k1);
        let (devices, gas) = match call {
            Call::Reserve { items, .. } => {
                let gas = gas(&items.iter().map(|item| item.index).collect::<Vec<_>>());
                (items.len(), gas.reserve + gas.reveal)
            }
            Call::Reveal { indices, .. } => (indices.len(), gas(indices).reveal),
            Call::Claim { items, .. } => {
                (items.len(), gas(&items.iter().map(|item| item.index).collect::<Vec<_>>()).claim)
            }
            Call::Cancel => return,
        };
        assert!(fee.max.get() * u128::from(gas) <= devices as u128 * SHARE, "{} at {fee:?}", call.name());
    }

    fn check_secret(&self, call: &Call) {
        if let Call::Reveal { t, .. } | Call::Claim { t, .. } = call {
            self.may_show(t);
        }
    }

    fn may_show(&self, t: &PreimageT) {
        let s = KeyR::derive(&PAYEE, t).lock();
        assert!(self.final_locks.contains(&s), "t is shown only under a final lock");
    }

    fn sent(&mut self, response: Response) {
        match &response {
            Response::Offer { s, .. } => {
                assert!(self.disk.exchanges.values().any(|row| row.s(&PAYEE) == *s));
            }
            Response::Ack { index } => {
                assert!(self.disk.receipts.keys().any(|(_, kept)| kept == index));
                self.acked.insert(*index);
            }
            Response::Key { r } => {
                assert!(self.final_locks.contains(&r.lock()), "r is shown only under a final lock");
                self.keys_shown.insert(r.lock());
            }
            _ => {}
        }
        self.last = Some(response);
    }

    /// Delivers everything that is on its way.
    pub(super) fn settle(&mut self) {
        loop {
            self.run(usize::MAX);
            if self.inbox.is_empty() {
                return;
            }
            self.deliver(0);
        }
    }

    /// One answer reaches the machine, any of those on their way.
    pub(super) fn deliver(&mut self, which: usize) {
        if !self.inbox.is_empty() {
            let input = self.inbox.remove(which % self.inbox.len());
            self.machine.handle(input, self.now);
        }
    }

    /// One answer never arrives: the program died with it, or a node did.
    pub(super) fn lose(&mut self) {
        if self.inbox.pop().is_some() {
            self.crash();
        }
    }

    pub(super) fn mine(&mut self) {
        self.chain.mine();
        self.now += 12_000;
        self.note_final_locks();
    }

    /// The chain's own view of what the machine may rely on.
    fn note_final_locks(&mut self) {
        let min = self.policy.min_sum.get().max(SHARE * u128::from(self.policy.min_receipts));
        let mut sums = BTreeMap::new();
        for share in &self.chain.finalized().shares {
            let held = share.claimed.or(share.lock.map(|(s, _)| s));
            held.iter().for_each(|s| *sums.entry(*s).or_insert(0) += SHARE);
        }
        let paid = self.chain.finalized().shares.iter().filter_map(|share| share.claimed);
        self.final_locks.extend(paid);
        // A claim in a final block is public, whatever it did.
        let public = self.relayed.range(..self.chain.finalized().nonce).map(|(_, s)| *s);
        self.final_locks.extend(public);
        let enough = sums.into_iter().filter(|(_, sum)| *sum >= min).map(|(s, _)| s);
        self.final_locks.extend(enough);
    }

    pub(super) fn forget_pool(&mut self) {
        self.chain.pool.clear();
    }

    /// The newest blocks give way to others.
    pub(super) fn reorg(&mut self, depth: usize, branch: Branch) {
        self.chain.reorg(depth, branch);
    }

    /// Finality is so many blocks behind from now on.
    pub(super) fn finality(&mut self, blocks: usize) {
        self.chain.finality = blocks;
    }

    /// Each call that is `depth` blocks deep loses its block once.
    pub(super) fn shake(&mut self, depth: usize, branch: Branch) {
        let Some(at) = self.chain.blocks.len().checked_sub(depth) else { return };
        let deep = self.chain.blocks[at].mined.iter().map(|tx| (tx.nonce, tx.call.name()));
        let fresh: Vec<_> = deep.filter(|call| !self.shaken.contains(call)).collect();
        if !fresh.is_empty() {
            self.shaken.extend(fresh);
            self.reorg(depth, branch);
        }
    }

    /// The calls in the chain's blocks, and whether each changed anything.
    pub(super) fn mined(&self) -> Vec<(&'static str, bool)> {
        let mined = self.chain.blocks.iter().flat_map(|block| &block.mined);
        mined.map(|tx| (tx.call.name(), tx.changed)).collect()
    }

    /// What a patient gateway with three sensors and a late one does next.
    pub(super) fn buy(&mut self) {
        let peer = gateway(0).0;
        if !self.offers.contains_key(&peer) {
            if !matches!(self.auth(0), Some(Response::Offer { .. } | Response::Pending { .. })) {
                self.hello(0, 0);
            }
            return;
        }
        let done = (0..3).all(|device| self.acked.contains(&device));
        let next = (0..3).find(|device| !self.acked.contains(device));
        let response = match next {
            Some(device) => self.receipt(0, device as usize),
            None if self.keys_shown.is_empty() => {
                self.seal(0);
                self.poll_key(0)
            }
            None if !self.acked.contains(&3) => self.receipt(0, 3),
            None => None,
        };
        if let Some(Response::Refused { reason }) = response {
            assert!(!done, "{reason:?}");
            self.offers.remove(&peer);
        }
    }

    /// The wallet's next transaction but one is sent with nobody's before it.
    pub(super) fn skip_nonce(&mut self) {
        let next = self.chain.latest().nonce;
        self.chain.stolen.insert(next);
        self.mine();
        self.observe();
        self.chain.stolen.remove(&next);
    }

    pub(super) fn base_fee(&mut self, wei: u128) {
        self.chain.base_fee = Wei::new(wei);
    }

    /// The wallet has so much, on every branch.
    pub(super) fn balance(&mut self, wei: u128) {
        self.chain.blocks.iter_mut().for_each(|block| block.balance = wei);
    }

    /// Claims are over in the next block.
    pub(super) fn pass_claim_by(&mut self) {
        let mut state = self.chain.child();
        state.time = CLAIM_BY + 1;
        self.now = (CLAIM_BY + 1) * 1000;
        self.chain.blocks.push(state);
        self.observe();
    }

    /// Another program uses the wallet's next nonce.
    pub(super) fn steal_nonce(&mut self) {
        self.chain.stolen.insert(self.chain.latest().nonce);
        self.mine();
    }

    /// A rival reserves or takes a share, if the rules let it.
    pub(super) fn rival(&mut self, d: usize, claim: bool) {
        let mut state = self.chain.child();
        let done = if claim {
            state.take(RIVAL, &[d as u32], false)
        } else {
            let key = self.keys[d].device_key();
            let sig = Signature::new([1; 64]);
            let attempt = Attempt::new(state.shares[d].attempt + 1);
            state.reserve(RIVAL, &[Item { index: d as u32, device: key, attempt, sig }])
        };
        if done > 0 {
            self.rivals.insert(d as u32);
        }
        self.chain.blocks.push(state);
        self.note_final_locks();
    }

    /// The program's reading of the chain: the wallet first.
    pub(super) fn observe(&mut self) {
        self.machine.handle(Input::Head(self.head()), self.now);
        self.observe_exchanges();
    }

    /// A block comes between the reading of the wallet and that of the bounties.
    pub(super) fn observe_late(&mut self) {
        let head = self.head();
        self.mine();
        self.machine.handle(Input::Head(head), self.now);
        self.observe_exchanges();
    }

    fn head(&self) -> Head {
        Head {
            timestamp: self.chain.latest().time,
            latest_nonce: self.chain.latest().nonce,
            final_nonce: self.chain.finalized().nonce,
            base_fee: self.chain.base_fee,
            balance: Wei::new(self.chain.latest().balance),
        }
    }

    fn observe_exchanges(&mut self) {
        let read = self.read();
        self.tell(read);
    }

    /// What the chain says now of what the machine watches.
    pub(super) fn read(&self) -> Vec<Observation> {
        let finalized = self.chain.finalized();
        let observation = |watch: Watch| {
            let see = |state: &State| -> Vec<Seen> {
                let seen = watch.indices.iter();
                seen.map(|i| Seen { index: *i, standing: state.standing(watch.s, *i) }).collect()
            };
            let ours = |i: &&u32| finalized.shares[**i as usize].claimed == Some(watch.s);
            let paid: Vec<_> = watch.indices.iter().filter(ours).map(|i| (*i, Wei::new(SHARE))).collect();
            Observation {
                bounty: watch.bounty,
                gateway: watch.gateway,
                latest: see(self.chain.latest()),
                finalized: see(finalized),
                paid: self.events.then_some(paid),
            }
        };
        self.machine.watching().into_iter().map(observation).collect()
    }

    pub(super) fn tell(&mut self, read: Vec<Observation>) {
        for observation in read {
            self.machine.handle(Input::Observed(observation), self.now);
        }
    }

    /// A quiet time: everything is delivered, blocks come, nothing is lost.
    pub(super) fn calm(&mut self) {
        for _ in 0..60 {
            self.settle();
            self.mine();
            self.observe();
        }
        self.settle();
    }

    /// Nobody is paid twice, and nothing is left waiting that could be paid.
    pub(super) fn check_settled(&self, min_receipts: usize) {
        let mut told = self.paid_events.clone();
        told.sort_unstable();
        told.dedup();
        assert_eq!(told.len(), self.paid_events.len(), "each payment is reported once");
        let effects = self.chain.blocks.iter().flat_map(|block| &block.mined);
        let effects: Vec<&Call> = effects.filter(|tx| tx.changed).map(|tx| &tx.call).collect();
        for (at, call) in effects.iter().enumerate() {
            assert!(!effects[..at].contains(call), "{} took effect twice", call.name());
        }
        for entry in self.machine.entries.values() {
            let waiting = entry.receipts.values();
            let waiting =
                waiting.filter(|r| r.fate == Fate::Waiting && !self.rivals.contains(&r.index)).count();
            assert!(entry.exchange.stage.batch().is_none(), "a batch is left under way");
            let worthless = matches!(entry.exchange.stage, Stage::Collecting(_)) && waiting < min_receipts;
            assert!(waiting == 0 || worthless, "{waiting} wait in {}", entry.exchange.stage.name());
        }
        for index in self.acked.difference(&self.rivals) {
            let fates: Vec<Fate> =
                self.disk.receipts.iter().filter(|((_, i), _)| i == index).map(|(_, r)| r.fate).collect();
            let paid = self.claimed(*index as usize).is_some();
            assert!(paid || fates.contains(&Fate::Waiting), "device {index}: {fates:?}");
        }
    }

    pub(super) fn stage(&self, g: usize) -> Option<&Stage> {
        self.machine.entries.get(&(BOUNTY, gateway(g).0)).map(|entry| &entry.exchange.stage)
    }

    /// Who was paid for a device, on the latest block.
    pub(super) fn claimed(&self, d: usize) -> Option<LockHash> {
        self.chain.latest().shares[d].claimed
    }

    pub(super) fn fate(&self, g: usize, d: usize) -> Option<Fate> {
        self.disk.receipts.get(&(gateway(g).0, d as u32)).map(|receipt| receipt.fate)
    }
}
