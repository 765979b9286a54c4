//! Tokens as they are kept: their hash alone. A token is drawn with 128 bits of chance, so a plain hash of it cannot be
//! turned back; passwords that people think up would need a slow one, and are not taken.

use std::fmt;
use std::str::FromStr;

use axum::http::HeaderMap;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::auth::bearer::{Sent, Token, sent};

/// SHA-256 of a token. Equality takes the same time wherever two differ.
#[derive(Clone, Copy)]
pub struct TokenHash([u8; 32]);

/// A token that was just drawn. The plain one is shown once and kept nowhere.
#[derive(Debug)]
pub struct NewToken {
    pub plain: Token,
    pub hash: TokenHash,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a hash is 64 hexadecimal digits, lower case")]
pub struct InvalidHash;

impl TokenHash {
    pub fn of(token: impl AsRef<[u8]>) -> Self {
        Self(Sha256::digest(token.as_ref()).into())
    }

    /// Of the token in these headers, whether it is known or not.
    pub fn sent(headers: &HeaderMap) -> Option<Self> {
        match sent(headers) {
            Sent::Token(token) => Some(Self::of(token)),
            Sent::Nothing | Sent::Nonsense => None,
        }
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl NewToken {
    /// The prefix says what the token is for, to whoever finds one lying around: `fho_`, `fhs_`.
    pub fn draw(prefix: &str) -> Self {
        let plain = Token::draw_with(prefix);
        let hash = TokenHash::of(plain.reveal());
        Self { plain, hash }
    }
}

impl PartialEq for TokenHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TokenHash {}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(..)")
    }
}

impl FromStr for TokenHash {
    type Err = InvalidHash;

    fn from_str(text: &str) -> Result<Self, InvalidHash> {
        let digit = |digit: u8| match digit {
            b'0'..=b'9' => Ok(digit - b'0'),
            b'a'..=b'f' => Ok(digit - b'a' + 10),
            _ => Err(InvalidHash),
        };
        let digits: &[u8; 64] = text.as_bytes().try_into().map_err(|_| InvalidHash)?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_its_text() {
        let hash = TokenHash::of("abc");
        let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"; // FIPS 180-2, B.1
        assert_eq!(hash.to_string(), text);
        assert_eq!(text.parse(), Ok(hash));
        for other in ["", "ab", &text.to_uppercase(), &text.replace('b', "g")] {
            assert_eq!(other.parse::<TokenHash>(), Err(InvalidHash), "{other}");
        }
    }

    #[test]
    fn a_drawn_token_is_known_by_its_hash_and_never_drawn_again() {
        let (one, two) = (NewToken::draw("fho_"), NewToken::draw("fho_"));
        assert!(one.plain.reveal().starts_with("fho_"));
        assert_eq!(one.plain.reveal().len(), "fho_".len() + 32, "128 bits");
        assert_eq!(TokenHash::of(one.plain.reveal()), one.hash);
        assert_ne!(one.hash, two.hash);
        assert!(!format!("{one:?}").contains(one.plain.reveal()));
    }
}
