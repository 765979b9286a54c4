//! A user's name: any script, kept byte for byte.

use std::fmt;
use std::str::FromStr;

use event_schema::text::{NoName, check_name};

/// 1 to 200 characters on one line, all of them to be seen. Nothing is trimmed and nothing normalised: how people write their
/// names is theirs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(String);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    #[error("a name has at least one character that can be seen")]
    Blank,
    #[error("a name has at most {} characters", Name::MAX_CHARACTERS)]
    TooLong,
    #[error("a name has no control characters, such as NUL or line breaks")]
    ControlCharacter,
    #[error(
        "a name has no characters that cannot be seen, and none that change the direction of a text: leave out U+{:04X}",
        u32::from(*.0)
    )]
    Hidden(char),
}

impl Name {
    pub const MAX_CHARACTERS: usize = 200;

    /// As this service keeps it. It was judged by the rules of the day on which it was taken, and it is what it is.
    pub fn kept(text: String) -> Self {
        Self(text)
    }
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        check_name(text)?;
        match text.chars().count() > Self::MAX_CHARACTERS {
            true => Err(InvalidName::TooLong),
            false => Ok(Self(text.to_owned())),
        }
    }
}

impl From<NoName> for InvalidName {
    fn from(why: NoName) -> Self {
        match why {
            NoName::Blank => Self::Blank,
            NoName::Control => Self::ControlCharacter,
            NoName::Hidden(sign) => Self::Hidden(sign),
        }
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
    fn characters_count_and_not_bytes() {
        assert!("語".repeat(200).parse::<Name>().is_ok());
        assert_eq!("語".repeat(201).parse::<Name>(), Err(InvalidName::TooLong));
    }

    #[test]
    fn a_name_is_kept_byte_for_byte_and_a_refusal_says_what_to_leave_out() {
        for name in [" Ada  King ", "e\u{301}", "می\u{200c}خواهم"] {
            assert_eq!(name.parse::<Name>().unwrap().to_string(), name);
        }
        assert_eq!(" ".parse::<Name>(), Err(InvalidName::Blank));
        assert_eq!("a\nb".parse::<Name>(), Err(InvalidName::ControlCharacter));
        let refused = "Ada\u{202e}".parse::<Name>().unwrap_err().to_string();
        assert!(refused.ends_with("leave out U+202E"), "{refused}");
    }
}
