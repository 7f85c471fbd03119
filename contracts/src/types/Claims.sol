// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @notice The device keys of a fleet. The values are those of the release envelope.
enum Curve {
    None,
    Secp256k1,
    P256
}

/// @notice Why one receipt of a batch was passed over.
enum Why {
    Claimed,
    LockedByOther,
    StaleAttempt,
    NoLock
}

/// @notice A device's signed receipt. Payee, `s`, bounty and chain are those of the call.
/// @param index The device's place in the fleet.
/// @param attempt The counter that the device signed, from 1.
/// @param r First half of the signature.
/// @param vs Second half, low; for secp256k1 the recovery bit is its top bit (ERC-2098).
struct Receipt {
    uint32 index;
    uint8 attempt;
    bytes32 r;
    bytes32 vs;
}

/// @notice A lock that ended, named so that its devices are free again.
/// @param tag keccak256(s ‖ payee) of the lock.
/// @param page Which 200 devices: index / 200.
struct Ended {
    bytes32 tag;
    uint32 page;
}

/// @notice Receipts that share one `s` and one payee.
/// @param receipts Strictly ascending by index.
/// @param keys For P-256 x and y of each device in the same order; empty for secp256k1.
/// @param path One multiproof: from the leaves to the root, and on each level from left to right, the
/// siblings that the receipts do not give themselves. For a single receipt it is the plain path.
/// @param ended Locks of others that ended and stand in the way; those that do not fit are ignored.
struct Batch {
    Receipt[] receipts;
    bytes32[] keys;
    bytes32[] path;
    Ended[] ended;
}

/// @notice The paper's claim for one device, in one step.
/// @param t Preimage: r = SHA-256(payee ‖ t), s = SHA-256(r).
/// @param receipt What the device signed.
/// @param key For P-256 x and y; empty for secp256k1.
/// @param path Siblings from the leaf to the root, as many as the tree is deep.
struct Claim {
    bytes32 t;
    Receipt receipt;
    bytes32[] key;
    bytes32[] path;
}

/// @notice What the contract knows of one device.
/// @param claimed Whether its share was paid or credited.
/// @param reserved Whether a lock holds it, be it live or ended and not yet named.
/// @param attempt The highest attempt that was reserved; 0 for none.
struct Device {
    bool claimed;
    bool reserved;
    uint8 attempt;
}
