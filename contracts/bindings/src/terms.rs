//! What a bounty promises, read from the bytes behind its code.

use alloy::primitives::{Address, U256};
use posthouse_protocol::id::{Curve, FleetRoot, PackageId, UpdateId};
use thiserror::Error;

/// Bytes of a clone before its terms (ERC-1167, as solady's `LibClone` writes it).
pub const CLONE_LEN: usize = 45;
const CLONE_HEAD: [u8; 10] = [0x36, 0x3d, 0x3d, 0x37, 0x3d, 0x3d, 0x3d, 0x36, 0x3d, 0x73];
const CLONE_TAIL: [u8; 15] =
    [0x5a, 0xf4, 0x3d, 0x82, 0x80, 0x3e, 0x90, 0x3d, 0x91, 0x60, 0x2b, 0x57, 0xfd, 0x5b, 0xf3];
/// Bytes of the terms before the groups, and of one group.
const HEAD_LEN: usize = 138;
const GROUP_LEN: usize = 16;
/// Groups that the factory accepts.
pub const MAX_GROUPS: usize = 8;
/// Deepest tree that the factory accepts: indices are `u32`.
pub const MAX_DEPTH: u8 = 32;
/// A bonus is given in parts of this.
pub const BASIS_POINTS: u32 = 10_000;

/// Why code is not that of a bounty, or its terms are none that the factory makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TermsError {
    /// There is none, or not yet.
    #[error("there is no code at that address")]
    NoCode,
    /// The code does not begin as a clone does.
    #[error("the code is not that of a clone with immutable arguments")]
    NotAClone,
    /// The clone runs code that the factory did not deploy.
    #[error("the clone runs {0}, which is not an implementation of this factory")]
    ForeignImplementation(Address),
    /// The terms have a length that no number of groups gives.
    #[error("terms of {0} bytes")]
    Length(usize),
    /// The groups do not ascend, pay nothing or exceed the tree.
    #[error("group {0} does not ascend, pays nothing or is beyond the tree")]
    Group(usize),
}

/// A range of device indices that earns one share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// The first index after the range, which starts where the one before it ends.
    pub end_index: u32,
    /// Wei for each device of the range, without bonus; below 2^96.
    pub share: u128,
}

/// The terms of a bounty. Times are unix seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Which keys the devices hold: told by the implementation that the clone runs.
    pub curve: Curve,
    /// Who pays, and who gets back what nobody earned.
    pub vendor: Address,
    /// Time of publication.
    pub start: u64,
    /// Last second in which a claim or reservation is taken.
    pub claim_by: u64,
    /// When the early bonus has fallen to nothing; 0 without one.
    pub bonus_until: u64,
    /// Bonus at `start` in 1/10000 of a share.
    pub bonus_bps: u16,
    /// How long a reservation lives, in seconds.
    pub lock_secs: u32,
    /// Depth of the fleet's tree.
    pub depth: u8,
    /// Root of the fleet's tree.
    pub root: FleetRoot,
    /// Digest of the image.
    pub u_id: UpdateId,
    /// Digest of the package's root block.
    pub p_id: PackageId,
    /// One to eight, ascending.
    pub groups: Vec<Group>,
}

/// Whose code a clone runs: the addresses of one factory's implementations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Implementations {
    /// For secp256k1 devices.
    pub secp256k1: Address,
    /// For P-256 devices.
    pub p256: Address,
}

impl Implementations {
    /// The factory creates them first and second, so its address tells theirs (nonces 1 and 2, EIP-161).
    pub fn of(factory: Address) -> Self {
        Self { secp256k1: factory.create(1), p256: factory.create(2) }
    }

    fn curve(&self, implementation: Address) -> Option<Curve> {
        if implementation == self.secp256k1 {
            Some(Curve::Secp256k1)
        } else if implementation == self.p256 {
            Some(Curve::P256)
        } else {
            None
        }
    }
}

impl Terms {
    /// Reads the code of a bounty and checks that it runs what the factory deployed.
    ///
    /// # Errors
    /// [`TermsError`]: there is no code, or it is no clone, runs something else, or carries terms that no factory makes.
    pub fn from_code(code: &[u8], of: &Implementations) -> Result<Self, TermsError> {
        if code.is_empty() {
            return Err(TermsError::NoCode);
        }
        let (clone, args) = code.split_at_checked(CLONE_LEN).ok_or(TermsError::NotAClone)?;
        let implementation = clone
            .strip_prefix(&CLONE_HEAD)
            .and_then(|rest| rest.strip_suffix(&CLONE_TAIL))
            .ok_or(TermsError::NotAClone)?;
        let implementation = Address::from_slice(implementation);
        let curve = of.curve(implementation).ok_or(TermsError::ForeignImplementation(implementation))?;
        Self::from_args(curve, args)
    }

    /// Reads the packed terms: the layout is that of `TermsLib` in `contracts/src/types/Terms.sol`.
    ///
    /// # Errors
    /// [`TermsError::Length`] and [`TermsError::Group`].
    pub fn from_args(curve: Curve, args: &[u8]) -> Result<Self, TermsError> {
        let groups = args
            .len()
            .checked_sub(HEAD_LEN)
            .filter(|rest| rest % GROUP_LEN == 0 && (1..=MAX_GROUPS).contains(&(rest / GROUP_LEN)));
        groups.ok_or(TermsError::Length(args.len()))?;
        let (head, groups) = args.split_at(HEAD_LEN);
        let terms = Self {
            curve,
            vendor: Address::from_slice(&head[..20]),
            start: be(&head[20..25]),
            claim_by: be(&head[25..30]),
            bonus_until: be(&head[30..35]),
            lock_secs: be(&head[35..39]) as u32,
            bonus_bps: be(&head[39..41]) as u16,
            depth: head[41],
            root: word(&head[42..74]).into(),
            u_id: word(&head[74..106]).into(),
            p_id: word(&head[106..138]).into(),
            groups: groups.chunks_exact(GROUP_LEN).map(group).collect(),
        };
        terms.check_groups()?;
        Ok(terms)
    }

    fn check_groups(&self) -> Result<(), TermsError> {
        let mut end = 0;
        for (i, group) in self.groups.iter().enumerate() {
            let fits = self.depth <= MAX_DEPTH && u64::from(group.end_index) <= 1 << self.depth;
            if group.end_index <= end || group.share == 0 || !fits {
                return Err(TermsError::Group(i));
            }
            end = group.end_index;
        }
        Ok(())
    }

    /// Number of devices in the fleet.
    pub fn fleet_size(&self) -> u32 {
        self.groups.last().map_or(0, |group| group.end_index)
    }

    /// Wei for the device at `index` if it is taken, or reserved, at `time`; `None` beyond the fleet.
    pub fn share_at(&self, index: u32, time: u64) -> Option<U256> {
        let base = U256::from(self.groups.iter().find(|group| index < group.end_index)?.share);
        if time >= self.bonus_until {
            return Some(base);
        }
        let left = U256::from(self.bonus_until - time);
        let span = U256::from(self.bonus_until.saturating_sub(self.start).max(1));
        Some(base + base * U256::from(self.bonus_bps) * left / (U256::from(BASIS_POINTS) * span))
    }

    /// Wei that pay every device its largest share: what was deposited.
    pub fn deposit(&self) -> U256 {
        let mut begin = 0;
        self.groups.iter().fold(U256::ZERO, |sum, group| {
            let base = U256::from(group.share);
            let count = U256::from(group.end_index - begin);
            begin = group.end_index;
            sum + count * (base + base * U256::from(self.bonus_bps) / U256::from(BASIS_POINTS))
        })
    }

    /// First second in which the vendor may have back what nobody earned.
    pub fn refund_from(&self) -> u64 {
        self.claim_by + u64::from(self.lock_secs) + 1
    }
}

fn group(bytes: &[u8]) -> Group {
    Group {
        end_index: be(&bytes[..4]) as u32,
        share: bytes[4..].iter().fold(0, |n, b| n << 8 | u128::from(*b)),
    }
}

/// A big-endian number of at most 8 bytes.
fn be(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |n, b| n << 8 | u64::from(*b))
}

fn word(bytes: &[u8]) -> [u8; 32] {
    let mut word = [0; 32];
    word.copy_from_slice(bytes);
    word
}
