//! The digests that are signed: `H(tag ‖ fields)`, fixed widths, integers big-endian.
//!
//! Each purpose has a tag of its own, so that a signature made for one is worth nothing for another:
//! a challenge cannot be chosen to be a receipt, which the paper's raw challenge allowed (4.4.3).

use sha2::{Digest as _, Sha256};

use crate::id::{Attempt, Bounty, ChainId, Digest, LockHash, Payee, PeerHash, ProductId, UpdateId, Version};

/// A sensor lets the gateway with this peer id speak for it about one bounty.
pub fn delegation(chain: ChainId, bounty: &Bounty, gateway: &PeerHash) -> Digest {
    hash(b"posthouse/delegate/1", &[&be(chain.get()), bounty.as_bytes(), gateway.as_bytes()])
}

/// A gateway's peer key answers the distributor's challenge `c`, 32 random bytes.
pub fn challenge(chain: ChainId, bounty: &Bounty, payee: &Payee, c: &[u8; 32]) -> Digest {
    hash(b"posthouse/auth/1", &[&be(chain.get()), bounty.as_bytes(), payee.as_bytes(), c])
}

/// A sensor says whom it wants paid for this update, under this lock. The contract takes it as the
/// claim, and only with a higher attempt than the last that was reserved.
pub fn receipt(
    chain: ChainId,
    bounty: &Bounty,
    payee: &Payee,
    u_id: &UpdateId,
    s: &LockHash,
    attempt: Attempt,
) -> Digest {
    hash(
        b"posthouse/receipt/1",
        &[
            &be(chain.get()),
            bounty.as_bytes(),
            payee.as_bytes(),
            u_id.as_bytes(),
            s.as_bytes(),
            &[attempt.get()],
        ],
    )
}

/// A sensor reports that it runs this version, whose image has this digest.
pub fn installed(product: &ProductId, version: Version, u_id: &UpdateId) -> Digest {
    hash(b"posthouse/installed/1", &[product.as_bytes(), &be(version.get()), u_id.as_bytes()])
}

/// A peer proves to the vendor that the payee's key is its own.
pub fn join(chain: ChainId, bounty: &Bounty, payee: &Payee, peer: &PeerHash) -> Digest {
    hash(b"posthouse/join/1", &[&be(chain.get()), bounty.as_bytes(), payee.as_bytes(), peer.as_bytes()])
}

fn be(value: u64) -> [u8; 8] {
    value.to_be_bytes()
}

fn hash(tag: &[u8], fields: &[&[u8]]) -> Digest {
    let mut hasher = Sha256::new_with_prefix(tag);
    fields.iter().for_each(|field| hasher.update(field));
    Digest::new(hasher.finalize().into())
}
