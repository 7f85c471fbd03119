//! SSZ containers whose fields depend on the fork.
//!
//! Each fork appends fields to those of the one before, so a container is a list of fields that is put
//! together at run time. Its SSZ, its JSON and its root all come from that one list.

use alloy::primitives::{B256, hex};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use ssz::{BYTES_PER_LENGTH_OFFSET, Encode, SszEncoder};
use ssz_types::VariableList;
use ssz_types::typenum::Unsigned;
use tree_hash::{PackedEncoding, TreeHash, TreeHashType};

use super::merkle::Tree;

/// What a field can say of itself.
pub(super) trait Field {
    /// Length of the encoding, if it is the same for all values of the type.
    fn fixed_len(&self) -> Option<usize>;
    /// Appends the SSZ encoding.
    fn encode(&self, out: &mut Vec<u8>);
    /// `hash_tree_root`.
    fn root(&self) -> B256;
    /// As the beacon API writes it: numbers as decimal strings, bytes as 0x-hex.
    fn json(&self) -> Value;
}

impl<T: Encode + TreeHash + Serialize> Field for T {
    fn fixed_len(&self) -> Option<usize> {
        T::is_ssz_fixed_len().then(T::ssz_fixed_len)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.ssz_append(out);
    }

    fn root(&self) -> B256 {
        self.tree_hash_root()
    }

    fn json(&self) -> Value {
        serde_json::to_value(self).expect("fields are plain data")
    }
}

/// A container: named fields in order.
#[derive(Default)]
pub(super) struct Container {
    fields: Vec<(&'static str, Box<dyn Field>)>,
}

impl Container {
    pub(super) fn with(mut self, name: &'static str, field: impl Field + 'static) -> Self {
        self.fields.push((name, Box::new(field)));
        self
    }

    pub(super) fn leaves(&self) -> Vec<B256> {
        self.fields.iter().map(|(_, field)| field.root()).collect()
    }

    pub(super) fn ssz(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }
}

impl Field for Container {
    fn fixed_len(&self) -> Option<usize> {
        self.fields.iter().map(|(_, field)| field.fixed_len()).sum()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let lengths = self.fields.iter().map(|(_, field)| field.fixed_len());
        let fixed_part = lengths.map(|length| length.unwrap_or(BYTES_PER_LENGTH_OFFSET)).sum();
        let mut encoder = SszEncoder::container(out, fixed_part);
        for (_, field) in &self.fields {
            encoder.append_parameterized(field.fixed_len().is_some(), |out| field.encode(out));
        }
        encoder.finalize();
    }

    fn root(&self) -> B256 {
        Tree::new(&self.leaves()).root()
    }

    fn json(&self) -> Value {
        let fields = self.fields.iter().map(|(name, field)| ((*name).to_owned(), field.json()));
        Value::Object(fields.collect::<Map<_, _>>())
    }
}

/// A number that JSON carries as a decimal string.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decimal<T>(pub(super) T);

impl<T: std::fmt::Display> Serialize for Decimal<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<T: Encode> Encode for Decimal<T> {
    fn is_ssz_fixed_len() -> bool {
        T::is_ssz_fixed_len()
    }

    fn ssz_fixed_len() -> usize {
        T::ssz_fixed_len()
    }

    fn ssz_append(&self, out: &mut Vec<u8>) {
        self.0.ssz_append(out);
    }

    fn ssz_bytes_len(&self) -> usize {
        self.0.ssz_bytes_len()
    }
}

impl<T: TreeHash> TreeHash for Decimal<T> {
    fn tree_hash_type() -> TreeHashType {
        T::tree_hash_type()
    }

    fn tree_hash_packed_encoding(&self) -> PackedEncoding {
        self.0.tree_hash_packed_encoding()
    }

    fn tree_hash_packing_factor() -> usize {
        T::tree_hash_packing_factor()
    }

    fn tree_hash_root(&self) -> B256 {
        self.0.tree_hash_root()
    }
}

/// `#[serde(serialize_with)]` for the same in derived containers.
pub(super) fn decimal<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}

/// `List[byte, N]`.
#[derive(Clone, Debug, Default)]
pub(super) struct ByteList<N: Unsigned>(pub(super) VariableList<u8, N>);

impl<N: Unsigned> ByteList<N> {
    /// # Panics
    /// When the bytes exceed the list's limit, which no block of this chain does.
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self(VariableList::new(bytes.to_vec()).expect("within the list's limit"))
    }
}

impl<N: Unsigned> Serialize for ByteList<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode_prefixed(&self.0[..]))
    }
}

impl<N: Unsigned> Encode for ByteList<N> {
    fn is_ssz_fixed_len() -> bool {
        false
    }

    fn ssz_append(&self, out: &mut Vec<u8>) {
        self.0.ssz_append(out);
    }

    fn ssz_bytes_len(&self) -> usize {
        self.0.len()
    }
}

impl<N: Unsigned> TreeHash for ByteList<N> {
    fn tree_hash_type() -> TreeHashType {
        TreeHashType::List
    }

    fn tree_hash_packed_encoding(&self) -> PackedEncoding {
        unreachable!("lists are not packed")
    }

    fn tree_hash_packing_factor() -> usize {
        unreachable!("lists are not packed")
    }

    fn tree_hash_root(&self) -> B256 {
        self.0.tree_hash_root()
    }
}

/// A vector of roots whose length is known only at run time: a Merkle branch, honest or not.
pub(super) struct Branch(pub(super) Vec<B256>);

impl Field for Branch {
    fn fixed_len(&self) -> Option<usize> {
        Some(32 * self.0.len())
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.0.iter().flatten());
    }

    fn root(&self) -> B256 {
        Tree::new(&self.0).root()
    }

    fn json(&self) -> Value {
        serde_json::to_value(&self.0).expect("roots are plain data")
    }
}
