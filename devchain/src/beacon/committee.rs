//! Sync committees: deterministic keys, and signatures by the sum of those who take part.

use std::collections::HashMap;
use std::iter;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use alloy::primitives::{B256, U256, keccak256, uint};
use blst::min_pk::{AggregatePublicKey, SecretKey};
use ssz_types::FixedVector;
use tree_hash::TreeHash;

use super::types::{Bits, PublicKey, Signature, SyncCommittee};

/// Members of a committee in the mainnet preset.
pub(super) const SIZE: usize = 512;
/// Order of the groups, so the modulus of secret keys.
const ORDER: U256 = uint!(0x73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001_U256);
/// The proof-of-possession scheme's, as consensus signs (BLS signatures draft 4, section 4.2.3).
const DST: &[u8] = b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_";

/// Whose keys a committee's are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kin {
    /// The validators of the chain.
    Validators,
    /// Somebody else's, for lies.
    Strangers,
}

/// One period's committee, with its secrets.
pub(super) struct Committee {
    secrets: Vec<U256>,
    pub(super) keys: SyncCommittee,
    pub(super) root: B256,
}

type Known = Mutex<HashMap<(Kin, u64), Arc<Committee>>>;

impl Committee {
    /// The committee of a period, derived once in a process.
    pub(super) fn of(kin: Kin, period: u64) -> Arc<Self> {
        static KNOWN: OnceLock<Known> = OnceLock::new();
        let mut known = KNOWN.get_or_init(Known::default).lock().unwrap_or_else(PoisonError::into_inner);
        known.entry((kin, period)).or_insert_with(|| Arc::new(Self::derive(kin, period))).clone()
    }

    /// Secrets are an arithmetic progression: public keys are then additions, a tenth of the time that
    /// multiplications take.
    fn derive(kin: Kin, period: u64) -> Self {
        let (first, step) = (secret(kin, period, "first"), secret(kin, period, "step"));
        let next = |secret: &U256| Some(secret.add_mod(step, ORDER));
        let secrets: Vec<U256> = iter::successors(Some(first), next).take(SIZE).collect();
        let step = secret_key(&step).sk_to_pk();
        let mut point = AggregatePublicKey::from_public_key(&secret_key(&first).sk_to_pk());
        let mut pubkeys = Vec::with_capacity(SIZE);
        for _ in 0..SIZE {
            pubkeys.push(PublicKey::from(point.to_public_key().compress()));
            point.add_public_key(&step, false).expect("nothing is checked");
        }
        let keys = SyncCommittee {
            pubkeys: FixedVector::new(pubkeys).expect("as many as the vector holds"),
            aggregate_pubkey: secret_key(&sum(&secrets)).sk_to_pk().compress().into(),
        };
        Self { secrets, root: keys.tree_hash_root(), keys }
    }

    /// The aggregate of the members' signatures whose bits are set; infinity if there are none. The
    /// sum of signatures is the signature of the sum of the keys, so one multiplication makes it.
    pub(super) fn sign(&self, signing_root: B256, bits: &Bits) -> Signature {
        let signers = self.secrets.iter().enumerate().filter(|(member, _)| has(bits, *member));
        match sum(signers.map(|(_, secret)| secret)) {
            U256::ZERO => super::types::INFINITY,
            key => secret_key(&key).sign(signing_root.as_slice(), DST, &[]).compress().into(),
        }
    }
}

/// `count` members take part, others in each slot, as in life.
pub(super) fn bits(count: usize, slot: u64) -> Bits {
    let first = (slot % SIZE as u64) as usize;
    let mut bits = Bits::ZERO;
    for member in (0..count.min(SIZE)).map(|offset| (first + offset) % SIZE) {
        bits[member / 8] |= 1 << (member % 8);
    }
    bits
}

fn has(bits: &Bits, member: usize) -> bool {
    bits[member / 8] >> (member % 8) & 1 == 1
}

fn secret(kin: Kin, period: u64, name: &str) -> U256 {
    let seed = format!("posthouse devchain, {kin:?}, period {period}, {name}");
    U256::from_be_bytes(keccak256(seed).0).reduce_mod(ORDER)
}

fn sum<'a>(secrets: impl IntoIterator<Item = &'a U256>) -> U256 {
    secrets.into_iter().fold(U256::ZERO, |sum, secret| sum.add_mod(*secret, ORDER))
}

fn secret_key(scalar: &U256) -> SecretKey {
    SecretKey::from_bytes(&scalar.to_be_bytes::<32>()).expect("below the order and not zero")
}
