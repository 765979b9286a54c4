//! Text that people write: a driver's name, kept byte for byte, and an operator's note.

use std::str::FromStr;

use event_schema::Note;
use event_schema::sync::MAX_NOTE_CHARACTERS;
use event_schema::text::check_name;

/// 1 to 200 visible characters on one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriverName(String);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a driver's name has 1 to {} characters on one line, none of which is invisible or changes the direction of a text",
    DriverName::MAX_CHARACTERS
)]
pub struct InvalidDriverName;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a note has 1 to {MAX_NOTE_CHARACTERS} characters, and no control characters but line breaks"
)]
pub struct InvalidNote;

impl DriverName {
    const MAX_CHARACTERS: usize = 200;
}

impl FromStr for DriverName {
    type Err = InvalidDriverName;

    fn from_str(text: &str) -> Result<Self, InvalidDriverName> {
        let fits = text.chars().count() <= Self::MAX_CHARACTERS;
        match fits && check_name(text).is_ok() {
            true => Ok(Self(text.to_owned())),
            false => Err(InvalidDriverName),
        }
    }
}

/// Strict where a driver's note is cleaned: the operator is present and can correct the text.
pub fn operator_note(text: &str) -> Result<Note, InvalidNote> {
    let fits = Note::count(text) <= MAX_NOTE_CHARACTERS;
    let readable = !text.contains(|c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t'));
    let note = Note::clean(text).filter(|_| fits && readable);
    note.ok_or(InvalidNote)
}

impl From<DriverName> for String {
    fn from(DriverName(name): DriverName) -> Self {
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_visible_line() {
        for good in ["Mia", "Nguyễn Văn An", "محمد", &"語".repeat(200)] {
            assert!(good.parse::<DriverName>().is_ok(), "{good}");
        }
        for bad in [
            "",
            " ",
            "a\nb",
            "a\0",
            "\u{202e}aiM",
            "\u{3164}",
            &"語".repeat(201),
        ] {
            assert!(bad.parse::<DriverName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_note_may_have_several_lines_and_has_a_limit() {
        for good in ["left with neighbour\nsecond floor", &"語".repeat(500)] {
            assert!(operator_note(good).is_ok(), "{good}");
        }
        for bad in ["", " \n ", "a\0", "\u{1b}[2J", &"a".repeat(501)] {
            assert!(operator_note(bad).is_err(), "{bad:?}");
        }
    }
}
