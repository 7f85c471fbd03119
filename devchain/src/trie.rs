//! A persistent Merkle Patricia trie over 32-byte keys.
//!
//! Nodes are shared and never change, so a copy of a trie is one reference count and every block
//! keeps the state it ended in. Roots and proofs come from the same nodes that answer reads, and a
//! node's encoding is computed once, so that a block hashes only what it touched.
//!
//! Source: Ethereum yellow paper, appendix D. Keys have one length, hence branches carry no value.

use std::sync::{Arc, OnceLock};

use alloy::primitives::{B256, Bytes, keccak256};
use alloy_trie::nodes::{BranchNode, ExtensionNodeRef, LeafNodeRef, RlpNode};
use alloy_trie::{EMPTY_ROOT_HASH, Nibbles, TrieMask};

/// What a leaf holds.
pub(crate) trait Value: Clone {
    /// The bytes that the trie commits to.
    fn rlp(&self) -> Vec<u8>;
}

#[derive(Debug)]
pub(crate) struct Trie<V> {
    root: Option<Link<V>>,
}

type Link<V> = Arc<Cell<V>>;

#[derive(Debug)]
struct Cell<V> {
    node: Node<V>,
    reference: OnceLock<RlpNode>,
}

#[derive(Debug)]
enum Node<V> {
    Leaf { path: Nibbles, value: V },
    Extension { path: Nibbles, child: Link<V> },
    Branch { children: [Option<Link<V>>; 16] },
}

/// What became of a subtree from which a key was removed.
enum Removed<V> {
    Absent,
    Emptied,
    Replaced(Link<V>),
}

impl<V> Clone for Trie<V> {
    fn clone(&self) -> Self {
        Self { root: self.root.clone() }
    }
}

impl<V> Default for Trie<V> {
    fn default() -> Self {
        Self { root: None }
    }
}

impl<V: Value> Trie<V> {
    pub(crate) fn get(&self, key: &B256) -> Option<&V> {
        let mut path = Nibbles::unpack(key);
        let mut link = self.root.as_ref()?;
        loop {
            match &link.node {
                Node::Leaf { path: leaf, value } => return (*leaf == path).then_some(value),
                Node::Extension { path: shared, child } => {
                    path = path.starts_with(shared).then(|| path.slice(shared.len()..))?;
                    link = child;
                }
                Node::Branch { children } => {
                    link = children[usize::from(path.first()?)].as_ref()?;
                    path = path.slice(1..);
                }
            }
        }
    }

    pub(crate) fn insert(&mut self, key: &B256, value: V) {
        let path = Nibbles::unpack(key);
        self.root = Some(match &self.root {
            None => leaf(path, value),
            Some(root) => insert(root, path, value),
        });
    }

    pub(crate) fn remove(&mut self, key: &B256) {
        let Some(root) = &self.root else { return };
        match remove(root, Nibbles::unpack(key)) {
            Removed::Absent => {}
            Removed::Emptied => self.root = None,
            Removed::Replaced(root) => self.root = Some(root),
        }
    }

    pub(crate) fn root(&self) -> B256 {
        let Some(root) = &self.root else { return EMPTY_ROOT_HASH };
        root.reference().as_hash().unwrap_or_else(|| keccak256(root.rlp()))
    }

    /// The nodes from the root towards `key`: they show its value, or that it has none (EIP-1186).
    /// Nodes shorter than a hash stand inside their parents and are not repeated.
    pub(crate) fn prove(&self, key: &B256) -> Vec<Bytes> {
        let mut proof = Vec::new();
        let mut path = Nibbles::unpack(key);
        let mut next = self.root.as_ref();
        while let Some(link) = next {
            let rlp = link.rlp();
            if proof.is_empty() || rlp.len() >= B256::len_bytes() {
                proof.push(rlp.into());
            }
            next = match &link.node {
                Node::Extension { path: shared, child } if path.starts_with(shared) => {
                    path = path.slice(shared.len()..);
                    Some(child)
                }
                Node::Branch { children } => path.first().and_then(|nibble| {
                    path = path.slice(1..);
                    children[usize::from(nibble)].as_ref()
                }),
                Node::Leaf { .. } | Node::Extension { .. } => None,
            };
        }
        proof
    }
}

impl<V: Value> Cell<V> {
    fn rlp(&self) -> Vec<u8> {
        match &self.node {
            Node::Leaf { path, value } => alloy::rlp::encode(LeafNodeRef::new(path, &value.rlp())),
            Node::Extension { path, child } => {
                alloy::rlp::encode(ExtensionNodeRef::new(path, child.reference()))
            }
            Node::Branch { children } => {
                let mut mask = TrieMask::default();
                let mut stack = Vec::new();
                for (nibble, child) in (0..).zip(children) {
                    if let Some(child) = child {
                        mask.set_bit(nibble);
                        stack.push(child.reference().clone());
                    }
                }
                alloy::rlp::encode(BranchNode::new(stack, mask))
            }
        }
    }

    fn reference(&self) -> &RlpNode {
        self.reference.get_or_init(|| RlpNode::from_rlp(&self.rlp()))
    }
}

fn link<V>(node: Node<V>) -> Link<V> {
    Arc::new(Cell { node, reference: OnceLock::new() })
}

fn leaf<V>(path: Nibbles, value: V) -> Link<V> {
    link(Node::Leaf { path, value })
}

fn branch<V>(children: [Option<Link<V>>; 16]) -> Link<V> {
    link(Node::Branch { children })
}

/// `child` below `path`, with no extension for an empty path.
fn extend<V>(path: Nibbles, child: Link<V>) -> Link<V> {
    if path.is_empty() { child } else { link(Node::Extension { path, child }) }
}

/// `child` below `path` in the trie's one canonical form: paths in a row are one path.
fn join<V: Value>(path: Nibbles, child: Link<V>) -> Link<V> {
    match &child.node {
        Node::Leaf { path: rest, value } => leaf(path.join(rest), value.clone()),
        Node::Extension { path: rest, child } => extend(path.join(rest), child.clone()),
        Node::Branch { .. } => extend(path, child),
    }
}

fn insert<V: Value>(at: &Link<V>, path: Nibbles, value: V) -> Link<V> {
    match &at.node {
        Node::Leaf { path: old, .. } if *old == path => leaf(path, value),
        Node::Leaf { path: old, value: kept } => {
            let shared = old.common_prefix_length(&path);
            let below = leaf(old.slice(shared + 1..), kept.clone());
            fork(shared, old, below, &path, value)
        }
        Node::Extension { path: old, child } if path.starts_with(old) => {
            extend(*old, insert(child, path.slice(old.len()..), value))
        }
        Node::Extension { path: old, child } => {
            let shared = old.common_prefix_length(&path);
            let below = extend(old.slice(shared + 1..), child.clone());
            fork(shared, old, below, &path, value)
        }
        Node::Branch { children } => {
            let mut children = children.clone();
            let (slot, rest) = (usize::from(path.get_unchecked(0)), path.slice(1..));
            children[slot] = Some(match &children[slot] {
                None => leaf(rest, value),
                Some(child) => insert(child, rest, value),
            });
            branch(children)
        }
    }
}

/// The branch where `old` and `new`, which agree on `shared` nibbles, part.
fn fork<V>(shared: usize, old: &Nibbles, below: Link<V>, new: &Nibbles, value: V) -> Link<V> {
    let mut children = [const { None }; 16];
    children[usize::from(old.get_unchecked(shared))] = Some(below);
    children[usize::from(new.get_unchecked(shared))] = Some(leaf(new.slice(shared + 1..), value));
    extend(new.slice(..shared), branch(children))
}

fn remove<V: Value>(at: &Link<V>, path: Nibbles) -> Removed<V> {
    match &at.node {
        Node::Leaf { path: leaf, .. } if *leaf == path => Removed::Emptied,
        Node::Extension { path: shared, child } if path.starts_with(shared) => {
            match remove(child, path.slice(shared.len()..)) {
                Removed::Replaced(child) => Removed::Replaced(join(*shared, child)),
                unchanged => unchanged,
            }
        }
        Node::Leaf { .. } | Node::Extension { .. } => Removed::Absent,
        Node::Branch { children } => remove_below(children, path),
    }
}

fn remove_below<V: Value>(children: &[Option<Link<V>>; 16], path: Nibbles) -> Removed<V> {
    let slot = usize::from(path.get_unchecked(0));
    let Some(child) = &children[slot] else { return Removed::Absent };
    let kept = match remove(child, path.slice(1..)) {
        Removed::Absent => return Removed::Absent,
        Removed::Emptied => None,
        Removed::Replaced(child) => Some(child),
    };
    let mut children = children.clone();
    children[slot] = kept;
    let mut left = (0u8..).zip(&children).filter_map(|(nibble, child)| Some((nibble, child.as_ref()?)));
    match (left.next(), left.next()) {
        (Some((nibble, only)), None) => {
            Removed::Replaced(join(Nibbles::from_nibbles([nibble]), only.clone()))
        }
        _ => Removed::Replaced(branch(children)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use alloy::primitives::U256;
    use alloy_trie::proof::verify_proof;
    use alloy_trie::{HashBuilder, root::storage_root};
    use proptest::prelude::*;

    use super::*;

    fn reference_root(entries: &BTreeMap<B256, U256>) -> B256 {
        let mut builder = HashBuilder::default();
        for (key, value) in entries {
            builder.add_leaf(Nibbles::unpack(key), &alloy::rlp::encode(value));
        }
        builder.root()
    }

    /// Few distinct nibbles, so that keys share long prefixes and every shape of node appears.
    fn key() -> impl Strategy<Value = B256> {
        prop_oneof![
            prop::array::uniform32(prop::sample::select(vec![0x00u8, 0x01, 0x10])).prop_map(B256::from),
            (0u8..8).prop_map(B256::with_last_byte),
            any::<[u8; 32]>().prop_map(B256::from),
        ]
    }

    proptest! {
        #[test]
        fn root_and_proofs_agree_with_alloy_after_any_history(
            steps in prop::collection::vec((key(), any::<Option<u8>>()), 0..60)
        ) {
            let mut trie = Trie::default();
            let mut model = BTreeMap::new();
            for (key, value) in steps {
                match value {
                    Some(value) => {
                        trie.insert(&key, U256::from(value) + U256::from(1));
                        model.insert(key, U256::from(value) + U256::from(1));
                    }
                    None => {
                        let some = model.keys().next().copied().unwrap_or(key);
                        trie.remove(&some);
                        model.remove(&some);
                    }
                }
                prop_assert_eq!(trie.root(), reference_root(&model));
                let expected = model.get(&key).map(alloy::rlp::encode);
                prop_assert_eq!(trie.get(&key), model.get(&key));
                prop_assert!(verify_proof(trie.root(), Nibbles::unpack(key), expected, &trie.prove(&key)).is_ok());
            }
        }
    }

    #[test]
    fn an_older_copy_is_left_as_it_was() {
        let mut trie = Trie::default();
        trie.insert(&B256::repeat_byte(1), U256::from(1));
        let older = trie.clone();
        trie.insert(&B256::repeat_byte(1), U256::from(2));
        trie.insert(&B256::repeat_byte(2), U256::from(3));
        assert_eq!(older.get(&B256::repeat_byte(1)), Some(&U256::from(1)));
        assert_eq!(older.get(&B256::repeat_byte(2)), None);
        assert_eq!(older.root(), storage_root([(B256::repeat_byte(1), U256::from(1))]));
    }
}
