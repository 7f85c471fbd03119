//! The first round of a handshake, without state (RFC 6347 §4.2.1): who says hello gets a cookie that only who reads at its
//! address can send back, and nothing is kept until it does.
//!
//! dimpl has cookies, but makes them under a secret of each connection, so that a connection must be there before. Here the
//! cookie is made of the address, and a connection that begins with a good one is shown the hello without it first, as
//! though it had been there from the beginning. dimpl makes its cookies with the HMAC of its provider, and uses that for
//! nothing else under DTLS 1.2: [`provider`] hands it the cookie that the client holds already.

use std::cell::Cell;
use std::net::SocketAddr;

use dimpl::CryptoError;
use dimpl::crypto::{CryptoProvider, HashAlgorithm, HmacProvider, rust_crypto};
use sha2::{Digest as _, Sha256};

/// Bytes of a cookie: as many as dimpl's have.
pub(super) const COOKIE_LEN: usize = 32;
/// A cookie is good for at least this and at most twice as long, ms.
const COOKIE_MS: u64 = 60_000;
/// Record header, and handshake header behind it.
const RECORD: usize = 13;
const HANDSHAKE: usize = 12;
/// Content type and message types (RFC 6347 §4.3.2).
const CONTENT_HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const HELLO_VERIFY_REQUEST: u8 = 3;

/// A ClientHello that is whole, in a record of its own at the begin of a datagram.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hello<'a> {
    record: &'a [u8],
    pub(super) random: &'a [u8],
    pub(super) cookie: &'a [u8],
    /// Where the cookie's length is in the record.
    cookie_at: usize,
}

impl<'a> Hello<'a> {
    /// Whether a datagram begins with a hello; one in fragments is none: it has to be kept before its sender is known.
    pub(super) fn parse(datagram: &'a [u8]) -> Option<Self> {
        let len = usize::from(u16::from_be_bytes(datagram.get(11..RECORD)?.try_into().ok()?));
        let record = datagram.get(..RECORD + len)?;
        let epoch_0 = record[3..5] == [0, 0];
        let message = record.get(RECORD..).filter(|message| message.len() > HANDSHAKE)?;
        let whole = message[6..9] == [0, 0, 0] && message[1..4] == message[9..12];
        let long = uint24(&message[1..4]) == message.len() - HANDSHAKE;
        if record[0] != CONTENT_HANDSHAKE || message[0] != CLIENT_HELLO || !epoch_0 || !whole || !long {
            return None;
        }
        let random = record.get(RECORD + HANDSHAKE + 2..)?.get(..32)?;
        let session_at = RECORD + HANDSHAKE + 34;
        let cookie_at = session_at + 1 + usize::from(*record.get(session_at)?);
        let cookie = record.get(cookie_at + 1..)?.get(..usize::from(*record.get(cookie_at)?))?;
        Some(Self { record, random, cookie, cookie_at })
    }

    /// The hello as it was before the client had a cookie. Each client repeats all else (RFC 6347 §4.2.1).
    pub(super) fn without_cookie(&self) -> Vec<u8> {
        let after = self.cookie_at + 1 + self.cookie.len();
        let mut record = [&self.record[..self.cookie_at], &[0], &self.record[after..]].concat();
        let body = record.len() - RECORD - HANDSHAKE;
        // What it is made of had a length of 16 bits.
        let len = ((body + HANDSHAKE) as u16).to_be_bytes();
        record[11..RECORD].copy_from_slice(&len);
        for at in [RECORD + 1, RECORD + 9] {
            record[at..at + 3].copy_from_slice(&(body as u32).to_be_bytes()[1..]);
        }
        // The first message of the handshake.
        record[RECORD + 4..RECORD + 6].copy_from_slice(&[0, 0]);
        record
    }

    /// What to answer a hello that has no good cookie: fewer bytes than any hello has.
    pub(super) fn verify_request(&self, cookie: &[u8; COOKIE_LEN]) -> Vec<u8> {
        let body = [&[0xfe, 0xff, COOKIE_LEN as u8][..], cookie].concat();
        let len = [0, 0, body.len() as u8];
        // The server's record has the number of the client's (RFC 6347 §4.2.1).
        let header = [&[CONTENT_HANDSHAKE, 0xfe, 0xff], &self.record[3..11]].concat();
        let record_len = ((HANDSHAKE + body.len()) as u16).to_be_bytes();
        let message = [&[HELLO_VERIFY_REQUEST][..], &len, &[0, 0, 0, 0, 0], &len, &body].concat();
        [&header[..], &record_len, &message].concat()
    }
}

fn uint24(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |value, byte| (value << 8) | usize::from(*byte))
}

/// Makes and knows cookies.
pub(super) struct Baker([u8; 32]);

impl Baker {
    /// The secret must be random.
    pub(super) fn new(secret: [u8; 32]) -> Self {
        Self(secret)
    }

    /// The cookie of a hello from an address.
    pub(super) fn bake(&self, address: SocketAddr, random: &[u8], now: u64) -> [u8; COOKIE_LEN] {
        self.baked(address, random, now / COOKIE_MS)
    }

    fn baked(&self, address: SocketAddr, random: &[u8], period: u64) -> [u8; COOKIE_LEN] {
        let about = format!("{period} {address}");
        let inner = Sha256::new_with_prefix(self.0).chain_update(random).chain_update(about).finalize();
        // Hashed twice, so that nobody can go on from a cookie to one of a longer text.
        Sha256::new_with_prefix(self.0).chain_update(inner).finalize().into()
    }

    /// The cookie of a hello, if it is one of ours for this address.
    pub(super) fn knows(&self, address: SocketAddr, hello: &Hello<'_>, now: u64) -> Option<[u8; COOKIE_LEN]> {
        let cookie: [u8; COOKIE_LEN] = hello.cookie.try_into().ok()?;
        let period = now / COOKIE_MS;
        let good =
            |period: Option<u64>| period.is_some_and(|p| self.baked(address, hello.random, p) == cookie);
        (good(Some(period)) || good(period.checked_sub(1))).then_some(cookie)
    }
}

thread_local! {
    /// The cookie that dimpl is to find good in this call.
    static HELD: Cell<Option<[u8; COOKIE_LEN]>> = const { Cell::new(None) };
}

/// Lets dimpl find this cookie good for as long as the work takes.
pub(super) fn holding<T>(cookie: [u8; COOKIE_LEN], work: impl FnOnce() -> T) -> T {
    HELD.set(Some(cookie));
    let done = work();
    HELD.set(None);
    done
}

#[derive(Debug)]
struct Cookies;

static COOKIES: Cookies = Cookies;

impl HmacProvider for Cookies {
    fn hmac_sha256(&self, key: &[u8], data: &[u8]) -> Result<[u8; 32], CryptoError> {
        match HELD.get() {
            Some(cookie) => Ok(cookie),
            None => rust_crypto::default_provider().hmac_provider.hmac_sha256(key, data),
        }
    }

    fn hmac(
        &self,
        hash: HashAlgorithm,
        key: &[u8],
        data: &[u8],
        out: &mut [u8],
    ) -> Result<usize, CryptoError> {
        rust_crypto::default_provider().hmac_provider.hmac(hash, key, data, out)
    }
}

/// RustCrypto, with our cookies.
pub(super) fn provider() -> CryptoProvider {
    CryptoProvider { hmac_provider: &COOKIES, ..rust_crypto::default_provider() }
}
