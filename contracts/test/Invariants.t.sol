// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IUpdateBounty} from "../src/interfaces/IUpdateBounty.sol";
import {Batch, Device} from "../src/types/Claims.sol";
import {Fixture} from "./fixture/Fixture.sol";
import {RefusingPayee} from "./fixture/Payees.sol";
import {Vm} from "./fixture/Vm.sol";

/// @dev Does at random what anybody may do to a bounty, with receipts that devices signed for rivals, and
/// keeps the books by the events. Calls may revert; what they do if not is what counts.
contract Handler is Fixture {
    /// Three payees, one of whom refuses ether, with two secrets each.
    address[3] public payees;
    uint256 public deposited;
    uint256 public refunded;
    uint256 public earned;
    mapping(uint32 index => uint256) public timesPaid;
    uint256 private now_ = START;

    constructor() {
        setUp();
        payees = [PAYEE, RIVAL, address(new RefusingPayee())];
        deposited = _deposit();
    }

    modifier booked() {
        vm.warp(now_);
        vm.recordLogs();
        _;
        _book();
    }

    function reserve(uint8 choice, uint8 attempt, uint256 who, bool second, uint256 ended) external booked {
        (address payee, bytes32 t) = _party(who, second);
        Batch memory batch = _past(_chosen(choice, attempt, payee, t), _anyTag(ended), uint32(ended % 2));
        try bounty.reserve(_lock(payee, t), payee, batch, 0) {} catch {}
    }

    function reveal(uint8 choice, uint256 who, bool second) external booked {
        (address payee, bytes32 t) = _party(who, second);
        try bounty.reveal(t, payee, _choice(choice)) {} catch {}
    }

    function publishProof(uint8 which, uint8 attempt, uint256 who, bool second) external booked {
        (address payee, bytes32 t) = _party(who, second);
        try bounty.publishProof(_claim(_members()[which % 8], attempt, payee, t), payee) {} catch {}
    }

    function publishProofs(uint8 choice, uint8 attempt, uint256 who, bool second, uint256 ended)
        external
        booked
    {
        (address payee, bytes32 t) = _party(who, second);
        Batch memory batch = _past(_chosen(choice, attempt, payee, t), _anyTag(ended), uint32(ended % 2));
        try bounty.publishProofs(t, payee, batch, 0) {} catch {}
    }

    /// The double pay that a prototype had, as one step, so that it is tried often.
    function reserveClaimReveal(uint8 which, uint8 attempt, uint256 who, bool second) external booked {
        (address payee, bytes32 t) = _party(who, second);
        uint32[] memory one = _list(_members()[which % 8]);
        try bounty.reserve(_lock(payee, t), payee, _batch(one, attempt, payee, t), 0) {} catch {}
        try bounty.publishProof(_claim(one[0], attempt, payee, t), payee) {} catch {}
        try bounty.reveal(t, payee, one) {} catch {}
    }

    function withdraw(uint256 who, bool elsewhere) external booked {
        address payee = payees[who % 3];
        vm.prank(payee);
        try bounty.withdraw(payable(elsewhere ? address(0xe15e) : payee)) {} catch {}
    }

    function refund() external booked {
        try bounty.refund() returns (uint256 amount) {
            refunded += amount;
        } catch {}
    }

    function force(uint8 wei_) external booked {
        vm.deal(address(bounty), address(bounty).balance + wei_);
        deposited += wei_;
    }

    /// Mostly within a lock, sometimes past it, rarely past everything.
    function pass(uint256 secs) external {
        uint256 roll = secs % 100;
        now_ += secs % (roll < 80 ? 20 minutes : roll < 97 ? 5 hours : 12 days);
    }

    function target() external view returns (IUpdateBounty) {
        return bounty;
    }

    function members() external pure returns (uint32[] memory) {
        return _members();
    }

    /// The lock bits that the six locks hold together, and whether any two hold the same device.
    function locks(uint32 page) external view returns (uint256 all, bool disjoint) {
        disjoint = true;
        for (uint256 who; who < 3; ++who) {
            for (uint256 second; second < 2; ++second) {
                (address payee, bytes32 t) = _party(who, second == 1);
                (uint200 held,) = bounty.lockOf(_lock(payee, t), payee, page);
                if (all & held != 0) disjoint = false;
                all |= held;
            }
        }
    }

    function _party(uint256 who, bool second) private view returns (address, bytes32) {
        return (payees[who % 3], second ? T2 : T);
    }

    function _anyTag(uint256 which) private view returns (bytes32) {
        (address payee, bytes32 t) = _party(which, which / 3 % 2 == 1);
        return _tag(payee, t);
    }

    function _chosen(uint8 choice, uint8 attempt, address payee, bytes32 t)
        private
        view
        returns (Batch memory)
    {
        return _batch(_choice(choice), attempt, payee, t);
    }

    /// Those of the eight members whose bit is set; the first when none is.
    function _choice(uint8 choice) private pure returns (uint32[] memory chosen) {
        uint32[] memory all = _members();
        if (choice == 0) choice = 1;
        uint256 count;
        for (uint256 bits = choice; bits != 0; bits >>= 1) {
            count += bits & 1;
        }
        chosen = new uint32[](count);
        for (uint256 i = 8; i > 0; --i) {
            if (choice >> (i - 1) & 1 == 1) chosen[--count] = all[i - 1];
        }
    }

    function _book() private {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i; i < logs.length; ++i) {
            if (logs[i].topics[0] != IUpdateBounty.KeyRevealed.selector) continue;
            (, uint256 amount) = abi.decode(logs[i].data, (bytes32, uint256));
            earned += amount;
            ++timesPaid[uint32(uint256(logs[i].topics[2]))];
        }
    }
}

contract InvariantsTest is Fixture {
    Handler private handler;

    function setUp() public override {
        vm.warp(START);
        handler = new Handler();
        bounty = handler.target();
    }

    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    /// All that acts, but not the fixture's `setUp`, which would begin anew with another bounty.
    function targetSelectors() external view returns (FuzzSelector[] memory targets) {
        targets = new FuzzSelector[](1);
        targets[0] = FuzzSelector(address(handler), new bytes4[](9));
        targets[0].selectors[0] = Handler.reserve.selector;
        targets[0].selectors[1] = Handler.reveal.selector;
        targets[0].selectors[2] = Handler.publishProof.selector;
        targets[0].selectors[3] = Handler.publishProofs.selector;
        targets[0].selectors[4] = Handler.reserveClaimReveal.selector;
        targets[0].selectors[5] = Handler.withdraw.selector;
        targets[0].selectors[6] = Handler.refund.selector;
        targets[0].selectors[7] = Handler.force.selector;
        targets[0].selectors[8] = Handler.pass.selector;
    }

    /// One campaign for all of them: what takes the time is the calls between.
    function invariant_MoneyClaimsAndLocksAreInOrder() public view {
        _everyWeiIsAccountedFor();
        _creditsAreWhatIsOwed();
        _aDeviceIsPaidForAtMostOnce();
        _locksAreDisjointAndMarked();
        _unclaimedSharesAreCovered();
    }

    function _credits() private view returns (uint256 sum) {
        for (uint256 i; i < 3; ++i) {
            sum += bounty.creditOf(handler.payees(i));
        }
        sum += bounty.creditOf(VENDOR);
    }

    /// paid + credited + refundable = deposited, where what was forced counts as deposited.
    function _everyWeiIsAccountedFor() private view {
        uint256 credited = _credits();
        uint256 refundable = address(bounty).balance - credited;
        vm.assertEq(_paid() + credited, handler.earned());
        vm.assertEq(_paid() + credited + refundable + handler.refunded(), handler.deposited());
    }

    /// What arrived at the payees, and where the one that refuses ether had his credit sent.
    function _paid() private view returns (uint256 sum) {
        for (uint256 i; i < 3; ++i) {
            sum += handler.payees(i).balance;
        }
        sum += address(0xe15e).balance;
    }

    function _creditsAreWhatIsOwed() private view {
        vm.assertEq(_credits(), uint256(vm.load(address(bounty), 0)));
    }

    function _aDeviceIsPaidForAtMostOnce() private view {
        uint32[] memory members = handler.members();
        Device[] memory devices = bounty.devices(members);
        for (uint256 i; i < members.length; ++i) {
            vm.assertEq(handler.timesPaid(members[i]), devices[i].claimed ? 1 : 0);
        }
    }

    /// No lock bit without a lock, no device in two locks: or an ended one could not be cleared.
    function _locksAreDisjointAndMarked() private view {
        uint32[] memory members = handler.members();
        Device[] memory devices = bounty.devices(members);
        for (uint32 page; page < 2; ++page) {
            (uint256 all, bool disjoint) = handler.locks(page);
            vm.assertTrue(disjoint);
            for (uint256 i; i < members.length; ++i) {
                if (members[i] / 200 != page) continue;
                bool held = all >> (members[i] % 200) & 1 == 1;
                vm.assertTrue(held == devices[i].reserved);
            }
        }
    }

    /// Whatever is locked can be paid: until nothing can be locked, the balance covers all shares.
    function _unclaimedSharesAreCovered() private view {
        if (handler.refunded() != 0) return;
        uint256 sum = 128 * 0.002 ether + 172 * 0.001 ether;
        uint32[] memory members = handler.members();
        for (uint256 i; i < members.length; ++i) {
            if (bounty.isClaimed(members[i])) sum -= members[i] < 128 ? 0.002 ether : 0.001 ether;
        }
        vm.assertLe(sum + _credits(), address(bounty).balance, "covered");
    }
}
