//! Terms, from bytes that anybody may have put on a chain.

use alloy::primitives::{Address, U256};
use posthouse_contracts::terms::{CLONE_LEN, Group, Implementations, Terms, TermsError};
use posthouse_protocol::id::{Curve, FleetRoot, PackageId, UpdateId};
use proptest::prelude::*;

const FACTORY: Address = Address::repeat_byte(0xfa);

fn terms() -> Terms {
    Terms {
        curve: Curve::P256,
        vendor: Address::repeat_byte(1),
        start: 1_000,
        claim_by: 100_000,
        bonus_until: 11_000,
        bonus_bps: 5_000,
        lock_secs: 7_200,
        depth: 9,
        root: FleetRoot::new([2; 32]),
        u_id: UpdateId::new([3; 32]),
        p_id: PackageId::new([4; 32]),
        groups: vec![Group { end_index: 128, share: 2_000 }, Group { end_index: 300, share: 1_001 }],
    }
}

fn args(terms: &Terms) -> Vec<u8> {
    let mut args = terms.vendor.to_vec();
    for time in [terms.start, terms.claim_by, terms.bonus_until] {
        args.extend_from_slice(&time.to_be_bytes()[3..]);
    }
    args.extend_from_slice(&terms.lock_secs.to_be_bytes());
    args.extend_from_slice(&terms.bonus_bps.to_be_bytes());
    args.push(terms.depth);
    args.extend_from_slice(terms.root.as_bytes());
    args.extend_from_slice(terms.u_id.as_bytes());
    args.extend_from_slice(terms.p_id.as_bytes());
    for group in &terms.groups {
        args.extend_from_slice(&group.end_index.to_be_bytes());
        args.extend_from_slice(&group.share.to_be_bytes()[4..]);
    }
    args
}

fn code(implementation: Address, args: &[u8]) -> Vec<u8> {
    let head = [0x36, 0x3d, 0x3d, 0x37, 0x3d, 0x3d, 0x3d, 0x36, 0x3d, 0x73];
    let tail = [0x5a, 0xf4, 0x3d, 0x82, 0x80, 0x3e, 0x90, 0x3d, 0x91, 0x60, 0x2b, 0x57, 0xfd, 0x5b, 0xf3];
    [&head[..], implementation.as_slice(), &tail, args].concat()
}

#[test]
fn code_tells_curve_and_terms() {
    let of = Implementations::of(FACTORY);
    let args = args(&terms());
    assert_eq!(Terms::from_code(&code(of.p256, &args), &of).unwrap(), terms());
    let secp256k1 = Terms { curve: Curve::Secp256k1, ..terms() };
    assert_eq!(Terms::from_code(&code(of.secp256k1, &args), &of).unwrap(), secp256k1);
}

#[test]
fn foreign_code_is_refused() {
    let of = Implementations::of(FACTORY);
    let args = args(&terms());
    let foreign = Implementations::of(Address::repeat_byte(0xfb)).p256;
    let error = Terms::from_code(&code(foreign, &args), &of).unwrap_err();
    assert_eq!(error, TermsError::ForeignImplementation(foreign));
    assert_eq!(Terms::from_code(&[], &of), Err(TermsError::NoCode));
    let good = code(of.p256, &args);
    for at in (0..10).chain(30..CLONE_LEN) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert_eq!(Terms::from_code(&bad, &of), Err(TermsError::NotAClone), "byte {at}");
    }
}

#[test]
fn terms_of_another_length_or_with_bad_groups_are_refused() {
    let good = args(&terms());
    for length in 0..good.len() {
        if length != good.len() - 16 {
            let error = Terms::from_args(Curve::P256, &good[..length]).unwrap_err();
            assert_eq!(error, TermsError::Length(length));
        }
    }
    let nine = [&good[..138], &[1; 16].repeat(9)].concat();
    assert_eq!(Terms::from_args(Curve::P256, &nine), Err(TermsError::Length(138 + 9 * 16)));
    let refused = |spoil: fn(&mut Terms)| {
        let mut terms = terms();
        spoil(&mut terms);
        Terms::from_args(Curve::P256, &args(&terms)).unwrap_err()
    };
    assert_eq!(refused(|terms| terms.groups[1].end_index = 128), TermsError::Group(1));
    assert_eq!(refused(|terms| terms.groups[0].end_index = 0), TermsError::Group(0));
    assert_eq!(refused(|terms| terms.groups[0].share = 0), TermsError::Group(0));
    assert_eq!(refused(|terms| terms.depth = 8), TermsError::Group(1));
    assert_eq!(refused(|terms| terms.depth = 255), TermsError::Group(0));
}

#[test]
fn shares_fall_linearly_and_the_deposit_covers_the_first_second() {
    let terms = terms();
    let share = |index, time| terms.share_at(index, time).map(|share| share.to::<u64>());
    assert_eq!(share(127, 1_000), Some(3_000));
    assert_eq!(share(128, 1_000), Some(1_501));
    assert_eq!(share(0, 6_000), Some(2_500));
    assert_eq!(share(0, 10_999), Some(2_000), "rounded down");
    assert_eq!(share(0, 11_000), Some(2_000));
    assert_eq!(share(300, 1_000), None);
    assert_eq!(terms.deposit(), U256::from(128 * 3_000 + 172 * 1_501));
    assert_eq!(terms.refund_from(), 107_201);
}

proptest! {
    #[test]
    fn any_bytes_are_terms_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300), time: u64, index: u32) {
        let of = Implementations::of(FACTORY);
        let _ = Terms::from_code(&bytes, &of);
        if let Ok(terms) = Terms::from_args(Curve::P256, &bytes) {
            prop_assert_eq!(args(&terms), bytes);
            prop_assert_eq!(terms.share_at(index, time).is_some(), index < terms.fleet_size());
            terms.deposit();
            terms.refund_from();
        }
    }

    #[test]
    fn any_layout_of_the_right_length_is_safe(mut bytes in proptest::collection::vec(any::<u8>(), 170..=170), index: u32, time: u64) {
        bytes[41] = 32;
        if let Ok(terms) = Terms::from_args(Curve::P256, &bytes) {
            let _ = terms.share_at(index, time);
            terms.deposit();
        }
    }
}
