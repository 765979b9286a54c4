//! Columns as types of the domain.

use std::error::Error;
use std::str::FromStr;

use relay::rusqlite::types::Type;
use relay::rusqlite::{self, Row};

/// A text column, parsed by the rules of its type. A row that breaks them was not written by this program.
pub fn parsed<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<T>
where
    T: FromStr,
    T::Err: Error + Send + Sync + 'static,
{
    let text = row.get_ref(column)?.as_str()?;
    let conversion =
        |error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error));
    text.parse().map_err(conversion)
}
