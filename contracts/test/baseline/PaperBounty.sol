// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @title The paper's contract, as a baseline for gas: nothing deploys it but tests and `figures gas`
/// @notice Leiba et al., "Incentivized Delivery Network of IoT Software Updates Based on Trustless
/// Proof-of-Distribution", section 4.4 and Algorithm 1: the vendor deploys one contract for each update,
/// which lists the keys of the devices in storage and pays `deposit / n` for each once.
/// @dev Literal also in its faults: what a receipt signs names neither chain, contract nor payee, a claim
/// shows `t` before it is sure of the money, the remainder of the division stays for the refund, and
/// publication costs a slot for each device. The keys are a mapping, the cheapest list that can be
/// searched. SHA-256 is the paper's H, as in Posthouse's own contracts.
contract PaperBounty {
    address private immutable VENDOR;
    bytes32 private immutable U_ID;
    bytes32 private immutable P_ID;
    uint256 private immutable REFUND_FROM;
    uint256 private immutable SHARE;

    /// The devices that nobody was paid for yet: the paper's O_i.
    mapping(address device => bool) private _waiting;

    /// @notice The key that opens what was delivered to `device`.
    event KeyRevealed(address indexed device, bytes32 r);

    constructor(bytes32 uId, bytes32 pId, uint256 refundAfter, address[] memory devices) payable {
        VENDOR = msg.sender;
        (U_ID, P_ID) = (uId, pId);
        REFUND_FROM = block.timestamp + refundAfter;
        SHARE = msg.value / devices.length;
        for (uint256 i; i < devices.length; ++i) {
            _waiting[devices[i]] = true;
        }
    }

    /// @notice Pays a share for the device's signature over U_id ‖ s, and publishes `r`.
    /// @dev The arguments are those of section 4.4.4: (pk_o, t, s, pk_d, sign_o{U_id, s}, r).
    function publishProof(
        address device,
        bytes32 t,
        bytes32 s,
        address payable payee,
        uint8 v,
        bytes32[2] calldata signature,
        bytes32 r
    ) external {
        require(block.timestamp < REFUND_FROM, "late");
        require(_waiting[device], "not waiting");
        require(r == sha256(abi.encodePacked(payee, t)), "r");
        require(s == sha256(abi.encodePacked(r)), "s");
        bytes32 signed = sha256(abi.encodePacked(U_ID, s));
        require(device == ecrecover(signed, v, signature[0], signature[1]), "signature");
        _waiting[device] = false;
        emit KeyRevealed(device, r);
        (bool paid,) = payee.call{value: SHARE}("");
        require(paid, "refused");
    }

    /// @notice Gives the vendor back what nobody earned.
    function refund() external {
        require(block.timestamp >= REFUND_FROM, "early");
        (bool paid,) = VENDOR.call{value: address(this).balance}("");
        require(paid, "refused");
    }

    /// @notice SHA-256 of the package, by which distributors find it.
    function packageId() external view returns (bytes32) {
        return P_ID;
    }
}
