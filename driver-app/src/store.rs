//! Every SQL statement of this device, one function each. A row of many columns is read as one JSON object, so that serde
//! checks it.

pub mod deliveries;
pub mod device;
pub mod intents;

use relay::WriteError;
use relay::error::{OpenError, ReadError};
use relay::rusqlite::types::Type;
use relay::rusqlite::{self, Row};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The device's own file failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the device's file could not be opened")]
    Open(#[from] OpenError),
    #[error("the device's file could not be written")]
    Write(#[from] WriteError<rusqlite::Error>),
    #[error("the device's file could not be read")]
    Read(#[from] ReadError<rusqlite::Error>),
}

impl StoreError {
    /// The program is stopping; nothing is wrong.
    pub fn is_closed(&self) -> bool {
        matches!(
            self,
            Self::Write(WriteError::Closed) | Self::Read(ReadError::Closed)
        )
    }
}

/// The first column, which holds JSON.
fn json<T: DeserializeOwned>(row: &Row<'_>) -> rusqlite::Result<T> {
    serde_json::from_str(row.get_ref(0)?.as_str()?)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(error)))
}

fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("types of the contract are plain and serialize")
}

/// SQLite counts to 2^63 - 1, which no log reaches.
fn sequence(at: u64) -> i64 {
    i64::try_from(at).unwrap_or(i64::MAX)
}
