// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {SafeTransferLib} from "solady/utils/SafeTransferLib.sol";
import {IUpdateBounty} from "../interfaces/IUpdateBounty.sol";

/// @title How a bounty pays
/// @dev Invariant: `_owed` is the sum of all credits and never above the balance. Payments are the last
/// thing a call does, so a payee that calls back meets the state of after the payment.
abstract contract Purse is IUpdateBounty {
    /// Enough for the proxies and delegated accounts in use, too little to make a batch dear.
    uint256 private constant PUSH_GAS = 50_000;
    /// A call passes on 63/64 of what is left after its own price (cold, value, new account: 36,600), so
    /// below this the payee could run dry for the sender's thrift. It would not be credited instead, as
    /// the 64th that remains does not pay for writing that; but the sender learns here what was wrong.
    uint256 private constant PUSH_NEEDS = 90_000;

    uint256 internal _owed;
    mapping(address payee => uint256) private _credit;

    /// @inheritdoc IUpdateBounty
    function withdraw(address payable to) external returns (uint256 amount) {
        amount = _credit[msg.sender];
        if (amount == 0) revert Nothing();
        _credit[msg.sender] = 0;
        _owed -= amount;
        emit Withdrawn(msg.sender, to, amount);
        if (!SafeTransferLib.trySafeTransferETH(to, amount, gasleft())) revert PaymentRefused();
    }

    /// @inheritdoc IUpdateBounty
    function creditOf(address payee) external view returns (uint256) {
        return _credit[payee];
    }

    /// @dev Bounded gas, and what the payee returns is not copied, so no payee can make others pay.
    function _push(address payee, uint256 amount) internal {
        if (gasleft() < PUSH_NEEDS) revert GasTooLow();
        if (SafeTransferLib.trySafeTransferETH(payee, amount, PUSH_GAS)) return;
        _credit[payee] += amount;
        _owed += amount;
        emit Credited(payee, amount);
    }
}
