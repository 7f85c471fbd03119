//! One value of every message, made of recognisable bytes, and what reads each kind back.

use std::sync::OnceLock;

use posthouse_protocol::cose::ReleaseSigningKey;
use posthouse_protocol::exchange::{self, Member, Redeem, Refusal, Terms};
use posthouse_protocol::id::{
    Attempt, Bounty, ChainId, ContentId, Curve, DeviceKey, Digest, Payee, PeerHash, ProductId, ReleaseKey,
    Signature, UpdateId, Version,
};
use posthouse_protocol::join::{self, JoinRefusal};
use posthouse_protocol::key::SigningKey;
use posthouse_protocol::package::Package;
use posthouse_protocol::release::{self, Mode, Release};
use posthouse_protocol::sensor::{
    Block, BlockRequest, ErrorCode, ErrorMsg, Hello, Report, SignRequest, SignatureMsg, State, Status,
    StatusReply, UpdateResult,
};
use posthouse_protocol::{digest, suit};

/// A pinned message: its rule in the CDDL, a name, its bytes.
pub(crate) struct Case {
    pub(crate) rule: &'static str,
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
}

/// Reads bytes as the message that a rule names and writes it again.
pub(crate) fn read(rule: &str, bytes: &[u8]) -> Result<Vec<u8>, String> {
    macro_rules! through {
        ($type:ty) => {
            <$type>::decode(bytes).map(|m| m.to_vec()).map_err(|e| e.to_string())
        };
    }
    match rule {
        "exchange-request" => through!(exchange::Request),
        "exchange-response" => through!(exchange::Response),
        "join-request" => through!(join::Request),
        "join-response" => through!(join::Response),
        "hello" => through!(Hello),
        "sign-request" => through!(SignRequest),
        "signature-msg" => through!(SignatureMsg),
        "block-request" => through!(BlockRequest),
        "block" => through!(Block<'_>),
        "status" => through!(Status),
        "status-reply" => through!(StatusReply),
        "error-msg" => through!(ErrorMsg),
        "package" => through!(Package),
        "sealed-release" => release::open(bytes, vendor())
            .and_then(|r| release::seal(&r, &release_key()))
            .map_err(|e| e.to_string()),
        "suit-envelope" => {
            suit::verify(bytes, vendor()).map(|m| suit::build(&m, &release_key())).map_err(|e| e.to_string())
        }
        other => panic!("no reader for {other}"),
    }
}

pub(crate) const CHAIN: ChainId = ChainId::new(31_337);
pub(crate) const BOUNTY: Bounty = Bounty::new([0xb0; 20]);
pub(crate) const PAYEE: Payee = Payee::new([0xaa; 20]);
pub(crate) const U_ID: UpdateId = UpdateId::new([0x11; 32]);

pub(crate) fn product() -> ProductId {
    // The UUIDs of the examples in draft-ietf-suit-manifest.
    let vendor = hex::decode("fa6b4a53d5ad5fdfbe9de663e4d41ffe").unwrap();
    let class = hex::decode("1492af1425695e48bf429b2d51f2ab45").unwrap();
    ProductId::from_parts(vendor.try_into().unwrap(), class.try_into().unwrap())
}

pub(crate) fn release_key() -> ReleaseSigningKey {
    ReleaseSigningKey::from_bytes(&[0x42; 32]).unwrap()
}

/// The public half, worked out once.
pub(crate) fn vendor() -> &'static ReleaseKey {
    static VENDOR: OnceLock<ReleaseKey> = OnceLock::new();
    VENDOR.get_or_init(|| release_key().release_key())
}

pub(crate) fn device(curve: Curve) -> SigningKey {
    SigningKey::from_bytes(curve, &[0x17; 32]).unwrap()
}

fn key() -> DeviceKey {
    device(Curve::Secp256k1).device_key()
}

fn signed(digest: &Digest) -> Signature {
    device(Curve::Secp256k1).sign(digest)
}

pub(crate) fn manifest() -> suit::Manifest {
    suit::Manifest { sequence: Version::new(7), product: product(), u_id: U_ID, size: 34_768 }
}

pub(crate) fn key_release() -> Release {
    Release {
        product: product(),
        version: Version::new(7),
        mode: Mode::Key,
        u_id: U_ID,
        size: 34_768,
        body_id: Some([0x12; 32].into()),
        body_size: 34_768,
        key_id: Some([0x13; 32].into()),
        circuit_id: [0x14; 32].into(),
        vk_id: [0x15; 32].into(),
        pk_id: [0x16; 32].into(),
        pk_size: 12_345_678,
        fleet_root: [0x17; 32].into(),
        fleet_depth: 10,
        fleet_size: 1_000,
        curve: Curve::Secp256k1,
    }
}

pub(crate) fn file_release() -> Release {
    Release {
        mode: Mode::File,
        size: 512,
        body_id: None,
        body_size: 0,
        key_id: None,
        curve: Curve::P256,
        ..key_release()
    }
}

fn exchange_requests() -> Vec<(&'static str, exchange::Request)> {
    use exchange::Request::*;
    let s = [0x22; 32].into();
    let (bounty, chain, device_key) = (BOUNTY, CHAIN, key());
    let gateway = PeerHash::new([0x33; 32]);
    let receipt = digest::receipt(chain, &bounty, &PAYEE, &U_ID, &s, Attempt::new(1));
    vec![
        (
            "hello",
            Hello {
                chain,
                bounty,
                device_key,
                delegation: signed(&digest::delegation(chain, &bounty, &gateway)),
            },
        ),
        ("auth", Auth { chain, bounty, sig: vec![0x44; 64] }),
        ("members", Members { bounty, keys: vec![device_key, DeviceKey::new([2; 33])] }),
        ("members-none", Members { bounty, keys: vec![] }),
        ("receipt", Receipt { bounty, s, device_key, attempt: Attempt::new(1), sig: signed(&receipt) }),
        ("seal", Seal { bounty, s }),
        ("poll", Poll { bounty, s }),
        ("copy", Copy { bounty, s, device_key }),
    ]
}

fn exchange_responses() -> Vec<(&'static str, exchange::Response)> {
    use exchange::Response::*;
    let terms = Terms { window_secs: 3_600, min_receipts: 2, redeem: Redeem::ReserveReveal };
    let direct = Terms { window_secs: 0, min_receipts: 1, redeem: Redeem::Direct };
    let member = Member { index: 1_000, path: vec![[0x55; 32], [0x66; 32]] };
    vec![
        ("challenge", Challenge { c: [0x77; 32], payee: PAYEE, terms }),
        ("challenge-direct", Challenge { c: [0x78; 32], payee: PAYEE, terms: direct }),
        (
            "offer",
            Offer {
                cipher: vec![0x88; 32],
                s: [0x22; 32].into(),
                proof: vec![0x99; 128],
                vk_id: [0x15; 32].into(),
                expires: 1_800_000_000,
            },
        ),
        ("members", Members { entries: vec![Some(member), None] }),
        ("ack", Ack { index: 23 }),
        ("sealed", Sealed { receipts: 24 }),
        ("key", Key { r: [0xcc; 32].into() }),
        ("pending", Pending { retry_after_ms: 250 }),
        ("refused-first", Refused { reason: Refusal::UnknownBounty }),
        ("refused-last", Refused { reason: Refusal::Malformed }),
    ]
}

fn join_cases() -> Vec<Case> {
    let request = join::Request { chain: CHAIN, bounty: BOUNTY, payee: PAYEE, sig: [0x1b; 65] };
    let secret = join::Response::Secret { payload: vec![0xdd; 32].into() };
    let refused = join::Response::Refused { reason: JoinRefusal::NotAdmitted };
    vec![
        case("join-request", "request", request.to_vec()),
        case("join-response", "secret", secret.to_vec()),
        case("join-response", "refused", refused.to_vec()),
    ]
}

fn hello(curve: Curve) -> Hello {
    Hello {
        v: posthouse_protocol::sensor::VERSION,
        key: device(curve).device_key(),
        curve,
        product: product(),
        installed: Version::new(6),
        slot: 262_144,
        wake: 3_600,
    }
}

fn sign_requests() -> [(&'static str, SignRequest); 2] {
    let delegate = SignRequest::Delegate { chain: CHAIN, bounty: BOUNTY, gateway: [0x33; 32].into() };
    let receipt = SignRequest::Receipt {
        chain: CHAIN,
        bounty: BOUNTY,
        payee: PAYEE,
        u_id: U_ID,
        s: [0x22; 32].into(),
        attempt: Attempt::new(1),
    };
    [("delegate", delegate), ("receipt", receipt)]
}

fn statuses() -> [(&'static str, Status); 2] {
    let fetching = Status {
        state: State::Downloading,
        result: UpdateResult::Initial,
        installed: Version::new(6),
        next: 20_480,
        next_wake: 3_600,
        report: None,
    };
    let signed = signed(&digest::installed(&product(), Version::new(7), &U_ID));
    let done = Status {
        state: State::Idle,
        result: UpdateResult::Success,
        installed: Version::new(7),
        next: 34_768,
        report: Some(Report { version: Version::new(7), u_id: U_ID, sig: signed }),
        ..fetching
    };
    [("downloading", fetching), ("installed", done)]
}

fn sensor_cases() -> Vec<Case> {
    let request = BlockRequest { u_id: U_ID, offset: 20_480, len: 512, count: 8 };
    let block = Block { u_id: U_ID, offset: 20_480, bytes: &[0xee; 64] };
    let error = ErrorMsg { code: ErrorCode::NotStaged, retry_after: Some(60) };
    let last = ErrorMsg { code: ErrorCode::BadAttempt, retry_after: None };
    let mut cases = vec![
        case("hello", "secp256k1", hello(Curve::Secp256k1).to_vec()),
        case("hello", "p256", hello(Curve::P256).to_vec()),
        case("block-request", "eight", request.to_vec()),
        case("block", "sixty-four", block.to_vec()),
        case("status-reply", "hour", StatusReply { retry_after: 3_600 }.to_vec()),
        case("error-msg", "retry", error.to_vec()),
        case("error-msg", "last", last.to_vec()),
    ];
    for (name, request) in sign_requests() {
        let digest = request.digest();
        cases.push(case("sign-request", name, request.to_vec()));
        cases.push(case("signature-msg", name, SignatureMsg { digest, sig: signed(&digest) }.to_vec()));
    }
    cases.extend(statuses().map(|(name, status)| case("status", name, status.to_vec())));
    cases
}

pub(crate) fn package(release: &Release) -> Package {
    Package {
        manifest: suit::build(&manifest(), &release_key()),
        release: release::seal(release, &release_key()).unwrap(),
        body: release.body_id.map(|_| ContentId::dag_pb([0x01; 32])),
        fleet: ContentId::raw([0x02; 32]),
        vk: ContentId::raw([0x03; 32]),
        pk: ContentId::dag_pb([0x04; 32]),
    }
}

fn envelope_cases() -> Vec<Case> {
    let [key, file] = [key_release(), file_release()];
    vec![
        case("suit-envelope", "manifest", suit::build(&manifest(), &release_key())),
        case("sealed-release", "key-mode", release::seal(&key, &release_key()).unwrap()),
        case("sealed-release", "file-mode", release::seal(&file, &release_key()).unwrap()),
        case("package", "key-mode", package(&key).to_vec()),
        case("package", "file-mode", package(&file).to_vec()),
    ]
}

fn case(rule: &'static str, name: &'static str, bytes: Vec<u8>) -> Case {
    Case { rule, name, bytes }
}

/// All pinned messages, made once.
pub(crate) fn all() -> &'static [Case] {
    static ALL: OnceLock<Vec<Case>> = OnceLock::new();
    ALL.get_or_init(|| {
        let requests = exchange_requests();
        let responses = exchange_responses();
        let mut cases: Vec<Case> =
            requests.iter().map(|(n, m)| case("exchange-request", n, m.to_vec())).collect();
        cases.extend(responses.iter().map(|(n, m)| case("exchange-response", n, m.to_vec())));
        cases.extend(join_cases());
        cases.extend(sensor_cases());
        cases.extend(envelope_cases());
        cases
    })
}
