// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IUpdateBounty} from "../src/interfaces/IUpdateBounty.sol";
import {Publish} from "../src/interfaces/IUpdateFactory.sol";
import {Batch, Claim} from "../src/types/Claims.sol";
import {Group} from "../src/types/Terms.sol";
import {Fixture} from "./fixture/Fixture.sol";
import {Tree, Trees} from "./fixture/Trees.sol";

/// @dev Who is in the fleet, and where.
contract MembershipTest is Fixture {
    using Trees for Tree;

    /// The crate builds the same fleet: keys 1 to 5, of which it pins the root.
    function test_RootOfThePinnedFleet() public pure {
        Tree memory five;
        five.depth = 3;
        five.places = new uint32[](5);
        five.leaves = new bytes32[](5);
        for (uint32 i; i < 5; ++i) {
            five.places[i] = i;
            five.leaves[i] = keccak256(abi.encodePacked(vm.addr(i + 1), i));
        }
        vm.assertEq(five.root(), 0x77c2a1a0fc68fbbd725f388471a30f390431c8b3ee5377753259bd9e2f84c6ec);
    }

    function test_RevertWhen_TheIndexIsAnothers() public {
        Claim memory claim = _claim(3, 1, PAYEE, T);
        claim.receipt.index = 2;
        _expect(IUpdateBounty.BadMembership.selector, 2);
        bounty.publishProof(claim, PAYEE);
        claim.path = tree.prove(_list(2));
        _expect(IUpdateBounty.BadMembership.selector, 2);
        bounty.publishProof(claim, PAYEE);
    }

    /// An index beyond the fleet would have claims of its own for a device that is in it already.
    function test_RevertWhen_TheIndexIsBeyondTheFleet() public {
        Claim memory claim = _claim(299, 1, PAYEE, T);
        claim.receipt.index = 299 + 512;
        _expect(IUpdateBounty.BadMembership.selector, 299 + 512);
        bounty.publishProof(claim, PAYEE);
        Batch memory batch = _batch(_list(3, 299), 1, PAYEE, T);
        batch.receipts[1].index = 299 + 512;
        _expect(IUpdateBounty.BadMembership.selector, 299 + 512);
        bounty.publishProofs(T, PAYEE, batch, 0);
        batch.receipts[1].index = type(uint32).max;
        _expect(IUpdateBounty.BadMembership.selector, type(uint32).max);
        bounty.reserve(S, PAYEE, batch, 0);
    }

    /// The leaf is in the tree, but the vendor does not pay for it.
    function test_RevertWhen_TheLeafIsBeyondTheGroups() public {
        Publish memory update = _update();
        update.version = 8;
        update.groups = new Group[](1);
        update.groups[0] = Group(299, 0.002 ether);
        bounty = _publish(update);
        Claim memory claim = _claim(299, 1, PAYEE, T);
        _expect(IUpdateBounty.BadMembership.selector, 299);
        bounty.publishProof(claim, PAYEE);
    }

    function test_RevertWhen_ThePathIsTooLongOrTooShort() public {
        Claim memory claim = _claim(3, 1, PAYEE, T);
        bytes32[] memory path = claim.path;
        claim.path = new bytes32[](path.length - 1);
        for (uint256 i; i < claim.path.length; ++i) {
            claim.path[i] = path[i];
        }
        _expect(IUpdateBounty.BadMembership.selector, 3);
        bounty.publishProof(claim, PAYEE);
        claim.path = new bytes32[](path.length + 1);
        for (uint256 i; i < path.length; ++i) {
            claim.path[i] = path[i];
        }
        _expect(IUpdateBounty.BadMembership.selector, 3);
        bounty.publishProof(claim, PAYEE);
    }

    function test_RevertWhen_AMultiproofIsTooLongOrTooShort() public {
        Batch memory batch = _batch(_list(1, 3, 128), 1, PAYEE, T);
        bytes32[] memory path = batch.path;
        batch.path = new bytes32[](path.length - 1);
        for (uint256 i; i < batch.path.length; ++i) {
            batch.path[i] = path[i];
        }
        _expect(IUpdateBounty.BadMembership.selector, 1);
        bounty.publishProofs(T, PAYEE, batch, 0);
        batch.path = new bytes32[](path.length + 1);
        for (uint256 i; i < path.length; ++i) {
            batch.path[i] = path[i];
        }
        _expect(IUpdateBounty.BadMembership.selector, 1);
        bounty.publishProofs(T, PAYEE, batch, 0);
    }

    /// In a lopsided tree a leaf stands right below the root: what has not the exact depth is no path.
    function test_RevertWhen_ALeafStandsHigherThanTheTreeIsDeep() public {
        bytes32 sibling = keccak256("sibling");
        Publish memory update = _update();
        update.version = 8;
        update.root = keccak256(abi.encodePacked(tree.leaves[0], sibling));
        bounty = _publish(update);
        Claim memory claim = _claim(0, 1, PAYEE, T);
        claim.path = new bytes32[](1);
        claim.path[0] = sibling;
        _expect(IUpdateBounty.BadMembership.selector, 0);
        bounty.publishProof(claim, PAYEE);
        Batch memory batch = _batch(_list(0), 1, PAYEE, T);
        batch.path = claim.path;
        _expect(IUpdateBounty.BadMembership.selector, 0);
        bounty.publishProofs(T, PAYEE, batch, 0);
    }

    /// A tree whose root is an inner node of the real one, with one level less: what was a leaf's parent
    /// would be a leaf.
    function test_RevertWhen_AnInnerNodeIsGivenAsALeaf() public {
        // The device at 3 signs, and the path starts at its parent, so that it is one short.
        Claim memory claim = _claim(3, 1, PAYEE, T);
        bytes32[] memory above = new bytes32[](DEPTH - 1);
        for (uint256 i; i < above.length; ++i) {
            above[i] = claim.path[i + 1];
        }
        claim.path = above;
        claim.receipt.index = 1;
        _expect(IUpdateBounty.BadMembership.selector, 1);
        bounty.publishProof(claim, PAYEE);
    }

    function test_RevertWhen_AnEmptyPlaceIsClaimed() public {
        Claim memory claim = _claim(5, 1, PAYEE, T);
        _expect(IUpdateBounty.BadMembership.selector, 5);
        bounty.publishProof(claim, PAYEE);
    }

    function test_AFleetOfOneHasATreeWithoutLevels() public {
        Publish memory update = _update();
        update.version = 8;
        update.depth = 0;
        update.root = tree.leaves[0];
        update.groups = new Group[](1);
        update.groups[0] = Group(1, 0.002 ether);
        bounty = _publish(update);
        tree.depth = 0;
        bounty.publishProofs(T, PAYEE, _batch(_list(0), 1, PAYEE, T), 0);
        vm.assertTrue(bounty.isClaimed(0));
    }

    /// Every choice of the eight members is proven by one multiproof, and by no proof of another choice.
    function testFuzz_AnyChoiceOfMembersIsProven(uint8 choice, uint256 other) public {
        vm.assume(choice != 0);
        uint32[] memory members = _members();
        uint256 count;
        for (uint256 i; i < 8; ++i) {
            if (choice >> i & 1 == 1) ++count;
        }
        uint32[] memory chosen = new uint32[](count);
        count = 0;
        for (uint256 i; i < 8; ++i) {
            if (choice >> i & 1 == 1) chosen[count++] = members[i];
        }
        Batch memory batch = _batch(chosen, 1, PAYEE, T);
        if (batch.path.length > 0) {
            bytes32 held = batch.path[other % batch.path.length];
            batch.path[other % batch.path.length] = ~held;
            _expect(IUpdateBounty.BadMembership.selector, chosen[0]);
            bounty.publishProofs(T, PAYEE, batch, 0);
            batch.path[other % batch.path.length] = held;
        }
        bounty.publishProofs(T, PAYEE, batch, 0);
    }
}
