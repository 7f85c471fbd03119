//! The beacon API's JSON: numbers are decimal strings, bytes are hexadecimal with `0x`.

use std::fmt;
use std::marker::PhantomData;

use alloy::primitives::{Address, B256, Bloom, Bytes, U256};
use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde_json::error::Category;

use super::committee::{SyncAggregate, SyncCommittee};
use super::header::{BeaconBlockHeader, BlobGas, ExecutionHeader, Header};
use super::merkle::Place;
use super::network::Network;
use super::update::{Bootstrap, Sent, Update};
use super::{Fork, Refused};

/// A mainnet update is 70 kB, indented twice that; whatever is longer is none.
pub(super) const MAX_JSON: usize = 512 * 1024;

/// No branch is deeper than the state's finality branch.
const MAX_BRANCH: usize = 7;

/// `MAX_REQUEST_LIGHT_CLIENT_UPDATES`.
pub(super) const MAX_UPDATES: usize = 128;

/// No committee is larger than mainnet's.
const MAX_COMMITTEE: usize = 512;

pub(super) fn bootstrap(network: &Network, bytes: &[u8]) -> Result<Bootstrap, Refused> {
    let sent: Versioned<BootstrapJson> = parse(bytes, MAX_JSON)?;
    let fork = sent.fork(network, sent.data.header.beacon.slot.0)?;
    let BootstrapJson { header, current_sync_committee, current_sync_committee_branch } = sent.data;
    let place = Place::current_committee(fork);
    Ok(Bootstrap {
        header: header.told(fork)?.normalised(network)?,
        current_committee: current_sync_committee.told(network)?,
        branch: branch("current_sync_committee_branch", current_sync_committee_branch, place)?,
    })
}

pub(super) fn update(network: &Network, bytes: &[u8]) -> Result<Update, Refused> {
    parse::<Versioned<UpdateJson>>(bytes, MAX_JSON)?.told(network)
}

/// A list of updates, at most `max` of them.
pub(super) fn updates(network: &Network, bytes: &[u8], max: usize) -> Result<Vec<Update>, Refused> {
    let limit = MAX_JSON.saturating_mul(max.max(1));
    let sent: Bounded<Versioned<UpdateJson>, MAX_UPDATES> = parse(bytes, limit)?;
    if sent.0.len() > max {
        return Err(Refused::TooManyUpdates(max));
    }
    sent.0.into_iter().map(|update| update.told(network)).collect()
}

fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8], limit: usize) -> Result<T, Refused> {
    if bytes.len() > limit {
        return Err(Refused::TooLarge { found: bytes.len(), limit });
    }
    serde_json::from_slice(bytes).map_err(|error| Refused::Json(complaint(&error)))
}

/// What kind of mistake, and where. serde_json's own message quotes strings of the answer, and an error page that is JSON
/// may name the URL that was asked for, with our key in it.
pub(crate) fn complaint(error: &serde_json::Error) -> String {
    let kind = match error.classify() {
        Category::Io => "cannot be read",
        Category::Syntax => "a mistake in the syntax",
        Category::Data => "something missing or of another kind",
        Category::Eof => "cut off",
    };
    format!("{kind} at line {}, column {}", error.line(), error.column())
}

/// What every answer is wrapped in.
#[derive(Deserialize)]
struct Versioned<T> {
    version: String,
    data: T,
}

impl<T> Versioned<T> {
    /// The fork that the answer names, which has to be the one at its slot.
    fn fork(&self, network: &Network, slot: u64) -> Result<Fork, Refused> {
        let named = Fork::named(&self.version)?;
        let at_slot = network.fork_at(slot)?;
        if named == at_slot { Ok(named) } else { Err(Refused::OtherFork { named, at_slot, slot }) }
    }
}

#[derive(Deserialize)]
struct BootstrapJson {
    header: HeaderJson,
    current_sync_committee: CommitteeJson,
    current_sync_committee_branch: Branch,
}

#[derive(Deserialize)]
struct UpdateJson {
    attested_header: HeaderJson,
    next_sync_committee: Option<CommitteeJson>,
    next_sync_committee_branch: Option<Branch>,
    finalized_header: Option<HeaderJson>,
    finality_branch: Option<Branch>,
    sync_aggregate: AggregateJson,
    signature_slot: Number,
}

impl Versioned<UpdateJson> {
    fn told(self, network: &Network) -> Result<Update, Refused> {
        let fork = self.fork(network, self.data.attested_header.beacon.slot.0)?;
        let sent = self.data;
        let next_committee = match (sent.next_sync_committee, sent.next_sync_committee_branch) {
            (Some(committee), Some(nodes)) => {
                let place = Place::next_committee(fork);
                Some((committee.told(network)?, branch("next_sync_committee_branch", nodes, place)?))
            }
            (None, None) => None,
            _ => {
                return Err(Refused::Json(
                    "next_sync_committee without its branch, or the reverse".to_owned(),
                ));
            }
        };
        let finalized = match (sent.finalized_header, sent.finality_branch) {
            (Some(header), Some(nodes)) => {
                Some((header.told(fork)?, branch("finality_branch", nodes, Place::finalized(fork))?))
            }
            (None, None) => None,
            _ => {
                return Err(Refused::Json(
                    "finalized_header without finality_branch, or the reverse".to_owned(),
                ));
            }
        };
        let attested = sent.attested_header.told(fork)?;
        let aggregate = sent.sync_aggregate.told(network)?;
        Sent { attested, next_committee, finalized, aggregate, signature_slot: sent.signature_slot.0 }
            .told(network)
    }
}

#[derive(Deserialize)]
struct HeaderJson {
    beacon: BeaconJson,
    execution: ExecutionJson,
    execution_branch: Branch,
}

impl HeaderJson {
    fn told(self, fork: Fork) -> Result<Header, Refused> {
        let beacon = self.beacon;
        Ok(Header {
            beacon: BeaconBlockHeader {
                slot: beacon.slot.0,
                proposer_index: beacon.proposer_index.0,
                parent_root: beacon.parent_root.0.into(),
                state_root: beacon.state_root.0.into(),
                body_root: beacon.body_root.0.into(),
            },
            execution: self.execution.told(fork)?,
            execution_branch: branch("execution_branch", self.execution_branch, Place::EXECUTION)?,
        })
    }
}

#[derive(Deserialize)]
struct BeaconJson {
    slot: Number,
    proposer_index: Number,
    parent_root: Hex<32>,
    state_root: Hex<32>,
    body_root: Hex<32>,
}

#[derive(Deserialize)]
struct ExecutionJson {
    parent_hash: Hex<32>,
    fee_recipient: Hex<20>,
    state_root: Hex<32>,
    receipts_root: Hex<32>,
    logs_bloom: Hex<256>,
    prev_randao: Hex<32>,
    block_number: Number,
    gas_limit: Number,
    gas_used: Number,
    timestamp: Number,
    extra_data: ExtraData,
    base_fee_per_gas: Wide,
    block_hash: Hex<32>,
    transactions_root: Hex<32>,
    withdrawals_root: Hex<32>,
    blob_gas_used: Option<Number>,
    excess_blob_gas: Option<Number>,
}

impl ExecutionJson {
    fn told(self, fork: Fork) -> Result<ExecutionHeader, Refused> {
        let blob_gas = match (self.blob_gas_used, self.excess_blob_gas) {
            (Some(used), Some(excess)) if fork >= Fork::Deneb => {
                Some(BlobGas { used: used.0, excess: excess.0 })
            }
            (None, None) if fork < Fork::Deneb => None,
            _ => {
                return Err(Refused::Json(format!(
                    "blob_gas_used and excess_blob_gas are not those of {fork}"
                )));
            }
        };
        Ok(ExecutionHeader {
            parent_hash: self.parent_hash.0.into(),
            fee_recipient: Address::from(self.fee_recipient.0),
            state_root: self.state_root.0.into(),
            receipts_root: self.receipts_root.0.into(),
            logs_bloom: Bloom::from(self.logs_bloom.0),
            prev_randao: self.prev_randao.0.into(),
            number: self.block_number.0,
            gas_limit: self.gas_limit.0,
            gas_used: self.gas_used.0,
            timestamp: self.timestamp.0,
            extra_data: self.extra_data.0,
            base_fee_per_gas: self.base_fee_per_gas.0,
            block_hash: self.block_hash.0.into(),
            transactions_root: self.transactions_root.0.into(),
            withdrawals_root: self.withdrawals_root.0.into(),
            blob_gas,
        })
    }
}

#[derive(Deserialize)]
struct CommitteeJson {
    pubkeys: Bounded<Hex<48>, MAX_COMMITTEE>,
    aggregate_pubkey: Hex<48>,
}

impl CommitteeJson {
    fn told(self, network: &Network) -> Result<SyncCommittee, Refused> {
        let (found, wanted) = (self.pubkeys.0.len(), network.preset.committee());
        if found != wanted {
            return Err(Refused::Length { what: "sync_committee.pubkeys", found, wanted });
        }
        let pubkeys = self.pubkeys.0.into_iter().map(|key| key.0).collect();
        Ok(SyncCommittee { pubkeys, aggregate_pubkey: self.aggregate_pubkey.0 })
    }
}

#[derive(Deserialize)]
struct AggregateJson {
    sync_committee_bits: Bits,
    sync_committee_signature: Hex<96>,
}

impl AggregateJson {
    fn told(self, network: &Network) -> Result<SyncAggregate, Refused> {
        let (found, wanted) = (self.sync_committee_bits.0.len(), network.preset.committee() / 8);
        if found != wanted {
            return Err(Refused::Length { what: "sync_committee_bits", found, wanted });
        }
        Ok(SyncAggregate { bits: self.sync_committee_bits.0, signature: self.sync_committee_signature.0 })
    }
}

type Branch = Bounded<Hex<32>, MAX_BRANCH>;

fn branch(what: &'static str, nodes: Branch, place: Place) -> Result<Vec<B256>, Refused> {
    if nodes.0.len() != place.depth {
        return Err(Refused::Length { what, found: nodes.0.len(), wanted: place.depth });
    }
    Ok(nodes.0.into_iter().map(|node| node.0.into()).collect())
}

/// A string, taken where it is said in the input: nothing is copied before its length is known.
trait Text: Sized {
    const WANTED: &'static str;
    fn read(text: &str) -> Option<Self>;
}

/// Implements `Deserialize` for something that is written as a string.
fn text<'a, T: Text, D: Deserializer<'a>>(deserializer: D) -> Result<T, D::Error> {
    struct Reader<T>(PhantomData<T>);
    impl<T: Text> Visitor<'_> for Reader<T> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(T::WANTED)
        }
        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            T::read(text).ok_or_else(|| E::custom(format_args!("not {}", T::WANTED)))
        }
    }
    deserializer.deserialize_str(Reader(PhantomData))
}

macro_rules! text {
    ($($type:ty),*) => {$(
        impl<'a> Deserialize<'a> for $type {
            fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
                text(deserializer)
            }
        }
    )*};
}

/// A `u64` in decimal, written in one way only.
struct Number(u64);
/// A `u256` in decimal.
struct Wide(U256);
/// Exactly so many bytes.
struct Hex<const N: usize>([u8; N]);
/// At most 32 bytes.
struct ExtraData(Bytes);
/// A committee's bits, at most 512.
struct Bits(Vec<u8>);

text!(Number, Wide, ExtraData, Bits);

impl<'a, const N: usize> Deserialize<'a> for Hex<N> {
    fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
        text(deserializer)
    }
}

fn canonical(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && (text == "0" || !text.starts_with('0'))
}

fn hexadecimal(text: &str, max: usize) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("0x").filter(|digits| digits.len() <= 2 * max)?;
    hex::decode(digits).ok()
}

impl Text for Number {
    const WANTED: &'static str = "a number of 64 bits as a decimal string";
    fn read(text: &str) -> Option<Self> {
        canonical(text).then(|| text.parse().ok())?.map(Self)
    }
}

impl Text for Wide {
    const WANTED: &'static str = "a number of 256 bits as a decimal string";
    fn read(text: &str) -> Option<Self> {
        (canonical(text) && text.len() <= 78).then(|| U256::from_str_radix(text, 10).ok())?.map(Self)
    }
}

impl<const N: usize> Text for Hex<N> {
    const WANTED: &'static str = "bytes of the field's length in hexadecimal after 0x";
    fn read(text: &str) -> Option<Self> {
        let mut bytes = [0; N];
        hex::decode_to_slice(text.strip_prefix("0x")?, &mut bytes).ok()?;
        Some(Self(bytes))
    }
}

impl Text for ExtraData {
    const WANTED: &'static str = "at most 32 bytes in hexadecimal after 0x";
    fn read(text: &str) -> Option<Self> {
        hexadecimal(text, 32).map(|bytes| Self(bytes.into()))
    }
}

impl Text for Bits {
    const WANTED: &'static str = "at most 64 bytes in hexadecimal after 0x";
    fn read(text: &str) -> Option<Self> {
        hexadecimal(text, MAX_COMMITTEE / 8).map(Self)
    }
}

/// A list that stops being read at its bound.
struct Bounded<T, const MAX: usize>(Vec<T>);

impl<'a, T: Deserialize<'a>, const MAX: usize> Deserialize<'a> for Bounded<T, MAX> {
    fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<T, const MAX: usize>(PhantomData<T>);
        impl<'a, T: Deserialize<'a>, const MAX: usize> Visitor<'a> for Reader<T, MAX> {
            type Value = Vec<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {MAX}")
            }
            fn visit_seq<A: SeqAccess<'a>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
                let mut read = Vec::new();
                while let Some(element) = list.next_element()? {
                    if read.len() == MAX {
                        return Err(A::Error::custom(format_args!("more than {MAX} elements")));
                    }
                    read.push(element);
                }
                Ok(read)
            }
        }
        deserializer.deserialize_seq(Reader::<T, MAX>(PhantomData)).map(Self)
    }
}
