//! A user's e-mail address: private, so it never shows in logs and never travels in events.

use std::fmt;
use std::str::FromStr;

use email_address::{EmailAddress, Options};
use event_schema::text::is_invisible;
use icu_normalizer::ComposingNormalizerBorrowed;

/// An address that a mail server would accept, as given. [`mailbox`](Self::mailbox) says which other forms are the same mailbox.
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

    /// A stored address. It was valid by the rules of its day and is not checked again.
    pub fn kept(text: String) -> Self {
        Self(text)
    }

    /// The form that all addresses of one mailbox share. It is for comparison only: mail goes to the address as given. The
    /// local part loses its quotes, its case and its compatibility forms (NFKC); the domain becomes its DNS form (UTS 46).
    /// `+tags` and dots stay, because their meaning is up to the mail server. If a newer Unicode folds more, a migration can
    /// empty the column; the next opening fills it again.
    pub fn mailbox(&self) -> String {
        let (local, domain) = self.parts();
        let domain = idna::domain_to_ascii(domain).unwrap_or_else(|_| folded(domain));
        let domain = domain.strip_suffix('.').unwrap_or(&domain);
        format!("{}@{domain}", folded(&unquoted(local)))
    }

    fn parts(&self) -> (&str, &str) {
        self.0.rsplit_once('@').unwrap_or((&self.0, ""))
    }

    /// It has no invisible characters, and its domain has a DNS form.
    fn is_visible(&self) -> bool {
        let (local, domain) = self.parts();
        let blank = |sign: char| sign.is_control() || sign.is_whitespace() || is_invisible(sign);
        !local.contains(blank) && idna::domain_to_ascii(domain).is_ok()
    }
}

/// `"a\da"` is `ada` (RFC 5321, 4.1.2).
fn unquoted(local: &str) -> String {
    let quoted = local.strip_prefix('"').and_then(|of| of.strip_suffix('"'));
    let Some(quoted) = quoted else {
        return local.to_owned();
    };
    let mut signs = quoted.chars();
    let next = || match signs.next() {
        Some('\\') => signs.next(),
        sign => sign,
    };
    std::iter::from_fn(next).collect()
}

/// Without case and compatibility forms. A final sigma is a sigma.
fn folded(text: &str) -> String {
    let nfkc = ComposingNormalizerBorrowed::new_nfkc();
    let lower = nfkc.normalize(text).to_lowercase().replace('ς', "σ");
    nfkc.normalize(&lower).into_owned()
}

impl FromStr for Email {
    type Err = InvalidEmail;

    fn from_str(text: &str) -> Result<Self, InvalidEmail> {
        if text.len() > Self::MAX_BYTES {
            return Err(InvalidEmail::TooLong);
        }
        // A domain with a dot, and no `Ada <ada@example.org>`: what people type, which is less than RFC 5322 allows.
        let options = Options::default()
            .with_required_tld()
            .without_display_text()
            .without_domain_literal();
        let email = Self(text.to_owned());
        match EmailAddress::parse_with_options(text, options) {
            Ok(_) if email.is_visible() => Ok(email),
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
    use std::collections::HashSet;

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
    fn the_addresses_of_one_mailbox_have_one_form() {
        for same in [
            ["bea@münchen.example", "bea@MÜNCHEN.example"].as_slice(),
            &[
                "bea@münchen.example",
                "BEA@xn--mnchen-3ya.example",
                "bea@XN--MNCHEN-3YA.EXAMPLE",
                "bea@mu\u{308}nchen.example",
            ],
            &[
                "ada@example.org",
                "Ada@Example.ORG",
                "ada@ｅxample.org",
                "ａｄａ@example.org",
                "\"ada\"@example.org",
                "\"a\\da\"@example.org",
            ],
            &[
                "jürgen@example.org",
                "JÜRGEN@example.org",
                "ju\u{308}rgen@example.org",
            ],
            &["δοκιμής@example.org", "ΔΟΚΙΜΉΣ@example.org"],
            &[
                "bea@straße.example",
                "bea@STRAẞE.example",
                "bea@xn--strae-oqa.example",
            ],
            &["o\u{212a}@example.org", "ok@example.org"],
            &["a@faß.example", "a@fa\u{ad}ß.example"],
        ] {
            let form = |of: &&str| Email::kept((*of).to_owned()).mailbox();
            let forms: Vec<String> = same.iter().map(form).collect();
            assert!(forms.iter().all(|form| *form == forms[0]), "{forms:?}");
        }
        assert_eq!(
            Email::kept("ada@example.org.".to_owned()).mailbox(),
            "ada@example.org"
        );
        assert_eq!(
            Email::kept("Ada@xn--\u{301}".to_owned()).mailbox(),
            "ada@xn--\u{301}"
        );
        assert_eq!(Email::kept("ADA".to_owned()).mailbox(), "ada@");
    }

    #[test]
    fn other_mailboxes_have_other_forms() {
        let others = [
            "ada@example.org",
            "ada+orders@example.org",
            "a.da@example.org",
            "ada@mail.example.org",
            "ada@example.com",
            "straße@example.org",
            "strasse@example.org",
            "bea@straße.example",
            "bea@strasse.example",
            "ılk@example.org",
            "ilk@example.org",
            "аda@example.org",
        ];
        let forms: HashSet<String> = others
            .iter()
            .map(|of| of.parse::<Email>().unwrap().mailbox())
            .collect();
        assert_eq!(forms.len(), others.len(), "{forms:?}");
    }

    #[test]
    fn an_address_with_invisible_characters_is_refused() {
        for text in [
            "a\u{200b}da@example.org",
            "ada\u{202e}@example.org",
            "ada@exa\u{202e}mple.org",
            "\u{feff}ada@example.org",
            "ada@xn--\u{fffd}.org",
            "ada@xn--a.org",
        ] {
            assert_eq!(
                text.parse::<Email>(),
                Err(InvalidEmail::NotAnAddress),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_text_that_is_no_address_is_refused() {
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
    fn a_long_address_is_refused() {
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
    fn logs_do_not_show_it() {
        assert_eq!(
            format!("{:?}", "ada@example.org".parse::<Email>()),
            "Ok(Email(private))"
        );
    }
}
