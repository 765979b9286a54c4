//! The owner's answers to the readers of its stream: whether its log holds an event, and a snapshot of what it shares.

use futures::future::BoxFuture;
use rusqlite::Connection;
use tokio::sync::mpsc;

use super::readers;
use crate::database::Database;
use crate::error::{LogError, chain};
use crate::log::{Holds, Line, Lines, Position, Producer, Share};
use crate::outbox;

/// Lines that may be on their way at a time.
const LINES: usize = 256;

/// A service's own answers. Its HTTP API gives them, and in one process a consumer can ask them at once.
#[derive(Clone)]
pub struct Answers {
    db: Database,
    share: Share,
}

impl Answers {
    /// Answers from this database, with the rows that `share` hands out.
    pub fn new(db: &Database, share: Share) -> Self {
        let db = db.clone();
        Self { db, share }
    }

    /// Only a service that has met its stream and may write knows what its log holds.
    fn check_open(&self) -> Result<(), LogError> {
        match self.db.gate().reason() {
            Some(why) => Err(LogError::disconnected(why)),
            None if self.db.has_met_its_stream() => Ok(()),
            None => Err(LogError::disconnected(
                "this service has not met its stream yet",
            )),
        }
    }
}

impl Producer for Answers {
    fn holds(&self, at: Position) -> BoxFuture<'_, Result<Holds, LogError>> {
        Box::pin(async move {
            self.check_open()?;
            Ok(self.db.read(move |rows| holds(rows, at)).await?)
        })
    }

    fn report(&self, reader: &str, at: Option<Position>) -> BoxFuture<'_, Result<Holds, LogError>> {
        let reader = reader.to_owned();
        Box::pin(async move {
            self.check_open()?;
            let write = self
                .db
                .write_past_gate(move |tx| readers::store(tx, &reader, at));
            Ok(write.await?)
        })
    }

    fn snapshot(&self, at: Option<Position>) -> BoxFuture<'_, Result<Lines, LogError>> {
        Box::pin(async move {
            self.check_open()?;
            let (to, lines) = mpsc::channel(LINES);
            let (share, stream) = (self.share, self.db.stream().to_owned());
            let (db, failed) = (self.db.with_own_reader(), to.clone());
            tokio::spawn(async move {
                let read = db.read(move |rows| send(rows, share, &stream, at, &to));
                if let Err(error) = read.await {
                    let _ = failed
                        .send(Err(LogError::disconnected(chain(&error))))
                        .await;
                }
            });
            Ok(lines)
        })
    }
}

pub(crate) fn holds(rows: &Connection, at: Position) -> rusqlite::Result<Holds> {
    let ends = outbox::ends(rows)?;
    if at.seq < ends.first && at.seq <= ends.seq {
        return Ok(Holds::Pruned);
    }
    match outbox::event_id(rows, at.seq)? == Some(at.id) {
        true => Ok(Holds::Yes),
        false => Ok(Holds::No),
    }
}

/// In the one transaction of the read: the rows are those of the position, however long they take.
fn send(
    rows: &Connection,
    share: Share,
    stream: &str,
    at: Option<Position>,
    to: &mpsc::Sender<Result<Line, LogError>>,
) -> rusqlite::Result<()> {
    let ends = outbox::ends(rows)?;
    let position = Line::Position {
        stream: stream.to_owned(),
        epoch: ends.origin.epoch,
        at: ends.last.map(|id| Position { seq: ends.seq, id }),
        holds: at.map(|at| holds(rows, at)).transpose()?,
    };
    let mut listening = to.blocking_send(Ok(position)).is_ok();
    let mut count = 0;
    share(rows, &mut |row| {
        count += 1;
        listening = listening && to.blocking_send(Ok(Line::Row(row))).is_ok();
        listening
    })?;
    if listening {
        let _gone = to.blocking_send(Ok(Line::End { rows: count }));
    }
    Ok(())
}
