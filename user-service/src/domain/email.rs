//! A user's e-mail address: private, so it never shows in logs and never travels in events.

use std::fmt;
use std::str::FromStr;

use email_address::{EmailAddress, Options};

/// An address that a mail server would take, as given.
#[derive(Clone, PartialEq, Eq)]
pub struct Email(String);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEmail {
    #[error("an e-mail address has at most {} bytes", Email::MAX_BYTES)]
    TooLong,
    #[error("not an e-mail address such as ada@example.org")]
    NotAnAddress,
}

impl Email {
    /// What fits between the brackets of an SMTP path (RFC 5321, 4.5.3.1.3: 256 with them).
    pub const MAX_BYTES: usize = 254;
}

impl FromStr for Email {
    type Err = InvalidEmail;

    fn from_str(text: &str) -> Result<Self, InvalidEmail> {
        if text.len() > Self::MAX_BYTES {
            return Err(InvalidEmail::TooLong);
        }
        // A domain with a dot and no `Ada <ada@example.org>`: what people type, not all that RFC 5322 allows.
        let options = Options::default()
            .with_required_tld()
            .without_display_text()
            .without_domain_literal();
        match EmailAddress::parse_with_options(text, options) {
            Ok(_) if !text.contains(|c: char| c.is_control() || c.is_whitespace()) => {
                Ok(Self(text.to_owned()))
            }
            _ => Err(InvalidEmail::NotAnAddress),
        }
    }
}

impl AsRef<str> for Email {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Email(private)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_kept_as_given() {
        for address in [
            "ada@example.org",
            "Ada.King+orders@Mail.Example.org",
            "δοκιμή@παράδειγμα.gr",
        ] {
            assert_eq!(address.parse::<Email>().unwrap().as_ref(), address);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "ada",
            "@",
            "ada@",
            "@example.org",
            "ada@localhost",
            "ada@[127.0.0.1]",
            "ada@example.org ",
            "Ada <ada@example.org>",
            "a da@example.org",
            "ada@exa\0mple.org",
            "\"a\0b\"@example.org",
            "ada@example.org\nbcc: eve@example.org",
            "ada@@example.org",
            "\"a b\"@example.org",
        ] {
            assert_eq!(
                text.parse::<Email>(),
                Err(InvalidEmail::NotAnAddress),
                "{text:?}"
            );
        }
    }

    #[test]
    fn it_has_its_length() {
        let long = format!(
            "{}@{}.org",
            "a".repeat(60),
            ["b".repeat(60), "c".repeat(60), "d".repeat(60)].join(".")
        );
        assert_eq!((long.len(), long.parse::<Email>().is_ok()), (247, true));
        assert_eq!(
            format!("abcdefgh{long}").parse::<Email>(),
            Err(InvalidEmail::TooLong)
        );
        assert!(
            format!("{}@example.org", "a".repeat(65))
                .parse::<Email>()
                .is_err()
        );
    }

    #[test]
    fn it_does_not_show_itself_in_logs() {
        assert_eq!(
            format!("{:?}", "ada@example.org".parse::<Email>()),
            "Ok(Email(private))"
        );
    }
}
