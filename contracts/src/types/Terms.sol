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
/// Calls read fields where they lie; decoding all of them cost each claim 2,600 gas.
library TermsLib {
    /// Bytes before the groups.
    uint256 internal constant HEAD = 138;
    /// Bytes of one group.
    uint256 internal constant GROUP = 16;
    /// A bonus is given in parts of this.
    uint256 internal constant BPS = 10_000;

    /// @dev `decode` takes back exactly this.
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
        terms.vendor = vendor(args);
        terms.start = uint40(start(args));
        terms.claimBy = uint40(claimBy(args));
        terms.bonusUntil = uint40(bonusUntil(args));
        terms.lockSecs = uint32(lockSecs(args));
        terms.bonusBps = uint16(bonusBps(args));
        terms.depth = uint8(depth(args));
        terms.root = root(args);
        terms.uId = uId(args);
        terms.pId = LibBytes.load(args, 106);
        terms.groups = new Group[](groupCount(args));
        for (uint256 i; i < terms.groups.length; ++i) {
            (uint256 end, uint256 base) = group(args, i);
            terms.groups[i] = Group(uint32(end), uint96(base));
        }
    }

    function vendor(bytes memory args) internal pure returns (address) {
        return address(uint160(_number(args, 0, 20)));
    }

    function start(bytes memory args) internal pure returns (uint256) {
        return _number(args, 20, 5);
    }

    function claimBy(bytes memory args) internal pure returns (uint256) {
        return _number(args, 25, 5);
    }

    function bonusUntil(bytes memory args) internal pure returns (uint256) {
        return _number(args, 30, 5);
    }

    function lockSecs(bytes memory args) internal pure returns (uint256) {
        return _number(args, 35, 4);
    }

    function bonusBps(bytes memory args) internal pure returns (uint256) {
        return _number(args, 39, 2);
    }

    function depth(bytes memory args) internal pure returns (uint256) {
        return _number(args, 41, 1);
    }

    function root(bytes memory args) internal pure returns (bytes32) {
        return LibBytes.load(args, 42);
    }

    function uId(bytes memory args) internal pure returns (bytes32) {
        return LibBytes.load(args, 74);
    }

    function groupCount(bytes memory args) internal pure returns (uint256) {
        return (args.length - HEAD) / GROUP;
    }

    function group(bytes memory args, uint256 i) internal pure returns (uint256 end, uint256 base) {
        uint256 packed = _number(args, HEAD + i * GROUP, GROUP);
        return (packed >> 96, uint96(packed));
    }

    /// @return The number of devices in the fleet.
    function fleetSize(bytes memory args) internal pure returns (uint256) {
        return _number(args, args.length - GROUP, 4);
    }

    /// @return Wei for the device at `index` if it is taken at `time`. The caller checked `index`.
    function shareAt(bytes memory args, uint256 index, uint256 time) internal pure returns (uint256) {
        (uint256 end, uint256 base) = group(args, 0);
        for (uint256 i = 1; end <= index; ++i) {
            (end, base) = group(args, i);
        }
        uint256 until = bonusUntil(args);
        if (time >= until) return base;
        return base + (base * bonusBps(args) * (until - time)) / (BPS * (until - start(args)));
    }

    /// @return sum Wei that pay every device its largest share, which is the deposit.
    function deposit(bytes memory args) internal pure returns (uint256 sum) {
        uint256 begin;
        for (uint256 i; i < groupCount(args); ++i) {
            (uint256 end, uint256 base) = group(args, i);
            sum += (end - begin) * (base + (base * bonusBps(args)) / BPS);
            begin = end;
        }
    }

    /// @dev The big-endian number of `width` bytes at `offset`.
    function _number(bytes memory args, uint256 offset, uint256 width) private pure returns (uint256) {
        return uint256(LibBytes.load(args, offset)) >> (256 - 8 * width);
    }
}
