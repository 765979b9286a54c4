//! A user's name: any script, kept byte for byte.

use std::fmt;
use std::str::FromStr;

/// 1 to 200 characters, not all blank, none of them a control character. Nothing is trimmed and nothing normalised:
/// how people write their names is theirs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(String);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    #[error("a name has at least one character that is not blank")]
    Blank,
    #[error("a name has at most {} characters", Name::MAX_CHARACTERS)]
    TooLong,
    #[error("a name has no control characters, such as NUL or line breaks")]
    ControlCharacter,
}

impl Name {
    pub const MAX_CHARACTERS: usize = 200;
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if text.trim().is_empty() {
            return Err(InvalidName::Blank);
        }
        if text.chars().count() > Self::MAX_CHARACTERS {
            return Err(InvalidName::TooLong);
        }
        if text.contains(char::is_control) {
            return Err(InvalidName::ControlCharacter);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_every_script_are_kept_byte_for_byte() {
        for name in [
            "Ada",
            " Ada  King ",
            "Ада Лавлейс",
            "李小龍",
            "أبو بكر",
            "क्षत्रिय",
            "👩\u{200d}🚀",
            "e\u{301}",
            "'; drop table users; --",
            "a\u{200f}b",
        ] {
            assert_eq!(name.parse::<Name>().unwrap().to_string(), name);
        }
    }

    #[test]
    fn characters_count_and_not_bytes() {
        assert!("語".repeat(200).parse::<Name>().is_ok());
        assert_eq!("語".repeat(201).parse::<Name>(), Err(InvalidName::TooLong));
    }

    #[test]
    fn a_blank_name_is_no_name() {
        for blank in ["", " ", "\u{3000}\u{a0}", "\t\n"] {
            assert_eq!(blank.parse::<Name>(), Err(InvalidName::Blank), "{blank:?}");
        }
    }

    #[test]
    fn control_characters_are_refused() {
        for text in ["a\0b", "\0", "a\nb", "a\x1bb", "a\x7f", "a\u{85}b"] {
            assert_eq!(
                text.parse::<Name>(),
                Err(InvalidName::ControlCharacter),
                "{text:?}"
            );
        }
    }
}
