//! The tree, the file and the index of a fleet.

use std::fs::{self, File};
use std::path::Path;

use alloy::primitives::{B256, b256, keccak256};
use posthouse_contracts::fleet::{self, Fleet, FleetError, FleetReader, Tree, verify};
use posthouse_protocol::id::{Curve, DeviceKey, FleetRoot};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::fixture::{create, fleet_of, signers};

fn leaves(count: u32) -> Vec<B256> {
    (0..count).map(|n| keccak256(n.to_be_bytes())).collect()
}

fn tree(leaves: &[B256]) -> Tree {
    Tree::build(tempfile::tempfile().unwrap(), leaves.iter().copied()).unwrap()
}

/// The tree as its definition has it: a perfect one, all of it, with zero in the empty places.
struct Naive(Vec<Vec<B256>>);

impl Naive {
    fn of(leaves: &[B256]) -> Self {
        let mut level = leaves.to_vec();
        level.resize(leaves.len().next_power_of_two(), B256::ZERO);
        let mut levels = vec![level];
        while let Some(below) = levels.last().filter(|below| below.len() > 1) {
            let above = below.chunks(2).map(|pair| keccak256(pair.concat())).collect();
            levels.push(above);
        }
        Self(levels)
    }

    fn root(&self) -> FleetRoot {
        FleetRoot::new(self.0.last().unwrap()[0].0)
    }

    fn path(&self, index: u32) -> Vec<B256> {
        let siblings = self.0[..self.0.len() - 1].iter().enumerate();
        siblings.map(|(level, nodes)| nodes[(index as usize >> level) ^ 1]).collect()
    }
}

/// Keys of devices of which nobody holds the secret: points are all that a fleet needs.
fn keys(count: usize) -> Vec<DeviceKey> {
    let candidate = |n: u32| {
        let mut key = [2; 33];
        key[1..].copy_from_slice(keccak256(n.to_be_bytes()).as_slice());
        DeviceKey::new(key)
    };
    (0..).map(candidate).filter(|key| fleet::address(key).is_some()).take(count).collect()
}

fn open(folder: &Path) -> Result<Fleet, FleetError> {
    Fleet::open(&folder.join("fleet"), None, &mut |_, _| {})
}

/// Whether opening the fleet makes its index.
fn is_made(folder: &Path) -> bool {
    let mut made = false;
    Fleet::open(&folder.join("fleet"), None, &mut |_, _| made = true).unwrap();
    made
}

fn files(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
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
    let signers = signers(Curve::P256, 1);
    let fleet = fleet_of(&signers);
    let leaf = fleet::leaf(Curve::P256, &signers[0].device_key(), 0).unwrap();
    assert_eq!((fleet.root().to_bytes(), fleet.depth()), (leaf.0, 0));
    assert!(fleet.path(0).unwrap().is_empty());
    verify(&fleet.root(), 0, 1, 0, leaf, &[]).unwrap();
}

#[test]
fn keys_are_found_where_they_stand_with_the_path_of_the_tree() {
    let all = keys(513);
    for size in [1, 2, 3, 63, 64, 65, 255, 256, 257, 512, 513] {
        let folder = tempfile::tempdir().unwrap();
        let fleet = create(folder.path(), Curve::Secp256k1, &all[..size]).unwrap();
        let leaves = (0..).zip(&all[..size]).map(|(i, key)| fleet::leaf(Curve::Secp256k1, key, i).unwrap());
        let naive = Naive::of(&leaves.collect::<Vec<_>>());
        assert_eq!((fleet.root(), fleet.size() as usize), (naive.root(), size));
        for (index, key) in (0..).zip(&all[..size]) {
            assert_eq!(fleet.index_of(key).unwrap(), Some(index), "{size}");
            assert_eq!(fleet.path(index).unwrap(), naive.path(index), "{size}");
        }
        let strangers = [DeviceKey::new([0; 33]), DeviceKey::new([2; 33]), DeviceKey::new([255; 33])];
        for stranger in all[size..].iter().chain(&strangers) {
            assert_eq!(fleet.index_of(stranger).unwrap(), None, "{size}");
        }
        assert!(matches!(fleet.path(size as u32), Err(FleetError::Index { .. })));
    }
}

#[test]
fn a_large_tree_is_the_naive_one() {
    // Beside and beyond the chunks in which levels are hashed.
    for size in [4095, 4096, 4097, 8193, 65_535, 65_537] {
        let leaves = leaves(size);
        let (tree, naive) = (tree(&leaves), Naive::of(&leaves));
        assert_eq!((tree.root(), tree.size()), (naive.root(), size));
        for index in [0, 1, 4094, size / 2, size - 2, size - 1] {
            assert_eq!(tree.path(index).unwrap(), naive.path(index), "{index} of {size}");
        }
    }
}

#[test]
fn a_fleet_of_several_batches_is_sorted_and_hashed_whole() {
    // 20,000 keys are three batches of those that are hashed together.
    let (folder, keys) = (tempfile::tempdir().unwrap(), keys(20_000));
    let mut told = Vec::new();
    let given = keys.iter().copied().map(Ok::<_, FleetError>);
    let progress = &mut |done, size| told.push((done, size));
    let fleet = Fleet::create(&folder.path().join("fleet"), Curve::Secp256k1, given, progress).unwrap();
    assert_eq!(told.last(), Some(&(20_000, 20_000)));
    for index in (0..20_000).step_by(97) {
        let key = &keys[index as usize];
        assert_eq!(fleet.index_of(key).unwrap(), Some(index));
        let leaf = fleet::leaf(Curve::Secp256k1, key, index).unwrap();
        let path = fleet.path(index).unwrap();
        verify(&fleet.root(), fleet.depth(), fleet.size(), index, leaf, &path).unwrap();
    }
}

#[test]
fn a_device_that_stands_twice_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut keys = keys(4);
    keys.push(keys[1]);
    let error = create(folder.path(), Curve::Secp256k1, &keys).unwrap_err();
    assert!(matches!(error, FleetError::Duplicate { first: 1, second: 4 }), "{error}");
    assert!(files(folder.path()).is_empty(), "nothing half-made is left");
}

#[test]
fn a_key_that_is_no_point_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut keys = keys(2);
    // No curve has a point with x = 5 and this prefix; 4 and 6 are uncompressed and hybrid.
    for bytes in [[5; 33], [4; 33], [6; 33], [0; 33], [0xff; 33]] {
        keys[1] = DeviceKey::new(bytes);
        let error = create(folder.path(), Curve::Secp256k1, &keys).unwrap_err();
        assert!(matches!(error, FleetError::Key { index: 1, .. }), "{error}");
    }
    assert!(matches!(create(folder.path(), Curve::P256, &[]), Err(FleetError::Empty)));
    assert!(files(folder.path()).is_empty(), "nothing half-made is left");
}

#[test]
fn a_fleet_that_cannot_be_made_leaves_the_old_one() {
    let (folder, keys) = (tempfile::tempdir().unwrap(), keys(5));
    let old = create(folder.path(), Curve::Secp256k1, &keys).unwrap().root();
    create(folder.path(), Curve::Secp256k1, &[keys[0], keys[0]]).unwrap_err();
    let given = [Ok(keys[1]), Err(FleetError::Magic)];
    Fleet::create(&folder.path().join("fleet"), Curve::Secp256k1, given, &mut |_, _| {}).unwrap_err();
    assert_eq!(files(folder.path()), ["fleet", "fleet.index"]);
    assert!(!is_made(folder.path()));
    assert_eq!(open(folder.path()).unwrap().root(), old);
    let new = create(folder.path(), Curve::Secp256k1, &keys[1..]).unwrap().root();
    assert_eq!(open(folder.path()).unwrap().root(), new);
    assert!(!is_made(folder.path()) && new != old);
}

#[test]
fn a_fleet_file_is_as_it_was_defined() {
    for curve in [Curve::Secp256k1, Curve::P256] {
        let (folder, signers) = (tempfile::tempdir().unwrap(), signers(curve, 7));
        let keys: Vec<_> = signers.iter().map(|signer| signer.device_key()).collect();
        let fleet = create(folder.path(), curve, &keys).unwrap();
        let file = fs::read(folder.path().join("fleet")).unwrap();
        assert_eq!(file.len() as u64, fleet::file_len(7));
        let header = [b"PHFLEET1".as_slice(), &[curve as u8, 0, 0, 0, 0, 0, 0, 7]].concat();
        assert_eq!(file[..16], header);
        let reader = FleetReader::new(file.as_slice()).unwrap();
        assert_eq!((reader.curve(), reader.size()), (curve, 7));
        assert_eq!(reader.collect::<Result<Vec<_>, _>>().unwrap(), keys);
        // By whoever fetched the file alone.
        fs::remove_file(folder.path().join("fleet.index")).unwrap();
        let again = Fleet::open(&folder.path().join("fleet"), Some(&fleet.root()), &mut |_, _| {}).unwrap();
        assert_eq!((again.curve(), again.root(), again.size()), (curve, fleet.root(), 7));
    }
}

#[test]
fn a_fleet_of_another_root_is_refused_and_gets_no_index() {
    let folder = tempfile::tempdir().unwrap();
    let root = create(folder.path(), Curve::Secp256k1, &keys(3)).unwrap().root();
    let other = FleetRoot::new([1; 32]);
    let open = || Fleet::open(&folder.path().join("fleet"), Some(&other), &mut |_, _| {}).unwrap_err();
    let refused =
        |error| matches!(error, FleetError::Root { expected, found } if expected == other && found == root);
    assert!(refused(open()), "by the index that is there");
    fs::remove_file(folder.path().join("fleet.index")).unwrap();
    assert!(refused(open()), "by one that is made");
    assert_eq!(files(folder.path()), ["fleet"]);
}

#[test]
fn a_damaged_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    create(folder.path(), Curve::Secp256k1, &keys(3)).unwrap();
    let file = fs::read(folder.path().join("fleet")).unwrap();
    let read = |file: &[u8]| {
        fs::write(folder.path().join("fleet"), file).unwrap();
        open(folder.path()).unwrap_err()
    };
    let with = |at: usize, byte| {
        let mut file = file.clone();
        file[at] = byte;
        read(&file)
    };
    assert!(matches!(with(0, b'X'), FleetError::Magic));
    assert!(matches!(with(9, 1), FleetError::Magic));
    assert!(matches!(with(8, 3), FleetError::Curve(3)));
    assert!(matches!(with(15, 0), FleetError::Empty));
    assert!(matches!(with(15, 2), FleetError::Io(_)), "bytes after the last key");
    // A header that promises four billion keys ends with the bytes, not with memory or disk.
    assert!(matches!(with(12, 0xff), FleetError::Io(_)));
    (0..file.len()).for_each(|length| drop(read(&file[..length])));
    assert_eq!(files(folder.path()), ["fleet", "fleet.index"]);
}

/// A folder with a fleet of nine, and the bytes of its index.
fn nine() -> (TempDir, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    create(folder.path(), Curve::Secp256k1, &keys(9)).unwrap();
    let index = fs::read(folder.path().join("fleet.index")).unwrap();
    (folder, index)
}

#[test]
fn an_index_is_as_it_was_defined() {
    let (folder, index) = nine();
    let fleet = open(folder.path()).unwrap();
    // Header, table, levels of 9, 5, 3, 2 and 1 nodes, checksum.
    assert_eq!(index.len(), 80 + 9 * 37 + 20 * 32 + 32);
    assert_eq!(index[..16], *b"PHINDEX1\x01\0\0\0\0\0\0\x09");
    assert_eq!(index[48..80], fleet.root().to_bytes());
    let table = index[80..80 + 9 * 37].chunks(37);
    assert!(table.is_sorted());
    assert_eq!(index[80 + 9 * 37 + 19 * 32..][..32], fleet.root().to_bytes());
}

#[test]
fn a_torn_or_damaged_index_is_made_again() {
    let (folder, index) = nine();
    let path = folder.path().join("fleet.index");
    assert!(!is_made(folder.path()), "a whole one is taken");
    let mut longer = index.clone();
    longer.push(0);
    let mut torn = vec![longer, vec![], index[..index.len() / 2].to_vec(), index[..index.len() - 1].to_vec()];
    // What a crash could leave of a file that was made as long as it is to be.
    torn.push([&index[..200], &vec![0; index.len() - 200]].concat());
    torn.push(vec![0; index.len()]);
    for at in (0..index.len()).step_by(7) {
        let mut damaged = index.clone();
        damaged[at] ^= 0x10;
        torn.push(damaged);
    }
    for bytes in torn {
        fs::write(&path, bytes).unwrap();
        assert!(is_made(folder.path()));
        assert_eq!(fs::read(&path).unwrap(), index);
    }
    fs::remove_file(&path).unwrap();
    assert!(is_made(folder.path()));
    assert_eq!(fs::read(&path).unwrap(), index);
}

/// What is left by a crash between the two renames of [`Fleet::create`], in either order.
#[test]
fn an_index_of_another_fleet_file_is_made_again() {
    let (folder, index) = nine();
    let other = tempfile::tempdir().unwrap();
    let mut keys = keys(9);
    keys.swap(0, 1);
    let root = create(other.path(), Curve::Secp256k1, &keys).unwrap().root();
    fs::rename(other.path().join("fleet"), folder.path().join("fleet")).unwrap();
    assert_eq!(open(folder.path()).unwrap().root(), root);
    assert_ne!(fs::read(folder.path().join("fleet.index")).unwrap(), index);
}

#[test]
fn an_index_that_shrinks_while_it_is_read_is_an_error() {
    let (folder, _) = nine();
    let fleet = open(folder.path()).unwrap();
    File::options().write(true).open(folder.path().join("fleet.index")).unwrap().set_len(100).unwrap();
    assert!(matches!(fleet.index_of(&keys(1)[0]), Err(FleetError::Io(_))));
    assert!(matches!(fleet.path(3), Err(FleetError::Io(_))));
}

#[test]
fn a_fleet_in_a_second_place_stays_as_it_is() {
    let (folder, index) = nine();
    let (from, to) = (folder.path().join("fleet"), folder.path().join("copy"));
    // What a crash has left of an earlier try.
    fs::write(folder.path().join("copy.index"), b"torn").unwrap();
    Fleet::share(&from, &to).unwrap();
    let root = open(folder.path()).unwrap().root();
    create(folder.path(), Curve::Secp256k1, &keys(2)).unwrap();
    assert_eq!(fs::read(folder.path().join("copy.index")).unwrap(), index);
    assert_eq!(Fleet::open(&to, Some(&root), &mut |_, _| panic!("made again")).unwrap().size(), 9);
    // Without an index one is made where it is needed.
    fs::remove_file(folder.path().join("fleet.index")).unwrap();
    let other = folder.path().join("other");
    Fleet::share(&from, &other).unwrap();
    assert_eq!(Fleet::open(&other, None, &mut |_, _| {}).unwrap().size(), 2);
    assert!(matches!(Fleet::share(&folder.path().join("none"), &to), Err(FleetError::Io(_))));
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
        let tree = tree(&leaves);
        let path = tree.path(index).unwrap();
        prop_assert_eq!(&path, &Naive::of(&leaves).path(index));
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
        let tree = tree(&leaves);
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
        let tree = tree(&leaves(20));
        indices.push(indices[0]);
        prop_assert!(matches!(tree.multiproof(&indices), Err(FleetError::Order)));
    }
}
