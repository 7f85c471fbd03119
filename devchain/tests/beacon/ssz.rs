//! SSZ by description: decoding and roots for any type that can be written down.

use alloy::primitives::{B256, U256, hex};
use ethereum_hashing::{hash_fixed, hash32_concat};
use serde_json::{Map, Value, json};

/// A type, as consensus specifications describe it. Values are what the beacon API's JSON has.
#[derive(Clone, Debug)]
pub(crate) enum Type {
    U64,
    U256,
    /// `ByteVector[N]`, and vectors of bits.
    Bytes(usize),
    /// `ByteList[N]`.
    ByteList(usize),
    Vector(Box<Type>, usize),
    List(Box<Type>, usize),
    Container(Vec<(&'static str, Type)>),
}

impl Type {
    fn fixed_len(&self) -> Option<usize> {
        match self {
            Self::U64 => Some(8),
            Self::U256 => Some(32),
            Self::Bytes(length) => Some(*length),
            Self::Vector(of, length) => Some(of.fixed_len()? * length),
            Self::Container(fields) => fields.iter().map(|(_, of)| of.fixed_len()).sum(),
            Self::ByteList(_) | Self::List(..) => None,
        }
    }

    /// Reads a value that takes up all of `bytes`.
    pub(crate) fn decode(&self, bytes: &[u8]) -> Value {
        match self {
            Self::U64 => json!(u64::from_le_bytes(bytes.try_into().unwrap()).to_string()),
            Self::U256 => json!(U256::from_le_slice(bytes).to_string()),
            Self::Bytes(length) => {
                assert_eq!(bytes.len(), *length);
                json!(hex::encode_prefixed(bytes))
            }
            Self::ByteList(limit) => {
                assert!(bytes.len() <= *limit);
                json!(hex::encode_prefixed(bytes))
            }
            Self::Vector(of, length) => {
                let items = decode_items(of, bytes);
                assert_eq!(items.len(), *length);
                Value::Array(items)
            }
            Self::List(of, limit) => {
                let items = decode_items(of, bytes);
                assert!(items.len() <= *limit);
                Value::Array(items)
            }
            Self::Container(fields) => {
                let types: Vec<_> = fields.iter().map(|(_, of)| of).collect();
                let names = fields.iter().map(|(name, _)| (*name).to_owned());
                Value::Object(names.zip(decode_fields(&types, bytes)).collect::<Map<_, _>>())
            }
        }
    }

    /// `hash_tree_root`.
    pub(crate) fn root(&self, value: &Value) -> B256 {
        match self {
            Self::U64 => chunk(&text(value).parse::<u64>().unwrap().to_le_bytes()),
            Self::U256 => chunk(&text(value).parse::<U256>().unwrap().to_le_bytes::<32>()),
            Self::Bytes(length) => merkleize(&chunks(&bytes(value)), length.div_ceil(32)),
            Self::ByteList(limit) => {
                let bytes = bytes(value);
                mix_in_length(merkleize(&chunks(&bytes), limit.div_ceil(32)), bytes.len())
            }
            Self::Vector(of, length) => merkleize(&roots(of, value), *length),
            Self::List(of, limit) => {
                let roots = roots(of, value);
                mix_in_length(merkleize(&roots, *limit), roots.len())
            }
            Self::Container(fields) => {
                assert_eq!(value.as_object().unwrap().len(), fields.len(), "{value}");
                let leaves: Vec<_> = fields.iter().map(|(name, of)| of.root(&value[*name])).collect();
                merkleize(&leaves, leaves.len())
            }
        }
    }
}

fn decode_items(of: &Type, bytes: &[u8]) -> Vec<Value> {
    match of.fixed_len() {
        Some(length) => {
            assert_eq!(bytes.len() % length, 0);
            bytes.chunks(length).map(|item| of.decode(item)).collect()
        }
        None if bytes.is_empty() => Vec::new(),
        None => decode_fields(&vec![of; offset(bytes, 0) / 4], bytes),
    }
}

/// Fixed parts and offsets first, then what the offsets point to, in order and without gaps.
fn decode_fields(types: &[&Type], bytes: &[u8]) -> Vec<Value> {
    let mut at = 0;
    let mut starts = Vec::new();
    for of in types {
        if of.fixed_len().is_none() {
            starts.push(offset(bytes, at));
        }
        at += of.fixed_len().unwrap_or(4);
    }
    assert_eq!(starts.first().copied().unwrap_or(bytes.len()), at, "nothing between the parts");
    starts.push(bytes.len());
    let mut variable = starts.windows(2);
    let mut at = 0;
    let mut decode = |of: &Type| match of.fixed_len() {
        Some(length) => {
            at += length;
            of.decode(&bytes[at - length..at])
        }
        None => {
            at += 4;
            let ends = variable.next().unwrap();
            of.decode(&bytes[ends[0]..ends[1]])
        }
    };
    types.iter().map(|of| decode(of)).collect()
}

fn offset(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

pub(crate) fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(text(value)).unwrap()
}

pub(crate) fn number(value: &Value) -> u64 {
    text(value).parse().unwrap()
}

fn roots(of: &Type, value: &Value) -> Vec<B256> {
    value.as_array().unwrap().iter().map(|item| of.root(item)).collect()
}

fn chunk(bytes: &[u8]) -> B256 {
    B256::right_padding_from(bytes)
}

fn chunks(bytes: &[u8]) -> Vec<B256> {
    bytes.chunks(32).map(chunk).collect()
}

pub(crate) fn hash_pair(left: B256, right: B256) -> B256 {
    hash32_concat(left.as_slice(), right.as_slice()).into()
}

pub(crate) fn sha256(bytes: &[u8]) -> B256 {
    hash_fixed(bytes).into()
}

fn mix_in_length(root: B256, length: usize) -> B256 {
    hash_pair(root, chunk(&(length as u64).to_le_bytes()))
}

/// Root over `leaves`, filled up with zeros to the next power of two of `limit`.
fn merkleize(leaves: &[B256], limit: usize) -> B256 {
    let mut layer = leaves.to_vec();
    let mut zero = B256::ZERO;
    for _ in 0..limit.next_power_of_two().trailing_zeros() {
        if layer.len() % 2 == 1 {
            layer.push(zero);
        }
        layer = layer.chunks(2).map(|pair| hash_pair(pair[0], pair[1])).collect();
        zero = hash_pair(zero, zero);
    }
    layer.first().copied().unwrap_or(zero)
}
