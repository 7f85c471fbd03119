//! A state as bytes, for the store.

use std::sync::Arc;

use super::committee::Members;
use super::network::Network;
use super::state::State;
use super::{Refused, ssz};

const VERSION: u8 = 1;

impl State {
    /// For [`from_bytes`](Self::from_bytes): 27 kB, 52 with the next committee.
    ///
    /// A version byte; the digest of the network and its forks up to the finalized header; each header behind its
    /// length in two bytes; the current committee; the next, or nothing.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend(self.network.digest_at(self.finalized.beacon.slot));
        for header in [&self.finalized, &self.optimistic] {
            let fork = self.network.fork_at(header.beacon.slot).expect("accepted under a known fork");
            let header = ssz::write_header(header, fork);
            bytes.extend(u16::try_from(header.len()).expect("under a kilobyte").to_le_bytes());
            bytes.extend(header);
        }
        for members in [Some(&self.current), self.next.as_ref()].into_iter().flatten() {
            bytes.extend(ssz::write_committee(&members.committee));
        }
        bytes
    }

    /// What [`to_bytes`](Self::to_bytes) wrote. Takes 5 ms a committee.
    ///
    /// The store is trusted as the program is; checked is what an accident does to it: headers hold together, keys
    /// are keys, and the network is the one it was written for.
    ///
    /// # Errors
    /// [`Refused::Stored`], or what of it is malformed.
    pub fn from_bytes(network: Arc<Network>, bytes: &[u8]) -> Result<Self, Refused> {
        let cut = || Refused::Stored("cut off");
        let (version, bytes) = bytes.split_first().ok_or_else(cut)?;
        if *version != VERSION {
            return Err(Refused::Stored("written by another version of this program"));
        }
        let (digest, bytes) = bytes.split_first_chunk::<32>().ok_or_else(cut)?;
        let (finalized, bytes) = header(&network, bytes)?;
        if *digest != network.digest_at(finalized.beacon.slot) {
            return Err(Refused::Stored("of another network, or of one with other forks"));
        }
        let (optimistic, bytes) = header(&network, bytes)?;
        if optimistic.beacon.slot < finalized.beacon.slot {
            return Err(Refused::Stored("optimistic before finalized"));
        }
        let size = 48 * (network.preset.committee() + 1);
        let (current, next) = bytes.split_at_checked(size).ok_or_else(cut)?;
        let members = |bytes| Members::new(ssz::read_committee(network.preset, bytes)?);
        let current = members(current)?;
        let next = if next.is_empty() { None } else { Some(members(next)?) };
        Ok(Self { network, finalized, optimistic, current, next })
    }
}

fn header<'a>(network: &Network, bytes: &'a [u8]) -> Result<(super::Header, &'a [u8]), Refused> {
    let cut = || Refused::Stored("cut off");
    let (length, bytes) = bytes.split_first_chunk().ok_or_else(cut)?;
    let (header, bytes) = bytes.split_at_checked(usize::from(u16::from_le_bytes(*length))).ok_or_else(cut)?;
    let header = ssz::read_header(network, header)?;
    header.check(network)?;
    Ok((header, bytes))
}
