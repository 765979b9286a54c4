//! A user's name: any script, kept byte for byte.

use std::fmt;
use std::str::FromStr;

/// 1 to 200 characters, not all of them invisible, none of them a control character or a line break. Nothing is trimmed and nothing normalised:
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
        if text.chars().all(is_blank) {
            return Err(InvalidName::Blank);
        }
        if text.chars().count() > Self::MAX_CHARACTERS {
            return Err(InvalidName::TooLong);
        }
        if text.contains(breaks_a_line_or_controls) {
            return Err(InvalidName::ControlCharacter);
        }
        Ok(Self(text.to_owned()))
    }
}

/// Whitespace, and what takes its place or none at all: zero-width characters and fillers. Emoji and many scripts need
/// them beside others; alone they look like no name.
fn is_blank(character: char) -> bool {
    character.is_whitespace()
        || matches!(
            character,
            '\u{ad}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{200b}'
                ..='\u{200d}' | '\u{2060}' | '\u{2800}' | '\u{3164}' | '\u{feff}'
        )
}

/// U+2028 and U+2029 separate lines and paragraphs, and are no control characters to Unicode.
fn breaks_a_line_or_controls(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')
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
            "می\u{200c}خواهم",
            "\u{feff}Ada\u{ad}",
            "\u{1160}\u{3164}한",
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
        for blank in [
            "",
            " ",
            "\u{3000}\u{a0}",
            "\t\n",
            "\u{200b}",
            "\u{200c}\u{200d} \u{2060}",
            "\u{feff}\u{ad}",
            "\u{3164}",
            "\u{115f}\u{1160}",
            "\u{2800}\u{180e}",
            "\u{2028}",
        ] {
            assert_eq!(blank.parse::<Name>(), Err(InvalidName::Blank), "{blank:?}");
        }
    }

    #[test]
    fn control_characters_and_line_breaks_are_refused() {
        for text in [
            "a\0b",
            "\0",
            "a\nb",
            "a\x1bb",
            "a\x7f",
            "a\u{85}b",
            "a\u{2028}b",
            "a\u{2029}b",
        ] {
            assert_eq!(
                text.parse::<Name>(),
                Err(InvalidName::ControlCharacter),
                "{text:?}"
            );
        }
    }
}
