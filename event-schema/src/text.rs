//! What people write, and what in it cannot be seen. One rule for names of every kind.

/// Why a text is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoName {
    /// Nothing of it can be seen.
    Blank,
    /// It has a line break or another control character.
    Control,
    /// It has this character, which is not seen, or turns the text around it.
    Hidden(char),
}

/// A name is one line of which something can be seen, and everything in it is seen, or shapes what is before it: so two
/// names that look alike are alike, and none changes how the line it stands in is read.
pub fn check_name(text: &str) -> Result<(), NoName> {
    if text.contains(breaks_a_line_or_controls) {
        return Err(NoName::Control);
    }
    if !text.chars().any(is_visible) {
        return Err(NoName::Blank);
    }
    let before = std::iter::once(' ').chain(text.chars());
    let mut pairs = before.zip(text.chars());
    match pairs.find(|(before, sign)| is_invisible(*sign) && !shapes(*before, *sign)) {
        Some((_, sign)) => Err(NoName::Hidden(sign)),
        None => Ok(()),
    }
}

/// Nothing is drawn for it: Unicode's `Default_Ignorable_Code_Point`, what annotates a text, and signs drawn blank. All that
/// change the direction of a text are among them.
pub fn is_invisible(sign: char) -> bool {
    matches!(
        sign,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'
            ..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}'
            | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'
            ..='\u{1bca3}' | '\u{1d159}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
    )
}

fn is_visible(sign: char) -> bool {
    !sign.is_whitespace() && !is_invisible(sign)
}

/// Emoji are joined, dressed and flagged with such signs, and Persian, Indic, Mongolian and Japanese names are written with
/// them. They follow what they shape.
fn shapes(before: char, sign: char) -> bool {
    match sign {
        '\u{e0020}'..='\u{e007f}' => matches!(before, '🏴' | '\u{e0020}'..='\u{e007f}'),
        '\u{200c}' | '\u{200d}' => is_visible(before) || is_selector(before),
        sign => is_selector(sign) && is_visible(before),
    }
}

/// Chooses one of the shapes that a sign has.
fn is_selector(sign: char) -> bool {
    matches!(
        sign,
        '\u{180b}'..='\u{180d}' | '\u{180f}' | '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}'
    )
}

/// U+2028 and U+2029 separate lines and paragraphs, and are no control characters to Unicode.
fn breaks_a_line_or_controls(sign: char) -> bool {
    sign.is_control() || matches!(sign, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_every_script_are_names() {
        for name in [
            "Ada",
            " Ada  King ",
            "Ада Лавлейс",
            "李小龍",
            "أبو بكر",
            "क्षत्रिय",
            "e\u{301}",
            "'; drop table users; --",
            "می\u{200c}خواهم",
            "ന്\u{200d}",
            "👩\u{200d}🚀",
            "❤\u{fe0f}\u{200d}🔥",
            "葛\u{e0100}城",
            "🏴\u{e0067}\u{e0062}\u{e0073}\u{e0063}\u{e0074}\u{e007f}",
            "한",
        ] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn what_cannot_be_seen_is_no_name() {
        let blanks = [
            "",
            " ",
            "\u{3000}\u{a0}",
            "\u{200b}",
            "\u{200c}\u{200d} \u{2060}",
            "\u{feff}\u{ad}",
            "\u{3164}",
            "\u{ffa0}",
            "\u{115f}\u{1160}",
            "\u{2800}\u{180e}",
            "\u{202e}",
            "\u{2066}\u{2069}",
            "\u{fe0f}",
            "\u{e0041}\u{e007f}",
            "\u{200e}\u{200f}\u{61c}",
        ];
        for blank in blanks {
            assert_eq!(check_name(blank), Err(NoName::Blank), "{blank:?}");
        }
    }

    #[test]
    fn no_character_hides_in_a_name_or_turns_it() {
        let hidden = "\u{ad}\u{34f}\u{61c}\u{115f}\u{1160}\u{180e}\u{200b}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2060}\u{2063}\u{2066}\u{2067}\u{2068}\u{2069}\u{206a}\u{2800}\u{3164}\u{feff}\u{ffa0}\u{fff9}\u{e0001}\u{e0041}";
        for sign in hidden.chars() {
            for name in [
                format!("{sign}Ada"),
                format!("A{sign}da"),
                format!("Ada{sign}"),
            ] {
                assert_eq!(check_name(&name), Err(NoName::Hidden(sign)), "{name:?}");
            }
        }
        for sign in ['\u{200c}', '\u{200d}', '\u{fe0f}', '\u{e0100}'] {
            for name in [
                format!("{sign}Ada"),
                format!("Ada {sign}King"),
                format!("Ada{sign}{sign}"),
            ] {
                assert_eq!(check_name(&name), Err(NoName::Hidden(sign)), "{name:?}");
            }
        }
    }

    #[test]
    fn a_name_is_one_line() {
        for text in [
            "a\0b",
            "\0",
            "\t\n",
            "a\nb",
            "a\x1bb",
            "a\x7f",
            "a\u{85}b",
            "a\u{2028}b",
            "\u{2029}",
        ] {
            assert_eq!(check_name(text), Err(NoName::Control), "{text:?}");
        }
    }
}
