//! Who a message goes to: a libp2p peer id, as the bytes that it is.

use core::fmt;

use sha2::{Digest as _, Sha256};

use crate::id::{PeerHash, write_hex};

/// The bytes of a libp2p peer id, a multihash of at most [`Peer::MAX`] bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer {
    len: u8,
    bytes: [u8; Peer::MAX],
}

impl Peer {
    /// Longest peer id: an identity multihash of a 42-byte key; longer keys are hashed
    /// (libp2p peer id specification).
    pub const MAX: usize = 64;

    /// Takes the bytes, or `None` if there are none or more than [`Peer::MAX`].
    pub fn new(id: &[u8]) -> Option<Self> {
        if id.is_empty() || id.len() > Self::MAX {
            return None;
        }
        let mut bytes = [0; Self::MAX];
        bytes[..id.len()].copy_from_slice(id);
        Some(Self { len: id.len() as u8, bytes })
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// SHA-256 of the bytes: how a delegation names a gateway.
    pub fn hash(&self) -> PeerHash {
        PeerHash::new(Sha256::digest(self.as_bytes()).into())
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(self.as_bytes(), f)
    }
}

impl<C> minicbor::Encode<C> for Peer {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(self.as_bytes())?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for Peer {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let at = d.position();
        Self::new(d.bytes()?)
            .ok_or_else(|| minicbor::decode::Error::message("peer id of a wrong length").at(at))
    }
}
