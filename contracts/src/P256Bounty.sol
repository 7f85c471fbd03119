// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {UpdateBounty} from "./UpdateBounty.sol";
import {Receipt} from "./types/Claims.sol";

/// @title Bounty for fleets with P-256 keys
/// @notice Leaf = keccak256(x ‖ y ‖ index u32). The key comes with the claim and the signature is checked
/// by the precompile of EIP-7951.
contract P256Bounty is UpdateBounty {
    address private constant P256VERIFY = address(0x100);
    /// Half the group order (SEC 2, section 2.4.2), the largest `s` that is low.
    uint256 private constant HALF_ORDER = 0x7fffffff800000007fffffffffffffffde737d56d38bcf4279dce5617e3192a8;

    /// @inheritdoc UpdateBounty
    function _keyWords() internal pure override returns (uint256) {
        return 2;
    }

    /// @inheritdoc UpdateBounty
    function _leaf(bytes32 digest, Receipt calldata receipt, bytes32[] calldata keys, uint256 place)
        internal
        view
        override
        returns (bytes32)
    {
        bytes32 x = keys[2 * place];
        bytes32 y = keys[2 * place + 1];
        if (uint256(receipt.vs) > HALF_ORDER) revert BadSignature(receipt.index);
        // slither-disable-next-line low-level-calls,calls-loop -- a precompile has no interface and no code
        (bool ok, bytes memory answer) =
            P256VERIFY.staticcall(abi.encodePacked(digest, receipt.r, receipt.vs, x, y));
        // On a chain without the precompile the call succeeds with nothing, which must not pass.
        if (!ok || answer.length != 32 || uint256(bytes32(answer)) != 1) revert BadSignature(receipt.index);
        return keccak256(abi.encodePacked(x, y, receipt.index));
    }
}
