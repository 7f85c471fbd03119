// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IUpdateBounty} from "../src/interfaces/IUpdateBounty.sol";
import {Publish} from "../src/interfaces/IUpdateFactory.sol";
import {Batch, Claim} from "../src/types/Claims.sol";
import {Group} from "../src/types/Terms.sol";
import {Fixture} from "./fixture/Fixture.sol";
import {Tree, Trees} from "./fixture/Trees.sol";

/// @dev What the calls cost as transactions of their own (isolated: with intrinsic gas, the floor for
/// calldata and cold storage), for a fleet of a million. The figures are committed in `snapshots/`.
/// forge-config: default.isolate = true
contract GasTest is Fixture {
    using Trees for Tree;

    uint32 private constant MILLION = 1_000_000;
    /// A hundred neighbours at the start of an aligned subtree of 128, and a hundred far apart.
    uint32 private constant SITE = 640_000;

    function setUp() public override {
        super.setUp();
        vm.deal(PAYEE, 1);
        vm.deal(address(this), 1 ether);
    }

    function _members() internal pure override returns (uint32[] memory places) {
        places = new uint32[](200);
        for (uint32 i; i < 100; ++i) {
            places[i] = i * 5_000;
        }
        for (uint32 i; i < 100; ++i) {
            places[100 + i] = SITE + i;
        }
    }

    function _update() internal view override returns (Publish memory update) {
        update = super._update();
        update.root = tree.root();
        update.depth = 20;
        update.bonusUntil = 0;
        update.bonusBps = 0;
        update.groups = new Group[](1);
        update.groups[0] = Group(MILLION, 0.0001 ether);
    }

    function _enrol(uint32[] memory places) internal override {
        super._enrol(places);
        tree.depth = 20;
    }

    function _run(uint32 from) private pure returns (uint32[] memory run) {
        run = new uint32[](100);
        for (uint32 i; i < 100; ++i) {
            run[i] = from == SITE ? SITE + i : i * 5_000;
        }
    }

    function test_Publish() public {
        Publish memory update = _update();
        update.version = 8;
        _publish(update);
        vm.assertLe(vm.snapshotGasLastCall("publish"), 135_000, "publish");
    }

    /// @dev The factory's slot of a new product is empty, which costs 17,100 more; the size of the fleet, nothing
    /// but calldata that has fewer zeros.
    function test_PublishTheFirstVersionForAnyFleet() public {
        uint32[3] memory sizes = [uint32(100), 10_000, MILLION];
        uint8[3] memory depths = [7, 14, 20];
        string[3] memory names = ["a hundred", "ten thousand", "a million"];
        for (uint256 i; i < 3; ++i) {
            Publish memory update = _update();
            update.product = keccak256(bytes(names[i]));
            update.depth = depths[i];
            update.groups[0].endIndex = sizes[i];
            _publish(update);
            string memory name = string.concat("publish the first version for ", names[i]);
            vm.assertLe(vm.snapshotGasLastCall(name), 135_000, name);
        }
    }

    function test_Direct() public {
        Claim memory first = _claim(SITE, 1, PAYEE, T);
        Claim memory next = _claim(SITE + 1, 1, PAYEE, T);
        bounty.publishProof(first, PAYEE);
        vm.assertLe(vm.snapshotGasLastCall("direct, first of its page"), 85_000, "direct, first");
        bounty.publishProof(next, PAYEE);
        vm.assertLe(vm.snapshotGasLastCall("direct, next of its page"), 68_000, "direct, next");
    }

    function test_ReserveAndRevealOne() public {
        Batch memory batch = _batch(_list(SITE), 1, PAYEE, T);
        bounty.reserve(S, PAYEE, batch, 0);
        vm.snapshotGasLastCall("reserve one");
        bounty.reveal(T, PAYEE, _list(SITE));
        vm.snapshotGasLastCall("reveal one");
    }

    function test_SiteOfAHundred() public {
        uint32[] memory site = _run(SITE);
        Batch memory batch = _batch(site, 1, PAYEE, T);
        bounty.reserve(S, PAYEE, batch, 0);
        uint256 reserved = vm.snapshotGasLastCall("reserve a site of 100");
        bounty.reveal(T, PAYEE, site);
        uint256 revealed = vm.snapshotGasLastCall("reveal a site of 100");
        vm.assertLe((reserved + revealed) / 100, 25_000, "each device of a site");
    }

    function test_ScatteredHundred() public {
        uint32[] memory scattered = _run(0);
        Batch memory batch = _batch(scattered, 1, PAYEE, T);
        bounty.reserve(S, PAYEE, batch, 0);
        vm.snapshotGasLastCall("reserve 100 scattered");
        bounty.reveal(T, PAYEE, scattered);
        vm.snapshotGasLastCall("reveal 100 scattered");
    }

    function test_DirectSiteOfAHundred() public {
        Batch memory batch = _batch(_run(SITE), 1, PAYEE, T);
        bounty.publishProofs(T, PAYEE, batch, 0);
        vm.snapshotGasLastCall("direct, a site of 100");
    }
}
