//! The currency of an amount.

use std::str::FromStr;

/// Three upper-case letters, as in ISO 4217. That list is not checked, because it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Currency(String);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a currency is three upper-case letters, such as EUR")]
pub struct InvalidCurrency;

impl FromStr for Currency {
    type Err = InvalidCurrency;

    fn from_str(text: &str) -> Result<Self, InvalidCurrency> {
        match text.len() == 3 && text.bytes().all(|letter| letter.is_ascii_uppercase()) {
            true => Ok(Self(text.to_owned())),
            false => Err(InvalidCurrency),
        }
    }
}

impl From<Currency> for String {
    fn from(Currency(letters): Currency) -> Self {
        letters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_currency_is_three_upper_case_letters() {
        assert_eq!(String::from("EUR".parse::<Currency>().unwrap()), "EUR");
        for text in ["", "EU", "EURO", "eur", "E R", "É1", "€", "EU\0"] {
            assert_eq!(text.parse::<Currency>(), Err(InvalidCurrency), "{text:?}");
        }
    }
}
