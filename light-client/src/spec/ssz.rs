//! SSZ: lengths are checked against fork and preset before anything is copied.

use alloy::primitives::{Address, B256, Bloom, Bytes, U256};

use super::committee::{SyncAggregate, SyncCommittee};
use super::header::{BeaconBlockHeader, BlobGas, ExecutionHeader, Header};
use super::merkle::Place;
use super::network::{Network, Preset};
use super::update::{Bootstrap, Kind, Sent, Update};
use super::{Fork, Refused};

/// A field's size: `Some(bytes)`, or `None` for an offset to bytes of any length.
type Size = Option<usize>;

const BEACON: usize = 8 + 8 + 32 + 32 + 32;
const SIGNATURE_SLOT: usize = 8;

const fn branch_size(place: Place) -> Size {
    Some(32 * place.depth)
}

const fn committee_size(preset: Preset) -> Size {
    Some(48 * (preset.committee() + 1))
}

const fn aggregate_size(preset: Preset) -> Size {
    Some(preset.committee() / 8 + 96)
}

fn execution_sizes(fork: Fork) -> &'static [Size] {
    const DENEB: [Size; 17] = [
        Some(32),
        Some(20),
        Some(32),
        Some(32),
        Some(256),
        Some(32),
        Some(8),
        Some(8),
        Some(8),
        Some(8),
        None,
        Some(32),
        Some(32),
        Some(32),
        Some(32),
        Some(8),
        Some(8),
    ];
    if fork < Fork::Deneb { &DENEB[..15] } else { &DENEB }
}

fn header_sizes() -> [Size; 3] {
    [Some(BEACON), None, branch_size(Place::EXECUTION)]
}

fn bootstrap_sizes(preset: Preset, fork: Fork) -> [Size; 3] {
    [None, committee_size(preset), branch_size(Place::current_committee(fork))]
}

fn update_sizes(preset: Preset, fork: Fork, kind: Kind) -> Vec<Size> {
    let next = [committee_size(preset), branch_size(Place::next_committee(fork))];
    let finality = [None, branch_size(Place::finalized(fork))];
    let mut sizes = vec![None];
    sizes.extend(next.into_iter().filter(|_| kind == Kind::Update));
    sizes.extend(finality.into_iter().filter(|_| kind != Kind::Optimistic));
    sizes.extend([aggregate_size(preset), Some(SIGNATURE_SLOT)]);
    sizes
}

/// Length of the part before the first variable field's bytes.
fn fixed_part(sizes: &[Size]) -> usize {
    sizes.iter().map(|size| size.unwrap_or(ssz::BYTES_PER_LENGTH_OFFSET)).sum()
}

/// The kind of an update's encoding, by the length of its fixed part: no two kinds have the same.
pub(super) fn kind(network: &Network, bytes: &[u8]) -> Option<Kind> {
    let first = ssz::read_offset(bytes).ok()?;
    let fork = network.fork_at(slot_behind_offset(bytes).ok()?).ok()?;
    let of_kind = |kind: &Kind| fixed_part(&update_sizes(network.preset, fork, *kind)) == first;
    [Kind::Update, Kind::Finality, Kind::Optimistic].into_iter().find(of_kind)
}

/// The slices of a container's fields.
fn fields<'a>(what: &'static str, bytes: &'a [u8], sizes: &[Size]) -> Result<Fields<'a>, Refused> {
    let refused = |error: ssz::DecodeError| Refused::Ssz { what, why: format!("{error:?}") };
    // The decoder indexes an offset without asking whether it is there.
    if bytes.len() < fixed_part(sizes) {
        return Err(Refused::Ssz {
            what,
            why: format!("{} bytes, at least {} needed", bytes.len(), fixed_part(sizes)),
        });
    }
    let mut builder = ssz::SszDecoderBuilder::new(bytes);
    for size in sizes {
        builder.register_type_parameterized(size.is_some(), size.unwrap_or(0)).map_err(refused)?;
    }
    Ok(Fields(builder.build().map_err(refused)?))
}

struct Fields<'a>(ssz::SszDecoder<'a>);

impl<'a> Fields<'a> {
    fn bytes(&mut self) -> &'a [u8] {
        self.0.decode_next_with(Ok).expect("as many as were registered")
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        self.bytes().try_into().expect("registered with this size")
    }

    fn number(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    fn hash(&mut self) -> B256 {
        self.array().into()
    }

    fn branch(&mut self) -> Vec<B256> {
        self.bytes().chunks_exact(32).map(B256::from_slice).collect()
    }
}

/// The slot of the header that a container's first field, an offset, leads to: it decides the layout of the rest.
pub(crate) fn slot_behind_offset(bytes: &[u8]) -> Result<u64, Refused> {
    let refused = || Refused::Ssz { what: "header", why: "too short".to_owned() };
    let offset = ssz::read_offset(bytes).map_err(|_| refused())?;
    let end = offset.checked_add(8).ok_or_else(refused)?;
    let slot = bytes.get(offset..end).ok_or_else(refused)?;
    Ok(u64::from_le_bytes(slot.try_into().expect("eight bytes")))
}

fn beacon(bytes: &[u8]) -> Result<BeaconBlockHeader, Refused> {
    let mut fields = fields("beacon", bytes, &[Some(8), Some(8), Some(32), Some(32), Some(32)])?;
    Ok(BeaconBlockHeader {
        slot: fields.number(),
        proposer_index: fields.number(),
        parent_root: fields.hash(),
        state_root: fields.hash(),
        body_root: fields.hash(),
    })
}

fn execution(bytes: &[u8], fork: Fork) -> Result<ExecutionHeader, Refused> {
    let mut fields = fields("execution", bytes, execution_sizes(fork))?;
    let mut header = ExecutionHeader {
        parent_hash: fields.hash(),
        fee_recipient: Address::from(fields.array()),
        state_root: fields.hash(),
        receipts_root: fields.hash(),
        logs_bloom: Bloom::from(fields.array()),
        prev_randao: fields.hash(),
        number: fields.number(),
        gas_limit: fields.number(),
        gas_used: fields.number(),
        timestamp: fields.number(),
        extra_data: extra_data(fields.bytes())?,
        base_fee_per_gas: U256::from_le_bytes(fields.array::<32>()),
        block_hash: fields.hash(),
        transactions_root: fields.hash(),
        withdrawals_root: fields.hash(),
        blob_gas: None,
    };
    if fork >= Fork::Deneb {
        header.blob_gas = Some(BlobGas { used: fields.number(), excess: fields.number() });
    }
    Ok(header)
}

/// `MAX_EXTRA_DATA_BYTES` is 32.
pub(super) fn extra_data(bytes: &[u8]) -> Result<Bytes, Refused> {
    if bytes.len() > 32 {
        return Err(Refused::Length { what: "extra_data", found: bytes.len(), wanted: 32 });
    }
    Ok(Bytes::copy_from_slice(bytes))
}

fn header(bytes: &[u8], fork: Fork) -> Result<Header, Refused> {
    let mut fields = fields("header", bytes, &header_sizes())?;
    Ok(Header {
        beacon: beacon(fields.bytes())?,
        execution: execution(fields.bytes(), fork)?,
        execution_branch: fields.branch(),
    })
}

fn committee(bytes: &[u8]) -> SyncCommittee {
    let mut keys: Vec<[u8; 48]> =
        bytes.chunks_exact(48).map(|key| key.try_into().expect("48 bytes")).collect();
    let aggregate_pubkey = keys.pop().expect("one more than the committee has members");
    SyncCommittee { pubkeys: keys, aggregate_pubkey }
}

fn aggregate(bytes: &[u8]) -> SyncAggregate {
    let (bits, signature) = bytes.split_last_chunk().expect("longer than a signature");
    SyncAggregate { bits: bits.to_vec(), signature: *signature }
}

pub(super) fn bootstrap(network: &Network, bytes: &[u8]) -> Result<Bootstrap, Refused> {
    let fork = network.fork_at(slot_behind_offset(bytes)?)?;
    let mut fields = fields("LightClientBootstrap", bytes, &bootstrap_sizes(network.preset, fork))?;
    Ok(Bootstrap {
        header: header(fields.bytes(), fork)?.normalised(network)?,
        current_committee: committee(fields.bytes()),
        branch: fields.branch(),
    })
}

pub(super) fn update(network: &Network, kind: Kind, bytes: &[u8]) -> Result<Update, Refused> {
    let fork = network.fork_at(slot_behind_offset(bytes)?)?;
    let what = match kind {
        Kind::Update => "LightClientUpdate",
        Kind::Finality => "LightClientFinalityUpdate",
        Kind::Optimistic => "LightClientOptimisticUpdate",
    };
    let mut fields = fields(what, bytes, &update_sizes(network.preset, fork, kind))?;
    let attested = header(fields.bytes(), fork)?;
    let next_committee = (kind == Kind::Update).then(|| (committee(fields.bytes()), fields.branch()));
    let finalized = match kind {
        Kind::Optimistic => None,
        Kind::Update | Kind::Finality => Some((header(fields.bytes(), fork)?, fields.branch())),
    };
    let aggregate = aggregate(fields.bytes());
    Sent { attested, next_committee, finalized, aggregate, signature_slot: fields.number() }.told(network)
}

/// A container being written: fixed parts with offsets first, then what the offsets lead to.
struct Writer {
    fixed: Vec<u8>,
    variable: Vec<u8>,
    fixed_part: usize,
}

impl Writer {
    fn new(sizes: &[Size]) -> Self {
        Self { fixed: Vec::new(), variable: Vec::new(), fixed_part: fixed_part(sizes) }
    }

    fn put(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.fixed.extend_from_slice(bytes.as_ref());
        self
    }

    fn number(self, number: u64) -> Self {
        self.put(number.to_le_bytes())
    }

    /// A branch as long as `place` is deep: what is empty is all zeros.
    fn branch(mut self, branch: &[B256], place: Place) -> Self {
        let node = |level: usize| branch.get(level).copied().unwrap_or_default();
        self.fixed.extend((0..place.depth).flat_map(node));
        self
    }

    fn variable(mut self, bytes: &[u8]) -> Self {
        self.fixed.extend_from_slice(&ssz::encode_length(self.fixed_part + self.variable.len()));
        self.variable.extend_from_slice(bytes);
        self
    }

    fn finish(mut self) -> Vec<u8> {
        debug_assert_eq!(self.fixed.len(), self.fixed_part, "as many bytes as the sizes say");
        self.fixed.append(&mut self.variable);
        self.fixed
    }
}

fn write_beacon(header: &BeaconBlockHeader) -> Vec<u8> {
    let numbers = Writer::new(&[]).number(header.slot).number(header.proposer_index);
    let bytes = numbers.put(header.parent_root).put(header.state_root).put(header.body_root);
    bytes.fixed
}

fn write_execution(header: &ExecutionHeader, fork: Fork) -> Vec<u8> {
    let writer = Writer::new(execution_sizes(fork))
        .put(header.parent_hash)
        .put(header.fee_recipient)
        .put(header.state_root)
        .put(header.receipts_root)
        .put(header.logs_bloom)
        .put(header.prev_randao)
        .number(header.number)
        .number(header.gas_limit)
        .number(header.gas_used)
        .number(header.timestamp)
        .variable(&header.extra_data)
        .put(header.base_fee_per_gas.to_le_bytes::<32>())
        .put(header.block_hash)
        .put(header.transactions_root)
        .put(header.withdrawals_root);
    let gas = header.blob_gas.unwrap_or_default();
    if fork < Fork::Deneb { writer.finish() } else { writer.number(gas.used).number(gas.excess).finish() }
}

pub(super) fn write_header(header: &Header, fork: Fork) -> Vec<u8> {
    Writer::new(&header_sizes())
        .put(write_beacon(&header.beacon))
        .variable(&write_execution(&header.execution, fork))
        .branch(&header.execution_branch, Place::EXECUTION)
        .finish()
}

pub(super) fn write_committee(committee: &SyncCommittee) -> Vec<u8> {
    [committee.pubkeys.as_flattened(), &committee.aggregate_pubkey].concat()
}

pub(super) fn write_bootstrap(bootstrap: &Bootstrap, fork: Fork) -> Vec<u8> {
    let preset = match bootstrap.current_committee.pubkeys.len() {
        512 => Preset::Mainnet,
        _ => Preset::Minimal,
    };
    Writer::new(&bootstrap_sizes(preset, fork))
        .variable(&write_header(&bootstrap.header, fork))
        .put(write_committee(&bootstrap.current_committee))
        .branch(&bootstrap.branch, Place::current_committee(fork))
        .finish()
}

pub(super) fn write_update(update: &Update, kind: Kind, preset: Preset, fork: Fork) -> Vec<u8> {
    let mut writer =
        Writer::new(&update_sizes(preset, fork, kind)).variable(&write_header(&update.attested, fork));
    if kind == Kind::Update {
        let next = update.next_committee.as_ref();
        let none = || vec![0; 48 * (preset.committee() + 1)];
        writer = writer
            .put(next.map_or_else(none, |next| write_committee(&next.committee)))
            .branch(next.map_or(&[][..], |next| &next.branch), Place::next_committee(fork));
    }
    if kind != Kind::Optimistic {
        let (header, branch) = update.finalized.as_ref().map_or_else(
            || (Header::default(), &[][..]),
            |finality| (finality.header.clone(), &finality.branch[..]),
        );
        writer = writer.variable(&write_header(&header, fork)).branch(branch, Place::finalized(fork));
    }
    writer.put(&update.aggregate.bits).put(update.aggregate.signature).number(update.signature_slot).finish()
}

/// For what is stored: a header by itself, in the layout of the fork at its slot.
pub(super) fn read_header(network: &Network, bytes: &[u8]) -> Result<Header, Refused> {
    let slot = bytes.first_chunk().map(|slot| u64::from_le_bytes(*slot));
    let slot = slot.ok_or_else(|| Refused::Ssz { what: "header", why: "too short".to_owned() })?;
    header(bytes, network.fork_at(slot)?)
}

/// For what is stored: a committee by itself.
pub(super) fn read_committee(preset: Preset, bytes: &[u8]) -> Result<SyncCommittee, Refused> {
    let wanted = 48 * (preset.committee() + 1);
    if bytes.len() != wanted {
        return Err(Refused::Length { what: "committee", found: bytes.len(), wanted });
    }
    Ok(committee(bytes))
}
