//! `validate_light_client_update` and `initialize_light_client_store`, clause by clause.

use alloy::primitives::B256;
use ethereum_hashing::hash32_concat;

use super::committee::{Members, SyncAggregate};
use super::merkle::Place;
use super::network::Network;
use super::state::State;
use super::update::{Bootstrap, Finality, NextCommittee, Update};
use super::{Fork, Refused};

/// Whatever was made by hand and not parsed may have other lengths than the preset fixes.
fn sizes(network: &Network, committee: Option<usize>, bits: Option<usize>) -> Result<(), Refused> {
    let wanted = network.preset.committee();
    for (what, found, wanted) in
        [("sync_committee.pubkeys", committee, wanted), ("sync_committee_bits", bits, wanted / 8)]
    {
        if let Some(found) = found.filter(|found| *found != wanted) {
            return Err(Refused::Length { what, found, wanted });
        }
    }
    Ok(())
}

/// The first half of `initialize_light_client_store`: the bootstrap is of the checkpoint, and its committee too.
pub(super) fn bootstrap(network: &Network, root: B256, bootstrap: &Bootstrap) -> Result<(), Refused> {
    sizes(network, Some(bootstrap.current_committee.pubkeys.len()), None)?;
    let found = bootstrap.header.beacon.root();
    if found != root {
        return Err(Refused::Checkpoint { found, wanted: root });
    }
    bootstrap.header.check(network)?;
    let place = Place::current_committee(bootstrap.fork(network)?);
    let state_root = bootstrap.header.beacon.state_root;
    if place.proves(bootstrap.current_committee.root(), &bootstrap.branch, state_root) {
        Ok(())
    } else {
        Err(Refused::Branch("current_sync_committee_branch"))
    }
}

/// `validate_light_client_update`. The cheap clauses come first: an endpoint that lies costs it no pairing.
pub(super) fn update(state: &State, update: &Update, now_slot: u64) -> Result<(), Refused> {
    let network = state.network();
    sizes(
        network,
        update.next_committee.as_ref().map(|next| next.committee.pubkeys.len()),
        Some(update.aggregate.bits.len()),
    )?;
    participation(network, &update.aggregate)?;
    slots(update, now_slot)?;
    relevant(state, update)?;
    let signer = signer(state, update)?;
    let fork = update.fork(network)?;
    update.attested.check(network)?;
    if let Some(finality) = &update.finalized {
        finalized(network, finality, fork, update.attested.beacon.state_root)?;
    }
    if let Some(next) = &update.next_committee {
        next_committee(state, next, fork, update)?;
    }
    signer.verify(&update.aggregate, signing_root(network, update)?)
}

/// Two thirds, where the specification says one (`MIN_SYNC_COMMITTEE_PARTICIPANTS`): see the module.
fn participation(network: &Network, aggregate: &SyncAggregate) -> Result<(), Refused> {
    let (signed, committee) = (aggregate.participants(), network.preset.committee());
    if signed * 3 >= committee * 2 { Ok(()) } else { Err(Refused::Participation { signed, committee }) }
}

fn slots(update: &Update, now: u64) -> Result<(), Refused> {
    let (signature, attested) = (update.signature_slot, update.attested.beacon.slot);
    let finalized = update.finalized.as_ref().map_or(0, |finality| finality.header.beacon.slot);
    if signature > now {
        return Err(Refused::Future { signature_slot: signature, now });
    }
    if signature > attested && attested >= finalized {
        Ok(())
    } else {
        Err(Refused::Order { signature, attested, finalized })
    }
}

/// The committee of the signature's period, which has to be known.
fn signer<'a>(state: &'a State, update: &Update) -> Result<&'a Members, Refused> {
    let (known, signed) = (state.period(), state.network().period_of(update.signature_slot));
    let next = state.next.as_ref();
    match signed.checked_sub(known) {
        Some(0) => Ok(&state.current),
        Some(1) if next.is_some() => Ok(next.expect("asked for")),
        _ => Err(Refused::Period { signed, known, last: known.saturating_add(u64::from(next.is_some())) }),
    }
}

/// It attests something later than what is finalized, or it brings the next committee that is missing.
fn relevant(state: &State, update: &Update) -> Result<(), Refused> {
    let (attested, finalized) = (update.attested.beacon.slot, state.finalized().beacon.slot);
    let supplies = state.next.is_none()
        && update.next_committee.is_some()
        && state.network().period_of(attested) == state.period();
    if attested > finalized || supplies { Ok(()) } else { Err(Refused::Stale { attested, finalized }) }
}

/// The attested state's finalized checkpoint is this header. Genesis is written there as a root of zeros.
fn finalized(network: &Network, finality: &Finality, fork: Fork, state_root: B256) -> Result<(), Refused> {
    let root = if finality.header.beacon.slot == 0 {
        if !finality.header.is_empty() {
            return Err(Refused::NotEmpty("finalized_header"));
        }
        B256::ZERO
    } else {
        finality.header.check(network)?;
        finality.header.beacon.root()
    };
    let proven = Place::finalized(fork).proves(root, &finality.branch, state_root);
    if proven { Ok(()) } else { Err(Refused::Branch("finality_branch")) }
}

/// The attested state's next committee is this one, and no other than the one known for the period.
fn next_committee(state: &State, next: &NextCommittee, fork: Fork, update: &Update) -> Result<(), Refused> {
    let root = next.committee.root();
    if let Some(known) = &state.next
        && state.network().period_of(update.attested.beacon.slot) == state.period()
        && known.root != root
    {
        return Err(Refused::OtherCommittee);
    }
    let proven = Place::next_committee(fork).proves(root, &next.branch, update.attested.beacon.state_root);
    if proven { Ok(()) } else { Err(Refused::Branch("next_sync_committee_branch")) }
}

/// `compute_signing_root`. The fork is that of the slot before the signature's, for at a fork's first slot the
/// committee still signs under the version before.
fn signing_root(network: &Network, update: &Update) -> Result<B256, Refused> {
    let domain = network.sync_committee_domain(update.signature_slot.max(1) - 1)?;
    Ok(hash32_concat(update.attested.beacon.root().as_slice(), &domain).into())
}
