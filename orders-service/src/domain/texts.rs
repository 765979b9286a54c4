//! What people write: a driver's name, kept byte for byte, and an operator's note.

use std::str::FromStr;

use event_schema::Note;
use event_schema::sync::MAX_NOTE_CHARACTERS;
use event_schema::text::check_name;

/// 1 to 200 characters on one line, all of them to be seen.
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

/// An operator is still there to correct what a driver's note would be cleaned of.
pub fn an_operators_note(text: &str) -> Result<Note, InvalidNote> {
    let fits = Note::count(text) <= MAX_NOTE_CHARACTERS;
    let readable = !text
        .chars()
        .any(|sign| sign.is_control() && sign != '\n' && sign != '\r' && sign != '\t');
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
    fn a_name_is_one_line_that_can_be_seen() {
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
    fn a_note_may_have_lines_and_has_an_end() {
        for good in ["left with neighbour\nsecond floor", &"語".repeat(500)] {
            assert!(an_operators_note(good).is_ok(), "{good}");
        }
        for bad in ["", " \n ", "a\0", "\u{1b}[2J", &"a".repeat(501)] {
            assert!(an_operators_note(bad).is_err(), "{bad:?}");
        }
    }
}
