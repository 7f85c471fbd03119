// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IUpdateBounty} from "../interfaces/IUpdateBounty.sol";
import {Device, Ended} from "../types/Claims.sol";

/// @title What a bounty remembers of its devices
/// @dev Devices stand in pages of 128, one slot each: bit i is the claim of device i, bit 128 + i says
/// that a lock holds it. Attempts stand 32 to a slot. Invariants: a claim bit is never cleared; an
/// attempt only rises; a device's lock bit is set exactly when one lock of its page holds it, so
/// locks are disjoint and a lock that ended can be cleared by its tag alone.
abstract contract Ledger is IUpdateBounty {
    struct Lock {
        uint128 devices;
        uint40 until;
    }

    uint256 internal constant PAGE = 128;

    mapping(uint256 page => uint256) internal _pages;
    mapping(uint256 index32 => uint256) private _attempts;
    mapping(bytes32 tag => mapping(uint256 page => Lock)) internal _locks;

    /// @inheritdoc IUpdateBounty
    function isClaimed(uint32 index) external view returns (bool) {
        return _pages[index / PAGE] & _bit(index) != 0;
    }

    /// @inheritdoc IUpdateBounty
    function devices(uint32[] calldata indices) external view returns (Device[] memory out) {
        out = new Device[](indices.length);
        for (uint256 i; i < indices.length; ++i) {
            uint256 word = _pages[indices[i] / PAGE];
            uint256 bit = _bit(indices[i]);
            out[i] = Device(word & bit != 0, word & (bit << PAGE) != 0, _attemptOf(indices[i]));
        }
    }

    /// @inheritdoc IUpdateBounty
    function lockOf(bytes32 s, address payee, uint32 page) external view returns (uint128, uint40) {
        Lock memory lock = _locks[_tag(s, payee)][page];
        return (lock.devices, lock.until);
    }

    /// @inheritdoc IUpdateBounty
    function release(Ended[] calldata ended) external {
        _release(ended);
    }

    function _release(Ended[] calldata ended) internal {
        for (uint256 i; i < ended.length; ++i) _release(ended[i].tag, ended[i].page);
    }

    /// @dev Does nothing to a lock that lives or never was: whoever names it may be late or lie.
    function _release(bytes32 tag, uint256 page) internal {
        Lock memory lock = _locks[tag][page];
        if (lock.devices == 0 || block.timestamp <= lock.until) return;
        delete _locks[tag][page];
        _pages[page] &= ~(uint256(lock.devices) << PAGE);
        emit Released(tag, uint32(page), lock.devices);
    }

    function _attemptOf(uint256 index) internal view returns (uint8) {
        return uint8(_attempts[index / 32] >> (8 * (index % 32)));
    }

    /// @dev `attempt` is above the one it replaces, by the caller.
    function _setAttempt(uint256 index, uint8 attempt) internal {
        uint256 shift = 8 * (index % 32);
        uint256 word = _attempts[index / 32];
        _attempts[index / 32] = (word & ~(uint256(0xff) << shift)) | (uint256(attempt) << shift);
    }

    function _bit(uint256 index) internal pure returns (uint256) {
        return uint256(1) << (index % PAGE);
    }

    function _tag(bytes32 s, address payee) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(s, payee));
    }
}
