//! What the machine is told, and what it wants done.

use alloc::vec::Vec;
use core::fmt;

use thiserror::Error;

use super::offer::{OfferCheck, OfferFault, OfferVerdict};
use super::peer::Peer;
use super::record::Record;
use super::state::{Failure, StateName};
use super::update::{CheckedRelease, PackageFault};
use crate::exchange::{Refusal, Request, Response};
use crate::id::{Attempt, Curve, DeviceKey, Digest, LockHash, Payee, Signature, UpdateId, Version};
use crate::secret::KeyR;
use crate::sensor::{ErrorCode, SignRequest};

/// Names one request, so that its answer is taken once and a late one not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(super) u64);

/// What the site lets a sensor have of an update at this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Admission {
    /// Nothing: it is as if the sensor were not there.
    Held,
    /// It may sign, so that the update is paid for and staged when its time comes.
    Sign,
    /// All.
    #[default]
    Open,
}

/// A sensor as its gateway knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SensorView {
    /// Its key.
    pub device: DeviceKey,
    /// The key's curve.
    pub curve: Curve,
    /// What it runs.
    pub installed: Version,
    /// Whether it was heard just now, rather than remembered.
    pub awake: bool,
    /// What it may have.
    pub admission: Admission,
}

/// A sensor's word that it runs a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// The version.
    pub version: Version,
    /// Digest of its image.
    pub u_id: UpdateId,
    /// Over [`crate::digest::installed`].
    pub sig: Signature,
}

/// How a device's share stands on chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimState {
    /// Nobody has it.
    Free,
    /// Reserved until this moment, Unix seconds; by an offer that was asked about, or by another.
    Locked {
        /// End of the lock.
        until: u64,
        /// Lock of the offer whose reservation it is, if it is one of those asked about.
        by: Option<LockHash>,
    },
    /// Paid.
    Claimed,
}

/// The answer about one index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimEntry {
    /// Index in the fleet.
    pub index: u32,
    /// How it stands.
    pub state: ClaimState,
    /// The highest attempt reserved so far, 0 if none.
    pub attempt: u8,
}

/// What came of decrypting and staging.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decrypted {
    /// The image is staged: its digest is `U_id` and it is on disk.
    Staged,
    /// The key opens something else than the secret: the proof must have been wrong.
    WrongSecret,
    /// The secret is right, the body is not its image: the vendor's fault.
    WrongImage,
    /// No room on disk, or over the quota.
    NoSpace,
    /// The disk failed.
    Io,
}

/// Where a key came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
pub enum KeySource {
    /// The distributor's answer to a poll.
    #[n(0)]
    Distributor,
    /// The contract's `KeyRevealed`.
    #[n(1)]
    Chain,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// Time passed; nothing else did.
    Tick,
    /// The package is here and agrees with the chain.
    Package(CheckedRelease),
    /// The package cannot be the announced one.
    PackageRejected(PackageFault),
    /// The body is on disk and its digest is `body_id`.
    BodyHeld,
    /// The body could not be had from those asked.
    BodyFailed,
    /// A sensor is known: it said hello, or the registry has it.
    Sensor(SensorView),
    /// The site has decided anew what sensors may have.
    Admissions(Vec<(DeviceKey, Admission)>),
    /// A sensor signed something.
    Signature {
        /// Who.
        device: DeviceKey,
        /// What.
        digest: Digest,
        /// The signature, not verified yet.
        sig: Signature,
    },
    /// A sensor told how far it is.
    Status {
        /// Who.
        device: DeviceKey,
        /// What it runs.
        installed: Version,
        /// Its signed report, if it has installed something.
        report: Option<Report>,
    },
    /// A sensor refused what it was asked to do.
    SensorRefused {
        /// Who.
        device: DeviceKey,
        /// Why.
        code: ErrorCode,
    },
    /// Peers that say they have the update, those to prefer first; none if the search found none.
    Providers(Vec<Peer>),
    /// A peer answered.
    Response {
        /// The request.
        id: RequestId,
        /// The answer.
        response: Response,
    },
    /// A request came to nothing.
    RequestFailed {
        /// The request.
        id: RequestId,
    },
    /// The verifier is done.
    Verified(OfferVerdict),
    /// How the shares asked about stand.
    Claims(Vec<ClaimEntry>),
    /// They could not be read.
    ClaimsFailed,
    /// The contract showed a key.
    Revealed {
        /// Lock.
        s: LockHash,
        /// Key; checked against the lock.
        r: KeyR,
        /// Who was paid.
        payee: Payee,
        /// For which device.
        index: u32,
    },
    /// Decrypting ended.
    Decrypted {
        /// The offer that was opened.
        s: LockHash,
        /// How.
        outcome: Decrypted,
    },
    /// The staged image is gone or damaged.
    ImageLost,
    /// A newer version of this product is announced, and its package is good.
    Newer(Version),
}

/// What a sensor should find when it is next awake. Replaces what was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Intent {
    /// The manifest.
    pub manifest: bool,
    /// Something to sign.
    pub sign: Option<SignRequest>,
    /// The image.
    pub image: bool,
}

/// What to do, in this order.
#[derive(Debug, Clone)]
pub enum Output {
    /// Put this on disk before anything behind it is done.
    Persist(Record),
    /// Look for peers that have the update; answered by [`Input::Providers`].
    Locate,
    /// Send, and answer by [`Input::Response`] or [`Input::RequestFailed`].
    Send {
        /// Names the request.
        id: RequestId,
        /// To whom.
        peer: Peer,
        /// What.
        request: Request,
    },
    /// Sign this digest with the gateway's peer key and send the signature as [`Request::Auth`].
    Authenticate {
        /// Names the request.
        id: RequestId,
        /// To whom.
        peer: Peer,
        /// What to sign.
        digest: Digest,
    },
    /// Run the check; answered by [`Input::Verified`].
    Verify(OfferCheck),
    /// Read the shares of these devices; answered by [`Input::Claims`] or [`Input::ClaimsFailed`].
    CheckClaims {
        /// Indices in the fleet.
        indices: Vec<u32>,
        /// Offers held: a lock by one of them is named by its `s`.
        offers: Vec<(LockHash, Payee)>,
    },
    /// Get the body, from this peer or, if none is named, from anybody; answered by
    /// [`Input::BodyHeld`] or [`Input::BodyFailed`].
    FetchBody {
        /// The distributor that is to be paid.
        from: Option<Peer>,
    },
    /// What this sensor should find.
    Intend {
        /// Who.
        device: DeviceKey,
        /// What.
        intent: Intent,
    },
    /// Decrypt and stage; answered by [`Input::Decrypted`].
    Decrypt {
        /// The offer.
        s: LockHash,
        /// Its key.
        r: KeyR,
        /// Its cipher.
        cipher: Vec<u8>,
    },
    /// Call again with [`Input::Tick`] at this Unix millisecond. Replaces the one before.
    Wake {
        /// When.
        at: u64,
    },
    /// For people and the audit log.
    Event(Event),
}

/// Why a distributor was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error, minicbor::Encode, minicbor::Decode)]
pub enum Fault {
    /// Its offer failed the check.
    #[error("{0}")]
    #[n(0)]
    Offer(#[n(0)] OfferFault),
    /// Its key fits the lock and opens something else.
    #[error("its key opens something else than the update")]
    #[n(1)]
    KeyMisfit,
    /// It sent a key that does not fit the lock.
    #[error("its key does not fit the lock")]
    #[n(2)]
    WrongKey,
    /// It gave a Merkle path that leads elsewhere.
    #[error("its Merkle path does not lead to the fleet root")]
    #[n(3)]
    BadPath,
    /// An answer that does not belong to the question.
    #[error("an answer that does not belong to the question")]
    #[n(4)]
    Unexpected,
    /// It does not answer before an offer.
    #[error("silent before its offer")]
    #[n(5)]
    Unreachable,
    /// It does not answer after its offer.
    #[error("silent after its offer")]
    #[n(6)]
    SilentAfterOffer,
    /// It does not take receipts.
    #[error("silent after the receipt")]
    #[n(7)]
    SilentAfterReceipt,
    /// The key did not come.
    #[error("no key in time")]
    #[n(8)]
    NoKey,
    /// The offer ended before a sensor signed.
    #[error("its offer expired")]
    #[n(9)]
    OfferExpired,
    /// It said no.
    #[error("refused: {0}")]
    #[n(10)]
    Refused(#[n(0)] Refusal),
    /// It wants more receipts than there are sensors here.
    #[error("wants more receipts than there are sensors here")]
    #[n(11)]
    BatchTooSmall,
}

impl Fault {
    /// Whether it is proof of dishonesty: the distributor is not asked again for this update.
    pub const fn is_lie(&self) -> bool {
        matches!(self, Self::Offer(_) | Self::KeyMisfit | Self::WrongKey | Self::BadPath)
    }
}

/// Why a sensor gets nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SensorFault {
    /// Its key is not a leaf of the fleet's tree.
    #[error("not in the fleet")]
    NotInFleet,
    /// Its key is on another curve than the release's.
    #[error("key on another curve than the fleet's")]
    WrongCurve,
    /// It signed as many receipts as one may.
    #[error("no attempts left")]
    NoAttempts,
    /// Its signature does not verify.
    #[error("signature does not verify")]
    BadSignature,
    /// It signed something that was not asked for.
    #[error("signature of something that was not asked for")]
    Unasked,
    /// It refused.
    #[error("refused: {0}")]
    Refused(ErrorCode),
    /// More sensors than one exchange follows.
    #[error("more sensors than one exchange follows")]
    TooMany,
}

/// For people and the audit log: nothing depends on these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The exchange is in another state.
    State(StateName),
    /// It ended without delivering.
    Failed(Failure),
    /// A sensor delegated to this gateway.
    Delegated(DeviceKey),
    /// An offer came from this distributor.
    Offered(Peer, LockHash),
    /// It was verified.
    Verified(Peer, LockHash),
    /// A sensor's place in the fleet was proven.
    Member(DeviceKey, u32),
    /// A receipt was asked for.
    Asked(DeviceKey, LockHash, Attempt),
    /// It was signed.
    Signed(DeviceKey, LockHash, Attempt),
    /// The distributor has it.
    Acked(DeviceKey, LockHash),
    /// The distributor will not have it.
    ReceiptRefused(DeviceKey, LockHash, Refusal),
    /// The batch is sealed.
    Sealed(LockHash, u32),
    /// The key is known.
    Key(LockHash, KeySource),
    /// A key that fits nothing; counted.
    KeyIgnored(LockHash),
    /// The distributor that is to be paid did not deliver the body; others are asked.
    BodyElsewhere(Peer),
    /// The image is staged.
    Staged(LockHash),
    /// Staging failed and is tried again.
    StagingFailed(Decrypted),
    /// A sensor runs the update; `true` if its signed report says so.
    Installed(DeviceKey, bool),
    /// A distributor was left.
    Left(Peer, Fault),
    /// Something about a sensor.
    Sensor(DeviceKey, SensorFault),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = DeviceKey::device_id;
        match self {
            Self::State(name) => write!(f, "{name}"),
            Self::Failed(why) => write!(f, "failed: {why}"),
            Self::Delegated(device) => write!(f, "sensor {} delegated to this gateway", id(device)),
            Self::Offered(_, s) => write!(f, "offer under lock {s}"),
            Self::Verified(_, s) => write!(f, "proof verified for lock {s}"),
            Self::Member(device, index) => write!(f, "sensor {} is number {index} of the fleet", id(device)),
            Self::Asked(device, s, attempt) => {
                write!(f, "receipt {attempt} asked of sensor {} for lock {s}", id(device))
            }
            Self::Signed(device, s, attempt) => {
                write!(f, "receipt {attempt} signed by sensor {} for lock {s}", id(device))
            }
            Self::Acked(device, s) => write!(f, "receipt of sensor {} delivered for lock {s}", id(device)),
            Self::ReceiptRefused(device, s, why) => {
                write!(f, "receipt of sensor {} refused for lock {s}: {why}", id(device))
            }
            Self::Sealed(s, receipts) => write!(f, "sealed with {receipts} receipts, lock {s}"),
            Self::Key(s, KeySource::Chain) => write!(f, "key of lock {s} shown on chain"),
            Self::Key(s, KeySource::Distributor) => write!(f, "key of lock {s} from the distributor"),
            Self::KeyIgnored(s) => write!(f, "a key that does not fit lock {s}"),
            Self::BodyElsewhere(_) => f.write_str("the payee did not deliver the body; others are asked"),
            Self::Staged(s) => write!(f, "image staged, opened with the key of lock {s}"),
            Self::StagingFailed(why) => write!(f, "staging failed, tried again: {why:?}"),
            Self::Installed(device, true) => write!(f, "sensor {} runs it, signed", id(device)),
            Self::Installed(device, false) => write!(f, "sensor {} runs it", id(device)),
            Self::Left(_, why) => write!(f, "distributor left: {why}"),
            Self::Sensor(device, fault) => write!(f, "sensor {}: {fault}", id(device)),
        }
    }
}
