//! What goes into the machine and what comes out.

use alloc::vec::Vec;

use crate::exchange::{Request, Response};
use crate::id::{Bounty, DeviceKey, LockHash, PeerHash};
use crate::secret::KeyR;

use super::Wei;
use super::campaign::{Campaign, Peer};
use super::chain::{Call, CallFailure, Head, Observation, Standing};
use super::outbox::Slot;
use super::receipt::{Fate, Receipt};
use super::stage::{CloseReason, Exchange};

/// Something happened. Times come beside it, so that the machine has no clock.
pub enum Input<'a> {
    /// A bounty is served from now on; after a restart, again. Its exchanges resume.
    Join(Campaign),
    /// A bounty is over, refunds and all: its exchanges are forgotten.
    Leave(Bounty),
    /// A gateway asks.
    Request {
        /// Comes back with the answer.
        id: u64,
        /// Who asks.
        peer: &'a dyn Peer,
        /// What.
        request: Request,
        /// 32 fresh bytes from a cryptographic source, used at most once: a challenge or a `t`.
        entropy: &'a [u8; 32],
    },
    /// The answer to [`Output::Inspect`].
    Inspected {
        /// The contract.
        bounty: Bounty,
        /// Fleet index.
        index: u32,
        /// How the share stands in the latest block.
        standing: Standing,
    },
    /// The answer to [`Output::Prove`].
    Proved {
        /// The contract.
        bounty: Bounty,
        /// The exchange.
        gateway: PeerHash,
        /// Its lock.
        s: LockHash,
        /// The secret under `r`.
        cipher: Vec<u8>,
        /// That it is.
        proof: Vec<u8>,
    },
    /// The other answer to [`Output::Prove`].
    ProofFailed {
        /// The contract.
        bounty: Bounty,
        /// The exchange.
        gateway: PeerHash,
        /// Its lock.
        s: LockHash,
    },
    /// The answer to [`Output::Simulate`].
    Simulated {
        /// The contract.
        bounty: Bounty,
        /// The exchange.
        gateway: PeerHash,
        /// What the call does in the latest state.
        result: Result<(), CallFailure>,
    },
    /// A new reading of head and wallet.
    Head(Head),
    /// A new reading of an exchange's shares.
    Observed(Observation),
    /// Time has passed.
    Tick,
}

/// Something to do, in this order. A [`Output::Persist`] must be durable before any output after it
/// is acted on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Make this durable.
    Persist(Change),
    /// Answer a request.
    Send {
        /// The request's.
        id: u64,
        /// The answer.
        response: Response,
    },
    /// Answer a request with what [`look_up`](super::look_up) finds, off this thread: so many keys read the disk too often for
    /// it. At most [`MAX_MEMBERS`](crate::exchange::MAX_MEMBERS) keys; how many look-ups are under way is for the program to bound.
    LookUp {
        /// The request's.
        id: u64,
        /// The contract whose fleet it is.
        bounty: Bounty,
        /// Who asks.
        gateway: PeerHash,
        /// What for.
        keys: Vec<DeviceKey>,
    },
    /// Look up how a share stands in the latest block.
    Inspect {
        /// The contract.
        bounty: Bounty,
        /// Fleet index.
        index: u32,
    },
    /// Make cipher and proof under `r`, off this thread.
    Prove {
        /// The contract.
        bounty: Bounty,
        /// The exchange.
        gateway: PeerHash,
        /// The lock.
        s: LockHash,
        /// The key.
        r: KeyR,
    },
    /// Try a call in the latest state.
    Simulate {
        /// The contract.
        bounty: Bounty,
        /// The exchange.
        gateway: PeerHash,
        /// The call.
        call: Call,
        /// What its transaction will ask for.
        gas: u64,
    },
    /// Sign and send this transaction. There is no answer: one who says that it was not sent may have sent it.
    Submit(Slot),
    /// Tell the operator.
    Event(Event),
}

/// A row to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// An exchange is in this state now.
    Exchange(Exchange),
    /// A receipt is kept, or its fate is known.
    Receipt(Receipt),
    /// A transaction has its nonce, or a higher fee.
    Transaction(Slot),
    /// A transaction's nonce is used up by a final block.
    Settled {
        /// The nonce.
        nonce: u64,
    },
    /// An exchange ended without a trace: its offer ran out unanswered, or its bounty is over.
    Forget {
        /// The contract.
        bounty: Bounty,
        /// The exchange.
        gateway: PeerHash,
    },
}

/// What an operator wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An exchange moved on.
    Moved {
        /// The contract.
        bounty: Bounty,
        /// The exchange.
        gateway: PeerHash,
        /// The new state's name.
        state: &'static str,
    },
    /// A receipt was paid.
    Paid {
        /// The contract.
        bounty: Bounty,
        /// Fleet index.
        index: u32,
        /// How much.
        amount: Wei,
    },
    /// A receipt will not be paid.
    Lost {
        /// The contract.
        bounty: Bounty,
        /// Fleet index.
        index: u32,
        /// Why.
        fate: Fate,
    },
    /// An exchange was given up.
    Closed {
        /// The contract.
        bounty: Bounty,
        /// The exchange.
        gateway: PeerHash,
        /// Why.
        why: CloseReason,
    },
    /// A call would not do.
    CallFailed {
        /// The contract.
        bounty: Bounty,
        /// The function.
        call: &'static str,
        /// Why.
        why: CallFailure,
    },
    /// A batch is not worth its gas at the present fee: it waits for more receipts or a lower fee, once told for each state.
    Waits {
        /// The contract.
        bounty: Bounty,
        /// The exchange.
        gateway: PeerHash,
        /// What its shares are worth.
        worth: Wei,
        /// What its transactions would cost.
        cost: Wei,
    },
    /// The wallet cannot pay for an exchange's transaction beside what is under way: it waits, told for each state once and
    /// whenever the sum is more than was told.
    Short {
        /// The contract.
        bounty: Bounty,
        /// The exchange.
        gateway: PeerHash,
        /// How much more the wallet would have to have.
        wei: Wei,
    },
    /// A transaction would come too late, or a nonce before ours is used by nobody: nothing is sent in its place.
    Cancelled {
        /// The nonce.
        nonce: u64,
    },
    /// A final block used a nonce of ours without the effect of its call: it reverted, or another
    /// program sends with the same key.
    NonceWasted {
        /// The nonce.
        nonce: u64,
    },
}
