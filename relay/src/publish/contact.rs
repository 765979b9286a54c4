//! The contact: is the stream a copy of this outbox, and up to which sequence? Pure code names the case.

use rusqlite::Connection;

use crate::database::Identity;
use crate::error::LogError;
use crate::event::EventId;
use crate::log::{Head, Stream, id_at, record_at};
use crate::outbox::{self, Ends, Outbox};

/// What the relay does about a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// The stream holds the outbox's rows up to its head: go on after it.
    Publish,
    /// There is no stream: create one that begins at the oldest row kept.
    Create,
    /// The stream holds this log's next events: import them.
    Import,
    /// This database is new and the one before it is gone: take the stream's identity, then import.
    TakeOver,
    /// The stream is no copy any more, for this reason: quarantine what only it holds, and recreate it.
    Replace(&'static str),
    /// Change nothing: the operator decides.
    Halt,
}

/// One table: the enum, its names and its actions follow from it.
macro_rules! cases {
    ($($case:ident, $name:literal => $action:expr;)+) => {
        /// How the stream and this file compare. Each is a row of docs/reconciliation.md and a test of that name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Case {
            $(#[doc = concat!("`", $name, "`.")] $case),+
        }

        impl Case {
            /// Every case, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$case),+];

            /// The name in docs/reconciliation.md, in logs and in `status`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$case => $name),+ }
            }

            pub(super) fn action(self) -> Action {
                use Action::{Create, Halt, Import, Publish, Replace, TakeOver};
                match self { $(Self::$case => $action),+ }
            }
        }
    };
}

cases! {
    Missing, "missing" => Create;
    Equal, "equal" => Publish;
    Behind, "behind" => Publish;
    Fresh, "fresh" => Publish;
    BehindTheOutbox, "behind the outbox" => Replace("it ends before the oldest event that the outbox keeps");
    Emptied, "emptied" => Replace("its events are gone");
    Holed, "holed" => Replace("some of its events are missing or damaged");
    Closed, "closed" => Replace("an earlier replacement was not finished");
    OlderEpoch, "older epoch" => Replace("it belongs to an earlier epoch of this database");
    ForeignReplaced, "foreign replaced" => Replace("it belongs to another database, and the operator decided to replace it");
    DatabaseLost, "database lost" => TakeOver;
    AheadAtFirstContact, "ahead at first contact" => Import;
    AheadLater, "ahead later" => Halt;
    AheadAndTrimmed, "ahead and trimmed" => Halt;
    Forked, "forked" => Halt;
    LaterEpoch, "later epoch" => Halt;
    Foreign, "foreign" => Halt;
}

/// Both ends, as one contact found them.
pub(super) struct Seen {
    pub(super) theirs: Option<Theirs>,
    pub(super) own: Own,
}

/// The stream.
pub(super) struct Theirs {
    pub(super) head: Head,
    /// Its last message: `None` when it is gone, its id `None` when it is no event of ours.
    last: Option<Option<EventId>>,
    /// If it is ahead: the event where this file ends, or the one before its oldest, if that is where this file ends.
    joint: Option<EventId>,
}

/// This file, read after the stream so that it can only have grown since.
pub(super) struct Own {
    pub(super) ends: Ends,
    /// The id of the row at the stream's head.
    id_there: Option<EventId>,
    pub(super) identity: Identity,
}

/// Reads both ends.
pub(super) async fn look(outbox: &Outbox, stream: &mut impl Stream) -> Result<Seen, LogError> {
    let before = outbox.ends().await?;
    let theirs = match stream.head().await? {
        Some(head) => Some(look_at(stream, head, &before).await?),
        None => None,
    };
    let at = theirs.as_ref().map_or(0, |theirs| theirs.head.seq);
    let own = outbox.database().read(move |rows| Own::read(rows, at));
    let own = own.await?;
    Ok(Seen { theirs, own })
}

async fn look_at(stream: &mut impl Stream, head: Head, own: &Ends) -> Result<Theirs, LogError> {
    let last = match head.seq {
        seq if seq < head.first => None,
        seq => record_at(stream, seq).await?.map(|last| last.event_id()),
    };
    let joint = match own.seq {
        seq if head.seq <= seq => None,
        seq if seq >= head.first => id_at(stream, seq).await?,
        seq if seq + 1 == head.first => {
            let oldest = record_at(stream, head.first).await?;
            oldest.and_then(|oldest| oldest.prev())
        }
        _ => None,
    };
    Ok(Theirs { head, last, joint })
}

impl Own {
    fn read(rows: &Connection, at: u64) -> rusqlite::Result<Self> {
        Ok(Self {
            ends: outbox::ends(rows)?,
            id_there: outbox::event_id(rows, at)?,
            identity: Identity::load(rows)?,
        })
    }

    fn case_of_foreign(&self, head: &Head) -> Case {
        let is_lost = self.identity.successor && self.ends.seq == 0 && head.first <= 1;
        match self.identity.replaces.as_ref() == Some(&head.incarnation) {
            true => Case::ForeignReplaced,
            false if is_lost => Case::DatabaseLost,
            false => Case::Foreign,
        }
    }
}

impl Seen {
    /// The table of cases, in order; docs/reconciliation.md has it in prose.
    pub(super) fn case(&self, first_contact: bool) -> Case {
        use std::cmp::Ordering::{Equal, Greater, Less};
        let Some(Theirs { head, last, joint }) = &self.theirs else {
            return Case::Missing;
        };
        let ends = &self.own.ends;
        if head.origin.database_id != ends.origin.database_id {
            return self.own.case_of_foreign(head);
        }
        let is_empty = head.seq < head.first;
        let case = match head.seq.cmp(&ends.seq) {
            _ if head.latest_epoch() > ends.origin.epoch => Case::LaterEpoch,
            _ if head.origin.epoch < ends.origin.epoch => Case::OlderEpoch,
            _ if is_empty && head.first == ends.first => Case::Fresh,
            _ if is_empty => Case::Emptied,
            Greater if !first_contact => Case::AheadLater,
            Greater if ends.seq + 1 < head.first => Case::AheadAndTrimmed,
            Greater if *joint != ends.last => Case::Forked, // only evidence joins the two
            Greater => Case::AheadAtFirstContact,
            _ if head.seq < ends.first => Case::BehindTheOutbox,
            _ if last.is_none() => Case::Holed,
            _ if *last == Some(None) || *last != Some(self.own.id_there) => Case::Forked,
            _ if head.holes > 0 => Case::Holed,
            Equal => Case::Equal,
            Less => Case::Behind,
        };
        match case.action() {
            Action::Publish if head.closed_by.is_some() => Case::Closed,
            _ => case,
        }
    }

    /// Why publishing and writing halt, and what the operator can do.
    pub(super) fn halt_reason(&self, case: Case) -> String {
        let Some(Theirs { head, last, joint }) = &self.theirs else {
            return case.name().to_owned();
        };
        let (ends, origin) = (&self.own.ends, &self.own.ends.origin);
        match case {
            Case::Foreign => {
                let cure = match ends.seq {
                    0 => {
                        "this database is empty; adopt-stream lets it take over the stream's identity and import all its events"
                    }
                    _ => {
                        "start the service on the database that made it, or decide with adopt-stream or new-epoch"
                    }
                };
                format!("it was made by {}, this is {origin}; {cure}", head.origin)
            }
            Case::LaterEpoch => format!(
                "it is in epoch {}, this file in epoch {}: a later epoch of this database exists; start that file, or import its log with adopt-stream",
                head.latest_epoch(),
                origin.epoch
            ),
            Case::AheadLater => format!(
                "it ends at {}, this database at {}: another relay publishes from a copy of this file; stop the other, then restart this one",
                head.seq, ends.seq
            ),
            Case::AheadAndTrimmed => format!(
                "it begins at {}, this database ends at {}: this backup is older than the stream keeps; restore a newer one, or decide with new-epoch",
                head.first, ends.seq
            ),
            _ => match head.seq > ends.seq {
                true => forked(ends.seq, *joint, ends.last),
                false => forked(head.seq, last.flatten(), self.own.id_there),
            },
        }
    }
}

fn forked(seq: u64, theirs: Option<EventId>, ours: Option<EventId>) -> String {
    let ours = ours.map_or("no event of ours".to_owned(), |id| id.to_string());
    match theirs {
        Some(theirs) => format!(
            "at {seq} it holds {theirs}, this database {ours}: both went on after a fork; stop one of the two, then decide with adopt-stream or new-epoch"
        ),
        None => format!(
            "at {seq} it holds a message that is no event of ours, this database {ours}: find out what else may write to the stream, then decide with new-epoch"
        ),
    }
}
