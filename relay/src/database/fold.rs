//! A service's own tables as a fold of its own log: what an import replays, event by event.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rusqlite::Connection;

use super::{Rows, Tx};
use crate::error::ApplyError;
use crate::event::{Envelope, Event, Received, received};
use crate::panics::message;

/// How a service's own events make its own tables. The same function should make the change when the event is
/// emitted: then what an import rebuilds is what was there.
#[derive(Clone)]
pub struct Fold {
    tables: Arc<[String]>,
    apply: Arc<Apply>,
}

type Apply = dyn Fn(&Tx<'_>, &Envelope<'_>) -> Result<(), ApplyError> + Send + Sync;

impl Fold {
    /// `tables` are all that `apply` writes to; they follow from the log and from nothing else.
    pub fn new<E: Event>(
        tables: &[&str],
        apply: impl Fn(&Rows<'_>, &Received<E>) -> Result<(), ApplyError> + Send + Sync + 'static,
    ) -> Self {
        let apply = move |tx: &Tx<'_>, envelope: &Envelope<'_>| {
            let unknown = || {
                let event_type = &envelope.event_type;
                ApplyError::Fatal(format!(
                    "its type {event_type} is not known here: start the newer version of the program"
                ))
            };
            let mut event = received(envelope)?.ok_or_else(unknown)?;
            event.sealed = tx.open_sealed(envelope)?;
            apply(tx.rows(), &event)
        };
        Self {
            tables: tables.iter().map(|table| (*table).to_owned()).collect(),
            apply: Arc::new(apply),
        }
    }

    /// For a service that has no tables of its own and only emits.
    pub fn nothing() -> Self {
        Self {
            tables: Arc::default(),
            apply: Arc::new(|_, _| Ok(())),
        }
    }

    /// A panic is a mistake of the program, and it would meet it again each time.
    pub(crate) fn apply(&self, tx: &Tx<'_>, envelope: &Envelope<'_>) -> Result<(), ApplyError> {
        let applied = catch_unwind(AssertUnwindSafe(|| (self.apply)(tx, envelope)));
        applied.unwrap_or_else(|panic| {
            let said = message(&*panic);
            Err(ApplyError::Fatal(format!("the program panicked: {said}")))
        })
    }

    pub(super) fn tables(&self) -> &[String] {
        &self.tables
    }

    /// Empties the tables, to fold the log again from its beginning.
    pub(crate) fn clear(&self, tx: &Tx<'_>) -> rusqlite::Result<()> {
        for table in self.tables.iter().rev() {
            tx.execute(&format!("delete from {table}"), [])?;
        }
        Ok(())
    }
}

/// The first of these tables that the file does not have.
pub(crate) fn missing_table(
    rows: &Connection,
    tables: &[String],
) -> rusqlite::Result<Option<String>> {
    for table in tables {
        if !rows.table_exists(None, table.as_str())? {
            return Ok(Some(table.clone()));
        }
    }
    Ok(None)
}

impl fmt::Debug for Fold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fold")
            .field("tables", &self.tables)
            .finish()
    }
}
