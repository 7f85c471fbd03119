// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IUpdateBounty} from "../src/interfaces/IUpdateBounty.sol";
import {Publish} from "../src/interfaces/IUpdateFactory.sol";
import {Batch, Claim} from "../src/types/Claims.sol";
import {Fixture} from "./fixture/Fixture.sol";
import {
    BombingPayee,
    BurningPayee,
    HungryPayee,
    ReentrantPayee,
    RefusingPayee,
    VerbosePayee
} from "./fixture/Payees.sol";

/// @dev Where the money goes, whatever the receiver is.
contract PaymentTest is Fixture {
    function test_RefusingPayeeIsCreditedAndWithdraws() public {
        RefusingPayee refusing = new RefusingPayee();
        Claim memory claim = _claim(3, 1, address(refusing), T);
        vm.expectEmit(address(bounty));
        emit IUpdateBounty.Credited(address(refusing), _most(3));
        bounty.publishProof(claim, address(refusing));
        vm.assertEq(bounty.creditOf(address(refusing)), _most(3));
        vm.expectRevert(IUpdateBounty.PaymentRefused.selector);
        refusing.collect(bounty, payable(address(refusing)));
        refusing.collect(bounty, payable(PAYEE));
        vm.assertEq(PAYEE.balance, _most(3));
        vm.expectRevert(IUpdateBounty.Nothing.selector);
        refusing.collect(bounty, payable(PAYEE));
    }

    function test_CreditSurvivesTheRefund() public {
        RefusingPayee refusing = new RefusingPayee();
        bounty.publishProof(_claim(3, 1, address(refusing), T), address(refusing));
        vm.warp(START + 30 days + LOCK + 1);
        vm.assertEq(bounty.refund(), _deposit() - _most(3));
        vm.assertEq(address(bounty).balance, _most(3));
        refusing.consent();
        refusing.collect(bounty, payable(address(refusing)));
        vm.assertEq(address(refusing).balance, _most(3));
        // What was withdrawn is owed no more.
        vm.deal(address(bounty), 7);
        vm.assertEq(bounty.refund(), 7);
    }

    function test_GasBurningPayeeCostsABoundedAmount() public {
        address burning = address(new BurningPayee());
        Claim memory claim = _claim(3, 1, burning, T);
        uint256 before = gasleft();
        bounty.publishProof(claim, burning);
        vm.assertLe(before - gasleft(), 250_000, "gas");
        vm.assertEq(bounty.creditOf(burning), _most(3));
    }

    function test_ReturnBombingPayeeCostsABoundedAmount() public {
        address bombing = address(new BombingPayee());
        Claim memory claim = _claim(3, 1, bombing, T);
        uint256 before = gasleft();
        bounty.publishProof(claim, bombing);
        vm.assertLe(before - gasleft(), 250_000, "gas");
        vm.assertEq(bounty.creditOf(bombing), _most(3));
    }

    function test_ReturnBombOfAWillingPayeeCostsABoundedAmount() public {
        address verbose = address(new VerbosePayee());
        Claim memory claim = _claim(3, 1, verbose, T);
        uint256 before = gasleft();
        bounty.publishProof(claim, verbose);
        vm.assertLe(before - gasleft(), 250_000, "gas");
        vm.assertEq(verbose.balance, _most(3));
    }

    function test_ReentrantPayeeIsPaidOnce() public {
        ReentrantPayee reentrant = new ReentrantPayee();
        Claim memory claim = _claim(3, 1, address(reentrant), T);
        reentrant.prepare(bounty, abi.encodeCall(IUpdateBounty.publishProof, (claim, address(reentrant))));
        bounty.publishProof(claim, address(reentrant));
        vm.assertTrue(reentrant.entered());
        vm.assertFalse(reentrant.succeeded());
        vm.assertEq(address(reentrant).balance, _most(3));
    }

    function test_ReentrantRevealIsPaidOnce() public {
        ReentrantPayee reentrant = new ReentrantPayee();
        _reserve(_list(3, 4), 1, address(reentrant), T);
        bytes memory again = abi.encodeCall(IUpdateBounty.reveal, (T, address(reentrant), _list(3, 4)));
        reentrant.prepare(bounty, again);
        bounty.reveal(T, address(reentrant), _list(3, 4));
        vm.assertTrue(reentrant.entered());
        vm.assertFalse(reentrant.succeeded());
        vm.assertEq(address(reentrant).balance, 2 * _most(3));
    }

    function test_ReentrantWithdrawalIsPaidOnce() public {
        ReentrantPayee reentrant = new ReentrantPayee();
        reentrant.close(true);
        bounty.publishProof(_claim(3, 1, address(reentrant), T), address(reentrant));
        reentrant.close(false);
        reentrant.prepare(bounty, abi.encodeCall(IUpdateBounty.withdraw, (payable(address(reentrant)))));
        vm.assertEq(reentrant.collect(), _most(3));
        vm.assertTrue(reentrant.entered());
        vm.assertFalse(reentrant.succeeded());
        vm.assertEq(address(reentrant).balance, _most(3));
        vm.assertEq(bounty.creditOf(address(reentrant)), 0);
    }

    function test_RefusingVendorIsCreditedTheRefundOnce() public {
        ReentrantPayee vendor = new ReentrantPayee();
        vm.deal(address(vendor), _deposit());
        vm.prank(address(vendor));
        bounty = IUpdateBounty(factory.publishUpdate{value: _deposit()}(_update()));
        vendor.close(true);
        vm.warp(START + 30 days + LOCK + 1);
        bounty.refund();
        vm.assertEq(bounty.creditOf(address(vendor)), _deposit());
        vm.expectRevert(IUpdateBounty.Nothing.selector);
        bounty.refund();
        vendor.close(false);
        vendor.prepare(bounty, "");
        vendor.collect();
        vm.assertEq(address(vendor).balance, _deposit());
    }

    function test_ReentrantVendorIsRefundedOnce() public {
        ReentrantPayee reentrant = new ReentrantPayee();
        vm.deal(address(reentrant), 1_000 ether);
        Publish memory update = _update();
        vm.prank(address(reentrant));
        bounty = IUpdateBounty(factory.publishUpdate{value: _deposit()}(update));
        reentrant.prepare(bounty, abi.encodeCall(IUpdateBounty.refund, ()));
        vm.warp(START + 30 days + LOCK + 1);
        bounty.refund();
        vm.assertTrue(reentrant.entered());
        vm.assertFalse(reentrant.succeeded());
        vm.assertEq(address(reentrant).balance, 1_000 ether);
    }

    /// A relayer that is thrifty with gas could have the payee credited instead of paid.
    function test_RevertWhen_TheSenderLeavesThePayeeTooLittleGas() public {
        address hungry = address(new HungryPayee());
        Claim memory claim = _claim(3, 1, hungry, T);
        bytes memory call = abi.encodeCall(IUpdateBounty.publishProof, (claim, hungry));
        bytes32 last;
        for (uint256 gas_ = 40_000; gas_ < 400_000; gas_ += 1_000) {
            (bool ok, bytes memory why) = address(bounty).call{gas: gas_}(call);
            vm.assertEq(bounty.creditOf(hungry), 0);
            if (ok) {
                // And the sender was told what was wrong.
                vm.assertEq(last, bytes32(IUpdateBounty.GasTooLow.selector));
                return;
            }
            last = bytes32(why);
        }
        revert("never enough");
    }

    function test_RefundPaysTheVendorWhoeverCalls() public {
        bounty.publishProof(_claim(3, 1, PAYEE, T), PAYEE);
        uint256 before = VENDOR.balance;
        vm.warp(START + 30 days + LOCK + 1);
        vm.expectEmit(address(bounty));
        emit IUpdateBounty.Refunded(VENDOR, _deposit() - _most(3));
        vm.prank(RIVAL);
        bounty.refund();
        vm.assertEq(VENDOR.balance - before, _deposit() - _most(3));
        vm.assertEq(address(bounty).balance, 0);
    }

    function test_RevertWhen_RefundIsEarly() public {
        vm.expectRevert(IUpdateBounty.ClaimsOpen.selector);
        bounty.refund();
        // A lock taken in the last second of `claimBy` lives until here.
        vm.warp(START + 30 days + LOCK);
        vm.expectRevert(IUpdateBounty.ClaimsOpen.selector);
        bounty.refund();
    }

    function test_RevertWhen_RefundIsRepeated() public {
        vm.warp(START + 30 days + LOCK + 1);
        bounty.refund();
        vm.expectRevert(IUpdateBounty.Nothing.selector);
        bounty.refund();
    }

    function test_RevertWhen_NothingIsCredited() public {
        vm.expectRevert(IUpdateBounty.Nothing.selector);
        bounty.withdraw(payable(PAYEE));
    }

    function test_ForcedEtherGoesWithTheRefund() public {
        vm.deal(address(bounty), _deposit() + 5);
        bounty.publishProof(_claim(3, 1, PAYEE, T), PAYEE);
        vm.warp(START + 30 days + LOCK + 1);
        vm.assertEq(bounty.refund(), _deposit() - _most(3) + 5);
        vm.deal(address(bounty), 7);
        vm.assertEq(bounty.refund(), 7);
    }

    function test_RevertWhen_EtherIsSent() public {
        vm.deal(address(this), 1 ether);
        (bool ok,) = address(bounty).call{value: 1}("");
        vm.assertFalse(ok);
    }

    /// The paper divides the deposit by the number of devices; here shares are given and the deposit is
    /// their sum, so all that remains is what bonuses fell short of, to the wei.
    function test_RemainderOfUnevenSharesGoesWithTheRefund() public {
        Publish memory update = _update();
        update.version = 8;
        update.bonusBps = 3_333;
        update.groups[0].share = 7;
        update.groups[1].share = 1_000_003;
        uint256 need = factory.depositFor(update);
        // 7 · 0.3333 and 1000003 · 0.3333, rounded down.
        vm.assertEq(need, 128 * (7 + 2) + 172 * (1_000_003 + 333_300));
        bounty = _publish(update);
        uint256 sum = bounty.publishProof(_claim(3, 1, PAYEE, T), PAYEE);
        vm.assertEq(sum, 7 + 2);
        vm.warp(START + 17_001);
        sum += bounty.publishProof(_claim(299, 1, PAYEE, T), PAYEE);
        // 333,300.9999 · (172,800 − 17,001) / 172,800, rounded down once for both.
        vm.assertEq(sum, 9 + 1_000_003 + 300_509);
        vm.warp(START + 30 days + LOCK + 1);
        vm.assertEq(bounty.refund() + sum, need);
        vm.assertEq(address(bounty).balance, 0);
    }

    function test_LastShareIsThereWhenAllOthersAreGone() public {
        uint256 sum = bounty.publishProofs(T, PAYEE, _batch(_members(), 1, PAYEE, T), 0);
        vm.assertEq(address(bounty).balance, _deposit() - sum);
        vm.warp(START + 30 days + LOCK + 1);
        vm.assertEq(bounty.refund() + sum, _deposit());
    }
}
