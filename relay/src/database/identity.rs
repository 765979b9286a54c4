//! The identity row: whose file this is, which life of it, and whether it may be an older copy of itself.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::UNIX_EPOCH;

use rusqlite::{Connection, OptionalExtension};
use uuid::Uuid;

use super::lock::Ownership;
use super::{Options, Tx, disk};
use crate::log::Origin;

pub(super) fn service(rows: &Connection) -> rusqlite::Result<Option<String>> {
    rows.query_row("select service from relay_identity", [], |row| row.get(0))
        .optional()
}

/// The identity row, of a file with all its tables.
pub(crate) struct Identity {
    pub(crate) service: String,
    pub(crate) stream: String,
    /// Why the file may be an older copy of itself, if there is a sign of that: it imports before it writes.
    pub(crate) must_import: Option<String>,
    /// It was created where another database had been, which is gone.
    pub(crate) successor: bool,
    /// The foreign stream that the operator decided to replace.
    pub(crate) replaces: Option<String>,
    /// Why the events that only the stream holds cannot be imported into this file.
    pub(crate) unfit: Option<String>,
}

impl Identity {
    pub(crate) fn load(rows: &Connection) -> rusqlite::Result<Self> {
        let sql =
            "select service, stream, must_import, successor, replaces, unfit from relay_identity";
        rows.prepare_cached(sql)?.query_row([], |row| {
            Ok(Self {
                service: row.get(0)?,
                stream: row.get(1)?,
                must_import: row.get(2)?,
                successor: row.get(3)?,
                replaces: row.get(4)?,
                unfit: row.get(5)?,
            })
        })
    }
}

impl Tx<'_> {
    /// Records what was done to this database other than by its service.
    pub(crate) fn audit(&self, action: &str, detail: &str) -> rusqlite::Result<()> {
        audit(self, self.now_ms(), action, detail)
    }
}

/// A new database, with an id of its own.
pub(super) fn create(rows: &Connection, options: &Options) -> rusqlite::Result<()> {
    let mut random = [0; 16];
    options.environment.fill_random(&mut random);
    let database_id = uuid::Builder::from_random_bytes(random).into_uuid();
    rows.execute(
        "insert into relay_identity (one, schema_version, service, stream, database_id, epoch)
         values (1, 1, ?1, ?2, ?3, 1)",
        (&options.service, &options.stream, database_id.to_string()),
    )?;
    Ok(())
}

/// Whose log it is, and which life of it.
pub(crate) fn origin(rows: &Connection) -> rusqlite::Result<Origin> {
    rows.prepare_cached("select database_id, epoch from relay_identity")?
        .query_row([], |row| {
            let database_id: String = row.get(0)?;
            Ok(Origin {
                database_id: parsed(&database_id)?,
                epoch: row.get(1)?,
            })
        })
}

fn parsed(id: &str) -> rusqlite::Result<Uuid> {
    use rusqlite::types::Type::Text;
    id.parse().map_err(|error: uuid::Error| {
        rusqlite::Error::FromSqlConversionFailure(0, Text, Box::new(error))
    })
}

pub(crate) fn set_origin(rows: &Connection, origin: &Origin) -> rusqlite::Result<()> {
    rows.execute(
        "update relay_identity set database_id = ?1, epoch = ?2",
        (origin.database_id.to_string(), origin.epoch),
    )?;
    Ok(())
}

pub(crate) fn set_replaces(rows: &Connection, incarnation: &str) -> rusqlite::Result<()> {
    rows.execute("update relay_identity set replaces = ?1", [incarnation])?;
    Ok(())
}

/// This database was made where another one had been. It waits for that one's stream.
pub(super) fn succeed(rows: &Connection, at_ms: u64) -> rusqlite::Result<()> {
    rows.execute("update relay_identity set successor = 1", [])?;
    mark(
        rows,
        at_ms,
        "the database that was here is gone and this one is new",
    )
}

/// A copy is no successor.
pub(crate) fn clear_successor(rows: &Connection) -> rusqlite::Result<()> {
    rows.execute("update relay_identity set successor = 0", [])?;
    Ok(())
}

/// Marks the file as one that may be an older copy of itself. The first reason stays.
pub(crate) fn mark(rows: &Connection, at_ms: u64, reason: &str) -> rusqlite::Result<()> {
    let sql = "update relay_identity set must_import = ?1 where must_import is null";
    if rows.execute(sql, [reason])? > 0 {
        audit(rows, at_ms, "marked", reason)?;
    }
    Ok(())
}

pub(crate) fn clear_mark(rows: &Connection, at_ms: u64, why: &str) -> rusqlite::Result<()> {
    let sql = "update relay_identity set must_import = null, successor = 0, unfit = null where must_import is not null";
    if rows.execute(sql, [])? > 0 {
        audit(rows, at_ms, "mark cleared", why)?;
    }
    Ok(())
}

pub(crate) fn set_unfit(rows: &Connection, why: &str) -> rusqlite::Result<()> {
    rows.execute("update relay_identity set unfit = ?1", [why])?;
    Ok(())
}

/// Records what was done to this database other than by its service.
pub(crate) fn audit(
    rows: &Connection,
    at_ms: u64,
    action: &str,
    detail: &str,
) -> rusqlite::Result<()> {
    rows.execute(
        "insert into relay_audit (at_ms, action, detail) values (?1, ?2, ?3)",
        (at_ms, action, detail),
    )?;
    Ok(())
}

/// Is the file the one that was open last? If not, it is marked. Then a new nonce is drawn, so that an older copy put
/// back over this very file is known as one at the next opening.
pub(super) fn recognise(
    rows: &Connection,
    path: &Path,
    ownership: &mut Ownership,
    options: &Options,
) -> std::io::Result<()> {
    let sql = std::io::Error::other::<rusqlite::Error>;
    let here = file_id(&std::fs::metadata(path)?);
    let (file, known) = known_by(rows).map_err(sql)?;
    let reason = match (&file, &known) {
        (Some(file), _) if *file != here => Some("this file is a copy of the one opened last"),
        (_, Some(nonce)) if !ownership.knows(nonce) => {
            Some("this file is older than the one opened last, or came without its lock file")
        }
        _ => None, // a file of the library's first version knows neither
    };
    let at_ms = options.environment.now_ms();
    if let Some(reason) = reason {
        tracing::warn!(path = %path.display(), reason, "no write before this file has met its stream");
        mark(rows, at_ms, reason).map_err(sql)?;
        clear_successor(rows).map_err(sql)?;
    }
    let nonce = options.environment.draw_word();
    ownership.accept_also(&nonce, known.as_deref())?; // both are good until the file knows the new one
    match renew(rows, ownership) {
        Err(error) if reason.is_none() && disk::is_full(&error) => {} // before the first write, then
        renewed => renewed.map_err(sql)?,
    }
    if options.open_without_stream {
        clear_mark(
            rows,
            at_ms,
            "opened without its stream, as the operator decided",
        )
        .map_err(sql)?;
    }
    Ok(())
}

/// To be called before each write. Until the file knows its new nonce, an older copy that is restored would not be known
/// as one, so none is taken; but a start on a full disk reads.
pub(super) fn renew(rows: &Connection, ownership: &Ownership) -> rusqlite::Result<()> {
    let Some(nonce) = ownership.unwritten().clone() else {
        return Ok(());
    };
    let failed = |error: std::io::Error| rusqlite::Error::ToSqlConversionFailure(error.into());
    let here = file_id(&std::fs::metadata(ownership.path()).map_err(failed)?);
    rows.execute(
        "update relay_identity set file_id = ?1, nonce = ?2",
        (&here, &nonce),
    )?;
    ownership.accept_only(nonce).map_err(failed)
}

fn known_by(rows: &Connection) -> rusqlite::Result<(Option<String>, Option<String>)> {
    let sql = "select file_id, nonce from relay_identity";
    rows.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// What differs between a file and its copy: the inode and the time of creation. Where the system reports no such time, the
/// device; elsewhere it is left out, since it may have another number after a restart.
fn file_id(file: &Metadata) -> String {
    let created = file.created().ok();
    let created = created.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    match created {
        Some(since) => format!("inode {} created {}", file.ino(), since.as_nanos()),
        None => format!("inode {} device {}", file.ino(), file.dev()),
    }
}
