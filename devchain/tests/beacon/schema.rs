//! Containers of the consensus specifications, mainnet preset, fork by fork.

use posthouse_devchain::beacon::Fork;

use crate::ssz::Type::{self, ByteList, Bytes, Container, List, U64, U256, Vector};

fn list(of: Type, limit: usize) -> Type {
    List(Box::new(of), limit)
}

/// A list that is always empty here: only its limit matters.
fn empty(limit: usize) -> Type {
    list(Bytes(32), limit)
}

fn branch(depth: usize) -> Type {
    Vector(Box::new(Bytes(32)), depth)
}

pub(crate) fn beacon_header() -> Type {
    Container(vec![
        ("slot", U64),
        ("proposer_index", U64),
        ("parent_root", Bytes(32)),
        ("state_root", Bytes(32)),
        ("body_root", Bytes(32)),
    ])
}

fn payload_with(fork: Fork, transactions: (&'static str, Type), withdrawals: (&'static str, Type)) -> Type {
    let mut fields = vec![
        ("parent_hash", Bytes(32)),
        ("fee_recipient", Bytes(20)),
        ("state_root", Bytes(32)),
        ("receipts_root", Bytes(32)),
        ("logs_bloom", Bytes(256)),
        ("prev_randao", Bytes(32)),
        ("block_number", U64),
        ("gas_limit", U64),
        ("gas_used", U64),
        ("timestamp", U64),
        ("extra_data", ByteList(32)),
        ("base_fee_per_gas", U256),
        ("block_hash", Bytes(32)),
        transactions,
        withdrawals,
    ];
    if fork >= Fork::Deneb {
        fields.extend([("blob_gas_used", U64), ("excess_blob_gas", U64)]);
    }
    Container(fields)
}

pub(crate) fn execution_header(fork: Fork) -> Type {
    payload_with(fork, ("transactions_root", Bytes(32)), ("withdrawals_root", Bytes(32)))
}

fn execution_payload(fork: Fork) -> Type {
    let transactions = list(ByteList(1 << 30), 1 << 20);
    payload_with(fork, ("transactions", transactions), ("withdrawals", empty(16)))
}

pub(crate) fn sync_committee() -> Type {
    Container(vec![("pubkeys", Vector(Box::new(Bytes(48)), 512)), ("aggregate_pubkey", Bytes(48))])
}

fn sync_aggregate() -> Type {
    Container(vec![("sync_committee_bits", Bytes(64)), ("sync_committee_signature", Bytes(96))])
}

fn light_header(fork: Fork) -> Type {
    Container(vec![
        ("beacon", beacon_header()),
        ("execution", execution_header(fork)),
        ("execution_branch", branch(4)),
    ])
}

/// Nodes from a sync committee to the state's root; finality has one more.
fn depth(fork: Fork) -> usize {
    if fork >= Fork::Electra { 6 } else { 5 }
}

pub(crate) fn bootstrap(fork: Fork) -> Type {
    Container(vec![
        ("header", light_header(fork)),
        ("current_sync_committee", sync_committee()),
        ("current_sync_committee_branch", branch(depth(fork))),
    ])
}

pub(crate) fn update(fork: Fork) -> Type {
    Container(vec![
        ("attested_header", light_header(fork)),
        ("next_sync_committee", sync_committee()),
        ("next_sync_committee_branch", branch(depth(fork))),
        ("finalized_header", light_header(fork)),
        ("finality_branch", branch(depth(fork) + 1)),
        ("sync_aggregate", sync_aggregate()),
        ("signature_slot", U64),
    ])
}

pub(crate) fn finality_update(fork: Fork) -> Type {
    let Container(fields) = update(fork) else { unreachable!() };
    Container(fields.into_iter().filter(|(name, _)| !name.starts_with("next_")).collect())
}

pub(crate) fn optimistic_update(fork: Fork) -> Type {
    Container(vec![
        ("attested_header", light_header(fork)),
        ("sync_aggregate", sync_aggregate()),
        ("signature_slot", U64),
    ])
}

pub(crate) fn body(fork: Fork) -> Type {
    let eth1_data =
        Container(vec![("deposit_root", Bytes(32)), ("deposit_count", U64), ("block_hash", Bytes(32))]);
    let electra = fork >= Fork::Electra;
    let mut fields = vec![
        ("randao_reveal", Bytes(96)),
        ("eth1_data", eth1_data),
        ("graffiti", Bytes(32)),
        ("proposer_slashings", empty(16)),
        ("attester_slashings", empty(if electra { 1 } else { 2 })),
        ("attestations", empty(if electra { 8 } else { 128 })),
        ("deposits", empty(16)),
        ("voluntary_exits", empty(16)),
        ("sync_aggregate", sync_aggregate()),
        ("execution_payload", execution_payload(fork)),
        ("bls_to_execution_changes", empty(16)),
    ];
    if fork >= Fork::Deneb {
        fields.push(("blob_kzg_commitments", empty(4096)));
    }
    if electra {
        let requests =
            vec![("deposits", empty(8192)), ("withdrawals", empty(16)), ("consolidations", empty(2))];
        fields.push(("execution_requests", Container(requests)));
    }
    Container(fields)
}

pub(crate) fn block(fork: Fork) -> Type {
    Container(vec![
        ("slot", U64),
        ("proposer_index", U64),
        ("parent_root", Bytes(32)),
        ("state_root", Bytes(32)),
        ("body", body(fork)),
    ])
}

pub(crate) fn signed_block(fork: Fork) -> Type {
    Container(vec![("message", block(fork)), ("signature", Bytes(96))])
}
