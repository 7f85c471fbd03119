// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Secp256k1Bounty} from "../src/Secp256k1Bounty.sol";
import {IUpdateBounty} from "../src/interfaces/IUpdateBounty.sol";
import {Publish} from "../src/interfaces/IUpdateFactory.sol";
import {Batch, Claim, Receipt} from "../src/types/Claims.sol";
import {Fixture} from "./fixture/Fixture.sol";
import {Tree, Trees} from "./fixture/Trees.sol";

/// @dev Opens the check of one signature, because a high one for a known digest cannot be found.
contract OpenBounty is Secp256k1Bounty {
    function leaf(bytes32 digest, Receipt calldata receipt) external pure returns (bytes32) {
        bytes32[] calldata none;
        assembly {
            none.length := 0
            none.offset := 0
        }
        return _leaf(digest, receipt, none, 0);
    }
}

/// @dev Whose receipt counts, and where.
contract ReceiptTest is Fixture {
    using Trees for Tree;

    uint256 private constant ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141;

    function test_DigestIsThatOfTheProtocol() public view {
        bytes memory signed = abi.encodePacked(
            "posthouse/receipt/1", uint64(block.chainid), address(bounty), PAYEE, U_ID, S, uint8(9)
        );
        vm.assertEq(signed.length, 132);
        vm.assertEq(bounty.receiptDigest(PAYEE, S, 9), sha256(signed));
    }

    /// The same digest is pinned in the crate, which computes it by the protocol's own function.
    function test_DigestOfThePinnedReceipt() public {
        vm.chainId(11155111);
        address pinned = 0x00000000000000000000000000000000000B0b00;
        vm.etch(pinned, address(bounty).code);
        bytes32 digest = IUpdateBounty(pinned).receiptDigest(address(0xCAFE), keccak256("s"), 3);
        vm.assertEq(digest, 0x7ed3699b0ccf136ccad66de27464e595b3b9d711ef73a9fcd4d08c83ae3cd62d);
    }

    function test_RevertWhen_ReceiptIsReplayedOnAnotherBounty() public {
        Claim memory claim = _claim(3, 1, PAYEE, T);
        bounty.publishProof(claim, PAYEE);
        Publish memory update = _update();
        update.version = 8;
        IUpdateBounty second = _publish(update);
        _expect(IUpdateBounty.BadMembership.selector, 3);
        second.publishProof(claim, PAYEE);
    }

    function test_RevertWhen_ReceiptIsReplayedOnAnotherChain() public {
        Claim memory claim = _claim(3, 1, PAYEE, T);
        Batch memory batch = _batch(_list(3), 1, PAYEE, T);
        vm.chainId(1);
        _expect(IUpdateBounty.BadMembership.selector, 3);
        bounty.publishProof(claim, PAYEE);
        _expect(IUpdateBounty.BadMembership.selector, 3);
        bounty.reserve(S, PAYEE, batch, 0);
    }

    function test_RevertWhen_CopiedTransactionNamesAnotherPayee() public {
        Claim memory claim = _claim(3, 1, PAYEE, T);
        Batch memory batch = _batch(_list(3, 4), 1, PAYEE, T);
        _expect(IUpdateBounty.BadMembership.selector, 3);
        bounty.publishProof(claim, RIVAL);
        _expect(IUpdateBounty.BadMembership.selector, 3);
        bounty.publishProofs(T, RIVAL, batch, 0);
        _reserve(_list(3), 1, PAYEE, T);
        vm.expectRevert(IUpdateBounty.NoLock.selector);
        bounty.reveal(T, RIVAL, _list(3));
    }

    function test_RelayerGetsNothing() public {
        Claim memory claim = _claim(3, 1, PAYEE, T);
        vm.prank(RIVAL);
        bounty.publishProof(claim, PAYEE);
        vm.assertEq(PAYEE.balance, _most(3));
        vm.assertEq(RIVAL.balance, 0);
    }

    function test_RevertWhen_TIsNotTheOneThatWasSigned() public {
        Claim memory claim = _claim(3, 1, PAYEE, T);
        claim.t = T2;
        _expect(IUpdateBounty.BadMembership.selector, 3);
        bounty.publishProof(claim, PAYEE);
    }

    function test_RevertWhen_AttemptIsNotTheOneThatWasSigned() public {
        Claim memory claim = _claim(3, 1, PAYEE, T);
        claim.receipt.attempt = 2;
        _expect(IUpdateBounty.BadMembership.selector, 3);
        bounty.publishProof(claim, PAYEE);
    }

    function test_RevertWhen_OneSignatureOfABatchIsBad() public {
        Batch memory batch = _batch(_list(1, 3, 128), 1, PAYEE, T);
        batch.receipts[1].r ^= bytes32(uint256(1) << 8);
        vm.expectRevert();
        bounty.publishProofs(T, PAYEE, batch, 0);
        vm.expectRevert();
        bounty.reserve(S, PAYEE, batch, 0);
        batch.receipts[1].r = 0;
        _expect(IUpdateBounty.BadSignature.selector, 3);
        bounty.reserve(S, PAYEE, batch, 0);
        vm.assertFalse(bounty.isClaimed(1));
    }

    function test_RevertWhen_OneDeviceSignedForItsNeighbour() public {
        Batch memory batch = _batch(_list(1, 3), 1, PAYEE, T);
        (batch.receipts[0].r, batch.receipts[1].r) = (batch.receipts[1].r, batch.receipts[0].r);
        (batch.receipts[0].vs, batch.receipts[1].vs) = (batch.receipts[1].vs, batch.receipts[0].vs);
        _expect(IUpdateBounty.BadMembership.selector, 1);
        bounty.publishProofs(T, PAYEE, batch, 0);
    }

    /// A fleet with the zero address in it must not make every malformed signature a member's.
    function test_RevertWhen_NobodyIsRecovered() public {
        tree.leaves[3] = keccak256(abi.encodePacked(address(0), uint32(3)));
        Publish memory update = _update();
        update.version = 8;
        bounty = _publish(update);
        Claim memory claim = _claim(3, 1, PAYEE, T);
        claim.receipt.r = 0;
        _expect(IUpdateBounty.BadSignature.selector, 3);
        bounty.publishProof(claim, PAYEE);
        claim.receipt.r = bytes32(ORDER);
        _expect(IUpdateBounty.BadSignature.selector, 3);
        bounty.publishProof(claim, PAYEE);
    }

    function test_RevertWhen_SIsHigh() public {
        OpenBounty open = new OpenBounty();
        bytes32 digest = keccak256("digest");
        uint256 highest = ORDER / 2;
        Receipt memory receipt = Receipt(3, 1, bytes32(uint256(1)), bytes32(highest));
        vm.assertTrue(ecrecover(digest, 27, receipt.r, bytes32(highest + 1)) != address(0));
        open.leaf(digest, receipt);
        receipt.vs = bytes32(highest + 1);
        _expect(IUpdateBounty.BadSignature.selector, 3);
        open.leaf(digest, receipt);
        receipt.vs = bytes32(0);
        _expect(IUpdateBounty.BadSignature.selector, 3);
        open.leaf(digest, receipt);
    }

    function testFuzz_RevertWhen_AnyBitOfAReceiptIsFlipped(uint256 bit) public {
        Claim memory claim = _claim(3, 1, PAYEE, T);
        bit = bit % 512;
        if (bit < 256) claim.receipt.r ^= bytes32(uint256(1) << bit);
        else claim.receipt.vs ^= bytes32(uint256(1) << (bit - 256));
        vm.expectRevert();
        bounty.publishProof(claim, PAYEE);
    }
}
