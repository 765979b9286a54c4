//! Every SQL statement of this device, one function each.

pub mod deliveries;
pub mod device;
pub mod intents;

use std::num::NonZeroU64;

use event_schema::Version;
use relay::rusqlite::types::Type;
use relay::rusqlite::{self, Row};
use relay::{ReadError, WriteError};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why the device's own file did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the device's file could not be written")]
    Write(#[from] WriteError<rusqlite::Error>),
    #[error("the device's file could not be read")]
    Read(#[from] ReadError<rusqlite::Error>),
}

impl StoreError {
    /// The device stops; nothing is wrong.
    pub fn is_closed(&self) -> bool {
        let (Self::Write(WriteError::Closed) | Self::Read(ReadError::Closed)) = self else {
            return false;
        };
        true
    }
}

/// A JSON column as the type it was once written from.
fn json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    serde_json::from_str(text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
    })
}

fn optional_json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<T>> {
    match row.get_ref(column)? {
        rusqlite::types::ValueRef::Null => Ok(None),
        _ => json(row, column).map(Some),
    }
}

fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("types of the contract are plain and serialize")
}

fn version(row: &Row<'_>, column: usize) -> rusqlite::Result<Version> {
    row.get::<_, NonZeroU64>(column).map(Version::from)
}

/// SQLite counts up to 2^63; a place beyond it is as good as the last.
fn place(at: u64) -> i64 {
    i64::try_from(at).unwrap_or(i64::MAX)
}
