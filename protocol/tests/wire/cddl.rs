//! `posthouse.cddl` defines the wire: the vectors validate against it, altered ones do not.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use cddl::ast::CDDL;
use cddl::validator::Validator as _;
use cddl::validator::cbor::CBORValidator;
use coset::cbor::Value;

use crate::cases;

const CDDL: &str = include_str!("../../posthouse.cddl");

/// Whether `bytes` are what `rule` says, and the byte strings in them what their `.cbor` says.
fn validates(rule: &str, bytes: &[u8]) -> Result<(), String> {
    // The validator (cddl 0.10.3) applies a `.cbor` in an array to every item of the array, so it
    // gets the document without them, and the wrapped items one by one.
    let value: Value = coset::cbor::from_reader(bytes).map_err(|e| e.to_string())?;
    let mut validator = CBORValidator::new(document(rule), value.clone().into(), None);
    let result: Result<(), cddl::validator::cbor::Error<std::io::Error>> = validator.validate();
    result.map_err(|e| format!("{rule}: {e}"))?;
    for (inner, path) in wrapped_in(rule) {
        validates(inner, at(&value, path).ok_or(format!("{rule}: no {inner}"))?)?;
    }
    Ok(())
}

/// The document for a rule, parsed once a thread: that is most of a validation's time.
fn document(rule: &str) -> &'static CDDL<'static> {
    thread_local! {
        static PARSED: RefCell<BTreeMap<String, &'static CDDL<'static>>> = RefCell::default();
    }
    let parse = || -> &'static CDDL<'static> {
        let text = format!("start = {rule}\n{}", unwrapped().0);
        Box::leak(Box::new(cddl::cddl_from_str(text.leak(), true).unwrap()))
    };
    PARSED.with_borrow_mut(|parsed| *parsed.entry(rule.into()).or_insert_with(parse))
}

/// The document without its `.cbor` controls, and the rules that these name.
fn unwrapped() -> (String, BTreeSet<&'static str>) {
    let mut parts = CDDL.split(" .cbor ");
    let mut document = parts.next().unwrap().to_owned();
    let mut wrapped = BTreeSet::new();
    for part in parts {
        let end = part.find(|c: char| c != '-' && !c.is_ascii_alphanumeric()).unwrap();
        wrapped.insert(&part[..end]);
        document.push_str(&part[end..]);
    }
    (document, wrapped)
}

/// Where a rule's items have wrapped ones: the inner rule, and the keys or indices that lead to it.
fn wrapped_in(rule: &str) -> &'static [(&'static str, &'static [usize])] {
    match rule {
        "sealed-release" => &[("release-header", &[0]), ("release", &[2])],
        "suit-envelope" => &[("suit-authentication", &[2]), ("suit-manifest", &[3])],
        "suit-authentication" => &[("suit-digest", &[0]), ("suit-sign1", &[1])],
        "suit-sign1" => &[("suit-header", &[0])],
        "suit-manifest" => {
            &[("suit-common", &[3]), ("suit-validate", &[7]), ("suit-invoke", &[9]), ("suit-install", &[20])]
        }
        "suit-common" => &[("suit-shared", &[4])],
        "suit-shared" => &[("suit-digest", &[1, 3])],
        _ => &[],
    }
}

/// The byte string at a path of map keys and array indices.
fn at<'v>(value: &'v Value, path: &[usize]) -> Option<&'v [u8]> {
    match (value, path) {
        (Value::Bytes(bytes), []) => Some(bytes),
        (Value::Tag(_, inner), path) => at(inner, path),
        (Value::Array(items), [index, rest @ ..]) => at(items.get(*index)?, rest),
        (Value::Map(entries), [key, rest @ ..]) => {
            let (_, inner) = entries.iter().find(|(k, _)| *k == Value::from(*key as u64))?;
            at(inner, rest)
        }
        _ => None,
    }
}

#[test]
fn every_wrapped_rule_is_reached() {
    let (_, wrapped) = unwrapped();
    let mut reached = BTreeSet::new();
    let mut rules = vec!["sealed-release", "suit-envelope"];
    while let Some(rule) = rules.pop() {
        let inner = wrapped_in(rule).iter().map(|(inner, _)| *inner);
        rules.extend(inner.clone());
        reached.extend(inner);
    }
    assert_eq!(reached, wrapped);
}

#[test]
fn vectors_validate() {
    for case in cases::all() {
        let result = validates(case.rule, &case.bytes);
        assert!(result.is_ok(), "{}/{}: {result:?}", case.rule, case.name);
    }
}

#[test]
fn no_message_validates_as_another() {
    // One of each rule: every validation parses the whole document.
    let mut one: BTreeMap<&str, &[u8]> = BTreeMap::new();
    for case in cases::all() {
        one.entry(case.rule).or_insert(&case.bytes);
    }
    for (own, bytes) in &one {
        for rule in one.keys().filter(|rule| *rule != own) {
            assert!(validates(rule, bytes).is_err(), "{own} passes as {rule}");
        }
    }
}

#[test]
fn altered_messages_do_not_validate() {
    for (rule, hex) in [
        // A bounty of 19 bytes.
        ("exchange-request", "8304 53b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0 40"),
        // A refusal without a name.
        ("exchange-response", "82070e"),
        // An unknown kind.
        ("exchange-response", "820800"),
        // A key that the map does not have.
        ("status-reply", "a200000100"),
        // A number too large for its field.
        ("status-reply", "a1001b0000000100000000"),
        // An error code without a name.
        ("error-msg", "a1000f"),
        ("join-response", "820106"),
    ] {
        let bytes = hex::decode(hex.replace(' ', "")).unwrap();
        assert!(validates(rule, &bytes).is_err(), "{rule}: {hex}");
        assert!(cases::read(rule, &bytes).is_err(), "{rule}: {hex}");
    }
}
