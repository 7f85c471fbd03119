// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IUpdateBounty} from "../interfaces/IUpdateBounty.sol";
import {Device, Ended} from "../types/Claims.sol";

/// @title What a bounty remembers of its devices
/// @dev Devices stand in rows of 25, one slot each: bit i is the claim of device i, bit 25 + i says that a
/// lock holds it, byte i above bit 50 is the highest attempt that was reserved for it; so a claim touches
/// one slot. Locks take a page of 8 rows, one slot each: so one device costs a lock two slots, and a
/// hundred neighbours six. Invariants: a claim bit is never cleared; an attempt only rises; a device's
/// lock bit is set exactly when one lock of its page holds it, so locks are disjoint and one that ended
/// can be cleared by its tag alone.
abstract contract Ledger is IUpdateBounty {
    struct Lock {
        uint200 devices;
        uint40 until;
    }

    uint256 internal constant ROW = 25;
    uint256 internal constant PAGE = 200;
    uint256 private constant ROW_MASK = 2 ** ROW - 1;

    mapping(uint256 row => uint256) internal _rows;
    mapping(bytes32 tag => mapping(uint256 page => Lock)) internal _locks;

    /// @inheritdoc IUpdateBounty
    function isClaimed(uint32 index) external view returns (bool) {
        return _isClaimed(_rows[index / ROW], index);
    }

    /// @inheritdoc IUpdateBounty
    function devices(uint32[] calldata indices) external view returns (Device[] memory out) {
        out = new Device[](indices.length);
        for (uint256 i; i < indices.length; ++i) {
            uint256 row = _rows[indices[i] / ROW];
            out[i] = Device(_isClaimed(row, indices[i]), _isHeld(row, indices[i]), _attempt(row, indices[i]));
        }
    }

    /// @inheritdoc IUpdateBounty
    function lockOf(bytes32 s, address payee, uint32 page) external view returns (uint200, uint40) {
        Lock memory lock = _locks[_tag(s, payee)][page];
        return (lock.devices, lock.until);
    }

    /// @inheritdoc IUpdateBounty
    function release(Ended[] calldata ended) external {
        _release(ended);
    }

    function _release(Ended[] calldata ended) internal {
        for (uint256 i; i < ended.length; ++i) {
            _release(ended[i].tag, ended[i].page);
        }
    }

    /// @dev Does nothing to a lock that lives or never was: whoever names it may be late or lie.
    function _release(bytes32 tag, uint256 page) internal {
        Lock memory lock = _locks[tag][page];
        if (lock.devices == 0 || block.timestamp <= lock.until) return;
        delete _locks[tag][page];
        uint256 rest = lock.devices;
        // slither-disable-next-line divide-before-multiply -- a page is a whole number of rows
        for (uint256 row = page * (PAGE / ROW); rest != 0; ++row) {
            if (rest & ROW_MASK != 0) _rows[row] &= ~((rest & ROW_MASK) << ROW);
            rest >>= ROW;
        }
        emit Released(tag, uint32(page), lock.devices);
    }

    function _isClaimed(uint256 row, uint256 index) internal pure returns (bool) {
        return row & _claimBit(index) != 0;
    }

    function _isHeld(uint256 row, uint256 index) internal pure returns (bool) {
        return row & _heldBit(index) != 0;
    }

    function _attempt(uint256 row, uint256 index) internal pure returns (uint8) {
        return uint8(row >> (2 * ROW + 8 * (index % ROW)));
    }

    /// @dev `attempt` is above the one it replaces, by the caller.
    function _withAttempt(uint256 row, uint256 index, uint8 attempt) internal pure returns (uint256) {
        uint256 shift = 2 * ROW + 8 * (index % ROW);
        return (row & ~(uint256(0xff) << shift)) | (uint256(attempt) << shift);
    }

    function _claimBit(uint256 index) internal pure returns (uint256) {
        return uint256(1) << (index % ROW);
    }

    function _heldBit(uint256 index) internal pure returns (uint256) {
        return uint256(1) << (ROW + index % ROW);
    }

    function _pageBit(uint256 index) internal pure returns (uint200) {
        return uint200(1) << uint8(index % PAGE);
    }

    function _tag(bytes32 s, address payee) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(s, payee));
    }
}
