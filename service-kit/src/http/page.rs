//! Lists in pages: after a cursor, up to a limit, in the order of creation.

use std::fmt::{self, Display};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Some items, and where the next ones begin.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    /// In the order of the collection.
    pub items: Vec<T>,
    /// To be sent back as `cursor`; null on the last page.
    #[schema(required = true, example = "c1.1042")]
    pub next_cursor: Option<String>,
}

/// The most items on a page: 1 to 200, 50 by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Limit(u32);

/// A page begins after the item with this number. Opaque to clients, which send back the cursor they were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String", bound = "Number: FromStr")]
pub struct Cursor<Number>(pub Number);

/// The version of the cursor's format.
const CURSOR_PREFIX: &str = "c1.";

impl<T> Page<T> {
    /// From rows read with [`Limit::and_one_more`].
    pub fn new<Number: Display>(
        mut rows: Vec<T>,
        limit: Limit,
        number: impl Fn(&T) -> Number,
    ) -> Self {
        let more = rows.len() > limit.0 as usize;
        rows.truncate(limit.0 as usize);
        let last = rows.last().filter(|_| more);
        Self {
            next_cursor: last.map(|row| Cursor(number(row)).to_string()),
            items: rows,
        }
    }

    /// The same page of other items.
    pub fn map<U>(self, each: impl FnMut(T) -> U) -> Page<U> {
        Page {
            items: self.items.into_iter().map(each).collect(),
            next_cursor: self.next_cursor,
        }
    }
}

impl Limit {
    const MAX: u32 = 200;

    /// The number: 1 to 200.
    pub fn get(self) -> u32 {
        self.0
    }

    /// How many rows to read: the extra one shows that there is a next page.
    pub fn and_one_more(self) -> u32 {
        self.0 + 1
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self(50)
    }
}

impl TryFrom<String> for Limit {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let limit = text.parse().ok();
        let within = limit.filter(|limit| (1..=Self::MAX).contains(limit));
        let expected = || format!("a limit is a number from 1 to {}", Self::MAX);
        within.map(Self).ok_or_else(expected)
    }
}

impl<Number: Display> Display for Cursor<Number> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{CURSOR_PREFIX}{}", self.0)
    }
}

impl<Number: FromStr> TryFrom<String> for Cursor<Number> {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        let number = text
            .strip_prefix(CURSOR_PREFIX)
            .and_then(|number| number.parse().ok());
        number
            .map(Self)
            .ok_or("a cursor is the `next_cursor` of an earlier page")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_row_too_many_becomes_the_cursor_of_the_next_page() {
        let two = Limit::try_from("2".to_owned()).unwrap();
        let page = Page::new(vec![10, 11, 12], two, |row| *row);
        assert_eq!(
            (page.items, page.next_cursor.as_deref()),
            (vec![10, 11], Some("c1.11"))
        );
        let last = Page::new(vec![12, 13], two, |row| *row);
        assert_eq!((last.items, last.next_cursor), (vec![12, 13], None));
    }

    #[test]
    fn a_cursor_is_what_a_list_has_given_and_nothing_else() {
        let parse = |text: &str| Cursor::<u8>::try_from(text.to_owned());
        assert_eq!(parse("c1.11"), Ok(Cursor(11)));
        assert!(parse("11").is_err());
        assert!(parse("c1.").is_err());
        assert!(parse("c2.11").is_err());
    }

    #[test]
    fn limits_have_limits() {
        assert!(Limit::try_from("200".to_owned()).is_ok());
        for text in ["", "many", "-1", "1.5", "0", "201", "4294967296"] {
            let refusal = Limit::try_from(text.to_owned()).unwrap_err();
            assert_eq!(refusal, "a limit is a number from 1 to 200", "{text}");
        }
        assert_eq!(Limit::try_from("7".to_owned()), Ok(Limit(7)));
    }
}
