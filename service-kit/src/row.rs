//! Values with a type of their own, out of rows.

use std::error::Error;
use std::str::FromStr;

use relay::rusqlite::types::Type;
use relay::rusqlite::{self, Row};

/// A text column as the type that its text was once parsed into. The same rules hold: a row that breaks them was not
/// written by this program.
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
