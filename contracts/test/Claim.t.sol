// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IUpdateBounty} from "../src/interfaces/IUpdateBounty.sol";
import {Batch, Claim, Device, Why} from "../src/types/Claims.sol";
import {Fixture} from "./fixture/Fixture.sol";

contract ClaimTest is Fixture {
    function test_PublishProofPaysOnceAndRevealsR() public {
        bytes32 r = sha256(abi.encodePacked(PAYEE, T));
        Claim memory claim = _claim(3, 1, PAYEE, T);
        vm.expectEmit(address(bounty));
        emit IUpdateBounty.KeyRevealed(PAYEE, 3, S, r, _most(3));
        vm.assertEq(bounty.publishProof(claim, PAYEE), _most(3));
        vm.assertEq(PAYEE.balance, _most(3));
        vm.assertTrue(bounty.isClaimed(3));
        vm.assertFalse(bounty.isClaimed(2));
    }

    function test_PublishProofsPaysAcrossPages() public {
        uint32[] memory all = _members();
        uint256 sum = bounty.publishProofs(T, PAYEE, _batch(all, 1, PAYEE, T), 0);
        vm.assertEq(sum, 6 * _most(0) + 2 * _most(299));
        vm.assertEq(PAYEE.balance, sum);
        Device[] memory devices = bounty.devices(all);
        for (uint256 i; i < devices.length; ++i) {
            vm.assertTrue(devices[i].claimed);
        }
    }

    function test_RevertWhen_DeviceIsClaimedTwice() public {
        bounty.publishProof(_claim(3, 1, PAYEE, T), PAYEE);
        Claim memory same = _claim(3, 1, PAYEE, T);
        Claim memory other = _claim(3, 2, RIVAL, T2);
        _expect(IUpdateBounty.AlreadyClaimed.selector, 3);
        bounty.publishProof(same, PAYEE);
        _expect(IUpdateBounty.AlreadyClaimed.selector, 3);
        bounty.publishProof(other, RIVAL);
    }

    function test_RevertWhen_BatchNamesADeviceTwice() public {
        Batch memory batch = _batch(_list(3, 3), 1, PAYEE, T);
        vm.expectRevert(IUpdateBounty.BadBatch.selector);
        bounty.publishProofs(T, PAYEE, batch, 0);
        vm.expectRevert(IUpdateBounty.BadBatch.selector);
        bounty.reserve(S, PAYEE, batch, 0);
    }

    function test_RevertWhen_BatchIsEmptyOrUnordered() public {
        Batch memory batch;
        vm.expectRevert(IUpdateBounty.BadBatch.selector);
        bounty.publishProofs(T, PAYEE, batch, 0);
        batch = _batch(_list(1, 3), 1, PAYEE, T);
        (batch.receipts[0], batch.receipts[1]) = (batch.receipts[1], batch.receipts[0]);
        vm.expectRevert(IUpdateBounty.BadBatch.selector);
        bounty.publishProofs(T, PAYEE, batch, 0);
    }

    function test_RevertWhen_SecpClaimCarriesAKey() public {
        Claim memory claim = _claim(3, 1, PAYEE, T);
        claim.key = new bytes32[](2);
        vm.expectRevert(IUpdateBounty.BadBatch.selector);
        bounty.publishProof(claim, PAYEE);
        Batch memory batch = _batch(_list(3), 1, PAYEE, T);
        batch.keys = new bytes32[](2);
        vm.expectRevert(IUpdateBounty.BadBatch.selector);
        bounty.publishProofs(T, PAYEE, batch, 0);
    }

    function test_PartialFrontRunLeavesTheRestOfABatch() public {
        bounty.publishProof(_claim(1, 2, RIVAL, T2), RIVAL);
        bounty.publishProof(_claim(2, 2, RIVAL, T2), RIVAL);
        Batch memory batch = _batch(_list(1, 2, 3), 1, PAYEE, T);
        vm.expectEmit(address(bounty));
        emit IUpdateBounty.Skipped(PAYEE, 1, Why.Claimed);
        vm.assertEq(bounty.publishProofs(T, PAYEE, batch, _most(3)), _most(3));
    }

    function test_RevertWhen_RestOfABatchIsBelowTheMinimum() public {
        bounty.publishProof(_claim(1, 2, RIVAL, T2), RIVAL);
        Batch memory batch = _batch(_list(1, 2), 1, PAYEE, T);
        _expect(IUpdateBounty.BelowMinimum.selector, _most(2));
        bounty.publishProofs(T, PAYEE, batch, _most(2) + 1);
    }

    function test_RevertWhen_NothingOfABatchIsLeft() public {
        bounty.publishProof(_claim(1, 2, RIVAL, T2), RIVAL);
        Batch memory batch = _batch(_list(1), 1, PAYEE, T);
        _expect(IUpdateBounty.BelowMinimum.selector, 0);
        bounty.publishProofs(T, PAYEE, batch, 0);
    }

    function test_RevertWhen_ClaimIsLate() public {
        Claim memory claim = _claim(3, 1, PAYEE, T);
        Claim memory last = _claim(4, 1, PAYEE, T);
        Batch memory batch = _batch(_list(3), 1, PAYEE, T);
        vm.warp(START + 30 days);
        bounty.publishProof(last, PAYEE);
        vm.warp(START + 30 days + 1);
        vm.expectRevert(IUpdateBounty.ClaimsClosed.selector);
        bounty.publishProof(claim, PAYEE);
        vm.expectRevert(IUpdateBounty.ClaimsClosed.selector);
        bounty.publishProofs(T, PAYEE, batch, 0);
        vm.expectRevert(IUpdateBounty.ClaimsClosed.selector);
        bounty.reserve(S, PAYEE, batch, 0);
    }

    function test_RevertWhen_AttemptIsZero() public {
        Claim memory claim = _claim(3, 0, PAYEE, T);
        _expect(IUpdateBounty.StaleAttempt.selector, 3);
        bounty.publishProof(claim, PAYEE);
    }

    function testFuzz_BonusFallsLinearlyToNothing(uint256 after_) public {
        after_ = after_ % 30 days;
        vm.warp(START + after_);
        uint256 bonus = after_ < 48 hours ? 0.001 ether * (48 hours - after_) / 48 hours : 0;
        vm.assertEq(bounty.share(5), 0.002 ether + bonus);
        vm.assertEq(bounty.publishProof(_claim(4, 1, PAYEE, T), PAYEE), 0.002 ether + bonus);
    }

    function test_SharesAreThoseOfTheGroups() public {
        vm.assertEq(bounty.share(127), 0.003 ether);
        vm.assertEq(bounty.share(128), 0.0015 ether);
        vm.assertEq(bounty.share(299), 0.0015 ether);
        _expect(IUpdateBounty.BadMembership.selector, 300);
        bounty.share(300);
    }
}
