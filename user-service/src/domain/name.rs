//! A user's name: any script, kept byte for byte.

use std::str::FromStr;

use event_schema::text::{NoName, check_name};

/// 1 to 200 characters on one line, all of them visible. Nothing is trimmed or normalised: people decide how to write their
/// names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(String);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    #[error(transparent)]
    Text(#[from] NoName),
    #[error("a name has at most {} characters", Name::MAX_CHARACTERS)]
    TooLong,
}

impl Name {
    pub const MAX_CHARACTERS: usize = 200;

    /// A stored name. It was valid by the rules of its day and is not checked again.
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
            assert_eq!(name.parse::<Name>().unwrap().as_ref(), name);
        }
        assert_eq!(" ".parse::<Name>(), Err(InvalidName::Text(NoName::Blank)));
        assert_eq!(
            "a\nb".parse::<Name>(),
            Err(InvalidName::Text(NoName::Control))
        );
        let refused = "Ada\u{202e}".parse::<Name>().unwrap_err().to_string();
        assert!(refused.ends_with("leave out U+202E"), "{refused}");
    }
}
