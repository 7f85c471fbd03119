//! Secrets of an exchange: wiped when dropped, never printed.

use core::fmt;

use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::id::{KeyId, LockHash, Payee, decode_exact};

macro_rules! secret {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Wraps the bytes.
            pub const fn new(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The secret bytes: whoever copies them wipes the copy.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl From<[u8; 32]> for $name {
            fn from(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }

        impl<C> minicbor::Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.bytes(&self.0)?.ok()
            }
        }

        impl<'b, C> minicbor::Decode<'b, C> for $name {
            fn decode(
                d: &mut minicbor::Decoder<'b>,
                _: &mut C,
            ) -> Result<Self, minicbor::decode::Error> {
                decode_exact(d).map(Self)
            }
        }
    };
}

secret!(
    /// `t`: 256 random bits, fresh for every exchange; showing it takes the payment.
    PreimageT
);
secret!(
    /// `r = H(payee ‖ t)`: the key that an offer's cipher is made with.
    KeyR
);
secret!(
    /// `K`: the key of a release's body in key mode.
    PayloadKey
);

impl KeyR {
    /// `r = H(payee ‖ t)`, so that only this payee can be paid with this `t` (paper, 4.4.3).
    pub fn derive(payee: &Payee, t: &PreimageT) -> Self {
        Self(Sha256::new().chain_update(payee).chain_update(t.0).finalize().into())
    }

    /// `s = H(r)`.
    pub fn lock(&self) -> LockHash {
        LockHash::new(Sha256::digest(self.0).into())
    }
}

impl PayloadKey {
    /// `key_id = H(K)`.
    pub fn key_id(&self) -> KeyId {
        KeyId::new(Sha256::digest(self.0).into())
    }
}
