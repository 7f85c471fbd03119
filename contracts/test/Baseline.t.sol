// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {PaperBounty} from "./baseline/PaperBounty.sol";
import {Fixture} from "./fixture/Fixture.sol";

/// @dev That the baseline of the gas figures does what the paper says, or the comparison says nothing.
contract BaselineTest is Fixture {
    PaperBounty private paper;
    address[] private devices;

    function setUp() public override {
        vm.warp(START);
        S = _lock(PAYEE, T);
        for (uint32 i; i < 3; ++i) {
            devices.push(vm.addr(_key(i)));
        }
        vm.deal(address(this), 1 ether);
        paper = new PaperBounty{value: 1 ether}(U_ID, keccak256("package"), 30 days, devices);
    }

    function _redeem(uint32 index, uint32 signer) private {
        bytes32 r = sha256(abi.encodePacked(PAYEE, T));
        (uint8 v, bytes32 x, bytes32 y) = vm.sign(_key(signer), sha256(abi.encodePacked(U_ID, S)));
        paper.publishProof(devices[index], T, S, payable(PAYEE), v, [x, y], r);
    }

    function test_PaysTheSharePerDevice() public {
        _redeem(0, 0);
        _redeem(2, 2);
        vm.assertEq(PAYEE.balance, 2 * (uint256(1 ether) / 3));
    }

    function test_RevertWhen_PaperDeviceIsClaimedTwice() public {
        _redeem(0, 0);
        vm.expectRevert(bytes("not waiting"));
        this.redeem(0, 0);
    }

    function test_RevertWhen_PaperDeviceDidNotSign() public {
        vm.expectRevert(bytes("signature"));
        this.redeem(0, 1);
    }

    function redeem(uint32 index, uint32 signer) external {
        _redeem(index, signer);
    }

    function test_RefundBringsTheRest() public {
        _redeem(0, 0);
        vm.expectRevert(bytes("early"));
        paper.refund();
        vm.warp(START + 30 days);
        uint256 before = address(this).balance;
        paper.refund();
        vm.assertEq(address(this).balance - before, 1 ether - uint256(1 ether) / 3);
        vm.expectRevert(bytes("late"));
        this.redeem(1, 1);
    }

    receive() external payable {}
}
