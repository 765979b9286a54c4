//! What people write, and what in it cannot be seen. One rule for names of every kind.

/// Why a text is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoName {
    /// Nothing of it can be seen.
    #[error("a name has at least one visible character")]
    Blank,
    /// It has a control character.
    #[error("a name has no control characters, such as NUL or line breaks")]
    Control,
    /// It has this character, which cannot be seen where it stands.
    #[error(
        "a name has no invisible characters, and none that change the direction of a text: leave out U+{:04X}",
        u32::from(*.0)
    )]
    Hidden(char),
}

/// A name is one line of which something can be seen, and everything in it is seen, or shapes what is before it: so two
/// names that look alike are alike, and none changes how the line it stands in is read.
///
/// # Errors
///
/// [`NoName`] with the first reason.
pub fn check_name(text: &str) -> Result<(), NoName> {
    if text.contains(breaks_a_line_or_controls) {
        return Err(NoName::Control);
    }
    if !text.chars().any(is_visible) {
        return Err(NoName::Blank);
    }
    let mut before = ' ';
    for (sign, after) in with_next(text) {
        if hides(before, sign, after) {
            return Err(NoName::Hidden(sign));
        }
        before = sign;
    }
    Ok(())
}

/// The text without what a name may not hide.
pub fn without_hidden(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut before = ' ';
    for (sign, after) in with_next(text) {
        if !hides(before, sign, after) {
            kept.push(sign);
            before = sign;
        }
    }
    kept
}

/// Each character with the one behind it.
fn with_next(text: &str) -> impl Iterator<Item = (char, char)> {
    let behind = text.chars().skip(1).chain([' ']);
    text.chars().zip(behind)
}

fn hides(before: char, sign: char, after: char) -> bool {
    is_invisible(sign) && !shapes(before, sign, after)
}

/// Nothing is drawn for it: Unicode's `Default_Ignorable_Code_Point`, what annotates a text, signs drawn blank, and what is no
/// character. All that change the direction of a text are among them.
pub fn is_invisible(sign: char) -> bool {
    matches!(
        sign,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'
            ..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}'
            | '\u{3164}' | '\u{fdd0}'..='\u{fdef}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'
            ..='\u{fffc}' | '\u{13430}'..='\u{1343f}' | '\u{16fe4}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d159}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
    ) || sign as u32 & 0xfffe == 0xfffe
}

fn is_visible(sign: char) -> bool {
    !sign.is_whitespace() && !is_invisible(sign)
}

/// Emoji are joined, dressed and flagged with such signs, and Persian, Indic, Mongolian and Japanese names are written with
/// them: each where it is seen to do so, or nearly, without the tables of all letters that have more than one shape.
fn shapes(before: char, sign: char, after: char) -> bool {
    match sign {
        '\u{e0020}'..='\u{e007f}' => matches!(before, '🏴' | '\u{e0020}'..='\u{e007e}'),
        '\u{200c}' | '\u{200d}' if is_virama(before) => true,
        '\u{200c}' | '\u{200d}' if is_indic(before) => is_virama(after),
        '\u{200d}' if is_emoji(after) => is_emoji(before) || is_dress(before),
        '\u{200c}' | '\u{200d}' => is_joined(before) && is_joined(after),
        '\u{180b}'..='\u{180d}' | '\u{180f}' => matches!(before, '\u{1820}'..='\u{18aa}'),
        _ if is_dress(sign) => is_emoji(before) || is_key(before) && after == '\u{20e3}',
        '\u{fe00}'..='\u{fe02}' | '\u{e0100}'..='\u{e01ef}' => is_ideograph(before),
        _ => false,
    }
}

/// Draws an emoji as text or as a picture.
fn is_dress(sign: char) -> bool {
    matches!(sign, '\u{fe0e}' | '\u{fe0f}')
}

/// The blocks of emoji and of the signs that can be one.
fn is_emoji(sign: char) -> bool {
    matches!(
        sign,
        '©' | '®' | '‼' | '⁉' | '\u{2100}'..='\u{214f}' | '\u{2190}'..='\u{27ff}' | '\u{2900}'..='\u{2bff}' | '〰' | '〽'
            | '㊗' | '㊙' | '\u{1f000}'..='\u{1faff}'
    )
}

/// In a frame they are emoji: `1️⃣`.
fn is_key(sign: char) -> bool {
    matches!(sign, '0'..='9' | '#' | '*')
}

fn is_ideograph(sign: char) -> bool {
    matches!(
        sign,
        '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}'
    )
}

/// Its letters meet at viramas alone.
fn is_indic(sign: char) -> bool {
    matches!(sign, '\u{900}'..='\u{dff}')
}

fn is_virama(sign: char) -> bool {
    matches!(
        sign,
        '\u{94d}'
            | '\u{9cd}'
            | '\u{a4d}'
            | '\u{acd}'
            | '\u{b4d}'
            | '\u{bcd}'
            | '\u{c4d}'
            | '\u{ccd}'
            | '\u{d4d}'
            | '\u{dca}'
    )
}

/// The blocks of scripts whose letters take their shapes from their neighbours: from Arabic to N'Ko, and from Burmese to
/// Mongolian, Balinese and Adlam.
fn is_joined(sign: char) -> bool {
    let of_such_a_script = matches!(
        sign,
        '\u{600}'..='\u{8ff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{18aa}' | '\u{1a20}'..='\u{1cff}' | '\u{a800}'
            ..='\u{abff}' | '\u{10a00}'..='\u{11fff}' | '\u{1e900}'..='\u{1e95f}'
    );
    of_such_a_script && is_visible(sign)
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
            "र\u{94d}\u{200d}य",
            "র\u{200d}\u{9cd}য",
            "ශ\u{dca}\u{200d}රී",
            "ᠮᠣ\u{180b}ᠩ",
            "👩🏽\u{200d}⚕\u{fe0f}",
            "1\u{fe0f}\u{20e3} Kiosk™\u{fe0f}",
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
    fn a_sign_that_shapes_nothing_where_it_stands_is_hidden() {
        for name in [
            "Mia\u{200d}",
            "M\u{200c}ia",
            "M\u{200d}ia",
            "М\u{200d}иа",
            "Zoe\u{301}\u{200c}",
            "李\u{200d}龍",
            "한\u{200c}국",
            "می\u{200c}",
            "می\u{200d}",
            "می\u{200c}M",
            "می\u{200c}\u{200c}خواهم",
            "क\u{200c}त",
            "👩\u{200d}",
            "👩\u{200d} 🚀",
            "👩\u{200c}🚀",
            "M\u{fe0f}ia",
            "7\u{fe0f}",
            "می\u{fe0f}",
            "A\u{e0100}",
            "葛\u{e0100}\u{e0100}",
            "🚚\u{fe0f}\u{fe0f}",
            "🚚\u{fe05}",
            "A\u{180b}",
            "\u{16fe4}",
            "A\u{16fe4}",
            "A\u{13430}",
            "A\u{fffc}",
            "A\u{fdd0}",
            "A\u{fffe}",
            "A\u{ffff}",
            "A\u{1ffff}",
            "A\u{10fffe}",
        ] {
            let refused = check_name(name);
            assert!(
                matches!(refused, Err(NoName::Hidden(_) | NoName::Blank)),
                "{name:?} {refused:?}"
            );
            let cleaned = without_hidden(name);
            assert_ne!(cleaned, name);
            assert_eq!(without_hidden(&cleaned), cleaned, "{name:?}");
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
