//! A chain in a few lines: blocks, finality a few blocks behind, a pool that forgets and a head that is reorganised. The
//! bounty follows the contract's rules for one group of equal shares.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;

use crate::id::{Curve, LockHash};
use crate::secret::KeyR;

use super::super::*;
use super::world::{LOCK_SECS, PAYEE, SHARE};

#[derive(Clone, Default)]
pub(super) struct Share {
    pub(super) claimed: Option<LockHash>,
    pub(super) lock: Option<(LockHash, u64)>,
    pub(super) attempt: u8,
}

#[derive(Clone)]
pub(super) struct State {
    pub(super) time: u64,
    pub(super) nonce: u64,
    /// What the wallet has.
    pub(super) balance: u128,
    pub(super) shares: Vec<Share>,
    /// Transactions of this block, and whether each changed anything.
    pub(super) mined: Vec<Mined>,
}

#[derive(Clone)]
pub(super) struct Mined {
    pub(super) nonce: u64,
    pub(super) call: Call,
    pub(super) fee: Fee,
    pub(super) changed: bool,
}

/// A rival's lock, as another payee under a lock of its own.
pub(super) const RIVAL: LockHash = LockHash::new([0xee; 32]);

/// What becomes of the transactions of blocks that are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Branch {
    /// Nobody has them any more.
    Without,
    /// They wait again.
    Pending,
    /// The new branch has them too, in its last block.
    Elsewhere,
}

pub(super) struct Chain {
    pub(super) blocks: Vec<State>,
    /// Blocks from the finalized one to the head.
    pub(super) finality: usize,
    pub(super) pool: BTreeMap<u64, (Call, Fee)>,
    /// Wei for a unit of gas.
    pub(super) base_fee: Wei,
    /// Nonces that another program's transactions have; nodes keep those in mind.
    pub(super) stolen: BTreeSet<u64>,
}

impl Chain {
    pub(super) fn latest(&self) -> &State {
        self.blocks.last().unwrap()
    }

    pub(super) fn finalized(&self) -> &State {
        &self.blocks[self.blocks.len().saturating_sub(self.finality + 1)]
    }

    pub(super) fn mine(&mut self) {
        let mut state = self.child();
        loop {
            if self.stolen.contains(&state.nonce) {
                self.pool.remove(&state.nonce);
                state.nonce += 1;
                continue;
            }
            let payable =
                |(call, fee): &(Call, Fee)| fee.max >= self.base_fee && most(call, *fee) <= state.balance;
            if !self.pool.get(&state.nonce).is_some_and(payable) {
                break;
            }
            if let Some((call, fee)) = self.pool.remove(&state.nonce) {
                state.execute(call, fee, self.base_fee);
            }
        }
        self.blocks.push(state);
    }

    pub(super) fn child(&self) -> State {
        let parent = self.latest().clone();
        State { time: parent.time + 12, mined: vec![], ..parent }
    }

    /// As many empty blocks come as go. A foreign transaction in the old ones stays away.
    pub(super) fn reorg(&mut self, depth: usize, branch: Branch) {
        if self.blocks.len() <= self.finality + 1 || depth > self.finality {
            return;
        }
        let dropped = self.blocks.split_off(self.blocks.len() - depth);
        for _ in 0..depth {
            self.blocks.push(self.child());
        }
        for Mined { nonce, call, fee, .. } in dropped.into_iter().flat_map(|block| block.mined) {
            let last = self.blocks.last_mut().unwrap();
            match branch {
                Branch::Without => {}
                Branch::Elsewhere if last.nonce == nonce => last.execute(call, fee, self.base_fee),
                _ => drop(self.pool.entry(nonce).or_insert((call, fee))),
            }
        }
    }
}

/// Gas that a call may use, and what it uses.
fn gas(call: &Call) -> (u64, u64) {
    let gas = |indices: &[u32]| Gas::of(indices, 3, Curve::Secp256k1);
    let of_items = |items: &[Item]| gas(&items.iter().map(|item| item.index).collect::<Vec<_>>());
    let (gas, of): (Gas, fn(Gas) -> u64) = match call {
        Call::Reserve { items, .. } => (of_items(items), |gas| gas.reserve),
        Call::Claim { items, .. } => (of_items(items), |gas| gas.claim),
        Call::Reveal { indices, .. } => (gas(indices), |gas| gas.reveal),
        Call::Cancel => return (21_000, 21_000),
    };
    (of(gas.limits()), of(gas))
}

/// Wei that the sender must have.
pub(super) fn most(call: &Call, fee: Fee) -> u128 {
    fee.max.get() * u128::from(gas(call).0)
}

impl State {
    pub(super) fn execute(&mut self, call: Call, fee: Fee, base_fee: Wei) {
        let before: Vec<_> = self.shares.iter().map(|share| (share.claimed, share.lock)).collect();
        let _ = self.apply(&call);
        let paid = before.iter().zip(&self.shares).filter(|((claimed, _), share)| *claimed != share.claimed);
        self.balance += paid.count() as u128 * SHARE;
        let price = fee.max.min(base_fee.saturating_add(fee.priority));
        self.balance -= price.get() * u128::from(gas(&call).1);
        let after = self.shares.iter().map(|share| (share.claimed, share.lock));
        let changed = !before.into_iter().eq(after);
        self.mined.push(Mined { nonce: self.nonce, call, fee, changed });
        self.nonce += 1;
    }

    /// What the contract does; a reverted call changes nothing but the nonce.
    pub(super) fn apply(&mut self, call: &Call) -> Result<(), CallFailure> {
        let mut next = self.clone();
        let sum = match call {
            Call::Reserve { s, items, .. } => next.reserve(*s, items),
            Call::Reveal { t, indices } => next.take(KeyR::derive(&PAYEE, t).lock(), indices, true),
            Call::Claim { t, items, .. } => {
                let indices: Vec<u32> = items.iter().map(|item| item.index).collect();
                next.take(KeyR::derive(&PAYEE, t).lock(), &indices, false)
            }
            Call::Cancel => 0,
        };
        match call {
            Call::Reserve { min_sum, .. } | Call::Claim { min_sum, .. }
                if sum < min_sum.get() || sum == 0 =>
            {
                return Err(CallFailure::Reverts);
            }
            Call::Reveal { .. } if sum == 0 => return Err(CallFailure::NoLock),
            _ => *self = next,
        }
        Ok(())
    }

    pub(super) fn reserve(&mut self, s: LockHash, items: &[Item]) -> u128 {
        let time = self.time;
        let locked = items.iter().filter(|item| {
            let share = &mut self.shares[item.index as usize];
            let ours = share.lock.is_some_and(|(by, until)| by == s && until >= time);
            let free = share.lock.is_none_or(|(_, until)| until < time);
            let fresh = free && item.attempt.get() > share.attempt;
            if share.claimed.is_none() && fresh {
                (share.lock, share.attempt) = (Some((s, time + LOCK_SECS)), item.attempt.get());
            }
            share.claimed.is_none() && (ours || fresh)
        });
        locked.count() as u128 * SHARE
    }

    pub(super) fn take(&mut self, s: LockHash, indices: &[u32], locked: bool) -> u128 {
        let time = self.time;
        let taken = indices.iter().filter(|index| {
            let share = &mut self.shares[**index as usize];
            let live = share.lock.filter(|(_, until)| *until >= time);
            let ours = live.is_some_and(|(by, _)| by == s);
            let may = share.claimed.is_none() && if locked { ours } else { ours || live.is_none() };
            if may {
                share.claimed = Some(s);
            }
            may
        });
        taken.count() as u128 * SHARE
    }

    pub(super) fn standing(&self, s: LockHash, index: u32) -> Standing {
        let share = &self.shares[index as usize];
        match (share.claimed, share.lock.filter(|(_, until)| *until >= self.time)) {
            (Some(_), _) => Standing::Claimed,
            (_, Some((by, until))) if by == s => Standing::Ours { until },
            (_, Some((_, until))) => Standing::Other { until },
            _ => Standing::Free { attempt: share.attempt },
        }
    }
}
