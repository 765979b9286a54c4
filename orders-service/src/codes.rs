//! One-time codes that enrol devices: an operator reads one out, and a driver types it.

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// How long a code is valid.
pub const LIFE_MS: i64 = 15 * 60 * 1000;

/// Without letters and digits that look alike.
const ALPHABET: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
const CHARACTERS: usize = 12;

/// 60 random bits from the operating system, as `K7QM-2XWD-9RTA`.
pub fn draw() -> String {
    let random = Uuid::new_v4();
    let letters = random.as_bytes().iter().filter_map(letter);
    let drawn: Vec<char> = letters.take(CHARACTERS).collect();
    let groups = drawn
        .chunks(4)
        .map(|group| group.iter().collect::<String>());
    groups.collect::<Vec<_>>().join("-")
}

/// The stored form, from which no reader of the database learns the code. Ignores case, dashes and blanks.
pub fn hash(code: &str) -> String {
    let letters = code
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|sign| sign.to_ascii_uppercase());
    let digest = Sha256::digest(letters.collect::<String>());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Five bits of a byte. Two bytes of a UUID are not fully random, but these bits of them are.
fn letter(byte: &u8) -> Option<char> {
    let at = usize::from(byte & 0x1f);
    Some(char::from(ALPHABET[at]))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_code_is_easy_to_read_out_and_no_two_are_alike() {
        let drawn: HashSet<String> = (0..100).map(|_| draw()).collect();
        assert_eq!(drawn.len(), 100);
        for code in drawn {
            assert_eq!(code.len(), CHARACTERS + 2, "{code}");
            assert!(!code.contains(['0', 'O', '1', 'I']), "{code}");
        }
    }

    #[test]
    fn case_and_dashes_do_not_count_and_every_letter_does() {
        assert_eq!(hash("K7QM-2XWD-9RTA"), hash(" k7qm2xwd9rta"));
        assert_ne!(hash("K7QM-2XWD-9RTA"), hash("K7QM-2XWD-9RTB"));
    }
}
