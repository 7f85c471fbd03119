// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IUpdateBounty} from "../src/interfaces/IUpdateBounty.sol";
import {Batch, Claim, Device, Ended, Why} from "../src/types/Claims.sol";
import {Fixture} from "./fixture/Fixture.sol";

contract ReserveTest is Fixture {
    function test_RevealPaysWhatWasReserved() public {
        uint256 worth = _reserve(_members(), 1, PAYEE, T);
        vm.assertEq(worth, 6 * _most(0) + 2 * _most(299));
        vm.warp(START + 1 hours);
        vm.assertEq(bounty.reveal(T, PAYEE, _members()), worth);
        vm.assertEq(PAYEE.balance, worth);
    }

    function test_ReserveNamesTheLock() public {
        Batch memory batch = _batch(_list(1, 3), 1, PAYEE, T);
        vm.expectEmit(address(bounty));
        emit IUpdateBounty.Reserved(PAYEE, S, 0, 10, uint40(START + LOCK));
        bounty.reserve(S, PAYEE, batch, 0);
        (uint200 held, uint40 until) = bounty.lockOf(S, PAYEE, 0);
        vm.assertEq(held, 10);
        vm.assertEq(until, START + LOCK);
        Device memory device = bounty.devices(_list(3))[0];
        vm.assertTrue(device.reserved && !device.claimed);
        vm.assertEq(device.attempt, 1);
    }

    function test_LockedShareOutlivesTheBonus() public {
        vm.warp(START + 48 hours - 1);
        uint256 worth = _reserve(_list(3), 1, PAYEE, T);
        vm.warp(START + 48 hours + 1 hours);
        vm.assertTrue(worth > bounty.share(3));
        vm.assertEq(bounty.reveal(T, PAYEE, _list(3)), worth);
    }

    function test_DirectClaimOfOnesOwnLockHasItsPrice() public {
        uint256 worth = _reserve(_list(3), 1, PAYEE, T);
        vm.warp(START + LOCK);
        vm.assertEq(bounty.publishProof(_claim(3, 1, PAYEE, T), PAYEE), worth);
    }

    /// Or a lock that nobody has named would keep the price of the first day for ever.
    function test_DirectClaimAfterOnesOwnLockHasThePriceOfNow() public {
        uint256 worth = _reserve(_list(3), 1, PAYEE, T);
        vm.warp(START + LOCK + 1);
        vm.assertTrue(bounty.share(3) < worth);
        vm.assertEq(bounty.publishProof(_claim(3, 1, PAYEE, T), PAYEE), bounty.share(3));
    }

    function test_RevealIsValidPastClaimByWhileTheLockLives() public {
        Batch memory batch = _batch(_list(3), 1, PAYEE, T);
        vm.warp(START + 30 days);
        bounty.reserve(S, PAYEE, batch, 0);
        vm.warp(START + 30 days + LOCK);
        vm.assertEq(bounty.reveal(T, PAYEE, _list(3)), 0.002 ether);
    }

    function test_RevertWhen_RevealComesAfterTheLock() public {
        _reserve(_list(3), 1, PAYEE, T);
        vm.warp(START + LOCK + 1);
        vm.expectRevert(IUpdateBounty.NoLock.selector);
        bounty.reveal(T, PAYEE, _list(3));
    }

    function test_RevertWhen_NothingWasReserved() public {
        vm.expectRevert(IUpdateBounty.NoLock.selector);
        bounty.reveal(T, PAYEE, _list(3));
        vm.expectRevert(IUpdateBounty.NoLock.selector);
        bounty.reveal(T, PAYEE, new uint32[](0));
    }

    function test_RevertWhen_RevealIsRepeated() public {
        _reserve(_list(3, 4), 1, PAYEE, T);
        bounty.reveal(T, PAYEE, _list(3, 4));
        vm.expectRevert(IUpdateBounty.Nothing.selector);
        bounty.reveal(T, PAYEE, _list(3, 4));
    }

    function test_RevealPaysADeviceNamedTwiceOnce() public {
        _reserve(_list(3, 128), 1, PAYEE, T);
        uint32[] memory twice = _list(3, 128, 3);
        vm.assertEq(bounty.reveal(T, PAYEE, twice), _most(3) + _most(128));
    }

    function test_RevealSkipsWhatIsNotHeld() public {
        _reserve(_list(3), 1, PAYEE, T);
        vm.expectEmit(address(bounty));
        emit IUpdateBounty.Skipped(PAYEE, 4, Why.NoLock);
        vm.assertEq(bounty.reveal(T, PAYEE, _list(4, 3)), _most(3));
    }

    /// The double pay that a prototype had.
    function test_RevertWhen_RevealFollowsADirectClaimWithTheSameS() public {
        _reserve(_list(3), 1, PAYEE, T);
        bounty.publishProof(_claim(3, 1, PAYEE, T), PAYEE);
        vm.expectRevert(IUpdateBounty.Nothing.selector);
        bounty.reveal(T, PAYEE, _list(3));
        vm.assertEq(PAYEE.balance, _most(3));
    }

    function test_RevertWhen_DirectClaimFollowsAReveal() public {
        _reserve(_list(3), 1, PAYEE, T);
        bounty.reveal(T, PAYEE, _list(3));
        Claim memory claim = _claim(3, 1, PAYEE, T);
        _expect(IUpdateBounty.AlreadyClaimed.selector, 3);
        bounty.publishProof(claim, PAYEE);
    }

    function test_RevertWhen_ABatchFollowsAReveal() public {
        _reserve(_list(3, 4), 1, PAYEE, T);
        bounty.reveal(T, PAYEE, _list(3, 4));
        Batch memory same = _batch(_list(3, 4), 1, PAYEE, T);
        Batch memory other = _batch(_list(3, 4), 2, RIVAL, T2);
        _expect(IUpdateBounty.BelowMinimum.selector, 0);
        bounty.publishProofs(T, PAYEE, same, 0);
        _expect(IUpdateBounty.BelowMinimum.selector, 0);
        bounty.publishProofs(T2, RIVAL, other, 0);
    }

    function test_RevertWhen_AClaimedDeviceIsReserved() public {
        bounty.publishProof(_claim(3, 1, PAYEE, T), PAYEE);
        Batch memory own = _batch(_list(3), 2, PAYEE, T);
        Batch memory other = _batch(_list(3), 2, RIVAL, T2);
        _expect(IUpdateBounty.BelowMinimum.selector, 0);
        bounty.reserve(S, PAYEE, own, 0);
        _expect(IUpdateBounty.BelowMinimum.selector, 0);
        bounty.reserve(S2, RIVAL, other, 0);
    }

    /// One's own lock still names the device that one has claimed directly; it is worth nothing more.
    function test_RevertWhen_AClaimedDeviceOfOnesOwnLockIsReserved() public {
        _reserve(_list(3), 1, PAYEE, T);
        bounty.publishProof(_claim(3, 1, PAYEE, T), PAYEE);
        Batch memory batch = _batch(_list(3), 2, PAYEE, T);
        _expect(IUpdateBounty.BelowMinimum.selector, 0);
        bounty.reserve(S, PAYEE, batch, 0);
    }

    function test_PartialFrontRunLeavesTheRestOfAReservation() public {
        _reserve(_list(1), 2, RIVAL, T2);
        bounty.publishProof(_claim(2, 2, RIVAL, T2), RIVAL);
        Batch memory batch = _batch(_list(1, 2, 3), 1, PAYEE, T);
        vm.expectEmit(address(bounty));
        emit IUpdateBounty.Skipped(PAYEE, 1, Why.LockedByOther);
        vm.assertEq(bounty.reserve(S, PAYEE, batch, _most(3)), _most(3));
        vm.assertEq(bounty.reveal(T, PAYEE, _list(1, 2, 3)), _most(3));
    }

    /// Nothing added, nothing written: the end of a lock that is not there yet stays open.
    function test_ABatchThatTakesNothingOfAPageLeavesNoLockThere() public {
        _reserve(_list(3), 2, RIVAL, T2);
        _reserve(_list(3, 299), 1, PAYEE, T);
        (uint200 held, uint40 until) = bounty.lockOf(S, PAYEE, 0);
        vm.assertEq(held, 0);
        vm.assertEq(until, 0);
    }

    function test_RevertWhen_ADeviceOfAnothersLockIsClaimedOrReserved() public {
        _reserve(_list(3), 1, PAYEE, T);
        Claim memory claim = _claim(3, 2, RIVAL, T2);
        Batch memory batch = _batch(_list(3), 2, RIVAL, T2);
        _expect(IUpdateBounty.LockedByOther.selector, 3);
        bounty.publishProof(claim, RIVAL);
        _expect(IUpdateBounty.BelowMinimum.selector, 0);
        bounty.publishProofs(T2, RIVAL, batch, 0);
        _expect(IUpdateBounty.BelowMinimum.selector, 0);
        bounty.reserve(S2, RIVAL, batch, 0);
    }

    /// The device signed for an accomplice as well; without a reservation his claim, sent when `t` is
    /// seen, would make the honest transaction fail after it has shown `r` (reproduced on the paper's).
    function test_AccompliceCannotTakeAReservedDeviceWhenTIsSeen() public {
        _reserve(_list(3), 1, PAYEE, T);
        Claim memory accomplice = _claim(3, 2, RIVAL, keccak256("junk"));
        _expect(IUpdateBounty.LockedByOther.selector, 3);
        bounty.publishProof(accomplice, RIVAL);
        vm.assertEq(bounty.reveal(T, PAYEE, _list(3)), _most(3));
    }

    /// A prototype without attempts was kept locked for 100 periods by replayed calldata.
    function test_RevertWhen_AReceiptIsReservedASecondTime() public {
        Batch memory batch = _batch(_list(3), 1, PAYEE, T);
        bounty.reserve(S, PAYEE, batch, 0);
        vm.warp(START + LOCK + 1);
        _expect(IUpdateBounty.BelowMinimum.selector, 0);
        bounty.reserve(S, PAYEE, batch, 0);
        // It still claims directly: a receipt is not lost with its lock.
        bounty.publishProof(_claim(3, 1, PAYEE, T), PAYEE);
    }

    function test_RevertWhen_AnOlderReceiptComesAfterANewerReservation() public {
        _reserve(_list(3), 2, PAYEE, T);
        Claim memory older = _claim(3, 1, RIVAL, T2);
        Batch memory batch = _past(_batch(_list(3), 1, RIVAL, T2), _tag(PAYEE, T), 0);
        vm.warp(START + LOCK + 1);
        _expect(IUpdateBounty.BelowMinimum.selector, 0);
        bounty.publishProofs(T2, RIVAL, batch, 0);
        bounty.release(batch.ended);
        _expect(IUpdateBounty.StaleAttempt.selector, 3);
        bounty.publishProof(older, RIVAL);
    }

    function test_AnEndedLockIsPassedByNamingIt() public {
        _reserve(_list(3), 1, PAYEE, T);
        vm.warp(START + LOCK + 1);
        Batch memory unnamed = _batch(_list(3), 2, RIVAL, T2);
        _expect(IUpdateBounty.BelowMinimum.selector, 0);
        bounty.reserve(S2, RIVAL, unnamed, 0);
        Batch memory batch = _past(unnamed, _tag(PAYEE, T), 0);
        bounty.reserve(S2, RIVAL, batch, 0);
        vm.assertTrue(_held(3, RIVAL, T2));
        vm.assertFalse(_held(3, PAYEE, T));
        vm.assertTrue(bounty.reveal(T2, RIVAL, _list(3)) > 0);
    }

    function test_NamingALiveOrAnAbsentLockDoesNothing() public {
        _reserve(_list(3), 1, PAYEE, T);
        Ended[] memory named = new Ended[](2);
        named[0] = Ended(_tag(PAYEE, T), 0);
        named[1] = Ended(_tag(RIVAL, T2), 0);
        vm.warp(START + LOCK);
        vm.recordLogs();
        bounty.release(named);
        vm.assertEq(vm.getRecordedLogs().length, 0);
        vm.assertTrue(_held(3, PAYEE, T));
        vm.assertTrue(bounty.devices(_list(3))[0].reserved);
    }

    function test_ReleaseFreesOnlyTheDevicesOfThatLock() public {
        _reserve(_list(3), 1, PAYEE, T);
        vm.warp(START + LOCK);
        _reserve(_list(4), 1, RIVAL, T2);
        vm.warp(START + LOCK + 1);
        Ended[] memory named = new Ended[](1);
        named[0] = Ended(_tag(PAYEE, T), 0);
        bounty.release(named);
        Device[] memory devices = bounty.devices(_list(3, 4));
        vm.assertFalse(devices[0].reserved);
        vm.assertTrue(devices[1].reserved);
    }

    function test_AddingToALiveLockNeitherProlongsNorShortensIt() public {
        _reserve(_list(3), 1, PAYEE, T);
        vm.warp(START + 1 hours);
        vm.assertEq(_reserve(_list(3, 4), 1, PAYEE, T), 2 * _most(3));
        (uint200 held, uint40 until) = bounty.lockOf(S, PAYEE, 0);
        vm.assertEq(held, 24);
        vm.assertEq(until, START + LOCK);
    }

    /// Device 3 would be held for ever by nobody if a new lock of the same tag overwrote the old one.
    function test_ANewLockOfTheSameTagFreesWhatTheOldOneHeld() public {
        _reserve(_list(3), 1, PAYEE, T);
        vm.warp(START + LOCK + 1);
        _reserve(_list(4), 1, PAYEE, T);
        vm.assertFalse(bounty.devices(_list(3))[0].reserved);
        _reserve(_list(3), 2, RIVAL, T2);
        vm.assertTrue(_held(3, RIVAL, T2));
    }

    function test_CopiedReserveServesThePayee() public {
        Batch memory batch = _batch(_list(3, 4), 1, PAYEE, T);
        vm.prank(RIVAL);
        bounty.reserve(S, PAYEE, batch, 0);
        // The payee's own transaction comes second, succeeds, and reports the full sum.
        vm.assertEq(bounty.reserve(S, PAYEE, batch, 2 * _most(3)), 2 * _most(3));
        vm.assertEq(bounty.reveal(T, PAYEE, _list(3, 4)), 2 * _most(3));
    }

    function test_RevertWhen_CopiedReserveNamesAnotherPayeeOrS() public {
        Batch memory batch = _batch(_list(3, 4), 1, PAYEE, T);
        _expect(IUpdateBounty.BadMembership.selector, 3);
        bounty.reserve(S, RIVAL, batch, 0);
        _expect(IUpdateBounty.BadMembership.selector, 3);
        bounty.reserve(S2, PAYEE, batch, 0);
    }

    function test_RevertWhen_AReservationIsBelowTheMinimum() public {
        Batch memory batch = _batch(_list(3, 4), 1, PAYEE, T);
        _expect(IUpdateBounty.BelowMinimum.selector, 2 * _most(3));
        bounty.reserve(S, PAYEE, batch, 2 * _most(3) + 1);
    }

    function test_ANewReservationsAttemptReplacesTheOld() public {
        _reserve(_list(3), 1, PAYEE, T);
        vm.warp(START + LOCK + 1);
        _reserve(_list(3), 2, PAYEE, T);
        vm.assertEq(bounty.devices(_list(3))[0].attempt, 2);
    }

    function testFuzz_AttemptsOfNeighboursAreKeptApart(uint8 a, uint8 b, uint8 c) public {
        vm.assume(a != 0 && b != 0 && c != 0);
        _reserve(_list(2), a, PAYEE, T);
        _reserve(_list(3), b, PAYEE, T);
        _reserve(_list(4), c, PAYEE, T);
        Device[] memory devices = bounty.devices(_list(2, 3, 4));
        vm.assertEq(devices[0].attempt, a);
        vm.assertEq(devices[1].attempt, b);
        vm.assertEq(devices[2].attempt, c);
    }
}
