// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {LibClone} from "solady/utils/LibClone.sol";
import {P256Bounty} from "./P256Bounty.sol";
import {Secp256k1Bounty} from "./Secp256k1Bounty.sol";
import {IUpdateFactory, Publish} from "./interfaces/IUpdateFactory.sol";
import {Curve} from "./types/Claims.sol";
import {Terms, TermsLib} from "./types/Terms.sol";

/// @title The factory of bounties
/// @dev Invariants: a product's version only rises; a bounty that `latest` names is a clone of an
/// implementation made here and was funded with every device's largest share. No owner, no pause, no
/// upgrade. The implementations are the contracts that this one creates first and second, so their
/// addresses follow from its own.
// slither-disable-next-line locked-ether -- all of it goes to the bounty with CREATE2, in assembly
contract UpdateFactory is IUpdateFactory {
    /// One slot, so that one storage proof holds both.
    struct Latest {
        uint64 version;
        address bounty;
    }

    /// Every claim looks for its group from the first on.
    uint256 private constant MAX_GROUPS = 8;
    /// Indices have 32 bits.
    uint256 private constant MAX_DEPTH = 32;
    /// Longer than Ethereum needs for finality when all goes well (13 minutes), with time to reveal.
    uint256 private constant MIN_LOCK = 30 minutes;
    /// For so long a lock may keep a device from everybody else, and the vendor from the refund.
    uint256 private constant MAX_LOCK = 24 hours;
    /// A deadline in milliseconds would lock the deposit for ever.
    uint256 private constant MAX_DURATION = 3650 days;
    /// A stolen key must not use up all versions at once.
    uint256 private constant MAX_JUMP = 1 << 32;

    address private immutable SECP256K1;
    address private immutable P256;

    /// @inheritdoc IUpdateFactory
    mapping(address vendor => mapping(bytes32 product => Latest)) public latest;

    constructor() {
        // The receipt carries the chain id in 64 bits.
        if (block.chainid > type(uint64).max) revert BadTerms();
        SECP256K1 = address(new Secp256k1Bounty());
        P256 = address(new P256Bounty());
    }

    /// @inheritdoc IUpdateFactory
    function publishUpdate(Publish calldata update) external payable returns (address bounty) {
        _raise(update.product, update.version);
        bytes memory args = _terms(update);
        uint256 need = TermsLib.deposit(args);
        if (msg.value != need) revert WrongDeposit(need);
        bytes32 salt = keccak256(abi.encode(msg.sender, update.product, update.version));
        bounty = LibClone.cloneDeterministic(msg.value, implementation(update.curve), args, salt);
        latest[msg.sender][update.product] = Latest(update.version, bounty);
        emit UpdatePublished(
            msg.sender,
            update.product,
            update.version,
            bounty,
            update.uId,
            update.pId,
            update.root,
            update.claimBy,
            args
        );
    }

    /// @inheritdoc IUpdateFactory
    function depositFor(Publish calldata update) external view returns (uint256) {
        return TermsLib.deposit(_terms(update));
    }

    /// @inheritdoc IUpdateFactory
    function implementation(Curve curve) public view returns (address) {
        if (curve == Curve.None) revert BadTerms();
        return curve == Curve.P256 ? P256 : SECP256K1;
    }

    /// @dev The version has to rise, and not by more than `MAX_JUMP`.
    function _raise(bytes32 product, uint64 version) private view {
        uint64 last = latest[msg.sender][product].version;
        if (version <= last) revert Downgrade(last);
        if (version - last > MAX_JUMP) revert VersionJump(last);
    }

    /// @dev The update's terms as the clone carries them; reverts with `BadTerms` unless they make sense.
    function _terms(Publish calldata update) private view returns (bytes memory) {
        if (update.curve == Curve.None) revert BadTerms();
        Terms memory terms;
        terms.vendor = msg.sender;
        terms.start = uint40(block.timestamp);
        terms.claimBy = update.claimBy;
        terms.bonusUntil = update.bonusUntil;
        terms.lockSecs = update.lockSecs;
        terms.bonusBps = update.bonusBps;
        terms.depth = update.depth;
        terms.root = update.root;
        terms.uId = update.uId;
        terms.pId = update.pId;
        terms.groups = update.groups;
        _check(terms);
        return TermsLib.encode(terms);
    }

    function _check(Terms memory terms) private view {
        bool named = terms.root != 0 && terms.uId != 0 && terms.pId != 0;
        bool timely = terms.claimBy > block.timestamp && terms.claimBy - block.timestamp <= MAX_DURATION;
        bool lockable = terms.lockSecs >= MIN_LOCK && terms.lockSecs <= MAX_LOCK;
        bool bonus = terms.bonusBps == 0
            ? terms.bonusUntil == 0
            : terms.bonusUntil > block.timestamp && terms.bonusUntil <= terms.claimBy;
        if (!(named && timely && lockable && bonus)) revert BadTerms();
        _checkGroups(terms);
    }

    /// @dev Ends rise strictly and fit the tree, shares are above zero: zero says "no" in a bounty.
    function _checkGroups(Terms memory terms) private pure {
        uint256 count = terms.groups.length;
        if (count == 0 || count > MAX_GROUPS) revert BadTerms();
        uint256 end;
        for (uint256 i; i < count; ++i) {
            if (terms.groups[i].endIndex <= end || terms.groups[i].share == 0) revert BadTerms();
            end = terms.groups[i].endIndex;
        }
        if (terms.depth > MAX_DEPTH || end > uint256(2) ** terms.depth) revert BadTerms();
    }
}
