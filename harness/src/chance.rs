//! Randomness from the operating system: passwords, ports and inboxes that no other process draws.
//!
//! A repeatable test draws only its seed here.

use std::ops::Range;
use std::time::Duration;

/// 64 bits.
pub fn number() -> u64 {
    getrandom::u64().expect("the operating system has randomness")
}

/// True half of the time.
pub fn coin() -> bool {
    number().is_multiple_of(2)
}

/// The seed of a test that must be repeatable: `FREEHOLD_SEED`, or a new one. Print it.
pub fn seed() -> u64 {
    let given = std::env::var("FREEHOLD_SEED").ok();
    given.map_or_else(number, |seed| {
        seed.parse().expect("FREEHOLD_SEED is a number")
    })
}

/// One of the range. It must not be empty; the bias of the remainder is nothing against 64 bits.
pub fn in_range(range: Range<u16>) -> u16 {
    let width = u64::from(range.end - range.start);
    range.start + u16::try_from(number() % width).expect("smaller than the width, which is one")
}

/// Some time within these seconds.
pub fn seconds(range: Range<u16>) -> Duration {
    Duration::from_secs(in_range(range).into()) + Duration::from_millis(in_range(0..1000).into())
}

/// An element of the list; none when it is empty.
pub fn one_of<T>(list: &[T]) -> Option<&T> {
    let length = u64::try_from(list.len()).ok()?;
    list.get(usize::try_from(number().checked_rem(length)?).ok()?)
}

/// This many of `A`-`Z`, `a`-`z`, `0`-`9`, each equally likely.
pub fn letters_and_digits(count: usize) -> String {
    // Other bytes are drawn again, not folded: folding would prefer some letters.
    let drawn = std::iter::repeat_with(number)
        .flat_map(u64::to_ne_bytes)
        .filter(u8::is_ascii_alphanumeric);
    drawn.take(count).map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_values_stay_in_their_bounds_and_differ() {
        assert!((0..1000).all(|_| (5..8).contains(&in_range(5..8))));
        let drawn = letters_and_digits(40);
        assert!(drawn.len() == 40 && drawn.chars().all(|sign| sign.is_ascii_alphanumeric()));
        assert_ne!(drawn, letters_and_digits(40));
    }
}
