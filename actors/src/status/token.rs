//! The token that whoever gives orders must bear (RFC 6750).

use std::fmt;

use sha2::{Digest as _, Sha256};

/// A token, by its digest: comparing digests tells nothing of how far a guess was right.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; 32]);

impl Token {
    /// Fewest characters.
    pub const MIN: usize = 16;

    /// A token of at least [`Token::MIN`] characters.
    pub fn new(text: &[u8]) -> Option<Self> {
        (text.len() >= Self::MIN).then(|| Self(Sha256::digest(text).into()))
    }

    /// Whether an `Authorization` header bears it.
    pub(super) fn is_borne_by(&self, header: &str) -> bool {
        let (scheme, text) = header.trim().split_once(' ').unwrap_or_default();
        let given: [u8; 32] = Sha256::digest(text.trim()).into();
        scheme.eq_ignore_ascii_case("bearer") && given == self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}
