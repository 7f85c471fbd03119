// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @title What a device signs
library ReceiptDigest {
    bytes internal constant TAG = "posthouse/receipt/1";

    /// @return SHA-256 over tag, chain, this contract, payee, update, `s` and attempt. Chain and
    /// contract keep a receipt from being paid elsewhere, the payee from being paid to another, and
    /// the tag from being had by the challenge of another step.
    function digest(address payee, bytes32 uId, bytes32 s, uint8 attempt) internal view returns (bytes32) {
        return sha256(abi.encodePacked(TAG, uint64(block.chainid), address(this), payee, uId, s, attempt));
    }
}
