// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {LibClone} from "solady/utils/LibClone.sol";
import {Ledger} from "./base/Ledger.sol";
import {Purse} from "./base/Purse.sol";
import {IUpdateBounty} from "./interfaces/IUpdateBounty.sol";
import {Fleet} from "./libraries/Fleet.sol";
import {ReceiptDigest} from "./libraries/ReceiptDigest.sol";
import {Batch, Claim, Receipt, Why} from "./types/Claims.sol";
import {Terms, TermsLib} from "./types/Terms.sol";

/// @title A bounty, but for the curve of its devices
/// @dev Invariants: paid + credited + refundable = deposited, forced ether going with the refund; a
/// device is paid for once, because every way to money sets its claim bit first. `refund` opens when no
/// lock can live any more, so what locks promise is always there.
/// The clones carry the terms behind their code; this contract itself has none and holds nothing.
abstract contract UpdateBounty is Purse, Ledger {
    using TermsLib for bytes;

    /// What all receipts of a call share.
    struct Deal {
        bytes terms;
        address payee;
        bytes32 r;
        bytes32 s;
    }

    /// @inheritdoc IUpdateBounty
    function publishProof(Claim calldata claim, address payee) external returns (uint256 amount) {
        Deal memory deal = _opened(payee, claim.t);
        Receipt calldata receipt = claim.receipt;
        _checkOne(deal, claim);
        Why why;
        (amount, why) = _claim(deal, receipt);
        if (amount == 0) _refuse(receipt.index, why);
        _push(payee, amount);
    }

    /// @inheritdoc IUpdateBounty
    function publishProofs(bytes32 t, address payee, Batch calldata batch, uint256 minSum)
        external
        returns (uint256 sum)
    {
        Deal memory deal = _opened(payee, t);
        _checkShape(deal.terms, batch);
        _release(batch.ended);
        for (uint256 i; i < batch.receipts.length; ++i) {
            (uint256 amount, Why why) = _claim(deal, batch.receipts[i]);
            if (amount == 0) emit Skipped(payee, batch.receipts[i].index, why);
            sum += amount;
        }
        if (sum == 0 || sum < minSum) revert BelowMinimum(sum);
        _checkAll(deal, batch);
        _push(payee, sum);
    }

    /// @inheritdoc IUpdateBounty
    function reserve(bytes32 s, address payee, Batch calldata batch, uint256 minSum)
        external
        returns (uint256 sum)
    {
        Deal memory deal = Deal(_openTerms(), payee, 0, s);
        _checkShape(deal.terms, batch);
        _release(batch.ended);
        uint256 i;
        while (i < batch.receipts.length) {
            uint256 worth;
            (i, worth) = _lockPage(deal, batch.receipts, i);
            sum += worth;
        }
        if (sum == 0 || sum < minSum) revert BelowMinimum(sum);
        // Last, because it is dear: a batch that was run down by another's reverts before it.
        _checkAll(deal, batch);
    }

    /// @inheritdoc IUpdateBounty
    function reveal(bytes32 t, address payee, uint32[] calldata indices) external returns (uint256 sum) {
        Deal memory deal = _derived(_terms(), payee, t);
        bool held;
        uint256 i;
        while (i < indices.length) {
            bool any;
            uint256 worth;
            (i, any, worth) = _revealPage(deal, indices, i);
            held = held || any;
            sum += worth;
        }
        if (!held) revert NoLock();
        if (sum == 0) revert Nothing();
        _push(payee, sum);
    }

    /// @inheritdoc IUpdateBounty
    function refund() external returns (uint256 amount) {
        bytes memory t = _terms();
        if (block.timestamp <= t.claimBy() + t.lockSecs()) revert ClaimsOpen();
        amount = address(this).balance - _owed;
        if (amount == 0) revert Nothing();
        emit Refunded(t.vendor(), amount);
        _push(t.vendor(), amount);
    }

    /// @inheritdoc IUpdateBounty
    function terms() external view returns (Terms memory) {
        return _terms().decode();
    }

    /// @inheritdoc IUpdateBounty
    function share(uint32 index) external view returns (uint256) {
        bytes memory t = _terms();
        if (index >= t.fleetSize()) revert BadMembership(index);
        return t.shareAt(index, block.timestamp);
    }

    /// @inheritdoc IUpdateBounty
    function receiptDigest(address payee, bytes32 s, uint8 attempt) external view returns (bytes32) {
        return ReceiptDigest.digest(payee, _terms().uId(), s, attempt);
    }

    /// @dev Words of key that a claim carries for each receipt.
    function _keyWords() internal pure virtual returns (uint256);

    /// @dev The leaf of whoever signed `digest`; reverts with `BadSignature` where that is nobody.
    /// @param place The receipt's place in the batch, so that its key is at `place * _keyWords()`.
    function _leaf(bytes32 digest, Receipt calldata receipt, bytes32[] calldata keys, uint256 place)
        internal
        view
        virtual
        returns (bytes32);

    function _terms() private view returns (bytes memory) {
        return LibClone.argsOnClone(address(this));
    }

    function _openTerms() private view returns (bytes memory t) {
        t = _terms();
        if (block.timestamp > t.claimBy()) revert ClaimsClosed();
    }

    function _opened(address payee, bytes32 t) private view returns (Deal memory) {
        return _derived(_openTerms(), payee, t);
    }

    /// @dev `r` binds the payee (paper, 5.2): another payee would need another preimage.
    function _derived(bytes memory fixedTerms, address payee, bytes32 t) private pure returns (Deal memory) {
        bytes32 r = sha256(abi.encodePacked(payee, t));
        bytes32 s = sha256(abi.encodePacked(r));
        return Deal(fixedTerms, payee, r, s);
    }

    /// @dev Claims one device, or says why not. Shares are never zero, so zero says no.
    function _claim(Deal memory deal, Receipt calldata receipt) private returns (uint256 amount, Why why) {
        uint256 row = _rows[receipt.index / ROW];
        (amount, why) = _worth(deal, receipt, row);
        if (amount == 0) return (0, why);
        _rows[receipt.index / ROW] = row | _claimBit(receipt.index);
        emit KeyRevealed(deal.payee, receipt.index, deal.s, deal.r, amount);
    }

    /// @dev What a direct claim brings: the price of one's own live lock, else that of now.
    function _worth(Deal memory deal, Receipt calldata receipt, uint256 row)
        private
        view
        returns (uint256, Why)
    {
        uint256 index = receipt.index;
        if (_isClaimed(row, index)) return (0, Why.Claimed);
        uint256 time = block.timestamp;
        if (_isHeld(row, index)) {
            Lock memory lock = _locks[_tag(deal.s, deal.payee)][index / PAGE];
            if (lock.devices & _pageBit(index) == 0) return (0, Why.LockedByOther);
            if (time <= lock.until) time = lock.until - deal.terms.lockSecs();
        }
        if (receipt.attempt == 0 || receipt.attempt < _attempt(row, index)) return (0, Why.StaleAttempt);
        return (deal.terms.shareAt(index, time), Why.Claimed);
    }

    /// @dev Locks the run of receipts from `i` that lie in one page.
    /// @return next The first receipt after the run.
    /// @return sum What the run's devices that are now held will pay.
    function _lockPage(Deal memory deal, Receipt[] calldata receipts, uint256 i)
        private
        returns (uint256 next, uint256 sum)
    {
        uint256 page = receipts[i].index / PAGE;
        bytes32 tag = _tag(deal.s, deal.payee);
        // One's own lock that ended makes room for a new one; without this its bits would be orphaned.
        _release(tag, page);
        Lock memory lock = _locks[tag][page];
        if (lock.devices == 0) lock.until = uint40(block.timestamp + deal.terms.lockSecs());
        uint256 time = lock.until - deal.terms.lockSecs();
        uint200 added;
        for (next = i; next < receipts.length && receipts[next].index / PAGE == page; ++next) {
            Receipt calldata receipt = receipts[next];
            (bool held, bool fresh, Why why) = _lock(lock.devices, receipt);
            if (held) sum += deal.terms.shareAt(receipt.index, time);
            else emit Skipped(deal.payee, receipt.index, why);
            if (fresh) added |= _pageBit(receipt.index);
        }
        if (added == 0) return (next, sum);
        _locks[tag][page] = Lock(lock.devices | added, lock.until);
        emit Reserved(deal.payee, deal.s, uint32(page), added, lock.until);
    }

    /// @dev Marks one device as held, unless it is by this lock already.
    /// @param mine The devices that this lock holds.
    /// @return held Whether this lock holds the device after the call.
    /// @return fresh Whether it did not before.
    /// @return why The reason if it does not.
    function _lock(uint200 mine, Receipt calldata receipt) private returns (bool held, bool fresh, Why why) {
        uint256 index = receipt.index;
        uint256 row = _rows[index / ROW];
        if (_isClaimed(row, index)) return (false, false, Why.Claimed);
        if (mine & _pageBit(index) != 0) return (true, false, why);
        if (_isHeld(row, index)) return (false, false, Why.LockedByOther);
        if (receipt.attempt <= _attempt(row, index)) return (false, false, Why.StaleAttempt);
        _rows[index / ROW] = _withAttempt(row, index, receipt.attempt) | _heldBit(index);
        return (true, true, why);
    }

    /// @dev Pays the run of indices from `i` that lie in one page.
    /// @return next The first index after the run.
    /// @return held Whether a live lock of this deal holds any of them.
    /// @return sum What they bring.
    function _revealPage(Deal memory deal, uint32[] calldata indices, uint256 i)
        private
        returns (uint256 next, bool held, uint256 sum)
    {
        uint256 page = indices[i] / PAGE;
        Lock memory lock = _locks[_tag(deal.s, deal.payee)][page];
        if (block.timestamp > lock.until) lock.devices = 0;
        for (next = i; next < indices.length && indices[next] / PAGE == page; ++next) {
            uint32 index = indices[next];
            uint256 row = _rows[index / ROW];
            bool mine = lock.devices & _pageBit(index) != 0;
            held = held || mine;
            if (!mine || _isClaimed(row, index)) {
                emit Skipped(deal.payee, index, mine ? Why.Claimed : Why.NoLock);
                continue;
            }
            _rows[index / ROW] = row | _claimBit(index);
            uint256 amount = deal.terms.shareAt(index, lock.until - deal.terms.lockSecs());
            sum += amount;
            emit KeyRevealed(deal.payee, index, deal.s, deal.r, amount);
        }
    }

    function _refuse(uint32 index, Why why) private pure {
        if (why == Why.Claimed) revert AlreadyClaimed(index);
        if (why == Why.LockedByOther) revert LockedByOther(index);
        revert StaleAttempt(index);
    }

    function _checkOne(Deal memory deal, Claim calldata claim) private view {
        Receipt calldata receipt = claim.receipt;
        if (claim.key.length != _keyWords()) revert BadBatch();
        if (receipt.index >= deal.terms.fleetSize()) revert BadMembership(receipt.index);
        bytes32 digest = ReceiptDigest.digest(deal.payee, deal.terms.uId(), deal.s, receipt.attempt);
        bytes32 leaf = _leaf(digest, receipt, claim.key, 0);
        if (!Fleet.contains(deal.terms.root(), deal.terms.depth(), receipt.index, leaf, claim.path)) {
            revert BadMembership(receipt.index);
        }
    }

    /// @dev Strictly ascending, so no device stands in a batch twice and only the last can be too high.
    function _checkShape(bytes memory fixedTerms, Batch calldata batch) private pure {
        uint256 count = batch.receipts.length;
        if (count == 0 || batch.keys.length != count * _keyWords()) revert BadBatch();
        for (uint256 i = 1; i < count; ++i) {
            if (batch.receipts[i].index <= batch.receipts[i - 1].index) revert BadBatch();
        }
        uint32 last = batch.receipts[count - 1].index;
        if (last >= fixedTerms.fleetSize()) revert BadMembership(last);
    }

    function _checkAll(Deal memory deal, Batch calldata batch) private view {
        bytes32[] memory leaves = new bytes32[](batch.receipts.length);
        for (uint256 i; i < leaves.length; ++i) {
            Receipt calldata receipt = batch.receipts[i];
            bytes32 digest = ReceiptDigest.digest(deal.payee, deal.terms.uId(), deal.s, receipt.attempt);
            leaves[i] = _leaf(digest, receipt, batch.keys, i);
        }
        if (!Fleet.containsAll(deal.terms.root(), deal.terms.depth(), batch.receipts, leaves, batch.path)) {
            revert BadMembership(batch.receipts[0].index);
        }
    }
}
