// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {LibBytes} from "solady/utils/LibBytes.sol";

/// @notice A range of device indices that earns one share.
/// @param endIndex The first index after the range; a range starts where the one before it ends.
/// @param share Wei for each device of the range, without bonus.
struct Group {
    uint32 endIndex;
    uint96 share;
}

/// @notice What a bounty promises, fixed when it is published.
/// @param vendor Who pays, and who gets back what nobody earned.
/// @param start Time of publication, unix seconds.
/// @param claimBy Last second in which a claim or a reservation is taken.
/// @param bonusUntil When the early bonus has fallen to nothing; 0 without a bonus.
/// @param lockSecs How long a reservation lives.
/// @param bonusBps Bonus at `start`, in 1/10000 of a share; it falls linearly.
/// @param depth Depth of the fleet's Merkle tree.
/// @param root Root of the fleet's Merkle tree.
/// @param uId SHA-256 of the firmware image.
/// @param pId SHA-256 of the package's root block.
/// @param groups One to eight ranges; the last `endIndex` is the size of the fleet.
struct Terms {
    address vendor;
    uint40 start;
    uint40 claimBy;
    uint40 bonusUntil;
    uint32 lockSecs;
    uint16 bonusBps;
    uint8 depth;
    bytes32 root;
    bytes32 uId;
    bytes32 pId;
    Group[] groups;
}

/// @notice The terms as a clone carries them behind its 45 bytes of code, and what they say of money.
/// @dev Packed by hand: each byte of code costs 200 gas at publication, and the ABI's words would add
/// 83,000 gas to it. Layout, big-endian: vendor 20, start 5, claimBy 5, bonusUntil 5, lockSecs 4,
/// bonusBps 2, depth 1, root 32, uId 32, pId 32, then for each group endIndex 4, share 12.
library TermsLib {
    uint256 internal constant HEAD = 138;
    uint256 internal constant GROUP = 16;
    uint256 internal constant BPS = 10_000;

    function encode(Terms memory terms) internal pure returns (bytes memory args) {
        args = abi.encodePacked(
            terms.vendor,
            terms.start,
            terms.claimBy,
            terms.bonusUntil,
            terms.lockSecs,
            terms.bonusBps,
            terms.depth,
            terms.root,
            terms.uId,
            terms.pId
        );
        for (uint256 i; i < terms.groups.length; ++i) {
            args = bytes.concat(args, abi.encodePacked(terms.groups[i].endIndex, terms.groups[i].share));
        }
    }

    function decode(bytes memory args) internal pure returns (Terms memory terms) {
        uint256 head = uint256(LibBytes.load(args, 10));
        terms.vendor = address(bytes20(LibBytes.load(args, 0)));
        // Bytes 10 to 42 of the layout end with the numbers, the last in the lowest byte.
        terms.depth = uint8(head);
        terms.bonusBps = uint16(head >> 8);
        terms.lockSecs = uint32(head >> 24);
        terms.bonusUntil = uint40(head >> 56);
        terms.claimBy = uint40(head >> 96);
        terms.start = uint40(head >> 136);
        terms.root = LibBytes.load(args, 42);
        terms.uId = LibBytes.load(args, 74);
        terms.pId = LibBytes.load(args, 106);
        uint256 count = (args.length - HEAD) / GROUP;
        terms.groups = new Group[](count);
        for (uint256 i; i < count; ++i) {
            uint256 word = uint256(LibBytes.load(args, HEAD + i * GROUP));
            terms.groups[i] = Group(uint32(word >> 224), uint96(word >> 128));
        }
    }

    /// @return The number of devices in the fleet.
    function fleetSize(Terms memory terms) internal pure returns (uint256) {
        return terms.groups[terms.groups.length - 1].endIndex;
    }

    /// @return Wei for the device at `index` if it is taken at `time`. The caller checked `index`.
    function shareAt(Terms memory terms, uint256 index, uint256 time) internal pure returns (uint256) {
        uint256 i;
        while (terms.groups[i].endIndex <= index) ++i;
        uint256 base = terms.groups[i].share;
        if (time >= terms.bonusUntil) return base;
        uint256 left = uint256(terms.bonusUntil) - time;
        uint256 span = uint256(terms.bonusUntil) - terms.start;
        return base + (base * terms.bonusBps * left) / (BPS * span);
    }

    /// @return sum Wei that pay every device its largest share, which is the deposit.
    function deposit(Terms memory terms) internal pure returns (uint256 sum) {
        uint256 begin;
        for (uint256 i; i < terms.groups.length; ++i) {
            uint256 base = terms.groups[i].share;
            uint256 end = terms.groups[i].endIndex;
            sum += (end - begin) * (base + (base * terms.bonusBps) / BPS);
            begin = end;
        }
    }
}
