//! Receipts in the form that the bounty takes.

use alloy::primitives::{Address, B256, Signature, b256, keccak256};
use posthouse_contracts::fleet::{self, Tree};
use posthouse_contracts::receipts::{Batch, Deal, MAX_BATCH, Receipt, ReceiptError};
use posthouse_protocol::id::{Attempt, Bounty, ChainId, Curve, LockHash, Payee, UpdateId};
use posthouse_protocol::key::SigningKey;
use proptest::prelude::*;

use crate::fixture::{fleet_of, secret, signers};

fn deal(curve: Curve) -> Deal {
    let mut bounty = [0; 20];
    bounty[17..].copy_from_slice(&[0x0b, 0x0b, 0]);
    let mut payee = [0; 20];
    payee[18..].copy_from_slice(&[0xca, 0xfe]);
    Deal {
        chain: ChainId::new(11_155_111),
        bounty: Bounty::new(bounty),
        curve,
        u_id: UpdateId::new(keccak256("image").0),
        payee: Payee::new(payee),
        s: LockHash::new(keccak256("s").0),
    }
}

fn receipt(deal: &Deal, signer: &SigningKey, index: u32, attempt: u8) -> Receipt {
    let attempt = Attempt::new(attempt);
    Receipt { index, key: signer.device_key(), attempt, signature: signer.sign(&deal.digest(attempt)) }
}

/// `Receipt.t.sol` pins what the contract's `receiptDigest` gives for the same fields.
#[test]
fn digest_is_the_contracts() {
    let digest = deal(Curve::Secp256k1).digest(Attempt::new(3));
    let pinned = b256!("7ed3699b0ccf136ccad66de27464e595b3b9d711ef73a9fcd4d08c83ae3cd62d");
    assert_eq!(digest.to_bytes(), pinned.0);
}

#[test]
fn a_batch_is_ordered_and_complete() {
    let signers = signers(Curve::Secp256k1, 6);
    let fleet = fleet_of(&signers);
    let deal = deal(Curve::Secp256k1);
    let receipts = [5, 0, 3].map(|i| receipt(&deal, &signers[i], i as u32, 1));
    let batch = Batch::new(deal, receipts.to_vec(), fleet.tree()).unwrap();
    assert_eq!(batch.indices().collect::<Vec<_>>(), [0, 3, 5]);
}

#[test]
fn a_bad_receipt_is_named() {
    let signers = signers(Curve::P256, 6);
    let fleet = fleet_of(&signers);
    let deal = deal(Curve::P256);
    let good = receipt(&deal, &signers[1], 1, 1);
    let foreign =
        Receipt { index: 4, ..receipt(&Deal { chain: ChainId::new(1), ..deal }, &signers[4], 4, 1) };
    let error = Batch::new(deal, vec![good, foreign], fleet.tree()).unwrap_err();
    assert!(matches!(error, ReceiptError::Signature { index: 4, .. }), "{error}");
    let error = deal.claim(&foreign, &secret(1), fleet.tree()).unwrap_err();
    assert!(matches!(error, ReceiptError::Signature { index: 4, .. }), "{error}");
    let other_attempt = Receipt { attempt: Attempt::new(2), ..good };
    assert!(Batch::new(deal, vec![other_attempt], fleet.tree()).is_err());
}

#[test]
fn a_batch_has_bounds() {
    let signers = signers(Curve::Secp256k1, 2);
    let fleet = fleet_of(&signers);
    let deal = deal(Curve::Secp256k1);
    let one = receipt(&deal, &signers[0], 0, 1);
    assert!(matches!(Batch::new(deal, vec![], fleet.tree()), Err(ReceiptError::Fleet(_))));
    assert!(matches!(Batch::new(deal, vec![one, one], fleet.tree()), Err(ReceiptError::Fleet(_))));
    let beyond = Receipt { index: 2, ..one };
    assert!(matches!(Batch::new(deal, vec![beyond], fleet.tree()), Err(ReceiptError::Fleet(_))));
    let many = vec![one; MAX_BATCH + 1];
    assert!(matches!(Batch::new(deal, many, fleet.tree()), Err(ReceiptError::TooMany(_))));
}

proptest! {
    /// What the contract recovers is the address that the leaf is made of.
    #[test]
    fn the_recovery_bit_recovers_the_device(scalar in 1..u128::MAX, attempt: u8, s: [u8; 32]) {
        let mut bytes = [0; 32];
        bytes[16..].copy_from_slice(&scalar.to_be_bytes());
        let signer = SigningKey::from_bytes(Curve::Secp256k1, &bytes).unwrap();
        let tree = Tree::build(tempfile::tempfile().unwrap(), [B256::ZERO]).unwrap();
        let deal = Deal { s: LockHash::new(s), ..deal(Curve::Secp256k1) };
        let receipt = receipt(&deal, &signer, 0, attempt);
        let claim = deal.claim(&receipt, &secret(1), &tree).unwrap();
        let mut low = claim.receipt.vs;
        let odd = low[0] >> 7 == 1;
        low[0] &= 0x7f;
        let signature = Signature::from_scalars_and_parity(claim.receipt.r, low, odd);
        let digest = B256::from(deal.digest(receipt.attempt).to_bytes());
        let signer: Address = signature.recover_address_from_prehash(&digest).unwrap();
        prop_assert_eq!(Some(signer), fleet::address(&receipt.key));
    }
}
