//! Looks into a service's database from outside, read only: its outbox, its dead letters, its rows.
//!
//! It reads the library's tables directly on purpose: a check through the library would trust what it checks.

use std::path::Path;

use anyhow::{Context, Result};
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, Params, Row};

use crate::observer::StoredEvent;

/// Every event of the outbox, in order, with its stored bytes.
pub fn read_all(database: &Path) -> Result<Vec<StoredEvent>> {
    let sql = "select seq, subject, envelope from relay_outbox order by seq";
    query(database, sql, [], |row| {
        Ok(StoredEvent {
            seq: row.get(0)?,
            subject: row.get(1)?,
            bytes: row.get(2)?,
        })
    })
}

/// The last sequence; 0 while there is none.
pub fn head(database: &Path) -> Result<u64> {
    let sql = "select coalesce(max(seq), 0) from relay_outbox";
    Ok(query(database, sql, [], |row| row.get(0))?[0])
}

/// How far a consumer of this database has applied its stream; 0 before its first event.
pub fn offset(database: &Path, consumer: &str) -> Result<u64> {
    let sql = "select coalesce(max(seq), 0) from relay_offset where consumer = ?1";
    Ok(query(database, sql, [consumer], |row| row.get(0))?[0])
}

/// The consumers of this stream that have applied an event of it, each with the last one's sequence.
pub fn offsets(database: &Path, stream: &str) -> Result<Vec<(String, u64)>> {
    let sql = "select consumer, seq from relay_offset where stream = ?1 order by consumer";
    query(database, sql, [stream], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })
}

/// One line per dead letter and per event parked behind one, for people.
pub fn dead_letters(database: &Path) -> Result<Vec<String>> {
    let sql =
        "select consumer || ': event ' || seq || ' of ' || key || ' is ' || state || ': ' || reason
         from relay_dead_letter order by consumer, seq";
    query(database, sql, [], |row| row.get(0))
}

/// The rows of a query, each value as SQLite stores it.
pub fn rows(database: &Path, sql: &str) -> Result<Vec<Vec<Value>>> {
    query(database, sql, [], |row| {
        let columns = 0..row.as_ref().column_count();
        columns.map(|at| row.get(at)).collect()
    })
}

fn query<T, P: Params>(
    database: &Path,
    sql: &str,
    parameters: P,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>> {
    let connection = open(database)?;
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map(parameters, read)?;
    rows.collect::<rusqlite::Result<_>>()
        .with_context(|| format!("cannot read {} with {sql:?}", database.display()))
}

/// Read-only: a mistake here must not change the database under test.
fn open(database: &Path) -> Result<Connection> {
    Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .with_context(|| format!("cannot open {}", database.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_the_librarys_tables_while_the_owner_has_the_file_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("service.db");
        let owner = Connection::open(&path).unwrap();
        owner
            .execute_batch(
                "pragma journal_mode = wal;
                 create table relay_outbox (seq integer primary key, event_id text, subject text, envelope blob, emitted_at_ms integer);
                 create table relay_dead_letter (consumer text, seq integer, key text, state text, reason text);
                 insert into relay_outbox values (1, 'a', 'users.created', x'7b7d', 0), (2, 'b', 'users.renamed', x'00', 0);
                 insert into relay_dead_letter values ('c', 2, 'k', 'dead', 'odd');",
            )
            .unwrap();
        let events = read_all(&path).unwrap();
        assert_eq!(events.len(), 2);
        assert_eq!(
            (
                events[1].seq,
                events[1].subject.as_str(),
                events[1].bytes.as_slice()
            ),
            (2, "users.renamed", &[0][..])
        );
        assert_eq!(head(&path).unwrap(), 2);
        assert_eq!(
            dead_letters(&path).unwrap(),
            ["c: event 2 of k is dead: odd"]
        );
    }

    #[test]
    fn a_missing_database_is_an_error_and_is_not_created() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("none.db");
        assert!(read_all(&path).is_err());
        assert!(!path.exists());
    }
}
