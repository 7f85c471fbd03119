//! What a distributor sells, to whom, and on which terms.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::exchange::{Redeem, Terms};
use crate::id::{Bounty, ChainId, Curve, DeviceKey, Payee, UpdateId, VkId};

use super::Wei;

/// The fleet of a bounty, checked against the root on chain before the campaign begins. It may be larger than
/// memory, so that each look-up reads a disk.
pub trait Roster {
    /// Index of a device's leaf; `None` for a key that is not in the fleet.
    ///
    /// # Errors
    /// [`Unreadable`].
    fn index(&self, key: &DeviceKey) -> Result<Option<u32>, Unreadable>;

    /// Siblings of the leaf from the bottom up; `None` for an index beyond the fleet.
    ///
    /// # Errors
    /// [`Unreadable`].
    fn path(&self, index: u32) -> Result<Option<Vec<[u8; 32]>>, Unreadable>;
}

/// The fleet cannot be read now. Whoever asks is told to ask again, and not that it is no member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreadable;

/// A peer as the transport has authenticated it. Pure: both answers follow from its public key.
pub trait Peer {
    /// SHA-256 of its peer id.
    fn hash(&self) -> crate::id::PeerHash;

    /// Whether `sig` is its signature of the digest's 32 bytes.
    fn signed(&self, digest: &crate::id::Digest, sig: &[u8]) -> bool;
}

/// Who is paid, and on which chain: one wallet, so one sequence of nonces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Chain of all bounties served.
    pub chain: ChainId,
    /// `pk_d`, the address that is paid and that sends the transactions.
    pub payee: Payee,
}

/// Shares of the devices from the end of the group before (or 0) to `end_index`, exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// First index that is not in the group.
    pub end_index: u32,
    /// Share of each device, without the early bonus.
    pub share: Wei,
}

/// A bounty that was joined: its package is held and its release checked.
#[derive(Clone)]
pub struct Campaign {
    /// The contract.
    pub bounty: Bounty,
    /// `U_id`, which receipts name.
    pub u_id: UpdateId,
    /// The verifying key that offers name.
    pub vk_id: VkId,
    /// Curve of the device keys.
    pub curve: Curve,
    /// Depth of the fleet's tree: how long a receipt's path is.
    pub depth: u8,
    /// Unix seconds, chain time, from which no receipt can be reserved.
    pub claim_by: u64,
    /// Shares by index range, as on chain.
    pub groups: Vec<Group>,
    /// The fleet.
    pub roster: Arc<dyn Roster + Send + Sync>,
}

impl Campaign {
    /// Share of one device without the early bonus: what a lock is worth at least.
    pub fn share(&self, index: u32) -> Wei {
        let group = self.groups.iter().find(|group| index < group.end_index);
        group.map_or(Wei::ZERO, |group| group.share)
    }

    /// Sum of [`Self::share`].
    pub fn sum(&self, indices: impl IntoIterator<Item = u32>) -> Wei {
        indices.into_iter().fold(Wei::ZERO, |sum, index| sum.saturating_add(self.share(index)))
    }
}

/// How this distributor trades. Times are in the unit that the name ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Collects this long from the first receipt, then reserves without a seal.
    pub window_secs: u32,
    /// Fewer receipts than this are not worth showing `r` for.
    pub min_receipts: u32,
    /// Least sum of shares that the first batch must lock; the contract holds the reservation to it.
    pub min_sum: Wei,
    /// Whether there is a private relay, by which a batch may be claimed in one step. It shows `t` to whoever runs the relay
    /// and, if its block is reorganised away, to everybody, before anything is locked.
    pub direct: bool,
    /// What a batch must bring above the gas of its transactions, in percent of that.
    pub gain_percent: u32,
    /// No transaction offers more than this for a unit of gas.
    pub max_fee: Wei,
    /// What the producer of a block is offered for a unit of gas.
    pub priority_fee: Wei,
    /// Most receipts in one transaction; fewer where the cap of EIP-7825 has no gas for so many.
    pub max_batch: u16,
    /// An offer without a receipt is withdrawn after this.
    pub offer_ttl_secs: u32,
    /// Nothing is reserved closer to `claim_by` than this.
    pub reserve_margin_secs: u32,
    /// `t` is not shown closer to the end of the lock than this.
    pub reveal_margin_secs: u32,
    /// A transaction that is not mined after this goes out again with a higher fee.
    pub resubmit_after_ms: u64,
    /// Reservations that may fail before the batch is given up.
    pub max_tries: u8,
    /// What [`crate::exchange::Response::Pending`] asks the gateway to wait.
    pub retry_after_ms: u32,
    /// What is held for others.
    pub limits: Limits,
}

/// Bounds on what peers can make a distributor hold or do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Challenges outstanding; the oldest gives way.
    pub sessions: usize,
    /// Exchanges of one bounty: each is a proof and a row.
    pub exchanges: usize,
    /// Exchanges that one device's delegations may open, so that one stolen device key cannot take
    /// all of them.
    pub exchanges_per_device: usize,
    /// Receipts of one exchange.
    pub receipts: usize,
    /// Proofs asked for and not made yet.
    pub proofs: usize,
    /// Transactions in flight.
    pub transactions: usize,
    /// Peers whose rate is remembered; the one that was quiet longest gives way.
    pub peers: usize,
    /// Requests that a peer may make at once.
    pub burst: u32,
    /// Requests a second that a peer may make in the long run.
    pub per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 1024,
            exchanges: 4096,
            exchanges_per_device: 4,
            receipts: 4096,
            proofs: 64,
            transactions: 64,
            peers: 4096,
            burst: 512,
            per_second: 64,
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            window_secs: 600,
            min_receipts: 1,
            min_sum: Wei::ZERO,
            direct: false,
            gain_percent: 10,
            max_fee: Wei::new(200_000_000_000),
            priority_fee: Wei::new(1_000_000_000),
            max_batch: 100,
            offer_ttl_secs: 3600,
            reserve_margin_secs: 1800,
            reveal_margin_secs: 600,
            resubmit_after_ms: 60_000,
            max_tries: 3,
            retry_after_ms: 250,
            limits: Limits::default(),
        }
    }
}

impl Policy {
    /// What the gateway is told.
    pub(super) fn terms(&self) -> Terms {
        Terms {
            window_secs: self.window_secs,
            min_receipts: self.min_receipts,
            redeem: if self.direct { Redeem::Direct } else { Redeem::ReserveReveal },
        }
    }
}
