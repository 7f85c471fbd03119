// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Curve} from "../types/Claims.sol";
import {Group} from "../types/Terms.sol";

/// @notice What a vendor publishes.
/// @param product vendor id ‖ class id, two 16-byte UUIDs (RFC 9124).
/// @param version SUIT manifest sequence number.
/// @param uId SHA-256 of the firmware image.
/// @param pId SHA-256 of the package's root block.
/// @param root Root of the fleet's Merkle tree.
/// @param depth Depth of that tree, 0 to 32.
/// @param curve Which keys the devices hold.
/// @param claimBy Last second for claims, unix time.
/// @param lockSecs How long a reservation lives: 30 minutes to 24 hours.
/// @param bonusUntil When the early bonus ends; 0 without a bonus.
/// @param bonusBps Bonus at publication in 1/10000 of a share; 0 without a bonus.
/// @param groups One to eight index ranges, ascending; the last one ends with the fleet.
struct Publish {
    bytes32 product;
    uint64 version;
    bytes32 uId;
    bytes32 pId;
    bytes32 root;
    uint8 depth;
    Curve curve;
    uint40 claimBy;
    uint32 lockSecs;
    uint40 bonusUntil;
    uint16 bonusBps;
    Group[] groups;
}

/// @title Where vendors announce updates
/// @notice One storage slot for each vendor and product says the latest version and the bounty for it,
/// so that one storage proof tells a light client that nothing newer was hidden from it.
interface IUpdateFactory {
    /// @notice A new version is out.
    /// @param vendor Who published it and gets back what nobody earns.
    /// @param product vendor id ‖ class id.
    /// @param version SUIT manifest sequence number.
    /// @param bounty The clone that pays for its delivery.
    /// @param uId SHA-256 of the firmware image.
    /// @param pId SHA-256 of the package's root block.
    /// @param root Root of the fleet's Merkle tree.
    /// @param claimBy Last second for claims, unix time.
    /// @param args The terms, byte for byte as the bounty carries them behind its code.
    event UpdatePublished(
        address indexed vendor,
        bytes32 indexed product,
        uint64 indexed version,
        address bounty,
        bytes32 uId,
        bytes32 pId,
        bytes32 root,
        uint40 claimBy,
        bytes args
    );

    /// @notice The version is not above the latest one.
    error Downgrade(uint64 latest);
    /// @notice The version is more than 2^32 above the latest one: a stolen key must not use them up.
    error VersionJump(uint64 latest);
    /// @notice The value sent is not the sum of the largest shares.
    error WrongDeposit(uint256 need);
    /// @notice The terms contradict themselves or exceed a bound of `Publish`.
    error BadTerms();

    /// @notice Deploys and funds the bounty for a new version of the caller's product. The value sent is
    /// what `depositFor` says, to the wei.
    /// @return bounty A clone at the CREATE2 address of (vendor, product, version) and the terms.
    function publishUpdate(Publish calldata update) external payable returns (address bounty);

    /// @notice The latest version of a vendor's product and its bounty, packed in one slot:
    /// bounty in bits 64 to 223, version in bits 0 to 63. Zero when there is none.
    function latest(address vendor, bytes32 product) external view returns (uint64 version, address bounty);

    /// @notice Wei that `publishUpdate` wants for these terms. Reverts with `BadTerms` as it does.
    function depositFor(Publish calldata update) external view returns (uint256);

    /// @notice The code behind the clones for fleets with keys on this curve.
    function implementation(Curve curve) external view returns (address);
}
