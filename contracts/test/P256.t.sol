// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IUpdateBounty} from "../src/interfaces/IUpdateBounty.sol";
import {Publish} from "../src/interfaces/IUpdateFactory.sol";
import {Batch, Claim, Curve, Receipt} from "../src/types/Claims.sol";
import {Fixture} from "./fixture/Fixture.sol";
import {Tree, Trees} from "./fixture/Trees.sol";

/// @dev Fleets whose devices hold P-256 keys, which come with their claims.
contract P256Test is Fixture {
    using Trees for Tree;

    uint256 private constant ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551;

    function _enrol(uint32[] memory places) internal override {
        super._enrol(places);
        for (uint256 i; i < places.length; ++i) {
            (uint256 x, uint256 y) = vm.publicKeyP256(_p256(places[i]));
            tree.leaves[i] = keccak256(abi.encodePacked(x, y, places[i]));
        }
    }

    function _update() internal view override returns (Publish memory update) {
        update = super._update();
        update.curve = Curve.P256;
    }

    function _p256(uint32 index) private pure returns (uint256) {
        return _key(index) % ORDER;
    }

    function _receipt(uint32 index, uint8 attempt, address payee, bytes32 t)
        internal
        view
        override
        returns (Receipt memory)
    {
        bytes32 digest = bounty.receiptDigest(payee, _lock(payee, t), attempt);
        (bytes32 r, bytes32 s) = vm.signP256(_p256(index), digest);
        if (uint256(s) > ORDER / 2) s = bytes32(ORDER - uint256(s));
        return Receipt(index, attempt, r, s);
    }

    function _claim(uint32 index, uint8 attempt, address payee, bytes32 t)
        internal
        view
        override
        returns (Claim memory claim)
    {
        claim = super._claim(index, attempt, payee, t);
        claim.key = _keys(_list(index));
    }

    function _batch(uint32[] memory indices, uint8 attempt, address payee, bytes32 t)
        internal
        view
        override
        returns (Batch memory batch)
    {
        batch = super._batch(indices, attempt, payee, t);
        batch.keys = _keys(indices);
    }

    function _keys(uint32[] memory indices) private pure returns (bytes32[] memory keys) {
        keys = new bytes32[](2 * indices.length);
        for (uint256 i; i < indices.length; ++i) {
            (uint256 x, uint256 y) = vm.publicKeyP256(_p256(indices[i]));
            (keys[2 * i], keys[2 * i + 1]) = (bytes32(x), bytes32(y));
        }
    }

    function test_DirectClaimAndBatchArePaid() public {
        vm.assertEq(bounty.publishProof(_claim(3, 1, PAYEE, T), PAYEE), _most(3));
        bounty.publishProofs(T, PAYEE, _batch(_list(4, 128), 1, PAYEE, T), 0);
        _reserve(_list(127, 299), 1, PAYEE, T);
        bounty.reveal(T, PAYEE, _list(127, 299));
        vm.assertEq(PAYEE.balance, 3 * _most(3) + 2 * _most(128));
    }

    function test_RevertWhen_TheKeyIsNotTheMembers() public {
        Claim memory claim = _claim(3, 1, PAYEE, T);
        claim.receipt = _receipt(4, 1, PAYEE, T);
        claim.receipt.index = 3;
        claim.key = _keys(_list(4));
        _expect(IUpdateBounty.BadMembership.selector, 3);
        bounty.publishProof(claim, PAYEE);
        claim.key = _keys(_list(3));
        _expect(IUpdateBounty.BadSignature.selector, 3);
        bounty.publishProof(claim, PAYEE);
    }

    function test_RevertWhen_SIsHigh() public {
        Claim memory claim = _claim(3, 1, PAYEE, T);
        claim.receipt.vs = bytes32(ORDER - uint256(claim.receipt.vs));
        _expect(IUpdateBounty.BadSignature.selector, 3);
        bounty.publishProof(claim, PAYEE);
    }

    function test_RevertWhen_KeysAreMissingOrTooMany() public {
        Claim memory claim = _claim(3, 1, PAYEE, T);
        claim.key = new bytes32[](0);
        vm.expectRevert(IUpdateBounty.BadBatch.selector);
        bounty.publishProof(claim, PAYEE);
        Batch memory batch = _batch(_list(3, 4), 1, PAYEE, T);
        batch.keys = _keys(_list(3));
        vm.expectRevert(IUpdateBounty.BadBatch.selector);
        bounty.publishProofs(T, PAYEE, batch, 0);
        batch.keys = _keys(_list(1, 3, 4));
        vm.expectRevert(IUpdateBounty.BadBatch.selector);
        bounty.reserve(S, PAYEE, batch, 0);
    }

    /// A chain without EIP-7951 answers every signature with nothing.
    function test_RevertWhen_ThePrecompileIsNotThere() public {
        Claim memory claim = _claim(3, 1, PAYEE, T);
        vm.mockCall(address(0x100), "", "");
        _expect(IUpdateBounty.BadSignature.selector, 3);
        bounty.publishProof(claim, PAYEE);
    }

    /// What stands at 0x100 on some other chain may answer in its own way.
    function test_RevertWhen_ThePrecompileSaysAnythingButOne() public {
        Claim memory claim = _claim(3, 1, PAYEE, T);
        vm.mockCall(address(0x100), "", abi.encode(uint256(0)));
        _expect(IUpdateBounty.BadSignature.selector, 3);
        bounty.publishProof(claim, PAYEE);
        vm.mockCall(address(0x100), "", abi.encode(uint256(1), uint256(0)));
        _expect(IUpdateBounty.BadSignature.selector, 3);
        bounty.publishProof(claim, PAYEE);
        vm.mockCallRevert(address(0x100), "", abi.encode(uint256(1)));
        _expect(IUpdateBounty.BadSignature.selector, 3);
        bounty.publishProof(claim, PAYEE);
        vm.mockCall(address(0x100), "", abi.encode(uint256(1)));
        bounty.publishProof(claim, PAYEE);
    }
}
