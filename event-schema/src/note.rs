//! What people write about a delivery: one rule for the page, the device that stores it, and the owner that delivers it.

use crate::sync::MAX_NOTE_CHARACTERS;
use crate::text::without_hidden;

/// 1 to 500 characters in as many lines as one likes. Nothing around them is blank, and the only control characters are
/// line feeds and tabs. Nothing hides in it or turns it, as in a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note(String);

impl Note {
    /// The nearest note to any text: a delivery is worth more than how its note was typed, pasted or scanned. `None`: nothing
    /// is left.
    pub fn clean(text: &str) -> Option<Self> {
        let text = readable(text);
        let cut: String = text.trim().chars().take(MAX_NOTE_CHARACTERS).collect();
        let cut = without_hidden(&cut); // what shaped something behind the cut
        let cut = cut.trim_end();
        (!cut.is_empty()).then(|| Self(cut.to_owned()))
    }

    /// The characters of a text that count, for an author who is still there to shorten it.
    pub fn count(text: &str) -> usize {
        readable(text).trim().chars().count()
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Note> for String {
    fn from(Note(text): Note) -> Self {
        text
    }
}

/// Every line break is a line feed; other control characters are blanks, and what a name may not hide is gone.
fn readable(text: &str) -> String {
    let one_kind = text.replace("\r\n", "\n");
    let signs = one_kind.chars().map(|sign| match sign {
        '\n' | '\t' => sign,
        '\r' | '\u{2028}' | '\u{2029}' => '\n',
        sign if sign.is_control() => ' ',
        sign => sign,
    });
    without_hidden(&signs.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::is_invisible;

    #[test]
    fn every_text_becomes_a_note_that_stays_the_same_or_none() {
        for sign in (0..0x11_0000).filter_map(char::from_u32) {
            let text = format!("a{sign}b{sign}");
            let note = Note::clean(&text).expect("something is left");
            assert_eq!(Note::clean(note.as_str()).as_ref(), Some(&note), "{sign:?}");
            let odd = |sign: char| sign.is_control() && sign != '\n' && sign != '\t';
            assert!(!note.as_str().contains(odd), "{sign:?}");
            assert!(!note.as_str().contains(is_invisible), "{sign:?}");
            assert!(note.as_str().starts_with('a'), "{sign:?}");
        }
    }

    #[test]
    fn a_note_is_cut_between_characters_and_counted_in_them() {
        for sign in ["a", "語", "🚚", "e\u{301}"] {
            let long = sign.repeat(501);
            let note = Note::clean(&long).unwrap();
            assert_eq!(note.as_str().chars().count(), 500);
            assert!(long.starts_with(note.as_str()));
        }
        let blank_at_the_cut = format!("{} {}", "a".repeat(499), "b");
        assert_eq!(Note::clean(&blank_at_the_cut).unwrap().as_str().len(), 499);
        let joined_at_the_cut = format!("{}👩\u{200d}🚀", "a".repeat(498));
        let note = Note::clean(&joined_at_the_cut).unwrap();
        assert_eq!(Note::clean(note.as_str()), Some(note.clone()));
        assert!(note.as_str().ends_with('👩'));
        assert_eq!(Note::count("\u{feff} a\r\nb \0"), 3);
    }
}
