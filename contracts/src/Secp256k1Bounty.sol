// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {UpdateBounty} from "./UpdateBounty.sol";
import {Receipt} from "./types/Claims.sol";

/// @title Bounty for fleets with secp256k1 keys
/// @notice Leaf = keccak256(address ‖ index u32). The key is recovered from the receipt, so claims do
/// not carry it; what a wrong signature recovers is no member.
contract Secp256k1Bounty is UpdateBounty {
    /// Half the group order (SEC 2, section 2.4.1), the largest `s` that is low.
    uint256 private constant HALF_ORDER = 0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0;
    uint256 private constant TOP_BIT = 1 << 255;

    /// @inheritdoc UpdateBounty
    function _keyWords() internal pure override returns (uint256) {
        return 0;
    }

    /// @inheritdoc UpdateBounty
    function _leaf(bytes32 digest, Receipt calldata receipt, bytes32[] calldata, uint256)
        internal
        pure
        override
        returns (bytes32)
    {
        uint256 s = uint256(receipt.vs) & ~TOP_BIT;
        uint8 v = uint256(receipt.vs) & TOP_BIT == 0 ? 27 : 28;
        address signer = s > HALF_ORDER ? address(0) : ecrecover(digest, v, receipt.r, bytes32(s));
        if (signer == address(0)) revert BadSignature(receipt.index);
        return keccak256(abi.encodePacked(signer, receipt.index));
    }
}
