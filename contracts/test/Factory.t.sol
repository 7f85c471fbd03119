// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IUpdateBounty} from "../src/interfaces/IUpdateBounty.sol";
import {IUpdateFactory, Publish} from "../src/interfaces/IUpdateFactory.sol";
import {Curve} from "../src/types/Claims.sol";
import {Group, Terms} from "../src/types/Terms.sol";
import {Fixture} from "./fixture/Fixture.sol";

contract FactoryTest is Fixture {
    bytes1 private constant NUMBER = 0x43;
    bytes1 private constant CHAINID = 0x46;

    function test_PublicationIsInOneSlot() public view {
        (uint64 version, address latest) = factory.latest(VENDOR, PRODUCT);
        vm.assertEq(version, 7);
        vm.assertEq(latest, address(bounty));
        bytes32 slot = keccak256(abi.encode(PRODUCT, keccak256(abi.encode(VENDOR, uint256(0)))));
        uint256 word = uint256(uint160(address(bounty))) << 64 | 7;
        vm.assertEq(vm.load(address(factory), slot), bytes32(word));
    }

    function test_TermsAreInTheBountysCode() public view {
        Terms memory terms = bounty.terms();
        Publish memory update = _update();
        vm.assertEq(terms.vendor, VENDOR);
        vm.assertEq(terms.start, START);
        vm.assertEq(terms.claimBy, update.claimBy);
        vm.assertEq(terms.bonusUntil, update.bonusUntil);
        vm.assertEq(terms.lockSecs, LOCK);
        vm.assertEq(terms.bonusBps, 5_000);
        vm.assertEq(terms.depth, DEPTH);
        vm.assertEq(terms.root, update.root);
        vm.assertEq(terms.uId, U_ID);
        vm.assertEq(terms.pId, update.pId);
        vm.assertEq(terms.groups.length, 2);
        vm.assertEq(terms.groups[0].endIndex, 128);
        vm.assertEq(terms.groups[1].endIndex, FLEET);
        vm.assertEq(terms.groups[1].share, 0.001 ether);
        bytes memory clone = abi.encodePacked(
            hex"363d3d373d3d3d363d73",
            factory.implementation(Curve.Secp256k1),
            hex"5af43d82803e903d91602b57fd5bf3"
        );
        bytes memory code = address(bounty).code;
        for (uint256 i; i < 45; ++i) {
            vm.assertEq(uint8(code[i]), uint8(clone[i]));
        }
        vm.assertEq(code.length, 45 + 138 + 2 * 16);
    }

    function test_ImplementationsFollowFromTheFactorysAddress() public view {
        bytes memory first = abi.encodePacked(hex"d694", address(factory), hex"01");
        bytes memory second = abi.encodePacked(hex"d694", address(factory), hex"02");
        vm.assertEq(factory.implementation(Curve.Secp256k1), address(uint160(uint256(keccak256(first)))));
        vm.assertEq(factory.implementation(Curve.P256), address(uint160(uint256(keccak256(second)))));
    }

    /// @dev revm, and so forge, has no more than 64 bits for a chain id. The constructor therefore reads the block's
    /// number in its place: one instruction of the code is another one, all else is what is deployed.
    function test_RevertWhen_TheChainIdHasMoreThan64Bits() public {
        bytes memory code = vm.getCode("UpdateFactory.sol:UpdateFactory");
        uint256 place;
        while (code[place] != CHAINID) {
            // PUSH1 to PUSH32 are followed by their bytes.
            uint8 op = uint8(code[place]);
            place += op >= 0x60 && op <= 0x7f ? op - 0x5e : 1;
        }
        code[place] = NUMBER;
        vm.roll(type(uint64).max);
        vm.assertTrue(_create(code) != address(0));
        vm.roll(uint256(type(uint64).max) + 1);
        vm.assertEq(_create(code), address(0));
    }

    function _create(bytes memory code) private returns (address created) {
        assembly ("memory-safe") {
            created := create(0, add(code, 32), mload(code))
        }
    }

    function test_RevertWhen_VersionDoesNotRise() public {
        Publish memory update = _update();
        _expectFrom(update, abi.encodeWithSelector(IUpdateFactory.Downgrade.selector, 7));
        update.version = 6;
        _expectFrom(update, abi.encodeWithSelector(IUpdateFactory.Downgrade.selector, 7));
        update.product = keccak256("new");
        update.version = 0;
        _expectFrom(update, abi.encodeWithSelector(IUpdateFactory.Downgrade.selector, 0));
    }

    function test_RevertWhen_VersionRisesTooFar() public {
        Publish memory update = _update();
        update.version = 7 + (1 << 32) + 1;
        _expectFrom(update, abi.encodeWithSelector(IUpdateFactory.VersionJump.selector, 7));
        update.version = 7 + (1 << 32);
        _publish(update);
    }

    function test_ProductsAndVendorsAreApart() public {
        Publish memory update = _update();
        update.version = 1;
        update.product = keccak256("new");
        _publish(update);
        vm.deal(RIVAL, 1_000 ether);
        update.product = PRODUCT;
        vm.prank(RIVAL);
        factory.publishUpdate{value: _deposit()}(update);
        (uint64 version,) = factory.latest(VENDOR, PRODUCT);
        vm.assertEq(version, 7);
    }

    function test_RevertWhen_DepositIsOffByOne() public {
        Publish memory update = _update();
        update.version = 8;
        vm.assertEq(factory.depositFor(update), _deposit());
        bytes memory refusal = abi.encodeWithSelector(IUpdateFactory.WrongDeposit.selector, _deposit());
        vm.deal(VENDOR, 1_000 ether);
        for (uint256 value = _deposit() - 1; value <= _deposit() + 1; value += 2) {
            vm.prank(VENDOR);
            vm.expectRevert(refusal);
            factory.publishUpdate{value: value}(update);
        }
        vm.prank(VENDOR);
        vm.expectRevert(refusal);
        factory.publishUpdate(update);
    }

    function test_RevertWhen_TermsAreBad() public {
        for (uint256 i; i < 23; ++i) {
            Publish memory update = _update();
            update.version = 8;
            _spoil(update, i);
            vm.expectRevert(IUpdateFactory.BadTerms.selector);
            factory.depositFor(update);
        }
    }

    function _spoil(Publish memory update, uint256 way) private pure {
        if (way == 0) update.root = 0;
        else if (way == 1) update.uId = 0;
        else if (way == 2) update.pId = 0;
        else if (way == 3) (update.claimBy, update.bonusUntil, update.bonusBps) = (uint40(START), 0, 0);
        else if (way == 4) update.claimBy = uint40(START + 3650 days + 1);
        else if (way == 5) update.claimBy = type(uint40).max;
        else if (way == 6) update.lockSecs = 30 minutes - 1;
        else if (way == 7) update.lockSecs = 24 hours + 1;
        else if (way == 8) update.bonusUntil = 0;
        else if (way == 9) update.bonusBps = 0;
        else if (way == 10) update.bonusUntil = uint40(START);
        else if (way == 11) update.bonusUntil = update.claimBy + 1;
        else if (way == 12) update.groups = new Group[](0);
        else if (way == 13) update.groups = _groups(9);
        else if (way == 14) update.groups[0].share = 0;
        else if (way == 15) update.groups[1].share = 0;
        else if (way == 16) update.groups[0].endIndex = 0;
        else if (way == 17) update.groups[1].endIndex = 128;
        else if (way == 18) update.groups[1].endIndex = 127;
        else if (way == 19) update.groups[1].endIndex = 513;
        else if (way == 20) update.depth = 8;
        else if (way == 21) update.depth = 33;
        else update.depth = 255;
    }

    function test_RevertWhen_CurveIsNone() public {
        Publish memory update = _update();
        update.version = 8;
        update.curve = Curve.None;
        _expectFrom(update, abi.encodeWithSelector(IUpdateFactory.BadTerms.selector));
        vm.expectRevert(IUpdateFactory.BadTerms.selector);
        factory.implementation(Curve.None);
    }

    function test_EightGroupsAreTaken() public {
        Publish memory update = _update();
        update.version = 8;
        update.groups = _groups(8);
        bounty = _publish(update);
        for (uint32 i; i < 8; ++i) {
            vm.assertEq(bounty.share(i * 10 + 9), (uint256(i) + 1) * 1.5 gwei);
        }
    }

    function _groups(uint32 count) private pure returns (Group[] memory groups) {
        groups = new Group[](count);
        for (uint32 i; i < count; ++i) {
            groups[i] = Group((i + 1) * 10, uint96(i + 1) * 1 gwei);
        }
    }

    function testFuzz_DepositCoversEveryShareAtAnyTime(
        uint96 share,
        uint96 other,
        uint16 bps,
        uint32 end,
        uint256 after_
    ) public {
        vm.assume(share != 0 && other != 0);
        Publish memory update = _update();
        update.version = 8;
        update.bonusBps = bps;
        if (bps == 0) update.bonusUntil = 0;
        update.groups[0] = Group(end % (FLEET - 1) + 1, share);
        update.groups[1] = Group(FLEET, other);
        vm.deal(VENDOR, type(uint128).max);
        uint256 need = factory.depositFor(update);
        vm.deal(VENDOR, need);
        vm.prank(VENDOR);
        bounty = IUpdateBounty(factory.publishUpdate{value: need}(update));
        vm.warp(START + after_ % 30 days);
        uint256 first = update.groups[0].endIndex;
        uint256 sum = first * bounty.share(0) + (FLEET - first) * bounty.share(FLEET - 1);
        vm.assertLe(sum, need, "all shares");
        vm.warp(START);
        sum = first * bounty.share(0) + (FLEET - first) * bounty.share(FLEET - 1);
        vm.assertEq(sum, need);
    }

    function _expectFrom(Publish memory update, bytes memory refusal) private {
        vm.deal(VENDOR, 1_000 ether);
        vm.prank(VENDOR);
        vm.expectRevert(refusal);
        factory.publishUpdate{value: 1}(update);
    }
}
