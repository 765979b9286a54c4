//! Columns as types of the domain.

use std::error::Error;
use std::str::FromStr;

use relay::rusqlite::types::Type;
use relay::rusqlite::{self, Row};

/// A text column, parsed by the rules of its type. A row that breaks them was not written by this program.
///
/// # Errors
///
/// [`rusqlite::Error::FromSqlConversionFailure`] when the text does not parse; an SQLite error when there is no such column.
pub fn parsed<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<T>
where
    T: FromStr,
    T::Err: Error + Send + Sync + 'static,
{
    let text = row.get_ref(column)?.as_str()?;
    text.parse().map_err(|error| unreadable(column, error))
}

/// The error of a column that this program did not write.
pub(crate) fn unreadable(
    column: usize,
    error: impl Error + Send + Sync + 'static,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}
