//! Tokens: as they are sent, and as they are kept, which is their hash alone. A token is drawn with 128 random bits, so a
//! plain hash of it cannot be turned back. Passwords that people invent would need a slow hash, and are not taken.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use data_encoding::HEXLOWER;
use relay::environment::{Environment, System};
use reqwest::RequestBuilder;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// A secret that a caller sends. It stays out of logs.
#[derive(Clone)]
pub struct Token(Arc<str>);

/// SHA-256 of a token. A comparison takes the same time wherever two differ.
#[derive(Clone, Copy)]
pub struct TokenHash([u8; 32]);

/// The text is not the hash of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a hash is 64 hexadecimal digits, lower case")]
pub struct InvalidHash;

/// The `Authorization` header.
pub(crate) enum Sent<'a> {
    Nothing,
    Token(&'a [u8]),
    /// Two of them, another scheme, or no token behind it.
    Malformed,
}

/// A shorter secret can be guessed.
const MIN_CHARACTERS: usize = 16;

impl Token {
    /// From the environment and from nowhere else: flags are visible to every user of the machine. The refusal says what
    /// to set.
    ///
    /// # Errors
    ///
    /// The variable is not set, or its value is too short to be a secret or cannot be a header.
    pub fn from_env(variable: &str) -> Result<Self, String> {
        match std::env::var(variable).unwrap_or_default().as_str() {
            "" => Err(format!(
                "{variable} is not set: set it to a secret of at least {MIN_CHARACTERS} characters"
            )),
            found => found.parse().map_err(|why| format!("{variable}: {why}")),
        }
    }

    /// A prefix and 128 random bits of the operating system.
    pub fn draw(prefix: &str) -> Self {
        Self(format!("{prefix}{}{}", System.draw_word(), System.draw_word()).into())
    }

    /// A request that carries this token.
    pub fn on(&self, request: RequestBuilder) -> RequestBuilder {
        request.bearer_auth(self.reveal())
    }

    /// What the access file stores of it.
    pub fn hash(&self) -> TokenHash {
        TokenHash::of(self.reveal())
    }

    /// The secret itself, to be sent or to be shown once.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// Two headers contradict each other, so they are as bad as one that cannot be read.
pub(crate) fn sent(headers: &HeaderMap) -> Sent<'_> {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    let line = match (lines.next(), lines.next()) {
        (None, _) => return Sent::Nothing,
        (Some(line), None) => line.as_bytes(),
        (Some(_), Some(_)) => return Sent::Malformed,
    };
    match line.split_at_checked("Bearer ".len()) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"Bearer ") => Sent::Token(token),
        _ => Sent::Malformed,
    }
}

impl FromStr for Token {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.len() >= MIN_CHARACTERS && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(Self(text.into())),
            false => Err(format!(
                "a token has at least {MIN_CHARACTERS} characters, all visible ASCII"
            )),
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl TokenHash {
    /// Hashes a token.
    pub fn of(token: impl AsRef<[u8]>) -> Self {
        Self(Sha256::digest(token.as_ref()).into())
    }

    /// Of the token in these headers, whether it is known or not.
    pub fn sent(headers: &HeaderMap) -> Option<Self> {
        match sent(headers) {
            Sent::Token(token) => Some(Self::of(token)),
            Sent::Nothing | Sent::Malformed => None,
        }
    }
}

impl PartialEq for TokenHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TokenHash {}

impl Hash for TokenHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
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
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| InvalidHash)?;
        bytes.try_into().map(Self).map_err(|_| InvalidHash)
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

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
    fn a_token_is_long_enough_for_a_secret_and_fits_into_a_header() {
        for good in ["0123456789abcdef", &"~".repeat(100)] {
            assert!(good.parse::<Token>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "0123456789abcde",
            "0123456789 abcdef",
            "0123456789abcdé\n",
        ] {
            assert!(bad.parse::<Token>().is_err(), "{bad}");
        }
        let refusal = Token::from_env("FREEHOLD_NOT_SET").unwrap_err();
        assert!(refusal.starts_with("FREEHOLD_NOT_SET is not set: set it"));
        assert_eq!(format!("{:?}", Token::draw("")), "Token(..)");
    }

    #[test]
    fn only_the_very_token_is_let_through_sent_once() {
        let token: Token = "0123456789abcdef".parse().unwrap();
        let sent = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(AUTHORIZATION, HeaderValue::from_str(line).unwrap());
            }
            TokenHash::sent(&headers) == Some(token.hash())
        };
        assert!(sent(&["Bearer 0123456789abcdef"]));
        assert!(sent(&["bearer 0123456789abcdef"]));
        for other in [
            "",
            "Bearer",
            "Bearer ",
            "0123456789abcdef",
            "Basic 0123456789abcdef",
            "Bearer 0123456789abcdeF",
            "Bearer 0123456789abcdef ",
            "Bearer 0123456789abcdef0",
        ] {
            assert!(!sent(&[other]), "{other}");
        }
        assert!(!sent(&[]));
        assert!(!sent(&[
            "Bearer 0123456789abcdef",
            "Bearer 0123456789abcdef"
        ]));
    }

    #[test]
    fn a_drawn_token_is_known_by_its_hash_and_never_drawn_again() {
        let (one, two) = (Token::draw("fho_"), Token::draw("fho_"));
        assert!(one.reveal().starts_with("fho_"));
        assert_eq!(one.reveal().len(), "fho_".len() + 32, "128 bits");
        assert_eq!(TokenHash::of(one.reveal()), one.hash());
        assert_ne!(one.hash(), two.hash());
        assert!(!format!("{one:?}").contains(one.reveal()));
    }
}
