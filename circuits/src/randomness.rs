//! Where setup and proving take their randomness from.
//!
//! Whoever knows the randomness of a setup can prove anything under its keys, and the randomness of a proof hides
//! `r`. So the source is a type: programs can only name [`SystemRandomness`].

use ark_std::rand::SeedableRng;
use ark_std::rand::rngs::StdRng;
use zeroize::Zeroizing;

/// A source of randomness for [`ProvingKey`](crate::ProvingKey); implemented here only.
pub trait Randomness: sealed::Source {}

/// The operating system gives no randomness.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the operating system gives no randomness: {0}")]
pub struct NoRandomness(getrandom::Error);

/// A ChaCha generator seeded with 256 bits from the operating system.
#[derive(Debug)]
pub struct SystemRandomness(StdRng);

impl SystemRandomness {
    /// Asks the operating system for a seed.
    ///
    /// # Errors
    /// When the operating system gives none.
    pub fn new() -> Result<Self, NoRandomness> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed).map_err(NoRandomness)?;
        Ok(Self(StdRng::from_seed(*seed)))
    }
}

/// A generator whose output everybody knows. For tests; keys and proofs made with it protect nothing.
#[cfg(any(test, feature = "fixed-seed"))]
#[derive(Debug)]
pub struct FixedSeed(StdRng);

#[cfg(any(test, feature = "fixed-seed"))]
impl FixedSeed {
    /// The generator with this number.
    #[must_use]
    pub fn insecure(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }
}

impl Randomness for SystemRandomness {}
#[cfg(any(test, feature = "fixed-seed"))]
impl Randomness for FixedSeed {}

pub(crate) mod sealed {
    use ark_std::rand::rngs::StdRng;

    /// Gives out the generator.
    pub trait Source {
        /// The generator itself.
        fn generator(&mut self) -> &mut StdRng;
    }

    impl Source for super::SystemRandomness {
        fn generator(&mut self) -> &mut StdRng {
            &mut self.0
        }
    }

    #[cfg(any(test, feature = "fixed-seed"))]
    impl Source for super::FixedSeed {
        fn generator(&mut self) -> &mut StdRng {
            &mut self.0
        }
    }
}
