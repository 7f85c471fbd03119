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
    using TermsLib for Terms;

    /// What all receipts of a call share.
    struct Deal {
        Terms terms;
        address payee;
        bytes32 r;
        bytes32 s;
        bytes32 tag;
    }

    /// @inheritdoc IUpdateBounty
    function publishProof(Claim calldata claim, address payee) external returns (uint256 amount) {
        Deal memory deal = _opened(payee, claim.t);
        Receipt calldata receipt = claim.receipt;
        _checkOne(deal, claim);
        uint256 word = _pages[receipt.index / PAGE];
        Why why;
        (amount, why) = _worth(deal, receipt, word);
        if (amount == 0) _refuse(receipt.index, why);
        _pages[receipt.index / PAGE] = word | _bit(receipt.index);
        emit KeyRevealed(payee, receipt.index, deal.s, deal.r, amount);
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
            sum += _claim(deal, batch.receipts[i]);
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
        Deal memory deal = Deal(_openTerms(), payee, 0, s, _tag(s, payee));
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
        Deal memory deal = _derived(terms(), payee, t);
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
        Terms memory t = terms();
        if (block.timestamp <= uint256(t.claimBy) + t.lockSecs) revert ClaimsOpen();
        amount = address(this).balance - _owed;
        if (amount == 0) revert Nothing();
        emit Refunded(t.vendor, amount);
        _push(t.vendor, amount);
    }

    /// @inheritdoc IUpdateBounty
    function terms() public view returns (Terms memory) {
        return TermsLib.decode(LibClone.argsOnClone(address(this)));
    }

    /// @inheritdoc IUpdateBounty
    function share(uint32 index) external view returns (uint256) {
        Terms memory t = terms();
        if (index >= t.fleetSize()) revert BadMembership(index);
        return t.shareAt(index, block.timestamp);
    }

    /// @inheritdoc IUpdateBounty
    function receiptDigest(address payee, bytes32 s, uint8 attempt) external view returns (bytes32) {
        return ReceiptDigest.digest(payee, terms().uId, s, attempt);
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

    function _openTerms() private view returns (Terms memory t) {
        t = terms();
        if (block.timestamp > t.claimBy) revert ClaimsClosed();
    }

    function _opened(address payee, bytes32 t) private view returns (Deal memory) {
        return _derived(_openTerms(), payee, t);
    }

    /// @dev `r` binds the payee (paper, 5.2): another payee would need another preimage.
    function _derived(Terms memory fixedTerms, address payee, bytes32 t) private pure returns (Deal memory) {
        bytes32 r = sha256(abi.encodePacked(payee, t));
        bytes32 s = sha256(abi.encodePacked(r));
        return Deal(fixedTerms, payee, r, s, _tag(s, payee));
    }

    /// @dev Claims one device of a batch, or says why not.
    function _claim(Deal memory deal, Receipt calldata receipt) private returns (uint256 amount) {
        uint256 page = receipt.index / PAGE;
        uint256 word = _pages[page];
        Why why;
        (amount, why) = _worth(deal, receipt, word);
        if (amount == 0) {
            emit Skipped(deal.payee, receipt.index, why);
            return 0;
        }
        _pages[page] = word | _bit(receipt.index);
        emit KeyRevealed(deal.payee, receipt.index, deal.s, deal.r, amount);
    }

    /// @dev What a direct claim brings: the price of one's own live lock, else that of now. Shares are
    /// never zero, so zero says no.
    function _worth(Deal memory deal, Receipt calldata receipt, uint256 word)
        private
        view
        returns (uint256, Why)
    {
        uint256 bit = _bit(receipt.index);
        if (word & bit != 0) return (0, Why.Claimed);
        uint256 time = block.timestamp;
        if (word & (bit << PAGE) != 0) {
            Lock memory lock = _locks[deal.tag][receipt.index / PAGE];
            if (lock.devices & bit == 0) return (0, Why.LockedByOther);
            if (time <= lock.until) time = lock.until - deal.terms.lockSecs;
        }
        if (receipt.attempt == 0 || receipt.attempt < _attemptOf(receipt.index)) {
            return (0, Why.StaleAttempt);
        }
        return (deal.terms.shareAt(receipt.index, time), Why.Claimed);
    }

    /// @dev Locks the run of receipts from `i` that lie in one page.
    /// @return next The first receipt after the run.
    /// @return sum What the run's devices that are now held will pay.
    function _lockPage(Deal memory deal, Receipt[] calldata receipts, uint256 i)
        private
        returns (uint256 next, uint256 sum)
    {
        uint256 page = receipts[i].index / PAGE;
        // One's own lock that ended makes room for a new one; without this its bits would be orphaned.
        _release(deal.tag, page);
        uint256 word = _pages[page];
        Lock memory lock = _locks[deal.tag][page];
        if (lock.devices == 0) lock.until = uint40(block.timestamp + deal.terms.lockSecs);
        uint256 time = lock.until - deal.terms.lockSecs;
        uint256 added;
        for (next = i; next < receipts.length && receipts[next].index / PAGE == page; ++next) {
            Receipt calldata receipt = receipts[next];
            (bool mine, bool fresh, Why why) = _lockable(lock.devices | added, word | (added << PAGE), receipt);
            if (!mine) {
                emit Skipped(deal.payee, receipt.index, why);
                continue;
            }
            if (fresh) {
                added |= _bit(receipt.index);
                _setAttempt(receipt.index, receipt.attempt);
            }
            sum += deal.terms.shareAt(receipt.index, time);
        }
        if (added != 0) _addToLock(deal, page, lock, added);
    }

    function _addToLock(Deal memory deal, uint256 page, Lock memory lock, uint256 added) private {
        // Bits of one page, so 128 of them.
        uint128 bits = uint128(added);
        _pages[page] |= added << PAGE;
        _locks[deal.tag][page] = Lock(lock.devices | bits, lock.until);
        emit Reserved(deal.payee, deal.s, uint32(page), bits, lock.until);
    }

    /// @return mine Whether the device is, or may be, held by this lock.
    /// @return fresh Whether it has to be added for that.
    /// @return why The reason if not.
    function _lockable(uint256 held, uint256 word, Receipt calldata receipt)
        private
        view
        returns (bool mine, bool fresh, Why why)
    {
        uint256 bit = _bit(receipt.index);
        if (word & bit != 0) return (false, false, Why.Claimed);
        if (held & bit != 0) return (true, false, why);
        if (word & (bit << PAGE) != 0) return (false, false, Why.LockedByOther);
        if (receipt.attempt <= _attemptOf(receipt.index)) return (false, false, Why.StaleAttempt);
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
        Lock memory lock = _locks[deal.tag][page];
        uint256 live = block.timestamp <= lock.until ? lock.devices : 0;
        uint256 word = _pages[page];
        for (next = i; next < indices.length && indices[next] / PAGE == page; ++next) {
            uint32 index = indices[next];
            uint256 bit = _bit(index);
            if (live & bit == 0) {
                emit Skipped(deal.payee, index, Why.NoLock);
                continue;
            }
            held = true;
            if (word & bit != 0) {
                emit Skipped(deal.payee, index, Why.Claimed);
                continue;
            }
            word |= bit;
            uint256 amount = deal.terms.shareAt(index, lock.until - deal.terms.lockSecs);
            sum += amount;
            emit KeyRevealed(deal.payee, index, deal.s, deal.r, amount);
        }
        if (sum != 0) _pages[page] = word;
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
        bytes32 digest = ReceiptDigest.digest(deal.payee, deal.terms.uId, deal.s, receipt.attempt);
        bytes32 leaf = _leaf(digest, receipt, claim.key, 0);
        if (!Fleet.contains(deal.terms.root, deal.terms.depth, receipt.index, leaf, claim.path)) {
            revert BadMembership(receipt.index);
        }
    }

    /// @dev Strictly ascending, so no device stands in a batch twice and only the last can be too high.
    function _checkShape(Terms memory fixedTerms, Batch calldata batch) private pure {
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
            bytes32 digest = ReceiptDigest.digest(deal.payee, deal.terms.uId, deal.s, receipt.attempt);
            leaves[i] = _leaf(digest, receipt, batch.keys, i);
        }
        if (!Fleet.containsAll(deal.terms.root, deal.terms.depth, batch.receipts, leaves, batch.path)) {
            revert BadMembership(batch.receipts[0].index);
        }
    }
}
