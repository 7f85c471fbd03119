// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Batch, Claim, Device, Ended, Why} from "../types/Claims.sol";
import {Terms} from "../types/Terms.sol";

/// @title The reward for one update of one fleet
/// @notice Pays whoever delivered the update for each device once: for the device's signed receipt over
/// `s`, and for `t` with s = SHA-256(SHA-256(payee ‖ t)), which sets the decryption key free.
interface IUpdateBounty {
    /// @notice A share was earned, and `r` opens what was delivered under `s`.
    /// @param payee Who earned it.
    /// @param index The device's place in the fleet.
    /// @param s Lock hash that the device signed; s = SHA-256(r).
    /// @param r Decryption key.
    /// @param amount Wei, bonus included.
    event KeyRevealed(
        address indexed payee, uint32 indexed index, bytes32 indexed s, bytes32 r, uint256 amount
    );
    /// @notice A lock took devices of one page.
    /// @param payee For whom they are held.
    /// @param s Under which lock hash.
    /// @param page Index / 200 of its devices.
    /// @param devices Bit i stands for device 200 · page + i; only those that were added by this call.
    /// @param until Last second in which the lock lives.
    event Reserved(
        address indexed payee, bytes32 indexed s, uint32 indexed page, uint200 devices, uint40 until
    );
    /// @notice A lock that had ended no longer stands in the way of its devices.
    /// @param tag keccak256(s ‖ payee) of the lock.
    /// @param page Index / 200 of its devices.
    /// @param devices Bit i stands for device 200 · page + i; also those that were claimed meanwhile.
    event Released(bytes32 indexed tag, uint32 indexed page, uint200 devices);
    /// @notice A receipt of a batch, or an index of a reveal, was passed over.
    event Skipped(address indexed payee, uint32 indexed index, Why why);
    /// @notice A payee refused the push and may `withdraw`.
    event Credited(address indexed payee, uint256 amount);
    /// @notice A credit was paid out.
    event Withdrawn(address indexed payee, address indexed to, uint256 amount);
    /// @notice What nobody earned went back to the vendor.
    event Refunded(address indexed vendor, uint256 amount);

    /// @notice `claimBy` is over.
    error ClaimsClosed();
    /// @notice Claims and locks may still live, so there is no refund yet.
    error ClaimsOpen();
    /// @notice The device's share is gone.
    error AlreadyClaimed(uint32 index);
    /// @notice The device is held by another lock: a live one, or an ended one that was not named.
    error LockedByOther(uint32 index);
    /// @notice The attempt is below what was reserved, or not above it for a new reservation.
    error StaleAttempt(uint32 index);
    /// @notice The signature is malformed, has a high `s`, or recovers nobody.
    error BadSignature(uint32 index);
    /// @notice Signer and index are not in the fleet by this path; `index` is the first of the batch.
    error BadMembership(uint32 index);
    /// @notice The batch is empty, not strictly ascending, or its keys do not fit its receipts.
    error BadBatch();
    /// @notice No device of this call is held by a live lock of this payee and `t`.
    error NoLock();
    /// @notice What the call would bring is below what the caller accepts.
    error BelowMinimum(uint256 sum);
    /// @notice There is nothing to pay.
    error Nothing();
    /// @notice So little gas is left that the payee could fail for want of it.
    error GasTooLow();
    /// @notice The receiver of a withdrawal refused it.
    error PaymentRefused();

    /// @notice The paper's call: claims one device in one step. It shows `t` and so `r` even if it then
    /// reverts, so send it over a private relay only, or when `r` is public already. A device that the
    /// caller's own live lock holds has the price of the lock, any other the price of now.
    /// @param claim Receipt, preimage and path.
    /// @param payee Who is paid; the receipt and `s` bind it.
    /// @return amount Wei paid or credited.
    function publishProof(Claim calldata claim, address payee) external returns (uint256 amount);

    /// @notice `publishProof` for receipts that share `t`. Receipts that are taken are skipped.
    /// @param t Preimage: r = SHA-256(payee ‖ t), s = SHA-256(r).
    /// @param payee Who is paid for all of them.
    /// @param batch Receipts, and locks of others that ended. One bad signature or path fails all.
    /// @param minSum Reverts with `BelowMinimum` if less would be paid.
    /// @return sum Wei paid or credited.
    function publishProofs(bytes32 t, address payee, Batch calldata batch, uint256 minSum)
        external
        returns (uint256 sum);

    /// @notice Locks devices for `payee` and `s` without showing a secret. A receipt needs an attempt
    /// above the last one reserved for its device, so it cannot lock a device twice. Devices that are
    /// added to a live lock of the same payee, `s` and page share its end and its price, so a lock can
    /// be neither prolonged nor cut short; those that it holds already count as success.
    /// @param s Lock hash: SHA-256 of the decryption key.
    /// @param payee For whom the devices are held.
    /// @param batch Receipts, and locks of others that ended. One bad signature or path fails all.
    /// @param minSum Reverts with `BelowMinimum` if the locked shares are worth less.
    /// @return sum Wei that `reveal` will pay for the devices of this batch.
    function reserve(bytes32 s, address payee, Batch calldata batch, uint256 minSum)
        external
        returns (uint256 sum);

    /// @notice Earns the shares locked for `payee` and the `s` of `t`, also past `claimBy`, while the
    /// lock lives. Devices that are claimed or not held are skipped.
    /// @param t Preimage: r = SHA-256(payee ‖ t), s = SHA-256(r).
    /// @param payee Who is paid.
    /// @param indices Devices in any order; those of one page side by side are cheaper.
    /// @return sum Wei paid or credited.
    function reveal(bytes32 t, address payee, uint32[] calldata indices) external returns (uint256 sum);

    /// @notice Frees the devices of locks that have ended. What does not fit is ignored.
    /// @param ended Tags and pages of the locks.
    function release(Ended[] calldata ended) external;

    /// @notice Pays the vendor all that is not owed, after `claimBy + lockSecs`. Anyone may call it.
    /// @return amount Wei paid or credited to the vendor.
    function refund() external returns (uint256 amount);

    /// @notice Pays the caller's credit to `to`, with all the gas that is left.
    /// @return amount Wei paid.
    function withdraw(address payable to) external returns (uint256 amount);

    /// @notice Wei that an address may withdraw.
    function creditOf(address payee) external view returns (uint256);

    /// @notice What the bounty promises.
    function terms() external view returns (Terms memory);

    /// @notice Wei for a device if it were taken in this block.
    function share(uint32 index) external view returns (uint256);

    /// @notice Whether the device's share is gone.
    function isClaimed(uint32 index) external view returns (bool);

    /// @notice The state of many devices, in the order asked for.
    function devices(uint32[] calldata indices) external view returns (Device[] memory);

    /// @notice The lock of a payee and `s` on a page: which devices, and until when (also when over).
    function lockOf(bytes32 s, address payee, uint32 page) external view returns (uint200 held, uint40 until);

    /// @notice The digest that a device signs: SHA-256("posthouse/receipt/1" ‖ chain id u64 ‖ bounty ‖
    /// payee ‖ U_id ‖ s ‖ attempt u8), integers big-endian.
    function receiptDigest(address payee, bytes32 s, uint8 attempt) external view returns (bytes32);
}
