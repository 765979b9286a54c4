//! What the rows of every table share. A row of many columns is read as one JSON object, so that serde checks it.

use relay::log::{Sink, row as shared};
use relay::rusqlite::types::{Type, Value};
use relay::rusqlite::{self, Connection, Row, params_from_iter};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The first column, which holds JSON.
pub fn json<T: DeserializeOwned>(row: &Row<'_>) -> rusqlite::Result<T> {
    serde_json::from_str(row.get_ref(0)?.as_str()?)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(error)))
}

/// A parameter that a statement reads with `->>`.
pub fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain values are JSON")
}

/// One page of a list: the rows of `select` that match every filter that is set, in the order of their sequences, after
/// `after`.
pub fn list<T: DeserializeOwned>(
    rows: &Connection,
    select: &str,
    filters: &[(&str, Option<String>)],
    after: i64,
    limit: i64,
) -> rusqlite::Result<Vec<T>> {
    let (mut conditions, mut values) = (String::new(), vec![after.into(), limit.into()]);
    for (column, value) in filters {
        if let Some(value) = value {
            values.push(Value::from(value.clone()));
            conditions += &format!(" and {column} = ?{}", values.len());
        }
    }
    let sql = format!("{select} and seq > ?1{conditions} order by seq limit ?2");
    rows.prepare_cached(&sql)?
        .query_map(params_from_iter(values), json)?
        .collect()
}

/// Sends every row of `select` as a row of a snapshot.
pub fn share<T: DeserializeOwned + Serialize>(
    rows: &Connection,
    select: &str,
    to: &mut Sink<'_>,
) -> rusqlite::Result<()> {
    let mut select = rows.prepare(select)?;
    let mut found = select.query([])?;
    while let Some(row) = found.next()? {
        if !to(shared(&json::<T>(row)?)) {
            break;
        }
    }
    Ok(())
}
