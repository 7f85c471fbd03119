//! The peer key: what a peer signs with it, and how another checks that.
//!
//! A libp2p peer id is the multihash of its public key, and an Ed25519 key is short enough to be carried whole
//! (identity multihash, libp2p "Peer Ids and Keys" specification). So a signature can be checked with nothing
//! but the peer id.

use libp2p::PeerId;
use libp2p::identity::PublicKey;
use sha2::{Digest, Sha256};
use thiserror::Error;

/// Code of the identity multihash: the digest is the public key itself.
const IDENTITY: u64 = 0x00;

/// Why a peer's signature was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PeerSignatureError {
    /// The peer id is a hash of its key, so it does not carry the key. Ed25519 peers always carry it.
    #[error("the peer id {0} does not carry its public key")]
    NoKey(PeerId),
    /// The key in the peer id does not decode.
    #[error("the public key in the peer id {0} is malformed")]
    BadKey(PeerId),
    /// The key did not sign this message.
    #[error("the signature is not by peer {0}")]
    BadSignature(PeerId),
}

/// Checks `signature` (64 bytes for Ed25519, RFC 8032) by `peer` over `message`.
pub fn verify_peer_signature(
    peer: &PeerId,
    message: &[u8],
    signature: &[u8],
) -> Result<(), PeerSignatureError> {
    match public_key(peer)?.verify(message, signature) {
        true => Ok(()),
        false => Err(PeerSignatureError::BadSignature(*peer)),
    }
}

/// SHA-256 of the peer id's bytes: what delegations and join requests name a peer by.
pub fn peer_hash(peer: &PeerId) -> [u8; 32] {
    Sha256::digest(peer.to_bytes()).into()
}

fn public_key(peer: &PeerId) -> Result<PublicKey, PeerSignatureError> {
    let hash = peer.as_ref();
    if hash.code() != IDENTITY {
        return Err(PeerSignatureError::NoKey(*peer));
    }
    PublicKey::try_decode_protobuf(hash.digest()).map_err(|_| PeerSignatureError::BadKey(*peer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use libp2p::identity::Keypair;

    #[test]
    fn a_signature_is_checked_with_the_peer_id_alone() {
        let key = Keypair::generate_ed25519();
        let peer = key.public().to_peer_id();
        let signature = key.sign(b"message").unwrap();
        assert_eq!(verify_peer_signature(&peer, b"message", &signature), Ok(()));
        let refused = Err(PeerSignatureError::BadSignature(peer));
        assert_eq!(verify_peer_signature(&peer, b"massage", &signature), refused);
        assert_eq!(verify_peer_signature(&peer, b"message", &signature[..63]), refused);
        let other = Keypair::generate_ed25519().public().to_peer_id();
        let refused = Err(PeerSignatureError::BadSignature(other));
        assert_eq!(verify_peer_signature(&other, b"message", &signature), refused);
    }

    #[test]
    fn a_hashed_peer_id_carries_no_key() {
        let digest: [u8; 32] = Sha256::digest(b"an RSA key").into();
        let hash = multihash::Multihash::<64>::wrap(0x12, &digest).unwrap();
        let peer = PeerId::from_multihash(hash).unwrap();
        assert_eq!(verify_peer_signature(&peer, b"", &[]), Err(PeerSignatureError::NoKey(peer)));
    }
}
