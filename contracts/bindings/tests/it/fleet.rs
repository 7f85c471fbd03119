//! The tree and the file of a fleet.

use alloy::primitives::{B256, b256, keccak256};
use posthouse_contracts::fleet::{self, Fleet, FleetError, FleetReader, Tree, verify};
use posthouse_protocol::id::{Curve, DeviceKey};
use proptest::prelude::*;

use crate::fixture::{fleet_of, signers};

fn leaves(count: u32) -> Vec<B256> {
    (0..count).map(|n| keccak256(n.to_be_bytes())).collect()
}

/// The bounty's way of reading a multiproof, written once more: from the root's side of the question.
fn proves(tree: &Tree, leaves: &[B256], indices: &[u32], path: &[B256]) -> bool {
    let mut nodes: Vec<_> = indices.iter().map(|i| (*i, leaves[*i as usize])).collect();
    let mut path = path.iter();
    for _ in 0..tree.depth() {
        let mut parents = Vec::new();
        let mut rest = nodes.iter().peekable();
        while let Some((place, node)) = rest.next() {
            let given = rest.next_if(|(next, _)| place % 2 == 0 && *next == place + 1).map(|(_, node)| node);
            let Some(sibling) = given.or_else(|| path.next()) else { return false };
            let pair = if place % 2 == 0 { [*node, *sibling] } else { [*sibling, *node] };
            parents.push((place / 2, keccak256(pair.concat())));
        }
        nodes = parents;
    }
    path.next().is_none() && nodes == [(0, B256::from(tree.root().to_bytes()))]
}

/// The Solidity tests build the same fleet and pin the same root.
#[test]
fn root_is_that_of_the_contract_tests() {
    let fleet = fleet_of(&signers(Curve::Secp256k1, 5));
    let root = b256!("77c2a1a0fc68fbbd725f388471a30f390431c8b3ee5377753259bd9e2f84c6ec");
    assert_eq!(fleet.root().to_bytes(), root.0);
    assert_eq!((fleet.depth(), fleet.size()), (3, 5));
}

#[test]
fn a_fleet_of_one_is_its_leaf() {
    let fleet = fleet_of(&signers(Curve::P256, 1));
    let leaf = fleet::leaf(Curve::P256, &fleet.keys()[0], 0).unwrap();
    assert_eq!((fleet.root().to_bytes(), fleet.depth()), (leaf.0, 0));
    assert!(fleet.path(0).unwrap().is_empty());
    verify(&fleet.root(), 0, 1, 0, leaf, &[]).unwrap();
}

#[test]
fn keys_are_found_where_they_stand() {
    let fleet = fleet_of(&signers(Curve::Secp256k1, 9));
    for (index, key) in fleet.keys().iter().enumerate() {
        assert_eq!(fleet.index_of(key), Some(index as u32));
    }
    assert_eq!(fleet.index_of(&DeviceKey::new([2; 33])), None);
}

#[test]
fn a_device_that_stands_twice_is_refused() {
    let mut keys = fleet_of(&signers(Curve::Secp256k1, 4)).keys().to_vec();
    keys.push(keys[1]);
    let error = Fleet::new(Curve::Secp256k1, keys).unwrap_err();
    assert!(matches!(error, FleetError::Duplicate { first: 1, second: 4 }), "{error}");
}

#[test]
fn a_key_that_is_no_point_is_refused() {
    let mut keys = fleet_of(&signers(Curve::Secp256k1, 2)).keys().to_vec();
    // No curve has a point with x = 5 and this prefix; 4 and 6 are uncompressed and hybrid.
    for bytes in [[5; 33], [4; 33], [6; 33], [0; 33], [0xff; 33]] {
        keys[1] = DeviceKey::new(bytes);
        let error = Fleet::new(Curve::Secp256k1, keys.clone()).unwrap_err();
        assert!(matches!(error, FleetError::Key { index: 1, .. }), "{error}");
    }
    assert!(matches!(Fleet::new(Curve::P256, Vec::new()), Err(FleetError::Empty)));
}

#[test]
fn a_file_round_trips() {
    for curve in [Curve::Secp256k1, Curve::P256] {
        let fleet = fleet_of(&signers(curve, 7));
        let mut file = Vec::new();
        fleet::write(&mut file, curve, fleet.keys().iter()).unwrap();
        assert_eq!(file.len(), 16 + 7 * 33);
        let again = Fleet::read(file.as_slice()).unwrap();
        assert_eq!((again.curve(), again.root(), again.keys()), (curve, fleet.root(), fleet.keys()));
    }
}

#[test]
fn a_damaged_file_is_refused() {
    let fleet = fleet_of(&signers(Curve::Secp256k1, 3));
    let mut file = Vec::new();
    fleet::write(&mut file, Curve::Secp256k1, fleet.keys().iter()).unwrap();
    let with = |at: usize, byte| {
        let mut file = file.clone();
        file[at] = byte;
        Fleet::read(file.as_slice()).unwrap_err()
    };
    assert!(matches!(with(0, b'X'), FleetError::Magic));
    assert!(matches!(with(9, 1), FleetError::Magic));
    assert!(matches!(with(8, 3), FleetError::Curve(3)));
    assert!(matches!(with(15, 0), FleetError::Empty));
    assert!(matches!(with(15, 2), FleetError::Io(_)), "bytes after the last key");
    // A header that promises four billion keys ends with the bytes, not with the memory.
    assert!(matches!(with(12, 0xff), FleetError::Io(_)));
    for length in 0..file.len() {
        assert!(Fleet::read(&file[..length]).is_err(), "{length} of {} bytes", file.len());
    }
}

#[test]
fn the_reader_ends_after_an_error() {
    let mut file = b"PHFLEET1\x01\0\0\0\0\0\0\x03".to_vec();
    file.extend_from_slice(&[2; 40]);
    let mut reader = FleetReader::new(file.as_slice()).unwrap();
    assert!(reader.next().unwrap().is_ok());
    assert!(reader.next().unwrap().is_err());
    assert!(reader.next().is_none());
}

proptest! {
    #[test]
    fn every_path_verifies_at_its_place_only(size in 1..200u32, index in 0..200u32, other in 0..200u32) {
        let (index, other) = (index % size, other % size);
        let leaves = leaves(size);
        let tree = Tree::from_leaves(leaves.clone()).unwrap();
        let path = tree.path(index).unwrap();
        let (root, depth, leaf) = (tree.root(), tree.depth(), leaves[index as usize]);
        prop_assert!(u64::from(size) <= 1 << depth && (depth == 0 || u64::from(size) > 1 << (depth - 1)));
        verify(&root, depth, size, index, leaf, &path).unwrap();
        if other != index {
            prop_assert!(verify(&root, depth, size, other, leaf, &path).is_err());
        }
        let beyond = verify(&root, depth, size, index | 1 << depth, leaf, &path);
        prop_assert!(matches!(beyond, Err(FleetError::Index { .. })), "beyond the fleet");
        let longer = [path.as_slice(), &[B256::ZERO]].concat();
        prop_assert!(matches!(verify(&root, depth, size, index, leaf, &longer), Err(FleetError::Depth { .. })), "longer");
        for at in 0..path.len() {
            let mut path = path.clone();
            path[at][0] ^= 1;
            prop_assert!(matches!(verify(&root, depth, size, index, leaf, &path), Err(FleetError::NotAMember(_))));
        }
    }

    #[test]
    fn a_multiproof_proves_exactly_its_leaves(size in 1..150u32, choice: [bool; 150]) {
        let indices: Vec<u32> = (0..size).filter(|i| choice[*i as usize]).collect();
        let leaves = leaves(size);
        let tree = Tree::from_leaves(leaves.clone()).unwrap();
        if indices.is_empty() {
            prop_assert!(matches!(tree.multiproof(&indices), Err(FleetError::Order)));
            return Ok(());
        }
        let path = tree.multiproof(&indices).unwrap();
        prop_assert!(proves(&tree, &leaves, &indices, &path));
        let mut forged = leaves.clone();
        forged[indices[0] as usize][0] ^= 1;
        prop_assert!(!proves(&tree, &forged, &indices, &path));
    }

    #[test]
    fn a_multiproof_wants_ascending_indices(mut indices in proptest::collection::vec(0..20u32, 2..6)) {
        let tree = Tree::from_leaves(leaves(20)).unwrap();
        indices.push(indices[0]);
        prop_assert!(matches!(tree.multiproof(&indices), Err(FleetError::Order)));
    }
}
